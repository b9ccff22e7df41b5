"""The real command as a process, the rows that it writes, and what is wrong with them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.peers import numbers, processes
from adae_edge.benchmarks.peers.processes import Peer

HANGS_S = 300  # what takes longer hangs
_SKIPPED = re.compile(r"(\d+) skipped")

Row = dict[str, Any]


class WrongError(Exception):
    """A fault was not survived as it should be; says what was seen."""


@dataclass
class Seen:
    """What a fault led to.

    Attributes:
        seen: in words.
        recovered_s: seconds from the peer being back to the first scored frame; None where nothing
            recovers.
        lost, doubled, false: how many rows are missing, there twice, or about no frame that was
            sent.
    """

    seen: str
    recovered_s: float | None = None
    lost: int = 0
    doubled: int = 0
    false: int = 0


@dataclass
class Run:
    """One ``adae-edge score`` as a process.

    Attributes:
        peer: the process.
        rows_file: where its rows go; JSON Lines.
        listener: the thread that reads what it prints.
        said: what it printed on the standard error output, each with its time.
    """

    peer: Peer
    rows_file: Path
    listener: threading.Thread = field(init=False)
    said: list[tuple[float, str]] = field(default_factory=list)

    def rows(self, path: Path | None = None) -> list[Row]:
        """The rows about frames so far."""
        return [row for row in self._all(path) if row.get("score") is not None]

    def events(self) -> list[Row]:
        """The rows about events so far."""
        return [row for row in self._all() if row.get("score") is None]

    def _all(self, path: Path | None = None) -> list[Row]:
        path = path or self.rows_file
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    @property
    def text(self) -> str:
        """All that it printed on the standard error output."""
        return "\n".join(line for _, line in self.said)

    def wait_for(self, what: str, condition: Callable[[], object], limit: float = HANGS_S) -> float:
        """Wait until a condition holds: the seconds that it took.

        Raises:
            WrongError: it did not, or the command ended before.
        """
        begun = time.monotonic()
        while not condition():
            if time.monotonic() - begun > limit:
                raise WrongError(f"no {what} within {limit:g} s: {self.last_words}")
            if self.peer.process.poll() is not None:
                raise WrongError(f"it ended before {what}: {self.last_words}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def wait_for_rows(self, more: int = 1, limit: float = HANGS_S) -> float:
        """Wait for so many more rows than there are now: the seconds that it took."""
        before = len(self.rows())
        return self.wait_for(f"{more} more rows", lambda: len(self.rows()) >= before + more, limit)

    def wait_to_say(self, words: str, limit: float = HANGS_S) -> float:
        """Wait until a sentence or an event has these words: the seconds that it took."""

        def is_said() -> bool:
            events = json.dumps(self.events(), ensure_ascii=False)
            return words in self.text or words in events

        return self.wait_for(f"word of {words!r}", is_said, limit)

    @property
    def last_words(self) -> str:
        """The last that it said, on one line."""
        return " | ".join(line for _, line in self.said[-3:]) or "it said nothing"

    def end(self, number: signal.Signals | None = signal.SIGTERM, limit: float = HANGS_S) -> int:
        """Send a signal, or none, and wait for the end: the exit code.

        Raises:
            WrongError: it does not end.
        """
        if number is not None:
            self.peer.tell(number)
        try:
            code = self.peer.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise WrongError(f"it does not end: {self.last_words}") from None
        self.listener.join(HANGS_S)  # it has read the last line
        if "Traceback" in self.text:
            raise WrongError(f"a traceback: {self.last_words}")
        return int(code)

    def skipped(self) -> int:
        """How many frames it said at its end that it skipped."""
        found = _SKIPPED.search(self.text)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Lab:
    """A folder for one fault, and the models.

    Attributes:
        folder: empty at the start.
        model: reads the numbers of frames.
        slow: the same, and takes some 25 ms for each.
    """

    folder: Path
    model: Path
    slow: Path

    @staticmethod
    def at(folder: Path) -> Lab:
        """A lab in a new folder, with its models."""
        folder.mkdir(parents=True)
        model, slow = folder / "numbers.onnx", folder / "slow.onnx"
        model.write_bytes(numbers.model())
        slow.write_bytes(numbers.model(12))
        return Lab(folder, model, slow)

    @contextmanager
    def score(
        self,
        *sources: object,
        model: Path | None = None,
        sinks: Sequence[str] = (),
        options: Sequence[object] = (),
        before: Sequence[object] = (),
        rows: Path | None = None,
        **popen: Any,
    ) -> Iterator[Run]:
        """Score within the block; the command is killed at the end if it still runs.

        Args:
            sources: for the command line.
            model: in place of the lab's.
            sinks: beside the JSON Lines that ``Run.rows`` reads.
            options: further ones of the command.
            before: what starts the command, as ``unshare``.
            rows: the file that ``Run.rows`` reads, in place of one in the lab.
            popen: for the process.
        """
        rows = rows or self.folder / "rows.jsonl"
        command = [*before, sys.executable, "-m", "adae_edge", "score", model or self.model]
        command += [*sources, "--threads", 1, "--to", f"jsonl:{rows}", *options]
        command += [part for sink in sinks for part in ("--to", sink)]
        peer = processes.start(command, stderr=subprocess.PIPE, text=True, **popen)
        run = Run(peer, rows)
        run.listener = threading.Thread(target=_listen, args=(run,), daemon=True)
        run.listener.start()
        try:
            yield run
        finally:
            peer.kill()
            run.listener.join(1)


def _listen(run: Run) -> None:
    assert run.peer.process.stderr is not None
    with run.peer.process.stderr as lines:
        run.said.extend((time.time(), line.rstrip("\n")) for line in lines)


def expect(condition: object, otherwise: str) -> None:
    """Raise WrongError with this sentence unless the condition holds."""
    if not condition:
        raise WrongError(otherwise)


def judge(rows: Collection[Row], sent: Collection[int], seen: str) -> Seen:
    """Compare rows with the numbers of the frames that had to be scored, each once."""
    told = Counter(int(row["score"]) for row in rows)
    return Seen(
        seen,
        lost=len(set(sent) - set(told)),
        doubled=sum(told.values()) - len(told),
        false=sum(count for number, count in told.items() if number not in set(sent)),
    )


def judge_live(run: Run, base: float, seen: str, fps: int = 30, age: float | None = 1.0) -> Seen:
    """Judge the rows of a server's numbered frames after the command's end.

    A row is false where its number is none that was sent by now, or where the time of capture
    that it tells is further than ``age`` seconds from the time that the picture shows. It is lost
    where an id was given and has no row although it was not skipped.
    """
    rows = run.rows()
    numbers_told = [int(row["score"]) for row in rows]
    latest = (time.time() - base) * fps + 1
    false = sum(not 0 < number <= latest for number in numbers_told)
    if age is not None:
        false += sum(abs(seconds_of(row) - base - row["score"] / fps) > age for row in rows)
    ids = [int(row["frame"]) for row in rows]
    expect(ids == sorted(ids), "ids do not grow")
    missing = ids[-1] - ids[0] + 1 - len(set(ids)) if ids else 0
    return Seen(
        seen,
        lost=max(0, missing - run.skipped()),
        doubled=len(rows) - min(len(set(ids)), len(set(numbers_told))),
        false=false,
    )


def seconds_of(row: Row) -> float:
    """When a row says that its frame was captured, in seconds since 1970."""
    return datetime.fromisoformat(str(row["time"]).replace("Z", "+00:00")).timestamp()
