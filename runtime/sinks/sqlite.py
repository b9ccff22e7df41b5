"""Results in a SQLite database: tables of frames and of events.

Rows are held back for up to a second and written together. While another program has the database
locked they wait, so that none is lost.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from adae_edge.errors import SinkError
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.rows import (
    EVENT_FIELDS,
    FIELDS,
    check_file,
    event_row_of,
    flat,
    row_of,
)
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, ROWS, Keeping, Kept, Sink

_MAGIC = b"SQLite format 3\0"
_APPLICATION = 0x41444145  # "ADAE": whose database it is
_VERSION = 3
_COMMIT_S = 1.0
_COMMIT_ROWS = 1000
_MOST_WAITING = 100_000  # rows of some hundred bytes each
_LOCKED_S, _PATIENT_S = 0.25, 5.0  # how long another program's lock is waited for
_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE frames (
    run INTEGER NOT NULL, source TEXT NOT NULL, frame NOT NULL, time TEXT NOT NULL,
    video_time REAL, age REAL NOT NULL, score REAL NOT NULL, threshold REAL NOT NULL,
    verdict TEXT NOT NULL, wants TEXT, model TEXT, boxes TEXT, complete TEXT,
    UNIQUE (source, frame, run)
);
CREATE TABLE events (
    run INTEGER NOT NULL, event TEXT NOT NULL, source TEXT NOT NULL, time TEXT NOT NULL,
    detail TEXT NOT NULL, frames INTEGER NOT NULL, over INTEGER NOT NULL
);
COMMIT;
"""  # frame has no type, so that numbers stay numbers and UIDs text
_INSERTS = {
    table: f"INSERT OR IGNORE INTO {table} ({', '.join(['run', *names])}) "  # noqa: S608
    f"VALUES ({', '.join('?' * (len(names) + 1))})"
    for table, names in (("frames", FIELDS), ("events", EVENT_FIELDS))
}
_Row = tuple[str, list[object]]


class Sqlite(Sink):
    """A database with a row for each frame, unique by source and frame in each run.

    A run is one start of the program, and a resumed one goes on. The database is in WAL mode: it
    can be read while it is written.
    """

    wants, shows = frozenset({BOXES}), ANOMALOUS
    reads_back = True

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: path of the database, which is made if it is not there.
            keeping: how rows are kept.

        Raises:
            UsageError: there is no such folder.
            SinkError: the file cannot be written, is damaged, or is another program's.
        """
        check_file(place)
        self._path, self._keeping = Path(place), keeping
        self._waiting: list[_Row] = []
        self._committed = time.monotonic()
        self._check_owner()
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._open()
            # A new run takes its number with its first rows: others may begin at this moment.
            self._run = self._last_run(self._database) or 1 if keeping.resume else None
        except sqlite3.Error as error:
            if self._database is not None:
                self._database.close()
            raise self._failed(error) from error

    @classmethod
    def check(cls, place: str) -> None:
        """Say that it is a URL, or that there is no such folder."""
        check_file(place)

    def write(self, scored: Scored) -> None:
        """Take one row, which is in the database after a second at the latest."""
        self._take("frames", flat(row_of(scored)))

    def event(self, event: Event) -> None:
        """Take one row of an event."""
        self._take("events", event_row_of(event).values())

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._database is not None and self._waiting:
            self._commit(_LOCKED_S)

    def kept(self) -> Iterator[Kept] | None:
        """The rows of all runs."""
        return self._kept()

    def close(self) -> None:
        """Write the rows that wait and close the database; a second call does nothing.

        Raises:
            SinkError: they cannot be written, and are lost.
        """
        database = self._database
        if database is None:
            return
        try:
            if self._waiting:
                self._commit(_PATIENT_S)
        except SinkError as error:
            raise SinkError(f"{error}; {len(self._waiting)} rows are lost") from error
        finally:
            self._database = None
            database.close()

    def _check_owner(self) -> None:
        """Refuse a file that is no database of ours, without touching it."""
        try:
            if not self._path.exists():
                return
            if not self._path.is_file():
                raise SinkError(f"cannot write {self._path}: it is there, and no file")
            with self._path.open("rb") as file:
                head = file.read(100)
        except OSError as error:
            raise SinkError(f"cannot read {self._path}: {error.strerror}") from error
        if not head:
            return
        if not head.startswith(_MAGIC) or len(head) < 100:
            raise SinkError(f"{self._path} is no database: give another file")
        if int.from_bytes(head[68:72], "big") != _APPLICATION:
            raise SinkError(f"{self._path} is another program's database: give another file")
        if int.from_bytes(head[60:64], "big") != _VERSION:
            raise SinkError(f"{self._path} is of another version of adae-edge: give another file")

    def _open(self) -> sqlite3.Connection:
        """The database with its tables, in WAL mode; raises sqlite3.Error."""
        # The loop opens sinks in one thread and writes in another, never at the same time.
        database = sqlite3.connect(
            self._path, timeout=_PATIENT_S, isolation_level=None, check_same_thread=False
        )
        try:
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                database.executescript(_SCHEMA)
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"it is damaged ({found.splitlines()[-1]})")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # each commit is on the disk
        except BaseException:
            database.close()
            raise
        return database

    def _last_run(self, database: sqlite3.Connection) -> int:
        """The highest number of a run, or 0; raises sqlite3.Error."""
        runs = "SELECT run FROM frames UNION ALL SELECT run FROM events"
        (last,) = database.execute(f"SELECT max(run) FROM ({runs})").fetchone()  # noqa: S608
        return last or 0

    def _take(self, table: str, values: Iterable[object]) -> None:
        """Have a row wait, and write all that wait if it is time."""
        if self._database is None:
            raise SinkError(f"{self._path} is closed")
        self._waiting.append((table, [*map(_text, values)]))
        due = time.monotonic() - self._committed > _COMMIT_S
        if not (self._keeping.fsync or due or len(self._waiting) % _COMMIT_ROWS == 0):
            return
        try:
            self._commit(_PATIENT_S if self._keeping.fsync else _LOCKED_S)
        except SinkError:
            if self._keeping.fsync or len(self._waiting) > _MOST_WAITING:
                self._waiting.pop()
                raise  # otherwise the row waits, and ``flush`` says why

    def _commit(self, patience_s: float) -> None:
        """Write the rows that wait, all or none."""
        assert self._database is not None
        self._committed = time.monotonic()
        try:
            self._database.execute(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
            self._database.execute("BEGIN IMMEDIATE")
            run = self._run or self._last_run(self._database) + 1
            for table, values in self._waiting:
                self._database.execute(_INSERTS[table], [run, *values])
            self._database.execute("COMMIT")
            self._run = run
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise self._failed(error) from error
        self._waiting.clear()

    def _kept(self) -> Iterator[Kept]:
        assert self._database is not None
        try:
            for row in self._database.execute("SELECT source, event, detail FROM events"):
                yield Kept(row[0], event=row[1], detail=row[2])
            for source, frame, model, threshold in self._database.execute(
                "SELECT source, frame, model, threshold FROM frames ORDER BY source, frame"
            ):
                yield Kept(source, frame, model or "", threshold)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> SinkError:
        return SinkError(f"cannot write {self._path}: {error}")


def _text(value: object) -> object:
    """A value that SQLite takes: a file's name need not be UTF-8, and a text is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


SINK = Sqlite
