"""Sinks for results: the terminal, JSON Lines and CSV.

A file is appended to, a whole row at a time, so whatever stops the process, every row that was
written is there and whole.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import typer

from adae_edge.errors import SinkError, UsageError, printable

_SYNC_S = 1.0


@dataclass(frozen=True)
class Result:
    """What is kept of a scored frame.

    Attributes:
        source: the file's path, or camera:N.
        frame: number of the frame in its source, or its DICOM SOP instance UID.
        time: when the frame was captured or decoded, ISO 8601, UTC.
        score: the model's, one of ``contract.SCORES``.
        threshold: the score above which a frame is anomalous.
        verdict: "normal" or "anomalous".
    """

    source: str
    frame: int | str
    time: str
    score: float
    threshold: float
    verdict: str


class Sink(Protocol):
    """Keeps results."""

    def write(self, result: Result) -> None:
        """Keep one result; raises SinkError where that fails."""
        ...

    def close(self) -> None:
        """Finish; what was written is on the disk afterwards."""
        ...


def open_sink(spec: str) -> Sink:
    """Open a sink by its name on the command line: "terminal", "jsonl:FILE", "csv:FILE", or a file with such a suffix.

    Raises:
        UsageError: of no known kind, or in a folder that does not exist.
        SinkError: the file cannot be written, or is a CSV file of something else.
    """
    if spec == "terminal":
        return Terminal()
    kind, _, name = spec.partition(":")
    if kind not in ("jsonl", "csv"):
        kind, name = Path(spec).suffix.lower().removeprefix("."), spec
    if kind == "jsonl" and name:
        return JsonLines(Path(name))
    if kind == "csv" and name:
        return Csv(Path(name))
    raise UsageError(f"there is no sink {spec}: give terminal, jsonl:FILE or csv:FILE")


def timestamp(seconds: float) -> str:
    """Seconds since 1970 -> ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Terminal:
    """One line a result on the standard output."""

    def write(self, result: Result) -> None:
        """Print one line, the anomalous ones in red where the terminal has colours."""
        verdict = typer.style(result.verdict, fg="red", bold=True) if result.verdict == "anomalous" else result.verdict
        place = f"{result.source} {result.frame}" if result.frame != 0 else result.source
        line = f"{result.score:9.4f}  {verdict}  {printable(place)}"
        try:
            try:
                typer.echo(line)
            except UnicodeEncodeError:  # letters that the terminal lacks
                typer.echo(line.encode("ascii", "backslashreplace").decode())
        except BrokenPipeError:  # the reader has enough, as in "| head": the end, and nothing to complain of
            raise
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not fail again at exit
            raise SinkError(f"cannot write the standard output: {error.strerror}") from None

    def close(self) -> None:
        """Nothing is held back."""


class _RowFile:
    """A text file that grows by whole rows."""

    def __init__(self, path: Path, header: bytes = b"") -> None:
        self._path = path
        self._synced = time.monotonic()
        try:
            # A pipe or a device, such as /dev/stdout, is written to and nothing else.
            self._regular = path.is_file() or not path.exists()
            self._file = path.open("a+b" if self._regular else "ab", buffering=0)
        except FileNotFoundError:
            raise UsageError(f"cannot write {path}: there is no folder {path.parent}") from None
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from None
        try:
            self._begin(header)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Put everything on the disk; a second call does nothing."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # a pipe cannot be synced, and every write was checked
                os.fsync(self._file.fileno())
            self._file.close()

    def _begin(self, header: bytes) -> None:
        """Check that the file holds such rows and ends with a whole one; give a new one its header."""
        try:
            size = self._file.seek(0, os.SEEK_END) if self._regular else 0
            if size:
                self._file.seek(0)
                if self._file.read(len(header) or 1) != (header or b"{"):
                    raise SinkError(f"{self._path} holds something else than these results: give another file")
                self._file.seek(-1, os.SEEK_END)
                header = b"" if self._file.read(1) == b"\n" else b"\n"
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from None
        self._append(header)

    def _append(self, row: bytes) -> None:
        left = memoryview(row)
        try:
            while left:
                left = left[self._file.write(left) :]
            if self._regular and time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            if left:
                self._drop_half_row(len(row) - len(left))
            raise SinkError(f"cannot write {self._path}: {error.strerror}; the rows before this one are kept") from None

    def _drop_half_row(self, written: int) -> None:
        if self._regular and written:
            with contextlib.suppress(OSError):
                self._file.truncate(self._file.seek(0, os.SEEK_END) - written)


class JsonLines(_RowFile):
    """One JSON object a line."""

    def write(self, result: Result) -> None:
        """Append one line."""
        self._append(json.dumps(asdict(result)).encode() + b"\n")


class Csv(_RowFile):
    """Comma-separated values under a header."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, header=_csv_row([field.name for field in fields(Result)]))

    def write(self, result: Result) -> None:
        """Append one row."""
        self._append(_csv_row(list(asdict(result).values())))


def _csv_row(values: list[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # quotes a carriage return only if a line ends with one
    row = text.getvalue().removesuffix("\r\n") + "\n"
    return row.encode(errors="backslashreplace")  # a file's name need not be UTF-8, a CSV file is
