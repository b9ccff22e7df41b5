"""The folder of what is pulled from an archive: whole series, and parts of those that come now.

A file is named by its instance number, so that slices are in order, and by the SHA-256 of its SOP
instance UID; a folder by that of its series' UID. A UID may hold any letter. A part becomes whole
by one ``rename``, so that no half series is scored, and what came before a crash is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from adae_edge.errors import FrameError, SinkError, SourceError, SpoolInUse
from adae_edge.extras import needs
from adae_edge.runtime.dicom.pull_request import SUFFIX, WHOLE, Request
from adae_edge.runtime.dicom.received import hash_of

with needs("Pulling DICOM over the network", "pacs"):
    from pydicom import dcmread

_PART, _INCOMING, _LOCK = "part", "incoming", "lock"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_NUMBER = "InstanceNumber"


class PulledFolder:
    """What was pulled by one request; this process has it to itself until it ends."""

    def __init__(self, request: Request) -> None:
        """
        Args:
            request: says where it is. Temporary files of this process lie in it from now on.

        Raises:
            SpoolInUse: another process pulls the same.
            SinkError: it cannot be written.
        """
        self._request = request
        self.path = request.folder
        incoming = self.path / _INCOMING
        try:
            for folder in (Path(request.spool), self.path.parent, self.path):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = _locked(self.path)
            if self._lock is None:
                raise SpoolInUse(f"{request.spool} is in use by another one that pulls the same")
            shutil.rmtree(incoming, ignore_errors=True)
            for folder in (incoming, self.path / _PART, self.path / WHOLE):
                folder.mkdir(mode=0o700, exist_ok=True)
            os.utime(self.path)
            self._used = self._weed()
        except OSError as error:
            raise SinkError(f"cannot write {request.spool}: {error.strerror}") from error
        tempfile.tempdir = str(incoming)

    def keep_only(self, series: Iterable[str]) -> None:
        """Delete what the archive has no more."""
        names = {hash_of(uid) for uid in series}
        for state in (_PART, WHOLE):
            for left in (self.path / state).iterdir():
                if left.name not in names:
                    shutil.rmtree(left)

    def begin(self, series: str, listed: Iterable[str]) -> Part:
        """The part of a series, with what there is of it already and is listed."""
        part, whole = (self.path / state / hash_of(series) for state in (_PART, WHOLE))
        wanted = {hash_of(uid) for uid in listed}
        if whole.exists() and _files(whole).keys() != wanted:
            self.doubt(series)
        if not whole.exists():
            part.mkdir(mode=0o700, exist_ok=True)
            for digest, file in _files(part).items():
                if digest not in wanted:
                    file.unlink()
        return Part(self, part if part.exists() else whole, whole, series)

    def doubt(self, series: str) -> None:
        """Have a series be a part, of which something may be lacking."""
        part, whole = (self.path / state / hash_of(series) for state in (_PART, WHOLE))
        if whole.exists():
            shutil.rmtree(part, ignore_errors=True)
            whole.rename(part)

    def take_room(self, size: int) -> None:
        """Take room for so many bytes; raises SourceError where weeding leaves none."""
        self._used += size
        if self._used > self._request.limit_bytes:
            self._used = self._weed()
        if self._used > self._request.limit_bytes:
            limit = f"limit={self._request.limit_bytes // 10**6}MB"
            raise SourceError(f"{self._request.spool} has no room for what is pulled: {limit}")

    def number_of(self, path: Path, series: str, uid: str) -> int:
        """The number of an instance; raises FrameError where it is not the one asked for."""
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*_UIDS, _NUMBER])
            uids = tuple(str(header.get(name, "")) for name in _UIDS)
            number = str(header.get(_NUMBER, ""))
        except MemoryError:
            raise
        except Exception as error:  # pydicom raises whatever a file brings it to
            raise FrameError("the archive gave a file that is no DICOM") from error
        if uids != (self._request.study, series, uid):
            raise FrameError("the archive gave another instance than it was asked for")
        return int(number) if re.fullmatch("[0-9]{1,6}", number) else 0

    def _weed(self) -> int:
        """Delete what others pulled: what is too old, and the oldest where all take too much.

        Returns:
            The bytes that are left.
        """
        others = [path for path in self.path.parent.iterdir() if path != self.path]
        sizes = {path: sum(_sizes(path)) for path in (*others, self.path)}
        changed = {path: path.stat().st_mtime for path in others}
        for path in sorted(others, key=lambda path: changed[path]):
            full = sum(sizes.values()) > self._request.limit_bytes
            old = changed[path] < time.time() - self._request.keep_s
            if (full or old) and (lock := _locked(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
                del sizes[path]
        return sum(sizes.values())


class Part:
    """A series as far as it is there."""

    def __init__(self, folder: PulledFolder, path: Path, whole: Path, series: str) -> None:
        """
        Args:
            folder: the one that it is in.
            path: where its files lie now.
            whole: where they lie when it is whole.
            series: its UID.
        """
        self._folder, self._path, self._whole, self._series = folder, path, whole, series
        self._files = _files(path)

    def has(self, uid: str) -> bool:
        """Whether an instance is there."""
        return hash_of(uid) in self._files

    def keep(self, path: Path, uid: str) -> None:
        """Keep a file as an instance, so that it outlives a power failure.

        Raises:
            FrameError: it is another instance, or none.
            SourceError: there is no room.
        """
        number = self._folder.number_of(path, self._series, uid)
        self._folder.take_room(path.stat().st_size)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        digest = hash_of(uid)
        self._files[digest] = path.rename(self._path / f"{number:06}-{digest}{SUFFIX}")

    def finish(self) -> None:
        """Make it whole."""
        if self._path != self._whole:
            self._path.rename(self._whole)


def _files(folder: Path) -> dict[str, Path]:
    """The instances in a folder, by the SHA-256 of their UIDs."""
    return {path.stem.partition("-")[2]: path for path in folder.iterdir()}


def _locked(folder: Path) -> int | None:
    """The lock of a folder, which lasts as long as this process; None where another one has it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sizes(folder: Path) -> Iterator[int]:
    """The bytes of each file beneath a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield Path(place, name).stat().st_size
