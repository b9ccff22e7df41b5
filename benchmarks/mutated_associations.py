"""Damages recorded associations in thousands of ways, and sends them to the process that receives.

    python -m adae_edge.benchmarks.mutated_associations OUT [--count 10000] [--seed 0]

What dcmtk's echoscu and storescu send is recorded on its way. In each copy one of the parts between
two answers is damaged. The parts are sent with a wait for an answer behind each, and then the own
half of the connection is closed. The association has to end, C-ECHO to be answered, and nothing may
be left behind. A busy machine keeps C-ECHO waiting, too, so a receiver that nobody attacks stands
beside. Every 500 have receivers of their own. OUT gets a line for each, so that the same
command goes on where it was stopped, the table, and each damaged association that shows a fault.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.benchmarks.mutations import LONGEST_S, mutated
from adae_edge.benchmarks.peers.processes import program
from adae_edge.benchmarks.peers.receiver import receiver
from adae_edge.benchmarks.peers.recorder import recorder
from adae_edge.benchmarks.receiver_kills import write_slices
from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_atomically, write_json

_TOGETHER = 8
_PART = 500  # associations with one receiver
_ECHO_S, _TIMES_LATER = 2.0, 2.0  # than one that nobody attacks
_ANSWER_S = 0.5  # to a damaged part, which may get none, and to those behind it
_LOOK_S, _LONGEST_ECHO_S = 0.05, 60.0
_ENDED = (b": its association is ended", b"no DICOM:")  # by a limit; by an error
FAULTS = ("hang", "late echo", "traceback", "limit", "death", "left behind")


def main() -> int:
    """Run the command line; exit code 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for the table and what shows a fault")
    parser.add_argument("--count", type=int, default=10_000, help="how many damaged associations")
    parser.add_argument("--seed", type=int, default=0, help="of all damage")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    figures = run(asked.out, asked.count, asked.seed)
    write_json(asked.out / "mutated-associations.json", figures)
    page = _page(figures)
    write_atomically(asked.out / "mutated-associations.md", page.encode())
    print(page)
    return int(any(figures[fault] for fault in FAULTS))


def run(out: Path, count: int, seed: int) -> dict[str, Any]:
    """Send what was not sent yet; the record with a count of each of ``FAULTS``."""
    lines = out / f"parts-{seed}.jsonl"
    parts = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    while (begun := sum(part["associations"] for part in parts)) < count:
        parts.append(_part(out, range(begun, min(begun + _PART, count)), seed))
        with lines.open("a") as file:
            file.write(json.dumps(parts[-1]) + "\n")
        print(f"{begun} of {count} associations, and then {parts[-1]}", flush=True)
    names = ("associations", "kept", "errors", "not again", *FAULTS)
    summed = {name: sum(part[name] for part in parts) for name in names}
    return record(seed=seed, most_mb=max(part["most_mb"] for part in parts), **summed)


def _part(out: Path, numbers: Sequence[int], seed: int) -> dict[str, Any]:
    """Record, damage and send those of these numbers to one receiver."""
    with tempfile.TemporaryDirectory() as temporary:
        # a receiver, and what sound peers send it
        folder = Path(temporary)
        slices = write_slices(folder / "slices")[:2]
        (folder / "beside").mkdir()
        with receiver(folder) as one, receiver(folder / "beside") as quiet:
            few = ["-R", "-xe", "-pdu", "4096"]  # contexts, and bytes in a PDU
            sound = [
                _recorded(one.port, ["echoscu", "-aec", "ADAE"], []),
                _recorded(one.port, ["storescu", "-aec", "ADAE"], slices),
                _recorded(one.port, ["storescu", *few, "-aec", "ADAE"], slices),
            ]
            found: Counter[str] = Counter()
            peak = _Peak(one.process.pid)

            # eight damaged ones at a time; what seems a fault is sent once more, alone
            def send(number: int) -> str:
                fault = _send(one.port, *_damaged(sound, seed, number))
                is_late = number % 20 == 0 and _is_late(one.port, quiet.port, sound[0])
                return fault or "late echo" * is_late

            with peak:
                with ThreadPoolExecutor(_TOGETHER) as senders:
                    faults = dict(zip(numbers, senders.map(send, numbers), strict=True))
                seeming = [number for number, fault in faults.items() if fault]
                for number in seeming:
                    if fault := send(number):
                        found[fault] += 1
                        path = out / f"association-{seed}-{number}"
                        path.write_bytes(b"".join(_damaged(sound, seed, number)[0]))

            # what became of the receiver
            found["death"] += one.process.poll() is not None
            deadline = time.monotonic() + LONGEST_S  # to clear away what the last ones left
            while (left := any((one.spool / "incoming").iterdir())) and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
            found["left behind"] += left
            kept = len(list((one.spool / "new").iterdir()))
        ended = [line for line in one.told if _ENDED[0] in line]
        errors = sum(_ENDED[1] in line for line in ended)
        found["limit"] += len(ended) - errors
        found["traceback"] += (folder / "errors").stat().st_size > 0
    counts = {"associations": len(numbers), "kept": kept, "errors": errors, "not again": 0}
    counts["not again"] = len(seeming) - found["hang"] - found["late echo"]
    return counts | {"most_mb": peak.most_mb} | {fault: found[fault] for fault in FAULTS}


def _damaged(sound: Sequence[Sequence[bytes]], seed: int, number: int) -> tuple[list[bytes], int]:
    """The parts of a damaged copy, and which one is; the same number is damaged in the same way."""
    random = np.random.default_rng((seed, number))
    parts = list(sound[number % len(sound)])
    place = int(random.integers(len(parts)))
    parts[place], _ = mutated(parts[place], random)
    return parts, place


def _recorded(port: int, words: list[str], files: list[Path]) -> list[bytes]:
    """What a program sends to the receiver, in the parts between answers."""
    with recorder(port) as (there, parts):
        command = [program(words[0]), *words[1:], "127.0.0.1", str(there), *map(str, files)]
        subprocess.run(command, check=True)  # noqa: S603
    return parts


def _send(port: int, parts: list[bytes], damaged: int) -> str:
    """Send an association, one part of which is damaged; the fault that it shows, or ""."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(LONGEST_S)
        try:
            for place, part in enumerate(parts):
                connection.sendall(part)
                patience = LONGEST_S if place < damaged else _ANSWER_S
                if select.select([connection], [], [], patience)[0] and not connection.recv(2**16):
                    return ""
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**16):
                pass
        except TimeoutError:
            return "hang"
        except OSError:
            return ""
    return ""


def _is_late(port: int, quiet: int, sound: list[bytes]) -> bool:
    """Whether C-ECHO is answered late, and later than by a receiver that nobody attacks."""
    seconds = _echo_s(port, sound)
    return seconds > _ECHO_S and seconds > _TIMES_LATER * _echo_s(quiet, sound)


def _echo_s(port: int, sound: list[bytes]) -> float:
    """How long C-ECHO takes until each of its three parts has its answer; infinite if one lacks."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(_LONGEST_ECHO_S)
        kinds = []
        try:
            for part in sound:
                connection.sendall(part)
                kinds.append(connection.recv(2**16)[:1])
        except OSError:
            return math.inf
    return time.monotonic() - begun if kinds == [b"\2", b"\4", b"\6"] else math.inf


class _Peak:
    """The most memory that the receiver or any association's process has within the block.

    Attributes:
        most_mb: of the resident memory.
    """

    def __init__(self, process: int) -> None:
        self.most_mb = 0.0
        self._process, self._over = process, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        children = Path(f"/proc/{self._process}/task/{self._process}/children")
        while not self._over.wait(_LOOK_S):
            for child in (self._process, *children.read_text().split()):
                with suppress(OSError):
                    status = Path(f"/proc/{child}/status").read_text()
                    if found := re.search(r"VmHWM:\s+(\d+)", status):
                        self.most_mb = max(self.most_mb, int(found[1]) * 1024 / 1e6)


def _page(figures: dict[str, Any]) -> str:
    """The table as Markdown."""
    return "\n".join(
        [
            "# Damaged associations",
            "",
            f"`{figures['command']}`",
            "",
            f"{figures['associations']} damaged copies of what echoscu and storescu sent, eight at "
            f"a time. A hang is longer than {LONGEST_S:g} s. A late echo takes longer than "
            f"{_ECHO_S:g} s, and {_TIMES_LATER:g} times as long as with a receiver that nobody "
            "attacks. Both count if the same association shows them again when it is sent alone; "
            f"{figures['not again']} did not. A limit is one of memory, disk or time that ended a "
            f"process. {figures['kept']} instances were kept. {figures['errors']} processes were "
            "ended by an error of pynetdicom, where an answer was due on an association that the "
            "damage had ended; that is told.",
            "",
            f"| {' | '.join(FAULTS)} | most memory of a process |",
            f"|{'---:|' * (len(FAULTS) + 1)}",
            f"| {' | '.join(str(figures[fault]) for fault in FAULTS)} | "
            f"{figures['most_mb']:.0f} MB |",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
