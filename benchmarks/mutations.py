"""Damages sound files in thousands of ways, and compares every frame with other decoders.

    python -m adae_edge.benchmarks.mutations pictures OUT [--count 5000] [--seed 0]

Each damaged file must give what an independent decoder makes of it, or a sentence: no traceback, no
death of the process, no hang and no memory without bounds. OUT keeps one row a file, so that the
same command goes on where it was stopped, and the table as JSON and Markdown. A kind of files is a
module ``mutated_KIND`` beside this one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from adae_edge.benchmarks.record import record
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.files import write_atomically, write_json

LONGEST_S = 5.0
MOST_MB = 500
_PEER_S = 60.0  # starting another program counts for nothing, and machines are busy
_START_S = 120.0  # a process imports decoders first
_FAULTS = ("differs", "no peer", "traceback", "death", "hang", "memory")
OUTCOMES = ("equal", "sentence", *_FAULTS)

Frame = NDArray[Any]


class Kind(Protocol):
    """What a module of a kind of files offers."""

    def write_sound(self, folder: Path) -> list[Path]:
        """Write at least 20 sound files, always the same, in order."""

    def mended(self, data: bytes) -> bytes:
        """Damaged bytes with checksums that are right again, so that decoders go on."""

    def decode(self, path: Path) -> Sequence[Frame]:
        """The frames as adae-edge decodes them; raises AdaeEdgeError for what is refused."""

    def judge(self, path: Path, frames: Sequence[Frame]) -> tuple[str, str]:
        """One of "equal", "differs" and "no peer", and which decoder says so."""


def kind_named(name: str) -> Kind:
    """The module of a kind of files, "pictures" for example."""
    return cast(Kind, importlib.import_module(f"adae_edge.benchmarks.mutated_{name}"))


def mutated(data: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """A damaged copy of a file's bytes, and in which way: one of eight, once or a few times.

    Half of the places are among the first 256 bytes, where most headers are.
    """
    changed = bytearray(data)
    name = random.choice(list(_WAYS))
    for _ in range(int(random.choice([1, 1, 1, 2, 4, 16]))):
        if len(changed) > 1:
            reach = len(changed) if random.random() < 0.5 else min(len(changed), 256)
            _WAYS[name](changed, int(random.integers(reach)), random)
    return bytes(changed), str(name)


def _flip(data: bytearray, at: int, random: np.random.Generator) -> None:
    data[at] ^= 1 << int(random.integers(8))


def _replace(data: bytearray, at: int, random: np.random.Generator) -> None:
    data[at] = int(random.integers(256))


def _extreme(data: bytearray, at: int, random: np.random.Generator) -> None:
    value = random.choice([b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0"])
    data[at : at + len(value)] = bytes(value)


def _cut(data: bytearray, at: int, random: np.random.Generator) -> None:
    del data[max(at, 1) :]


def _delete(data: bytearray, at: int, random: np.random.Generator) -> None:
    del data[at : at + int(random.integers(1, 64))]


def _insert(data: bytearray, at: int, random: np.random.Generator) -> None:
    data[at:at] = random.bytes(int(random.integers(1, 64)))


def _repeat(data: bytearray, at: int, random: np.random.Generator) -> None:
    data[at:at] = data[at : at + int(random.integers(1, 256))]


def _blank(data: bytearray, at: int, random: np.random.Generator) -> None:
    length = min(int(random.integers(1, 512)), len(data) - at)
    data[at : at + length] = bytes(length)


_WAYS = {
    "flip a bit": _flip,
    "another byte": _replace,
    "an extreme value": _extreme,
    "cut": _cut,
    "delete": _delete,
    "insert": _insert,
    "repeat": _repeat,
    "blank": _blank,
}


@dataclass(frozen=True)
class Answer:
    """What a process said of a file: one of ``OUTCOMES``, or "frames", and in which words."""

    outcome: str
    words: str = ""


class Worker:
    """A process that takes one file after another; a new one is started where it dies or hangs."""

    def __init__(self, kind: str, task: str) -> None:
        """
        Args:
            kind: of files.
            task: "decode" or "judge".
        """
        self._command = [sys.executable, "-m", __spec__.name, kind, f"--{task}"]
        self._longest_s = LONGEST_S if task == "decode" else _PEER_S
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, path: Path) -> Answer:
        """Give a file to the process, and wait for its answer as long as a file may take."""
        process = self._process or self._start()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
        line = self._line(self._longest_s)
        if line is None:
            self._end()
            return Answer("hang", f"longer than {self._longest_s:g} s")
        if not line:
            code = process.wait()
            self._end()
            return Answer("death", f"exit code {code}")
        return Answer(*json.loads(line))

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        if self._line(_START_S) != "ready\n":
            raise AdaeEdgeError(f"{self._command[-1]} does not start")
        return self._process

    def _line(self, seconds: float) -> str | None:
        """The next line; "" where the process ended, None where nothing came in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return self._process.stdout.readline() if ready else None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError), self._process:
                pass  # closes its pipes and waits for it
            self._process = None


def decode_all(kind: Kind, lines: Iterator[str]) -> None:
    """Decode each named file, keep its frames beside it, and answer."""
    for line in lines:
        path = Path(line.rstrip("\n"))
        _forget_peak()
        try:
            frames = list(kind.decode(path))
            answer = Answer("frames", "")
            np.savez(_frames_of(path), *frames)
        except AdaeEdgeError as error:
            answer = Answer("sentence", str(error).replace(str(path), "it"))
        except BaseException as error:
            answer = Answer("traceback", f"{type(error).__name__}: {error}")
        if _peak_mb() > MOST_MB:
            answer = Answer("memory", f"{_peak_mb():.0f} MB")
        print(json.dumps([answer.outcome, answer.words]), flush=True)


def judge_all(kind: Kind, lines: Iterator[str]) -> None:
    """Compare the frames that were kept of each named file with those of other decoders."""
    for line in lines:
        path = Path(line.rstrip("\n"))
        with np.load(_frames_of(path)) as kept:
            frames = [kept[name] for name in kept.files]
        print(json.dumps(kind.judge(path, frames)), flush=True)


def run(name: str, out: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Damage and decode ``count`` files, and go on where an earlier run stopped.

    Args:
        name: of the kind.
        out: folder for the rows; a damaged file that shows a fault stays there.
        count: how many damaged files there are.
        seed: of all damage.

    Returns:
        One row a file: number, sound file, way, outcome and words.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows_file = out / f"{name}-{seed}.jsonl"
    lines = rows_file.read_text().splitlines() if rows_file.exists() else []
    rows = [json.loads(line) for line in lines][:count]
    with tempfile.TemporaryDirectory() as temporary, rows_file.open("a") as file:
        kind = kind_named(name)
        sound = kind.write_sound(Path(temporary))
        with Worker(name, "decode") as decoder, Worker(name, "judge") as judge:
            for number in range(len(rows), count):
                source = sound[number % len(sound)]
                random = np.random.default_rng((seed, number))
                data, way = mutated(source.read_bytes(), random)
                if random.random() < 0.5:
                    data = kind.mended(data)
                path = Path(temporary) / f"{number}{source.suffix}"
                path.write_bytes(data)
                answer = decoder.ask(path)
                if answer.outcome == "frames":
                    answer = judge.ask(path)
                    if answer.outcome not in OUTCOMES[:3]:  # the peer died, and not we
                        answer = Answer("no peer", answer.words)
                if answer.outcome in _FAULTS:
                    (out / f"{name}-{seed}-{path.name}").write_bytes(data)
                row = {"number": number, "file": source.name, "way": way}
                rows.append({**row, "outcome": answer.outcome, "words": answer.words})
                file.write(json.dumps(rows[-1]) + "\n")
                file.flush()
                path.unlink()
                _frames_of(path).unlink(missing_ok=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """How often each outcome came of each sound file, as Markdown."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["file"], Counter())[row["outcome"]] += 1
    counts["all"] = Counter(row["outcome"] for row in rows)
    lines = [f"| sound file | {' | '.join(OUTCOMES)} |", f"|---|{'---:|' * len(OUTCOMES)}"]
    for name, found in counts.items():
        lines.append(f"| {name} | {' | '.join(str(found[outcome]) for outcome in OUTCOMES)} |")
    return "\n".join(lines)


def main() -> int:
    """Run, and write the table; exit code 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decode", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--judge", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.decode or given.judge:
        kind = kind_named(given.kind)
        print("ready", flush=True)
        (decode_all if given.decode else judge_all)(kind, sys.stdin)
        return 0
    rows = run(given.kind, given.out, given.count, given.seed)
    text = table(rows)
    print(text)
    options = f"{given.kind} OUT --count {given.count} --seed {given.seed}"
    page = f"# Damaged {given.kind}\n\n    python -m {__spec__.name} {options}\n\n{text}\n"
    write_atomically(given.out / f"mutated-{given.kind}.md", page.encode())
    outcomes = Counter(row["outcome"] for row in rows)
    faults = [row for row in rows if row["outcome"] in _FAULTS]
    figures = record(count=len(rows), seed=given.seed, outcomes=outcomes, faults=faults)
    write_json(given.out / f"mutated-{given.kind}.json", figures)
    return 1 if faults else 0


def _frames_of(path: Path) -> Path:
    """Where the frames of a file are kept between two processes."""
    return path.with_name(path.name + ".npz")


def _forget_peak() -> None:
    """Let the peak of this process's memory begin anew, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """The largest resident memory since then, MB; 0 where Linux does not tell."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        status = Path(f"/proc/{os.getpid()}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
