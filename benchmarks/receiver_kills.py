"""Kills what receives DICOM and scores it, and compares the rows with what senders were told.

    python -m adae_edge.benchmarks.receiver_kills OUT [--kills 200] [--seed 0]

Slices are sent by two storescu at a time, in turn numbered pictures, a row's score of which is its
number, and series of heads, whose slices must get the scores of their files. SIGKILL comes at a
random moment, to the process that scores or to the one that receives with all its associations; the
command is repeated, and what was not acknowledged is sent again. When all is sent and scored, the
rows are counted, and everything begins anew. OUT keeps a line for each such pass.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from adae_edge.benchmarks.peers import heads, numbers
from adae_edge.benchmarks.peers.processes import free_port, program
from adae_edge.benchmarks.record import record
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically, write_json

_SLICES, _SENDERS = 300, 2
_SERIES, _OF_SERIES = 6, 40
_LONGEST_S = 1200
_SENT = re.compile(r"Sending file: (\S+)\n(?:.*\n)*?.*Received Store Response \((\w+)")
_ROOT = "1.2.826.0.1.3680043.8.498"
_COUNTS = ("kills", "of_scoring", "of_receiving", "amid", "acknowledged", "rows", "replaced")
FAULTS = ("lost", "doubled", "half", "of nothing sent", "another score")
_NAMES = (*_COUNTS, *FAULTS)


@dataclass(frozen=True)
class _Kind:
    """What is sent, and what has to come of it.

    Attributes:
        slices: the files, by their SOP instance UIDs.
        scores: of those that have one.
        model: the file of the model.
        together: of a UID, what is scored as a whole with it.
    """

    slices: Mapping[str, Path]
    scores: Mapping[str, float]
    model: Path
    together: Callable[[str], str]


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
    kinds = {"pictures": _pictures(out / "pictures"), "volumes": _volumes(out / "volumes")}
    passes = out / "passes.jsonl"
    done = [json.loads(line) for line in passes.read_text().splitlines()] if passes.exists() else []
    random = np.random.default_rng([seed, len(done)])
    while (left := kills - sum(one["kills"] for one in done)) > 0:
        name = [*kinds][len(done) % len(kinds)]
        done.append({"kind": name, **_Pass(out / "killed", kinds[name], random).run(left)})
        with passes.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(f"{kills - left + done[-1]['kills']} of {kills} kills: {done[-1]}", flush=True)
    summed = {
        kind: {
            "passes": sum(one["kind"] == kind for one in done),
            **{name: sum(one[name] * (one["kind"] == kind) for one in done) for name in _NAMES},
        }
        for kind in kinds
    }
    figures = record(**summed)
    write_json(out / "receiver-kills.json", figures)
    write_atomically(out / "receiver-kills.md", _page(figures, [*kinds]).encode())
    return figures


def _pictures(folder: Path) -> _Kind:
    """Numbered pictures, each of which is scored alone."""
    folder.mkdir(exist_ok=True)
    slices = {_uid_of(path): path for path in write_slices(folder / "slices")}
    scores = {uid: float(uid.rpartition(".")[2]) for uid in slices}
    return _Kind(slices, scores, folder / "model.onnx", lambda uid: uid)


def _volumes(folder: Path) -> _Kind:
    """Series of heads, and the scores of their files."""
    (folder / "slices").mkdir(parents=True, exist_ok=True)
    model, rows = folder / "model.onnx", folder / "rows.jsonl"
    model.write_bytes(heads.model())
    slices = {
        _uid_of(path): path
        for number in range(1, _SERIES + 1)
        for path in heads.write_series(
            folder / "slices", f"{_ROOT}.0.{number}", _OF_SERIES, seed=number
        )
    }
    command = [sys.executable, "-m", "adae_edge", "score", model, folder / "slices"]
    command += ["--to", f"jsonl:{rows}"]
    rows.unlink(missing_ok=True)
    subprocess.run([*map(str, command)], capture_output=True, check=True)  # noqa: S603
    scores = {row["frame"]: row["score"] for row in _rows(rows)[0]}
    return _Kind(slices, scores, model, lambda uid: uid.rpartition(".")[0])


def _uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def _rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of frames of a file, and how many lines are half."""
    rows, half = [], 0
    for line in path.read_text().splitlines(keepends=True):
        try:
            rows.append(json.loads(line))
        except ValueError:
            half += 1
    return [row for row in rows if "score" in row], half


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

    def __init__(self, folder: Path, kind: _Kind, random: np.random.Generator) -> None:
        folder.mkdir(exist_ok=True)
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        self._folder, self._kind, self._random = folder, kind, random
        self._acknowledged: Counter[str] = Counter()
        self._port, self._ended = free_port(), threading.Event()

    def run(self, most: int) -> dict[str, int]:
        """Kill until everything is sent and scored, or so many kills are done; count the rows."""
        senders = [
            threading.Thread(target=self._send, args=([*self._kind.slices][place::_SENDERS],))
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
        command = [sys.executable, "-m", "adae_edge", "score", self._kind.model, source]
        command += ["--spool", self._folder / "spool", "--resume", "--jobs", "1"]
        command += ["--quiet", "2s", "--to", f"jsonl:{self._folder / 'rows.jsonl'}"]
        silent = subprocess.DEVNULL
        return subprocess.Popen([*map(str, command)], stdout=silent, stderr=silent)  # noqa: S603

    def _kill(self, process: subprocess.Popen[bytes], killed: Counter[str]) -> bool:
        """Kill somebody at a random moment; False where all is sent and scored before it."""
        begun = time.monotonic()
        receiving = self._when_receiving(process)
        if self._random.random() < 0.8:  # otherwise also while it starts
            self._when_listening(process)
        mean_s = time.monotonic() - begun  # as it took to start: a busy machine is slow in all
        moment = time.monotonic() + self._random.exponential(mean_s)
        while time.monotonic() < moment:
            if self._is_complete():
                return False
            time.sleep(0.005)
        killed["amid"] += any(self._in(state) for state in ("incoming", "new", "claimed"))
        if self._random.random() < 0.5:
            os.killpg(receiving, signal.SIGKILL)
            killed["of_receiving"] += 1
        else:
            process.kill()
            killed["of_scoring"] += 1
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

    def _send(self, uids: list[str]) -> None:
        """Send slices until each is acknowledged."""
        command = [program("storescu"), "-v", "-aec", "ADAE", "127.0.0.1", str(self._port)]
        by_path = {str(self._kind.slices[uid]): uid for uid in uids}
        while not self._ended.is_set():
            left = [path for path, uid in by_path.items() if not self._acknowledged[uid]]
            if not left:
                return
            said = subprocess.run([*command, *left], capture_output=True, text=True)  # noqa: S603
            for path, status in _SENT.findall(said.stdout + said.stderr):
                self._acknowledged[by_path[path]] += status == "Success"
            time.sleep(0.05)

    def _is_complete(self) -> bool:
        if len(+self._acknowledged) < len(self._kind.slices):
            return False
        return not self._in("new") and not self._in("claimed")

    def _in(self, state: str) -> bool:
        """Whether something is in a state."""
        folder = self._folder / "spool" / state
        return folder.exists() and any(folder.iterdir())

    def _counted(self, killed: Counter[str]) -> dict[str, int]:
        """What became of the slices; of a volume that was scored again, the last time counts."""
        rows, half = _rows(self._folder / "rows.jsonl")
        known, together = self._kind.scores, self._kind.together
        last = {together(row["frame"]): row["source"] for row in rows}
        scores = {
            row["frame"]: row["score"]
            for row in rows
            if row["source"] == last[together(row["frame"])]
        }
        once = {(row["source"], row["frame"]) for row in rows}
        return {
            **{name: killed[name] for name in ("kills", "of_scoring", "of_receiving", "amid")},
            "acknowledged": len(+self._acknowledged),
            "rows": len(rows),
            "replaced": len(once) - len(scores),
            "lost": sum(uid in known and uid not in scores for uid in +self._acknowledged),
            "doubled": len(rows) - len(once),
            "half": half,
            "of nothing sent": sum(uid not in known for uid in scores),
            "another score": sum(
                not math.isclose(score, known.get(uid, score), rel_tol=1e-5, abs_tol=1e-6)
                for uid, score in scores.items()
            ),
        }


def _page(figures: Mapping[str, Any], kinds: list[str]) -> str:
    """The table as Markdown."""
    total = {name: sum(figures[kind][name] for kind in kinds) for name in ("passes", *_COUNTS)}
    names = ("kills", "acknowledged", "rows", "replaced", *FAULTS)
    lines = [
        "# Receivers that were killed",
        "",
        f"`{figures['command']}`",
        "",
        f"{total['kills']} times SIGKILL at a random moment while two storescu sent: "
        f"{total['of_scoring']} times to the process that scores, {total['of_receiving']} "
        f"times to the one that receives and to its associations; {total['amid']} times with "
        "instances that came, waited or were scored. The command was repeated with "
        f"`--resume`, and what was not acknowledged was sent again; {total['passes']} times to "
        "the end of all slices. A picture's score is its number. A volume's slices must get the "
        "scores of their files; where more of it came after it was scored, it was scored again, "
        "and the rows of before are counted as replaced.",
        "",
        f"| | {' | '.join(names)} |",
        "|---|" + "---:|" * len(names),
        *(
            f"| {kind} | {' | '.join(str(figures[kind][name]) for name in names)} |"
            for kind in kinds
        ),
        "",
        "Kill -9 leaves the system's cache as it is, and so cannot show a missing fsync: a test "
        "under strace does.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
