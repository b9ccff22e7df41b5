"""A folder that is watched: each picture and DICOM file in it once, and those to come."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from adae_edge.decoding.folders import Listing, is_foreign, is_scorable, walk
from adae_edge.errors import FrameError, NoPicture, UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.files import Files
from adae_edge.runtime.sources.source import Wanted, failure

INTERVAL_S = 0.5  # between two looks, over which a complete file stands still
PATIENCE_S = 10.0  # for a file that stands still and cannot be decoded
_LOOK_S = 0.05


class _Print(NamedTuple):
    """What tells a file and its content from others without reading it."""

    written_ns: int
    size: int
    inode: int


@dataclass
class _Waiting:
    """A file that was not given yet, since when it stands still, and why it cannot be decoded."""

    print: _Print
    since: float
    reason: str = ""


class Watch(Files):
    """A folder that has no end: every file is given once, when it is complete, the oldest first.

    A file is complete when its size and its time of writing stand still and it can be decoded.
    """

    endless = True

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of the folder, which is watched at any depth.
            wanted: the frames that the model takes; what is ``done`` is not given again.

        Raises:
            UsageError: there is no such folder, or other frames are wanted.
        """
        if wanted.kind != "image":
            raise UsageError(
                f"nothing says when a series in watch:{place} is whole, and this model takes whole "
                f"ones: send them to dicom-scp://HOST:PORT/TITLE, or score {place} when they are "
                "there"
            )
        super().__init__(place, wanted)
        self._root = Path(place)
        self._seen: dict[Path, _Print] = {}
        self._waiting: dict[Path, _Waiting] = {}
        self._taken_away: dict[_Print, Path] = {}  # files that went before their turn
        self._before: dict[Path, _Print] = {}  # given before the folder went away
        self._failed: set[Path] = set()  # of those that were seen: nothing of them was scored
        self._told: set[str] = set()
        self._gone = False
        self._disk: int | None = None

    def _find(self, place: str) -> Listing[Path]:
        if not Path(place).is_dir():
            raise UsageError(f"there is no folder {place} to watch")
        return Listing[Path]()

    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames, and what becomes of the folder, until it is stopped."""
        while not self._stopping:
            looked = self.moved_s = time.monotonic()
            yield from self._look(looked)
            for path in self._complete(looked):
                if self._stopping:
                    return
                yield from self._take(path, looked)
                self.moved_s = time.monotonic()
            while not self._stopping and time.monotonic() < looked + INTERVAL_S:
                time.sleep(_LOOK_S)

    def _look(self, now: float) -> Iterator[Event]:
        """Find out what came, what changed and what went."""
        disk = _disk_of(self._root)
        if disk is None:
            if not self._gone:
                self._gone = True
                yield self._event("lost", f"{self._root} went away: it is looked for")
            return
        if self._gone or self._disk not in (None, disk):  # it may be another one of the same name
            again = "is there again" if self._gone else "is on another disk now"
            yield self._event("live", f"{self._root} {again}")
            self._before |= self._seen
            self._seen.clear()
        self._gone, self._disk = False, disk
        unreadable: list[str] = []
        present = dict(self._present(unreadable))
        for sentence in unreadable:
            if sentence not in self._told:
                self._told.add(sentence)
                yield failure(self._place, sentence)
        yield from self._compare(present, now)

    def _compare(self, present: dict[Path, _Print], now: float) -> Iterator[Event]:
        """Compare what is there with what was there at the last look."""
        # A file that has another name now was given under the old one.
        given = {seen for path, seen in self._seen.items() if present.get(path) != seen}
        given.update(self._before.values())
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        self._failed &= present.keys()
        for path, print_ in present.items():
            if path in self._failed and self._seen.get(path) != print_:
                self._seen.pop(path, None)  # it may be whole now
                self._failed.discard(path)
            if path in self._seen:
                if self._seen[path] != print_:
                    detail = f"{path} changed after it was scored: a new picture wants a new name"
                    yield self._event("note", detail, path)
                    self._seen[path] = print_
                continue
            before = self._before.get(path)
            if print_ in given or (before and before[:2] == print_[:2]):
                self._seen[path] = print_
                continue
            self._taken_away.pop(print_, None)
            waiting = self._waiting.get(path)
            if waiting is None or waiting.print != print_:
                self._waiting[path] = _Waiting(print_, now)
        for path in self._waiting.keys() - present.keys():
            del self._waiting[path]
        for path in self._taken_away.values():
            yield self._event("gap", f"{path} was taken away before it was scored", path)
        self._taken_away.clear()

    def _present(self, unreadable: list[str]) -> Iterator[tuple[Path, _Print]]:
        """The files that are there and are not hidden."""
        for place, folders, names in walk(self._root, unreadable.append):
            folders[:] = [name for name in folders if not is_foreign(name)]
            for name in names:
                path = place / name
                if is_foreign(name):
                    continue
                try:
                    status = path.stat()
                except FileNotFoundError:
                    if path.is_symlink():
                        unreadable.append(f"{path} is a link to a file that is not there")
                    continue
                except OSError as error:
                    unreadable.append(f"{path} cannot be read: {error.strerror}")
                    continue
                yield path, _Print(status.st_mtime_ns, status.st_size, status.st_ino)

    def _complete(self, now: float) -> list[Path]:
        """The files that stand still and were not tried yet or too often, the oldest first."""
        ready = [
            (waiting.print.written_ns, path)
            for path, waiting in self._waiting.items()
            if now - waiting.since >= (PATIENCE_S if waiting.reason else INTERVAL_S)
        ]
        return [path for _, path in sorted(ready)]

    def _take(self, path: Path, now: float) -> Iterator[Frame | Event]:
        """What a file gives, if it was whole while it was decoded."""
        waiting = self._waiting.pop(path)
        try:
            items, reason = self._decoded(path), ""
            reason = next((item.detail for item in items if isinstance(item, Event)), "")
        except FrameError as error:
            items, reason = [failure(str(path), error)], str(error)
        if self._stopping:
            return  # what decodes was ended, too
        try:
            status = path.stat()
        except OSError:
            self._taken_away[waiting.print] = path
            return
        if _Print(status.st_mtime_ns, status.st_size, status.st_ino) != waiting.print:
            return  # found by the next look
        if reason and not waiting.reason:
            waiting.reason, waiting.since = reason, now
            self._waiting[path] = waiting
            return
        self._seen[path] = waiting.print
        if reason and not any(isinstance(item, Frame) for item in items):
            self._failed.add(path)
        yield from items

    def _decoded(self, path: Path) -> list[Frame | Event]:
        """The frames of a file, and failures of others; of what is no picture nothing."""
        if not path.is_file() or not is_scorable(path):
            left_out = Listing[Path]()
            left_out.sort_in(path, is_scorable, hidden=False)
            self.left_out.update(left_out.left_out)
            return []
        frames = self._found(path)
        try:
            if isinstance(frames, FrameError):
                raise frames
            return list(self._asked(path) if frames is None else frames)
        except NoPicture:
            self.left_out["without a picture"] += 1
            return []

    def _event(self, kind: str, detail: str, path: Path | None = None) -> Event:
        return Event(str(path or self._place), time.time(), kind, detail)


def _disk_of(folder: Path) -> int | None:
    """The number of the disk that a folder is on; None where there is no such folder now.

    One whose server or plug is gone fails in ways of its own.
    """
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev if stat.S_ISDIR(status.st_mode) else None


SOURCE = Watch
