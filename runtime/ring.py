"""Files under a limit on the disk: the oldest go first, and nobody else's are touched."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import chain, count
from pathlib import Path

from adae_edge.runtime.frame import Scored

# What names of a ring's files are like behind their beginning; they sort by time.
_NAMED = re.compile(r"\d{8}T\d{6}\.\d{3}Z_[A-Za-z0-9_-]{1,150}")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_log = logging.getLogger(__name__)


class Ring:
    """Keeps the files of folders under a limit, and removes the oldest ones first.

    Files of one name in several folders are one entry, and are removed together. What earlier runs
    left is counted, too. A file that somebody else removed is no loss.

    Attributes:
        held_bytes: what the files take.
    """

    def __init__(self, places: Mapping[Path, str], limit: int, beginning: str = "") -> None:
        """
        Args:
            places: the folders that the files are in, and their suffix in each.
            limit: bytes that all of them may take.
            beginning: of every name, before the time.

        Raises:
            OSError: a folder cannot be read.
        """
        self._places, self._limit = dict(places), limit
        self._entries: deque[tuple[str, int]] = deque()
        self.held_bytes = 0
        sizes: dict[str, int] = {}
        for folder, suffix in places.items():
            for path in folder.iterdir():
                stem = path.name.removesuffix(suffix)
                ours = stem.startswith(beginning) and _NAMED.fullmatch(stem[len(beginning) :])
                if ours and path.name.endswith(suffix) and path.is_file():
                    sizes[stem] = sizes.get(stem, 0) + path.lstat().st_size
        for stem in sorted(sizes):
            self.add(stem, sizes[stem])

    def add(self, stem: str, size: int) -> None:
        """Count the files of a new entry, which were written; it is removed last."""
        self._entries.append((stem, size))
        self.held_bytes += size

    def make_room(self, size: int) -> None:
        """Remove the oldest entries until this many bytes more are within the limit.

        Raises:
            OSError: a file cannot be removed.
        """
        while self._entries and self.held_bytes + size > self._limit:
            stem, held = self._entries[0]
            for folder, suffix in self._places.items():
                (folder / f"{stem}{suffix}").unlink(missing_ok=True)
            self._entries.popleft()
            self.held_bytes -= held
            _log.debug("%s is removed to keep the limit", stem)


def locked(path: Path) -> int:
    """A descriptor that keeps others from a folder or a file until it is closed.

    A file is made if it is not there; whoever holds it may remove it.

    Raises:
        BlockingIOError: another one does so.
        OSError: it cannot be opened, or its file system has no locks.
    """
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed meanwhile: another one may be there


def stem_of(scored: Scored, *parts: object) -> str:
    """A name that sorts by time, of letters that every file system takes.

    Args:
        scored: by whose time it begins.
        parts: what follows, in order.
    """
    moment = datetime.fromtimestamp(scored.frame.time, timezone.utc)
    when = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"
    return "_".join([when, *(_safe(str(part)) for part in parts)])


def free(folders: Mapping[Path, str], stem: str) -> str:
    """A name that no file in the folders has: this one, or this one with a number behind it."""
    numbered = (f"{stem}-{number}" for number in count(2))
    for name in chain([stem], numbered):
        if not any((folder / f"{name}{suffix}").exists() for folder, suffix in folders.items()):
            return name
    raise AssertionError("there is always a next number")


def _safe(text: str) -> str:
    """The last 60 letters of a text, with others than letters and digits as one dash."""
    return _UNSAFE.sub("-", text).strip("-")[-60:].strip("-") or "x"
