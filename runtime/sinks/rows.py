"""Files that grow by whole rows, and what a row says of a scored frame or of an event.

Whatever stops the process, every row that was written is there and whole. A file that somebody
moved or removed is opened anew at its path.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import time
from abc import abstractmethod
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from adae_edge.errors import SinkError, UsageError
from adae_edge.formats.files import real_path
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Kept, Sink

FIELDS = (
    *("source", "frame", "time", "video_time", "age"),
    *("score", "threshold", "verdict", "wants", "model", "boxes", "complete"),
)
EVENT_FIELDS = ("event", "source", "time", "detail", "frames", "over")
MAX_ROW = 2**20  # bytes of a row that is read back
_SYNC_S = 1.0
_log = logging.getLogger(__name__)


def row_of(scored: Scored) -> dict[str, Any]:
    """What a row says, by the names of ``FIELDS``: docs/running.md has their meaning.

    All values are of JSON types. Boxes are those of an anomalous frame, so that rows do not depend
    on what other sinks show.
    """
    seconds = scored.frame.video_time
    values = (
        scored.frame.source,
        scored.frame.id,
        timestamp(scored.frame.time),
        None if seconds is None else round(seconds, 6),
        round(scored.age, 4),
        float(f"{scored.score:.9g}"),  # float32 has no more digits
        float(scored.threshold),
        scored.verdict,
        scored.wants or None,
        scored.model or None,
        _boxes_of(scored),
        scored.frame.about.get("complete"),
    )
    return dict(zip(FIELDS, values, strict=True))


def _boxes_of(scored: Scored) -> list[dict[str, int | float]] | None:
    boxes = scored.boxes_in_slice
    if boxes is None or scored.verdict != "anomalous":
        return None
    return [box._asdict() for box in boxes]


def flat(row: dict[str, Any]) -> list[Any]:
    """The values of a row for a table, with boxes as one text in JSON."""
    return [json.dumps(value) if isinstance(value, list) else value for value in row.values()]


def event_row_of(event: Event) -> dict[str, str | int]:
    """What the row of an event says, by the names of ``EVENT_FIELDS``."""
    when = timestamp(event.time)
    values = (event.kind, event.source, when, event.detail, event.frames, event.over)
    return dict(zip(EVENT_FIELDS, values, strict=True))


def timestamp(seconds: float) -> str:
    """Seconds since 1970 -> ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_file(place: str) -> None:
    """Raise UsageError where a file of results cannot be, because of its name or its folder."""
    if "://" in place:
        raise UsageError(f"{place} is a URL, and these results go to a file")
    if not (folder := real_path(Path(place)).parent).is_dir():
        raise UsageError(f"cannot write {place}: there is no folder {folder}")
    with contextlib.suppress(OSError):  # a name that is too long is told as it is opened
        if Path(place).is_dir():
            raise UsageError(f"cannot write {place}: it is a folder")


class RowFile(Sink):
    """A file that is appended to, a whole row at a time.

    Attributes:
        header: the first row of every such file; empty for JSON objects.
    """

    reads_back = puts_aside = True

    def __init__(self, place: str, keeping: Keeping = ROWS, header: bytes = b"") -> None:
        """
        Args:
            place: path of the file.
            keeping: how rows are kept.
            header: the first row of every such file; empty for JSON objects.

        Raises:
            UsageError: there is no such folder.
            SinkError: the file cannot be written, or holds something else.
        """
        self.check(place)
        path = self._path = Path(place)
        self._keeping, self.header = keeping, header
        self._synced = time.monotonic()
        self._half = 0  # bytes at the end that must go before the next row
        self._why_half = OSError()
        self._closed = False
        self._file: io.FileIO | None = None
        try:
            # A pipe or a device, such as /dev/stdout, is written to and nothing else.
            self._regular = path.is_file() or not path.exists()
            self._open()
        except OSError as error:
            raise self._failed(error) from error

    @classmethod
    def check(cls, place: str) -> None:
        """Say that it is a URL, or that there is no such folder."""
        check_file(place)

    @abstractmethod
    def read(self, row: bytes) -> Kept | None:
        """What a row of the file says, or None for one that is damaged."""

    @abstractmethod
    def holds_rows(self, first: bytes) -> bool:
        """Whether a file with this first line was written by such a sink."""

    def why_not(self, first: bytes) -> str:
        """Why a file with another first line is refused."""
        return "holds something else than these results"

    def close(self) -> None:
        """Put everything on the disk; a second call does nothing."""
        self._closed = True
        if self._file is not None:
            with contextlib.suppress(OSError):  # a pipe has no disk, and every write was checked
                os.fsync(self._file.fileno())
            self._let_go()

    def flush(self) -> None:
        """Put on the disk what was written, if that was a second ago."""
        if self._file is not None and self._regular and self._unsynced():
            try:
                self._sync()
            except OSError as error:
                raise self._failed(error) from error

    def append(self, row: bytes) -> None:
        """Write one row, and what was written on the disk about once a second.

        Raises:
            SinkError: the row cannot be written whole, and nothing of it is left in the file.
            BrokenPipeError: the reader of a pipe has enough.
        """
        if self._closed:
            raise SinkError(f"{self._path} is closed")
        try:
            self._make_ready(len(row))
            self._put(row)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error, "; the rows before this one are kept") from error

    def kept(self) -> Iterator[Kept] | None:
        """The rows of the file, and before them those that were put aside as it grew."""
        return self._kept() if self._regular else None

    def _kept(self) -> Iterator[Kept]:
        for path in [*(path for _, path in self._aside()), self._real]:
            damaged = 0
            try:
                with path.open("rb") as file:
                    for row in self._records(file):
                        if row != self.header:
                            kept = self.read(row)
                            damaged += kept is None
                            if kept is not None:
                                yield kept
            except OSError as error:
                raise SinkError(f"cannot read {path}: {error.strerror}") from error
            if damaged:
                _log.warning("%s: %d rows are damaged, and count for nothing", path, damaged)

    def _open(self) -> None:
        """Open the file at its path; raises OSError, or SinkError if it holds something else."""
        self._real = real_path(self._path) if self._regular else self._path
        self._file = io.FileIO(self._real, "a+" if self._regular else "a")
        self._half = 0
        try:
            self._begin()
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> None:
        """Check that the file holds such rows and ends with a whole one, or write its header."""
        assert self._file is not None
        if not (self._regular and self._file.seek(0, os.SEEK_END)):
            self._put(self.header)
            return
        self._file.seek(0)
        first = self._file.readline(MAX_ROW)
        if self._keeping.resume and first != self.header and self.header.startswith(first):
            self._file.truncate(0)
            self._put(self.header)
            return
        if not self.holds_rows(first):
            raise SinkError(f"{self._path} {self.why_not(first)}: give another file")
        self._file.seek(-1, os.SEEK_END)
        if self._file.read(1) != b"\n" or self._keeping.resume:
            self._end_whole()

    def _end_whole(self) -> None:
        """Make an end of half a row: drop it where it will be written again, or end its line."""
        assert self._file is not None
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as file:
            whole = sum(map(len, self._records(file)))
        size = self._file.seek(0, os.SEEK_END)
        if size == whole:
            return
        if self._keeping.resume:
            _log.warning("%s: half a row at the end is dropped", self._path)
            self._file.truncate(whole)
            return
        self._file.seek(whole)
        self._put(self.line_end(self._file.read(size - whole)))

    def line_end(self, half: bytes) -> bytes:
        """What ends the line of half a row."""
        return b"\n"

    def whole(self, row: bytes) -> bool:
        """Whether these lines are a whole row, damaged or not."""
        return row.endswith(b"\n")

    def _records(self, file: io.BufferedIOBase) -> Iterator[bytes]:
        """The whole rows of a file, with their ends, in order."""
        row = b""
        for line in file:
            row += line
            if self.whole(row) or (len(row) > MAX_ROW and row.endswith(b"\n")):
                yield row
                row = b""

    def _make_ready(self, length: int) -> None:
        """Open the file anew if it is gone or full, and drop what is left of half a row."""
        if not self._regular:
            return
        if self._file is None:
            self._open()
            return
        if self._half:
            self._take_back(self._half)
            if self._half:
                raise OSError(self._why_half.errno, self._why_half.strerror)
        here = os.fstat(self._file.fileno())
        try:
            there = self._path.stat()
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            _log.info("%s was moved or removed, and is opened anew", self._path)
            self._let_go()
            self._open()
        elif not here.st_size:
            self._put(self.header)  # somebody emptied it
        elif (
            self._keeping.rotate is not None
            and here.st_size + length > self._keeping.rotate
            and here.st_size > len(self.header)
        ):
            self._put_aside()

    def _put(self, row: bytes) -> None:
        """Write bytes whole, or none of them; raises OSError."""
        assert self._file is not None
        left = memoryview(row)
        try:
            while left:
                left = left[self._file.write(left) :]
            if self._regular and row and (self._keeping.fsync or self._unsynced()):
                self._sync()
        except OSError as error:
            self._why_half = error
            self._take_back(len(row) - len(left))
            raise

    def _take_back(self, written: int) -> None:
        """Drop the last bytes of the file, now or before the next row."""
        self._half = 0
        if self._regular and written and self._file is not None:
            _log.warning("%s: half a row was written, and is taken back", self._path)
            try:
                self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
            except OSError:
                self._half = written

    def _put_aside(self) -> None:
        """Give the file the next number in its name, which no other file has, and begin anew."""
        aside = self._aside()
        number = aside[-1][0] + 1 if aside else 1
        to = self._real.with_name(f"{self._real.stem}.{number}{self._real.suffix}")
        self._sync()
        os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # nobody's file is replaced
        self._real.replace(to)
        self._let_go()
        self._open()

    def _aside(self) -> list[tuple[int, Path]]:
        """The files that were put aside, by their numbers, in order."""
        stem, suffix = re.escape(self._real.stem), re.escape(self._real.suffix)
        named = re.compile(rf"{stem}\.(\d{{1,9}}){suffix}")
        found = ((named.fullmatch(path.name), path) for path in self._real.parent.iterdir())
        return sorted((int(match[1]), path) for match, path in found if match)

    def _unsynced(self) -> bool:
        return time.monotonic() - self._synced > _SYNC_S

    def _sync(self) -> None:
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def _let_go(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _failed(self, error: OSError, what: str = "") -> SinkError:
        return SinkError(f"cannot write {self._path}: {error.strerror}{what}")
