"""Results in files that grow by whole rows: JSON Lines and CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from dataclasses import asdict, fields
from pathlib import Path

from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime.sinks.sink import Result

_SYNC_S = 1.0


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
            with contextlib.suppress(
                OSError
            ):  # a pipe cannot be synced, and every write was checked
                os.fsync(self._file.fileno())
            self._file.close()

    def _begin(self, header: bytes) -> None:
        """Check that the file holds such rows and ends with a whole one; give a new one its header."""
        try:
            size = self._file.seek(0, os.SEEK_END) if self._regular else 0
            if size:
                self._file.seek(0)
                if self._file.read(len(header) or 1) != (header or b"{"):
                    raise SinkError(
                        f"{self._path} holds something else than these results: give another file"
                    )
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
            raise SinkError(
                f"cannot write {self._path}: {error.strerror}; the rows before this one are kept"
            ) from None

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
    csv.writer(text, lineterminator="\r\n").writerow(
        values
    )  # quotes a carriage return only if a line ends with one
    row = text.getvalue().removesuffix("\r\n") + "\n"
    return row.encode(errors="backslashreplace")  # a file's name need not be UTF-8, a CSV file is
