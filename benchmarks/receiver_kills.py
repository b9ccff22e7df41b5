"""Kills what receives DICOM and scores it, and compares the rows with what senders were told.

    python -m adae_edge.benchmarks.receiver_kills OUT [--kills 200] [--seed 0]

Numbered slices are sent by two storescu at a time, and a row's score is its slice's number. SIGKILL
comes at a random moment, to the process that scores or to the one that receives with all its
associations; the command is repeated, and what was not acknowledged is sent again. When all is sent
and scored, the rows are counted, and everything begins anew. OUT keeps a line for each such pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.processes import free_port, program
from adae_edge.benchmarks.record import record
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically, write_json

_SLICES, _SENDERS = 300, 2
_LONGEST_S = 600
_MEAN_S = 1.5  # from when it listens until it is killed
_SENT = re.compile(r"Sending file: (\S+)\n(?:.*\n)*?.*Received Store Response \((\w+)")
_ROOT = "1.2.826.0.1.3680043.8.498"
FAULTS = ("lost", "doubled", "half", "of nothing sent")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for slices, rows, passes and the table")
    parser.add_argument("--kills", type=int, default=200, help="how many, of all passes")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    asked = parser.parse_args()
    run_kills(asked.out, asked.kills, asked.seed)


def run_kills(out: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """Kill, send again and compare until this many kills are done.

    Args:
        out: folder for everything.
        kills: how many.
        seed: of the moments; a benchmark that goes on draws others.

    Returns:
        The record that is written as receiver-kills.json.

    Raises:
        AdaeEdgeError: a pass does not come to its end.
        MissingPeer: there is no storescu.
    """
    out.mkdir(parents=True, exist_ok=True)
    slices = write_slices(out / "slices")
    passes = out / "passes.jsonl"
    done = [json.loads(line) for line in passes.read_text().splitlines()] if passes.exists() else []
    random = np.random.default_rng([seed, len(done)])
    while (left := kills - sum(one["kills"] for one in done)) > 0:
        done.append(_Pass(out / "killed", slices, random).run(left))
        with passes.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{kills - left + done[-1]['kills']} of {kills} kills: {done[-1]}", flush=True)
    names = ("kills", "of_scoring", "of_receiving", "amid", "acknowledged", "rows", *FAULTS)
    figures = record(passes=len(done), **{name: sum(one[name] for one in done) for name in names})
    write_json(out / "receiver-kills.json", figures)
    write_atomically(out / "receiver-kills.md", _page(figures).encode())
    return figures


def write_slices(folder: Path) -> list[Path]:
    """Write numbered slices, and ``model.onnx`` beside the folder, which reads the numbers."""
    folder.mkdir(exist_ok=True)
    (folder.parent / "model.onnx").write_bytes(numbers.model())
    paths = []
    for number in range(1, _SLICES + 1):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = SecondaryCaptureImageStorage
        data.SOPInstanceUID = f"{_ROOT}.{number}"
        pixels = numbers.picture(number, 320, 180)
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
        data.add_new("PixelData", "OW", pixels.tobytes())
        paths.append(folder / f"{number:04}.dcm")
        pydicom.dcmwrite(paths[-1], data, enforce_file_format=True)
    return paths


class _Pass:
    """One time from the first slice to the last row."""

    def __init__(self, folder: Path, slices: Sequence[Path], random: np.random.Generator) -> None:
        folder.mkdir(exist_ok=True)
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        self._folder, self._slices, self._random = folder, slices, random
        self._acknowledged: Counter[str] = Counter()
        self._port, self._ended = free_port(), threading.Event()

    def run(self, most: int) -> dict[str, int]:
        """Kill until everything is sent and scored, or so many kills are done; count the rows."""
        senders = [
            threading.Thread(target=self._send, args=(self._slices[place::_SENDERS],))
            for place in range(_SENDERS)
        ]
        for sender in senders:
            sender.start()
        killed: Counter[str] = Counter()
        deadline = time.monotonic() + _LONGEST_S
        try:
            while True:
                process = self._start()
                if killed["kills"] < most and self._kill(process, killed):
                    continue
                while not self._is_complete():
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise AdaeEdgeError(f"a pass does not end: see {self._folder}")
                    time.sleep(0.1)
                break
        finally:
            self._ended.set()
            process.terminate()
            process.wait()
            for sender in senders:
                sender.join()
        return self._counted(killed)

    def _start(self) -> subprocess.Popen[bytes]:
        source = f"dicom-scp://127.0.0.1:{self._port}/ADAE"
        command = [sys.executable, "-m", "adae_edge", "score", self._folder.parent / "model.onnx"]
        command += [source, "--spool", self._folder / "spool", "--resume", "--jobs", "1"]
        command += ["--to", f"jsonl:{self._folder / 'rows.jsonl'}"]
        silent = subprocess.DEVNULL
        return subprocess.Popen([*map(str, command)], stdout=silent, stderr=silent)  # noqa: S603

    def _kill(self, process: subprocess.Popen[bytes], killed: Counter[str]) -> bool:
        """Kill somebody at a random moment; False where all is sent and scored before it."""
        receiving = self._when_receiving(process)
        if self._random.random() < 0.8:  # otherwise also while it starts
            self._when_listening(process)
        moment = time.monotonic() + self._random.exponential(_MEAN_S)
        while time.monotonic() < moment:
            if self._is_complete():
                return False
            time.sleep(0.005)
        killed["amid"] += any(self._in(state) for state in ("incoming", "new", "claimed"))
        if self._random.random() < 0.5:
            os.killpg(receiving, signal.SIGKILL)
            killed["receiving"] += 1
        else:
            process.kill()
            killed["scoring"] += 1
        killed["kills"] += 1
        process.wait()
        return True

    def _when_receiving(self, process: subprocess.Popen[bytes]) -> int:
        """The receiver's process when there is one, which it is a little before it listens."""
        while process.poll() is None:
            for task in Path(f"/proc/{process.pid}/task").glob("*/children"):
                for child in task.read_text().split():
                    command = Path(f"/proc/{child}/cmdline")
                    if command.exists() and b"dicom.receiver" in command.read_bytes():
                        return int(child)
            time.sleep(0.02)
        raise AdaeEdgeError(f"the command ended before it received: see {self._folder}")

    def _when_listening(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                time.sleep(0.02)
            else:
                return

    def _send(self, slices: Sequence[Path]) -> None:
        """Send slices until each is acknowledged."""
        command = [program("storescu"), "-v", "-aec", "ADAE", "127.0.0.1", str(self._port)]
        while not self._ended.is_set():
            left = [str(path) for path in slices if not self._acknowledged[path.stem]]
            if not left:
                return
            said = subprocess.run([*command, *left], capture_output=True, text=True)  # noqa: S603
            for name, status in _SENT.findall(said.stdout + said.stderr):
                self._acknowledged[Path(name).stem] += status == "Success"
            time.sleep(0.05)

    def _is_complete(self) -> bool:
        if len(+self._acknowledged) < len(self._slices):
            return False
        return not self._in("new") and not self._in("claimed")

    def _in(self, state: str) -> bool:
        """Whether something is in a state."""
        folder = self._folder / "spool" / state
        return folder.exists() and any(folder.iterdir())

    def _counted(self, killed: Counter[str]) -> dict[str, int]:
        rows: Counter[int] = Counter()
        half = 0
        for line in (self._folder / "rows.jsonl").read_text().splitlines(keepends=True):
            try:
                row = json.loads(line)
                if "score" in row:
                    rows[round(row["score"])] += 1
            except ValueError:
                half += 1
        sent = {int(path.stem) for path in self._slices}
        return {
            "kills": killed["kills"],
            "of_scoring": killed["scoring"],
            "of_receiving": killed["receiving"],
            "amid": killed["amid"],
            "acknowledged": len(+self._acknowledged),
            "rows": rows.total(),
            "lost": sum(self._acknowledged[f"{number:04}"] and not rows[number] for number in sent),
            "doubled": sum(count - 1 for count in rows.values() if count > 1),
            "half": half,
            "of nothing sent": sum(number not in sent for number in rows),
        }


def _page(figures: dict[str, Any]) -> str:
    """The table as Markdown."""
    lines = [
        "# Receivers that were killed",
        "",
        f"`{figures['command']}`",
        "",
        f"{figures['kills']} times SIGKILL at a random moment while two storescu sent: "
        f"{figures['of_scoring']} times to the process that scores, {figures['of_receiving']} "
        f"times to the one that receives and to its associations; {figures['amid']} times with "
        "instances that came, waited or were scored. The command was repeated with "
        f"`--resume`, and what was not acknowledged was sent again; {figures['passes']} times to "
        "the end of all slices. A row's score is its slice's number.",
        "",
        "| acknowledged | rows | " + " | ".join(FAULTS) + " |",
        "|---:|---:|" + "---:|" * len(FAULTS),
        f"| {figures['acknowledged']} | {figures['rows']} | "
        + " | ".join(str(figures[fault]) for fault in FAULTS)
        + " |",
        "",
        "Kill -9 leaves the system's cache as it is, and so cannot show a missing fsync: a test "
        "under strace does.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
