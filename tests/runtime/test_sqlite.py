"""The sink SQLite: what it keeps, whose files it leaves alone, and what a lock costs."""

import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime import Scorer, Stream, delivery
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sinks import sqlite
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.sink import Keeping, Listener
from tests.runtime.test_sinks import AWKWARD, LOST, result, small_disk  # noqa: F401
from tests.support.models import mean_model


@pytest.fixture
def impatient(monkeypatch):
    """A sink that waits for no lock longer than a moment."""
    monkeypatch.setattr(sqlite, "_LOCKED_S", 0.01)
    monkeypatch.setattr(sqlite, "_PATIENT_S", 0.05)


def ask(path, question):
    database = sqlite3.connect(path)
    try:
        return database.execute(question).fetchall()
    finally:
        database.close()


def frames_in(path):
    return [frame for (frame,) in ask(path, "SELECT frame FROM frames ORDER BY rowid")]


@pytest.mark.parametrize("name", ["s.db", "s.sqlite", "sqlite:s"])
def test_frames_and_events_have_their_tables(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open_sink(name) as sink:
        sink.write(result())
        sink.write(result("scan.dcm", "1.2.3", 0.5))
        sink.event(LOST)
    (path,) = tmp_path.iterdir()  # nothing is left beside it
    when = "2026-01-02T03:04:05.678Z"
    model = "90f3d94cb19b"
    assert ask(path, "SELECT * FROM frames") == [
        (1, "frame.png", 0, when, None, 0.0123, 1.5, 1.25, "anomalous", None, model, None, None),
        (1, "scan.dcm", "1.2.3", when, None, 0.0123, 0.5, 1.25, "normal", None, model, None, None),
    ]
    row = (1, "gap", LOST.source, when, LOST.detail, 12, 0)
    assert ask(path, "SELECT * FROM events") == [row]


def test_a_frame_has_one_row_in_a_run_and_a_second_run_adds_its_own(tmp_path):
    path = tmp_path / "s.db"
    for _ in range(2):
        with open_sink(str(path)) as sink:
            sink.write(result())
            sink.write(result())
    assert ask(path, "SELECT run, frame FROM frames") == [(1, 0), (2, 0)]


def test_a_resumed_run_goes_on_with_the_last_one(tmp_path):
    path = tmp_path / "s.db"
    for resume in (False, True, True):
        with open_sink(str(path), Keeping(resume=resume)) as sink:
            sink.write(result(frame=int(resume)))
    assert ask(path, "SELECT run, frame FROM frames") == [(1, 0), (1, 1)]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(tmp_path, name):
    with open_sink(str(tmp_path / "s.db")) as sink:
        sink.write(result(name))
    shown = name.replace("\udce9", "\\udce9")
    assert ask(tmp_path / "s.db", "SELECT source FROM frames") == [(shown,)]


def test_rows_are_there_after_a_second_or_when_asked_and_at_once_with_fsync(tmp_path, monkeypatch):
    with open_sink(str(tmp_path / "a.db")) as sink:
        sink.write(result(frame=0))
        assert frames_in(tmp_path / "a.db") == []
        sink.flush()
        assert frames_in(tmp_path / "a.db") == [0]
        monkeypatch.setattr(sqlite, "_COMMIT_S", -1.0)
        sink.write(result(frame=1))
        assert frames_in(tmp_path / "a.db") == [0, 1]
    monkeypatch.undo()
    with open_sink(str(tmp_path / "b.db"), Keeping(fsync=True)) as sink:
        for number in range(3):
            sink.write(result(frame=number))
            assert frames_in(tmp_path / "b.db") == list(range(number + 1))


def test_the_database_of_another_program_stays_as_it_is(tmp_path):
    path = tmp_path / "people.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE frames (name)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(SinkError, match="another program's database"):
        open_sink(str(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"name,age\nAnna,40\n", b"{}", b"SQLite format 3\0"])
def test_what_is_no_database_stays_as_it_is(tmp_path, content):
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(SinkError, match="is no database"):
        open_sink(str(path))
    assert path.read_bytes() == content


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "s.db"
    open_sink(str(path)).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SinkError, match="another version"):
        open_sink(str(path))


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_database_is_refused_and_stays(tmp_path, damage):
    path = tmp_path / "s.db"
    with open_sink(str(path)) as sink:
        for number in range(500):
            sink.write(result(frame=number))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[8192:20000] = b"\xa5" * (20000 - 8192)
    path.write_bytes(data)
    with pytest.raises(SinkError, match=r"malformed|damaged"):
        open_sink(str(path))
    assert path.read_bytes() == bytes(data)


def test_places_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        open_sink(str(tmp_path / "nowhere" / "s.db"))
    with pytest.raises(UsageError, match="it is a folder"):
        open_sink(f"sqlite:{tmp_path}")
    with pytest.raises(UsageError, match="URL"):
        open_sink("sqlite:rtsp://u:p@host/1.db")


def test_a_reader_in_the_middle_of_a_look_holds_nothing_up(tmp_path):
    path = tmp_path / "s.db"
    with open_sink(str(path), Keeping(fsync=True)) as sink:
        sink.write(result(frame=0))
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM frames").fetchone() == (1,)
        sink.write(result(frame=1))
        assert reader.execute("SELECT count(*) FROM frames").fetchone() == (1,)
        reader.close()
    assert frames_in(path) == [0, 1]


def test_rows_wait_while_another_program_has_the_database_locked(tmp_path, impatient):
    path = tmp_path / "s.db"
    with open_sink(str(path)) as sink:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(2500):
            sink.write(result(frame=number))
        with pytest.raises(SinkError, match="locked"):
            sink.flush()
        assert frames_in(path) == []
        other.execute("ROLLBACK")
        other.close()
        sink.flush()
        assert frames_in(path) == list(range(2500))


def test_a_lock_under_a_stream_is_told_and_costs_no_row(tmp_path, impatient, monkeypatch):
    monkeypatch.setattr(delivery, "_FLUSH_S", 0.02)
    (tmp_path / "model.onnx").write_bytes(mean_model())
    path, told = tmp_path / "s.db", []
    sink = open_sink(str(path))
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def wait_for(count):
        deadline = time.monotonic() + 60
        while len(told) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def frames():
        other.execute("BEGIN IMMEDIATE")
        for number in range(20):
            yield Frame("camera:0", number, time.time(), np.zeros((4, 4, 1), np.uint8))
        wait_for(1)
        other.execute("ROLLBACK")
        wait_for(2)

    with Scorer(tmp_path / "model.onnx", threads=1) as scorer, sink:
        stream = Stream(scorer, frames(), [sink, Listener(told.append)])
        assert stream.run().frames == 20
        assert stream.complete
    other.close()
    locked, well = told
    assert (locked.kind, well.kind) == ("sink", "sink")
    assert locked.detail.endswith("database is locked; results are held back")
    assert well.detail.endswith("keeps what was held back")
    assert frames_in(path) == list(range(20))


def test_what_a_lock_holds_back_is_bounded_and_a_row_that_fails_can_be_written_again(
    tmp_path, impatient, monkeypatch
):
    monkeypatch.setattr(sqlite, "_MOST_WAITING", 3)
    monkeypatch.setattr(sqlite, "_COMMIT_S", -1.0)
    path = tmp_path / "s.db"
    with open_sink(str(path)) as sink:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(3):
            sink.write(result(frame=number))
        with pytest.raises(SinkError, match="locked"):
            sink.write(result(frame=3))
        other.close()
        sink.write(result(frame=3))
    assert frames_in(path) == [0, 1, 2, 3]


def test_rows_that_a_lock_kept_out_until_the_end_are_told(tmp_path, impatient):
    path = tmp_path / "s.db"
    sink = open_sink(str(path))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    sink.write(result())
    with pytest.raises(SinkError, match=r"locked; 1 rows are lost"):
        sink.close()
    sink.close()
    other.close()


def test_a_full_disk_keeps_what_was_there_and_takes_rows_when_it_has_room(small_disk):  # noqa: F811
    path = small_disk / "s.db"
    # A database of WAL needs about half of the disk at the start.
    with open_sink(str(path), Keeping(fsync=True)) as sink:
        sink.event(Event("a", time.time(), "note", "first"))
        (small_disk / "other").write_bytes(bytes(4096))
        kept = []

        def fill():
            for number in range(400):
                sink.write(result(frame=number))
                kept.append(number)

        with pytest.raises(SinkError, match=r"full|disk I/O"):
            fill()
        (small_disk / "other").unlink()
        sink.write(result(frame=1000))
        assert frames_in(path) == [*kept, 1000]


def test_a_kill_leaves_what_was_committed(tmp_path):
    script = (
        "import os, sys\n"
        "from tests.runtime.test_sinks import *\n"
        "sink = open_sink(sys.argv[1], Keeping(fsync=True))\n"
        "for number in range(50):\n"
        "    sink.write(result(frame=number))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "s.db"
    subprocess.run([sys.executable, "-c", script, path], timeout=120)
    with open_sink(str(path), Keeping(resume=True)) as sink:
        assert [kept.frame for kept in sink.kept()] == list(range(50))


def test_runs_that_begin_at_the_same_moment_each_keep_their_rows(tmp_path):
    path = tmp_path / "s.db"
    with open_sink(f"sqlite:{path}") as one, open_sink(f"sqlite:{path}") as other:
        one.write(result(score=1.0))
        other.write(result(score=2.0))
    assert sorted(ask(path, "SELECT run, score FROM frames")) == [(1, 2.0), (2, 1.0)]
