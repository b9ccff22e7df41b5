"""A durable queue of messages on disk, for what another program has to acknowledge.

What was put in is there after a crash. Messages leave from the front, and only when acknowledged.
It is a SQLite database, which one process has to itself.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from adae_edge.errors import SinkError, SpoolFull, SpoolInUse, UsageError

Full = Literal["oldest", "newest", "refuse"]
Result = TypeVar("Result")

_APPLICATION = 0x41444153  # "ADAS": whose database it is
_VERSION = 1
_SCHEMA = """
BEGIN IMMEDIATE;
PRAGMA application_id = {application};
PRAGMA user_version = {version};
CREATE TABLE spool (name TEXT NOT NULL, next INTEGER NOT NULL);
CREATE TABLE messages (id INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY) WITHOUT ROWID;
INSERT INTO spool VALUES ('{name}', {next});
COMMIT;
"""
_OVERHEAD = 64  # bytes that a message takes beside its payload, about
_RESERVED = 10_000  # ids that a crash may leave out
_log = logging.getLogger(__name__)


class Message(NamedTuple):
    """A message and its number, which no other message of the spool has."""

    id: int
    payload: bytes


class Spool:
    """Messages in the order in which they were put in, within a limit of disk.

    Ids only grow, also over restarts and power failures; a gap between two says nothing. So a
    receiver tells a message that comes twice by the spool's name and the message's id. Its methods
    may be called by any thread.

    Attributes:
        path: the database.
        name: eight hexadecimal digits, drawn when the spool was made.
        dropped: how many messages were lost since it was opened, because it was full or they were
            damaged.
    """

    def __init__(
        self,
        path: Path,
        limit_bytes: int,
        full: Full = "oldest",
        told: Callable[[str], object] = _log.warning,
    ) -> None:
        """
        Args:
            path: the database, which is made if it is not there. A damaged one is put aside under
                another name, and a new one is begun.
            limit_bytes: what all messages may take; the files are a few megabytes larger.
            full: what happens to a message for which there is no room: the oldest ones make room,
                it is dropped as the newest, or ``put`` refuses it.
            told: called with a sentence when a damaged spool or message was found.

        Raises:
            UsageError: there is no such folder.
            SpoolInUse: another process has it open, or this one.
            SinkError: it cannot be opened, or is another program's.
        """
        self.path, self.name, self.dropped = path, "", 0
        self._limit, self._full, self._told = limit_bytes, full, told
        self._lock = threading.Lock()
        self._next = self._reserved = 1
        self._acknowledged = 0
        self._count = self._bytes = 0
        self._unsynced = False
        self._database: sqlite3.Connection | None = None
        if not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
        try:
            self._open()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise SpoolInUse(f"{path} is in use by another stream") from error
            raise self._failed(error) from error
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

    def __len__(self) -> int:
        return self._count

    def put(
        self, payloads: Sequence[bytes], durable: bool = True, keys: Sequence[str] = ()
    ) -> list[int]:
        """Add messages, all or none.

        Args:
            payloads: at least one.
            durable: whether they outlive a power failure when this returns; otherwise they outlive
                this process, and a power failure only after ``sync``.
            keys: of each message, so that one whose key was put in before is left out; none
                where that does not matter. ``forget_keys`` forgets them.

        Returns:
            The ids of those that were put in, in order.

        Raises:
            SpoolFull: there is no room, and the spool is to refuse then.
            SinkError: they cannot be kept.
        """

        def work(database: sqlite3.Connection) -> list[int]:
            new = list(payloads)
            if keys:
                pairs = zip(keys, payloads, strict=True)
                new = [payload for key, payload in pairs if _is_new(database, key)]
            return [self._insert(database, one) for one in new if self._has_room(database, one)]

        with self._lock:
            if self._next + len(payloads) > self._reserved:
                self._do(lambda database: self._reserve(database, len(payloads)), durable=True)
            ids = self._do(work, durable)
            self._unsynced |= not durable
        return ids

    def peek(self, count: int) -> list[Message]:
        """The first messages that are not acknowledged, ``count`` at most, in order.

        A damaged one is dropped, counted and told.

        Raises:
            SinkError: they cannot be read.
        """
        found: list[Message] = []
        with self._lock:
            rows = self._do(lambda database: self._read(database, count), durable=False)
            for id_, checksum, payload in rows:
                if isinstance(payload, bytes) and _checksum(id_, payload) == checksum:
                    found.append(Message(id_, payload))
            if damaged := [row[0] for row in rows if row[0] not in {id_ for id_, _ in found}]:
                self._do(lambda database: self._drop(database, damaged), durable=False)
                self._told(f"{self.path}: {len(damaged)} messages are damaged, and dropped")
        return found if found or not rows else self.peek(count)

    def acknowledge(self, id_: int) -> None:
        """Let go of a message, and of all before it.

        Raises:
            SinkError: the disk does not take note of it. ``peek`` does not give them again until
                the spool is opened anew.
        """

        with self._lock:
            self._acknowledged = max(self._acknowledged, id_)
            self._do(lambda database: self._forget(database, "id <= ?", id_), durable=False)

    def forget_keys(self) -> None:
        """Forget which keys were put in.

        Raises:
            SinkError: the disk does not take note of it.
        """
        with self._lock:
            self._do(lambda database: database.execute("DELETE FROM keys"), durable=False)

    def sync(self) -> None:
        """Have everything outlive a power failure.

        Raises:
            SinkError: the disk does not take it.
        """
        with self._lock:
            if self._unsynced and self._database is not None:
                try:
                    self._database.execute("PRAGMA wal_checkpoint(PASSIVE)")
                except sqlite3.Error as error:
                    raise self._failed(error) from error
                self._unsynced = False

    def close(self) -> None:
        """Close it; a second call does nothing."""
        with self._lock:
            database, self._database = self._database, None
            if database is not None:
                with contextlib.suppress(sqlite3.Error):  # otherwise some ids are left out
                    database.execute("UPDATE spool SET next = ?", (self._next,))
                database.close()

    def _open(self) -> None:
        """Open the database, make its tables and count; raises sqlite3.Error."""
        with contextlib.suppress(OSError):  # it is there, or SQLite says why it cannot be
            self.path.touch(mode=0o600, exist_ok=False)  # messages may name patients
        database = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA secure_delete = ON")  # some builds leave what was deleted
            if not database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                about = {"application": _APPLICATION, "version": _VERSION, "next": self._next}
                database.executescript(_SCHEMA.format(name=secrets.token_hex(4), **about))
            elif database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                raise SinkError(f"{self.path} is another program's database: give another folder")
            elif database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                raise SinkError(f"{self.path} is of another version of adae-edge")
            database.execute("PRAGMA journal_mode = WAL")
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found.splitlines()[-1])
            self.name, self._next = database.execute("SELECT name, next FROM spool").fetchone()
            self._count, self._bytes = _sizes(database)
            self._reserve(database, 0)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _begin_anew(self, why: sqlite3.DatabaseError) -> None:
        """Put a damaged database aside, and begin a new one whose ids go on."""
        lost, self._count, self._bytes = self._count, 0, 0
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        aside = f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        try:
            for suffix in ("", "-wal"):
                file = self.path.with_name(self.path.name + suffix)
                if file.exists():
                    file.rename(self.path.with_name(aside + suffix))
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise self._failed(error) from error
        self.dropped += lost
        self._told(f"{self.path} is damaged ({why}) and put aside as {aside}; what waited is lost")

    def _do(self, work: Callable[[sqlite3.Connection], Result], durable: bool) -> Result:
        """Work on the database in one transaction, and anew where it turns out to be damaged."""
        if self._database is None:
            raise SinkError(f"{self.path} is closed")
        try:
            try:
                return self._transact(work, durable)
            except sqlite3.OperationalError:  # such as a full disk
                raise
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
            return self._transact(work, durable)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _transact(self, work: Callable[[sqlite3.Connection], Result], durable: bool) -> Result:
        assert self._database is not None
        before = self._next, self._count, self._bytes, self.dropped
        try:
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._database.execute("BEGIN IMMEDIATE")
            result = work(self._database)
            self._database.execute("COMMIT")
        except BaseException:
            self._next, self._count, self._bytes, self.dropped = before
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        return result

    def _reserve(self, database: sqlite3.Connection, count: int) -> None:
        """Note ids as taken before any is, so that none is taken twice after a power failure."""
        reserved = self._next + count + _RESERVED
        database.execute("UPDATE spool SET next = ?", (reserved,))
        self._reserved = reserved

    def _read(self, database: sqlite3.Connection, count: int) -> list[tuple[int, int, object]]:
        rows = database.execute(
            "SELECT id, checksum, payload FROM messages WHERE id > ? ORDER BY id LIMIT ?",
            (self._acknowledged, count),
        )
        return rows.fetchall()

    def _insert(self, database: sqlite3.Connection, payload: bytes) -> int:
        id_ = self._next
        values = id_, _checksum(id_, payload), payload
        database.execute("INSERT INTO messages VALUES (?, ?, ?)", values)
        self._next, self._count = id_ + 1, self._count + 1
        self._bytes += len(payload) + _OVERHEAD
        return id_

    def _has_room(self, database: sqlite3.Connection, payload: bytes) -> bool:
        """Whether a message may be put in; makes room where the oldest have to go."""
        size = len(payload) + _OVERHEAD
        if self._bytes + size > self._limit and self._full == "refuse":
            raise SpoolFull(f"{self.path} is full")
        while self._bytes + size > self._limit:
            if self._full == "newest" or size > self._limit:
                self.dropped += 1
                return False
            self._drop(database, database.execute("SELECT MIN(id) FROM messages").fetchone())
        return True

    def _drop(self, database: sqlite3.Connection, ids: Sequence[int]) -> None:
        """Lose messages."""
        for id_ in ids:
            self._forget(database, "id = ?", id_)
        self.dropped += len(ids)

    def _forget(self, database: sqlite3.Connection, which: str, id_: int) -> None:
        """Delete the messages for which a condition on their id holds."""
        count, size = _sizes(database, which, id_)
        database.execute(f"DELETE FROM messages WHERE {which}", (id_,))  # noqa: S608
        self._count, self._bytes = self._count - count, self._bytes - size

    def _failed(self, error: BaseException) -> SinkError:
        return SinkError(f"cannot write {self.path}: {error}")


def _sizes(database: sqlite3.Connection, which: str = "TRUE", *values: object) -> tuple[int, int]:
    """How many messages there are, and how many bytes they take."""
    count, size = database.execute(
        f"SELECT COUNT(*), TOTAL(LENGTH(payload)) FROM messages WHERE {which}",  # noqa: S608
        values,
    ).fetchone()
    return count, int(size) + count * _OVERHEAD


def _is_new(database: sqlite3.Connection, key: str) -> bool:
    """Note a key; whether it was not there."""
    return database.execute("INSERT OR IGNORE INTO keys VALUES (?)", (key,)).rowcount == 1


def _checksum(id_: int, payload: bytes) -> int:
    return zlib.crc32(payload, id_ & 0xFFFFFFFF)
