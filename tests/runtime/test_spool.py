"""The spool: what outlives what, what happens where it is full, and how ids grow."""

import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from adae_edge.errors import SinkError, SpoolFull, SpoolInUse, UsageError
from adae_edge.runtime.spool import Spool
from tests.runtime.test_sinks import small_disk  # noqa: F401

LIMIT = 10**6


def payloads(spool, count=1000):
    return [message.payload for message in spool.peek(count)]


@pytest.fixture
def told():
    return []


@pytest.fixture
def opened(tmp_path, told):
    """Opens the spool, and closes what is left open."""
    spools = []

    def again(limit=LIMIT, full="oldest", name="a.spool"):
        spools.append(Spool(tmp_path / name, limit, full, told.append))
        return spools[-1]

    yield again
    for spool in spools:
        spool.close()


def test_nobody_else_may_read_it(tmp_path, opened):
    before = os.umask(0o022)
    try:
        opened().put([b"a name"])
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(["a.spool", "a.spool-wal"], 0o600)


def test_nothing_of_what_was_delivered_is_left_in_it(tmp_path, opened):
    spool = opened()
    ids = spool.put([b"Quarrington^Ophelia" * 1000])
    spool.acknowledge(ids[-1])
    spool.close()
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.stat().st_size > 19_000
    assert b"Ophelia" not in path.read_bytes()


def test_messages_leave_in_order_and_only_when_acknowledged(opened):
    spool = opened()
    ids = spool.put([b"a", b"b"]) + spool.put([b"c"])
    assert ids == sorted(set(ids))
    assert spool.peek(2) == [(ids[0], b"a"), (ids[1], b"b")] == spool.peek(2)
    spool.acknowledge(ids[1])
    assert payloads(spool) == [b"c"]
    assert len(spool) == 1


def test_ids_and_messages_outlive_a_restart_and_its_name_does(opened):
    spool = opened()
    first = spool.put([b"a", b"b"])
    name = spool.name
    spool.acknowledge(first[0])
    spool.close()
    spool = opened()
    assert (spool.name, payloads(spool), len(spool)) == (name, [b"b"], 1)
    assert spool.put([b"c"]) == [first[1] + 1]  # a clean end leaves no id out


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_put_in_outlives_a_kill_and_no_id_comes_twice(tmp_path, opened, durable):
    write = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from adae_edge.runtime.spool import Spool\n"
        f"spool = Spool(Path({str(tmp_path / 'a.spool')!r}), {LIMIT})\n"
        f"ids = spool.put([b'a', b'b'], durable={durable})\n"
        "spool.acknowledge(ids[0])\n"
        "print(ids[1], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    spool = opened()
    assert payloads(spool) == [b"b"]
    assert spool.put([b"c"])[0] > int(done.stdout)


def test_a_second_one_is_told_that_it_is_in_use(opened):
    opened()
    with pytest.raises(SpoolInUse, match=r"a\.spool is in use by another stream"):
        opened()


@pytest.mark.parametrize(
    ("full", "kept"), [("oldest", [b"b" * 100, b"c" * 100]), ("newest", [b"a" * 100, b"b" * 100])]
)
def test_where_it_is_full_the_oldest_or_the_newest_go_and_are_counted(opened, full, kept):
    spool = opened(limit=400, full=full)
    for letter in (b"a", b"b", b"c"):
        spool.put([letter * 100])
    assert (payloads(spool), spool.dropped, len(spool)) == (kept, 1, 2)
    spool.close()
    again = opened(limit=400, full=full)
    assert payloads(again) == kept
    again.acknowledge(again.peek(2)[0].id)
    again.put([b"d" * 100])
    assert again.dropped == 0  # there was room


def test_where_it_is_full_it_refuses_a_batch_whole_if_it_is_to(opened):
    spool = opened(limit=400, full="refuse")
    spool.put([b"a" * 100])
    with pytest.raises(SpoolFull, match="is full"):
        spool.put([b"b" * 100, b"c" * 100])
    assert (payloads(spool), spool.dropped) == ([b"a" * 100], 0)
    spool.put([b"d" * 100])


def test_a_message_that_is_larger_than_the_limit_drops_no_other(opened):
    spool = opened(limit=400)
    spool.put([b"a" * 100])
    assert spool.put([b"b" * 1000]) == []
    assert (payloads(spool), spool.dropped) == ([b"a" * 100], 1)


def test_a_message_whose_key_was_put_in_before_is_left_out(opened):
    spool = opened()
    spool.acknowledge(spool.put([b"a", b"b"], keys=["1", "2"])[1])
    spool.close()
    spool = opened()
    assert len(spool.put([b"b", b"c"], keys=["2", "3"])) == 1
    assert payloads(spool) == [b"c"]
    spool.forget_keys()
    assert len(spool.put([b"b"], keys=["2"])) == 1


def test_a_damaged_message_is_dropped_and_told_and_the_others_are_given(tmp_path, opened, told):
    spool = opened()
    spool.put([b"first " * 20, b"second " * 20, b"third " * 20])
    spool.close()
    path = tmp_path / "a.spool"
    path.write_bytes(path.read_bytes().replace(b"second", b"sekond", 1))
    spool = opened()
    assert payloads(spool, 2) == [b"first " * 20]
    assert payloads(spool) == [b"first " * 20, b"third " * 20]
    assert spool.dropped == 1
    assert told == [f"{path}: 1 messages are damaged, and dropped"]


@pytest.mark.parametrize("place", [0, 4096, 8192, "all"])
def test_a_damaged_spool_is_put_aside_and_told_and_a_new_one_begun(tmp_path, opened, told, place):
    spool = opened()
    spool.put([b"a" * 3000 for _ in range(20)])
    name = spool.name
    spool.close()
    path = tmp_path / "a.spool"
    content = path.read_bytes()
    broken = b"#" * 4000
    path.write_bytes(
        broken if place == "all" else content[:place] + broken + content[place + len(broken) :]
    )
    spool = opened()
    assert (payloads(spool), len(spool)) == ([], 0)
    assert spool.name != name
    spool.put([b"b"])
    assert payloads(spool) == [b"b"]
    (aside,) = tmp_path.glob("a.spool.damaged-*")
    assert len(told) == 1
    assert aside.name in told[0]


def test_one_that_is_damaged_while_it_is_open_is_put_aside_and_ids_go_on(tmp_path, opened, told):
    spool = opened()
    last = spool.put([b"a" * 3000 for _ in range(20)], durable=False)[-1]
    spool.sync()
    with (tmp_path / "a.spool").open("r+b") as file:
        file.seek(4096)
        file.write(b"#" * 100_000)
    spool._database.execute("PRAGMA shrink_memory")  # so that pages are read again
    assert payloads(spool) == []
    assert spool.dropped == 20
    assert len(told) == 1
    assert spool.put([b"b"])[0] > last
    assert payloads(spool) == [b"b"]


def test_the_database_of_another_program_stays_as_it_is(tmp_path, opened):
    path = tmp_path / "a.spool"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE letters (words TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(SinkError, match="another program's database"):
        opened()
    assert path.read_bytes() == before


def test_there_is_no_such_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        Spool(tmp_path / "nowhere" / "a.spool", LIMIT)


def test_a_full_disk_is_told_and_what_was_put_in_stays(small_disk, told):  # noqa: F811
    spool = Spool(small_disk / "a.spool", LIMIT, told=told.append)
    kept = 0
    with pytest.raises(SinkError, match="full"):  # noqa: PT012
        for _ in range(1000):
            spool.put([b"a" * 1000])
            kept += 1
    assert 0 < kept < 999
    assert len(spool) == kept == len(spool.peek(2000))
    spool.close()


def test_what_is_closed_takes_nothing(opened):
    spool = opened()
    spool.close()
    spool.close()
    with pytest.raises(SinkError, match="is closed"):
        spool.put([b"a"])


def test_one_thread_puts_in_while_another_takes_out(opened):
    spool = opened()
    taken = []

    def take():
        while len(taken) < 500:
            for message in spool.peek(7):
                taken.append(int(message.payload))
                spool.acknowledge(message.id)

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(500):
        spool.put([b"%d" % number], durable=False)
        spool.sync()
    thread.join(300)
    assert taken == list(range(500))
    assert len(spool) == 0
