"""Files that grow by whole rows, and what a row says of a scored frame.

Whatever stops the process, every row that was written is there and whole.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from datetime import datetime, timezone
from pathlib import Path

from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime.frame import Scored
from adae_edge.runtime.sinks.sink import Sink

FIELDS = ("source", "frame", "time", "video_time", "score", "threshold", "verdict", "wants")
# What rows of every version have, so that a file of an older one can go on.
_ALWAYS = frozenset({"source", "frame", "time", "score", "threshold", "verdict"})
_FIRST_FIELD = b'{"source": '
_MAX_ROW = 2**20  # bytes of a first line that is looked at
_SYNC_S = 1.0
_log = logging.getLogger(__name__)


def row_of(scored: Scored) -> dict[str, str | int | float | None]:
    """What a row says, by the names of ``FIELDS``: docs/running.md has their meaning."""
    seconds = scored.frame.video_time
    values = (
        scored.frame.source,
        scored.frame.id,
        timestamp(scored.frame.time),
        None if seconds is None else round(seconds, 6),
        float(f"{scored.score:.9g}"),  # float32 has no more digits
        scored.threshold,
        scored.verdict,
        scored.wants or None,
    )
    return dict(zip(FIELDS, values, strict=True))


def timestamp(seconds: float) -> str:
    """Seconds since 1970 -> ISO 8601 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RowFile(Sink):
    """A file that is appended to, a whole row at a time."""

    def __init__(self, place: str, header: bytes = b"") -> None:
        """
        Args:
            place: path of the file.
            header: the first row of every such file; empty for JSON objects.

        Raises:
            UsageError: there is no such folder.
            SinkError: the file cannot be written, or holds something else.
        """
        if "://" in place:
            raise UsageError(f"{place} is a URL, and these results go to a file")
        path = self._path = Path(place)
        self._synced = time.monotonic()
        try:
            # A pipe or a device, such as /dev/stdout, is written to and nothing else.
            self._regular = path.is_file() or not path.exists()
            self._file = path.open("a+b" if self._regular else "ab", buffering=0)
        except FileNotFoundError as error:
            raise UsageError(f"cannot write {path}: there is no folder {path.parent}") from error
        except OSError as error:
            raise SinkError(f"cannot write {path}: {error.strerror}") from error
        try:
            self._begin(header)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Put everything on the disk; a second call does nothing."""
        if self._file.closed:
            return
        with contextlib.suppress(OSError):  # a pipe cannot be synced, and every write was checked
            os.fsync(self._file.fileno())
        self._file.close()

    def append(self, row: bytes) -> None:
        """Write one row, and what was written on the disk about once a second.

        Raises:
            SinkError: the row cannot be written whole, and nothing of it is left in the file.
        """
        left = memoryview(row)
        try:
            while left:
                left = left[self._file.write(left) :]
            if self._regular and time.monotonic() - self._synced > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            if left:
                _log.warning("%s: half a row was written, and is taken back", self._path)
                self._drop_half_row(len(row) - len(left))
            raise SinkError(
                f"cannot write {self._path}: {error.strerror}; the rows before this one are kept"
            ) from error

    def _begin(self, header: bytes) -> None:
        """Check that the file holds such rows and ends with a whole one, or write its header."""
        try:
            size = self._file.seek(0, os.SEEK_END) if self._regular else 0
            if size:
                self._file.seek(0)
                if not self._holds_rows(self._file.readline(_MAX_ROW), header):
                    raise SinkError(
                        f"{self._path} holds something else than these results: give another file"
                    )
                self._file.seek(-1, os.SEEK_END)
                header = b"" if self._file.read(1) == b"\n" else b"\n"
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error
        self.append(header)

    def _holds_rows(self, first: bytes, header: bytes) -> bool:
        """Whether a file with this first line was written by such a sink."""
        if header:
            return first == header
        if not first.endswith(b"\n"):  # the only row, cut short
            return first.startswith(_FIRST_FIELD)
        try:
            row = json.loads(first)
        except ValueError:
            return False
        return isinstance(row, dict) and row.keys() >= _ALWAYS

    def _drop_half_row(self, written: int) -> None:
        if self._regular and written:
            with contextlib.suppress(OSError):
                self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
