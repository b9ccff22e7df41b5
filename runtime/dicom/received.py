"""The folder of received instances, whose state is the folder that each file lies in.

incoming  ->  new  ->  claimed  ->  done

A file is moved by ``rename`` alone, so that it is whole in one state at any moment. Association
processes move to ``new``, the source to ``claimed`` and ``done``, and the receiver deletes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from adae_edge.errors import FrameError, SinkError, SpoolFull, SpoolInUse, UsageError

STATES = INCOMING, NEW, CLAIMED, DONE = "incoming", "new", "claimed", "done"
JOURNALS, COMMITTED = "series", "committed"
_LOCK = "lock"
_PIECE = 2**20
_DIGEST = 32  # letters of the bytes' digest in a name
_PATIENCE_S = 5.0  # for processes of a receiver that was killed, which end by themselves
_AGAIN_S = 0.05
_LEFT_BYTES = 10**9  # of the disk, for what comes
_MOST_LISTS = 1000  # of commitments that nobody read


class Received:
    """Instances by the SHA-256 of their SOP instance UID and of their bytes.

    So the same instance has the same name, and one of other bytes lies beside it.

    Attributes:
        folder: with one folder for each state in it.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: is made by ``prepare`` if it is not there; its parent must be.

        Raises:
            UsageError: there is no such parent.
        """
        if not folder.absolute().parent.is_dir():
            raise UsageError(f"cannot write {folder}: there is no folder {folder.parent}")
        self.folder = folder
        self._lock = -1

    def prepare(self) -> None:
        """Make the folders, have the folder to oneself, and put in order what a crash left.

        What was claimed is new again, and what had not been received whole is deleted. The folder
        is this process's and those that it forks, until all have ended.

        Raises:
            SpoolInUse: another receiver has it.
            SinkError: it cannot be written.
        """
        try:
            names = *STATES, JOURNALS, COMMITTED
            for folder in (self.folder, *map(self.folder.joinpath, names)):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            self._have_it()
            for left in (self.folder / INCOMING).iterdir():
                shutil.rmtree(left)
            for claimed in (self.folder / CLAIMED).iterdir():
                claimed.rename(self.folder / NEW / claimed.name)
            for folder in (self.folder / NEW, self.folder, self.folder.parent):
                _sync(folder)
        except OSError as error:
            raise SinkError(f"cannot write {self.folder}: {error.strerror}") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within, no other process of this receiver is within."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)  # lasts as long as the process, unlike flock
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _have_it(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() > deadline:
                    raise SpoolInUse(f"{self.folder} is in use by another receiver") from error
            time.sleep(_AGAIN_S)

    def incoming(self) -> Path:
        """A folder for what this process receives."""
        folder = self.folder / INCOMING / str(os.getpid())
        folder.mkdir(mode=0o700)
        return folder

    def forget_incoming(self, process: int) -> None:
        """Delete what a process that has ended had not received whole."""
        shutil.rmtree(self.folder / INCOMING / str(process), ignore_errors=True)

    def keep(self, path: Path, uid: str, take_room: Callable[[int], bool]) -> None:
        """Keep a received file, so that it outlives a power failure when this returns.

        Args:
            path: in the folder ``incoming``; it lies there no more afterwards.
            uid: the SOP instance UID.
            take_room: whether there is room for so many bytes.

        Raises:
            SpoolFull: there is none.
            OSError: it cannot be kept, and lies where it was or in ``new``.
        """
        digest = hashlib.sha256()
        with path.open("rb") as file:
            if not take_room(os.fstat(file.fileno()).st_size):
                raise SpoolFull(f"{self.folder} is full")
            while piece := file.read(_PIECE):
                digest.update(piece)
            os.fsync(file.fileno())
        name = f"{hash_of(uid)}-{digest.hexdigest()[:_DIGEST]}"
        path.rename(self.folder / NEW / name)
        _sync(self.folder / NEW)

    def holds(self, uids: Iterable[str]) -> set[str]:
        """Those of the instances that are kept in any state, also after a power failure.

        Raises:
            OSError: that cannot be told.
        """
        _sync(self.folder / NEW)
        kept = set()
        for state in (NEW, CLAIMED, DONE):  # in the order in which files move
            kept |= {path.name.partition("-")[0] for path in (self.folder / state).iterdir()}
        return {uid for uid in uids if hash_of(uid) in kept}

    def note_commitment(self, uids: Iterable[str]) -> None:
        """Keep a list of instances that a peer asked to be committed, for who scores them.

        It is lost where nobody reads such lists, and where the disk is full: then it is no sign.
        """
        lines = "".join(sorted(f"{hash_of(uid)}\n" for uid in uids)).encode()
        lists = self.folder / COMMITTED
        with contextlib.suppress(OSError):
            if len(list(lists.iterdir())) < _MOST_LISTS:
                path = self.folder / INCOMING / str(os.getpid()) / COMMITTED
                path.write_bytes(lines)
                path.rename(lists / hashlib.sha256(lines).hexdigest())

    def commitments(self) -> list[Path]:
        """The lists of instances that were committed; who has read one deletes it."""
        return list((self.folder / COMMITTED).iterdir())

    def waiting(self) -> list[str]:
        """The names of the new instances, in the order in which they came."""
        found = [(status.st_mtime_ns, entry.name) for entry, status in _files(self.folder / NEW)]
        return [name for _, name in sorted(found)]

    def claim(self, name: str) -> Path | None:
        """Take up a new instance; None if these bytes were taken up before and are still here."""
        new, claimed = (self.folder / state / name for state in (NEW, CLAIMED))
        if claimed.exists() or self.is_done(name):
            new.unlink()
            return None
        return new.rename(claimed)

    def is_done(self, name: str) -> bool:
        """Whether all results of an instance are kept, and it still lies here."""
        return (self.folder / DONE / name).exists()

    def find(self, name: str) -> Path:
        """Where an instance lies that was taken up.

        Raises:
            FrameError: it was deleted.
        """
        for state in (CLAIMED, DONE):
            if (path := self.folder / state / name).exists():
                return path
        raise FrameError(f"what was received as {name.partition('-')[2]} was deleted")

    def others(self, name: str) -> bool:
        """Whether the same instance was taken up with other bytes, too."""
        uid = name.partition("-")[0] + "-*"
        found = [path for state in (CLAIMED, DONE) for path in (self.folder / state).glob(uid)]
        return any(path.name != name for path in found)

    def settle(self, name: str) -> None:
        """Note that all results of an instance are kept."""
        with contextlib.suppress(FileNotFoundError):  # another receiver has put it in order
            (self.folder / CLAIMED / name).rename(self.folder / DONE / name)

    def weed(self, limit_bytes: int, age_s: float) -> int:
        """Delete what is done: what is too old, and the oldest where all take too much.

        Too much is also what leaves less than 1 GB of the disk, or a tenth of a small one.

        Returns:
            The bytes that are left, of all states.
        """
        oldest = time.time() - age_s
        used = sum(
            status.st_size for state in (NEW, CLAIMED) for _, status in _files(self.folder / state)
        )
        done = [
            (status.st_ctime, status.st_size, Path(entry.path))
            for entry, status in _files(self.folder / DONE)
        ]
        used += sum(size for _, size, _ in done)
        disk = os.statvfs(self.folder)
        left = min(_LEFT_BYTES, disk.f_blocks * disk.f_frsize // 10)
        limit_bytes = min(limit_bytes, used + disk.f_bavail * disk.f_frsize - left)
        for settled, size, path in sorted(done):
            if settled > oldest and used <= limit_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                used -= size
        return used


def hash_of(uid: str) -> str:
    """What stands for a UID in names: the SHA-256, because a UID may hold any letter."""
    return hashlib.sha256(uid.encode()).hexdigest()


def _files(folder: Path) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """The files of a folder that are still there."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry, entry.stat()


def _sync(folder: Path) -> None:
    """Have the names in a folder outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
