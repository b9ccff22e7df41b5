"""Sinks that send: what waits, what is told, and what a server's absence costs."""

import stat
import threading

import pytest

from adae_edge.benchmarks.peers.broker import wait_until
from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sinks import queued
from adae_edge.runtime.sinks.queued import Queued, Remote
from adae_edge.runtime.sinks.sink import ROWS, Keeping
from adae_edge.runtime.sinks.target import Target
from adae_edge.runtime.spool import Spool
from tests.runtime.test_sinks import result
from tests.support.models import HANGS_S, mean_model
from tests.support.network import LOST, frames, write
from tests.support.streams import Kept, Listed, frame


class Server(Remote):
    """Takes messages, or fails, or holds them until a test lets it go on."""

    batch = 3

    def __init__(self):
        self.batches, self.closed = [], 0
        self.error = None
        self.goes_on = threading.Event()
        self.goes_on.set()

    def send(self, messages):
        self.goes_on.wait(30)
        if self.error:
            raise self.error
        self.batches.append([queued.json.loads(message) for message in messages])

    def close(self):
        self.closed += 1

    @property
    def rows(self):
        return [row for batch in self.batches for row in batch]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(queued, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(queued, "_LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(queued, "_DRAIN_S", HANGS_S)
    return Server()


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    with Scorer(tmp_path / "grey.onnx", threads=1) as scorer:
        yield scorer


@pytest.fixture
def opened(tmp_path, server):
    sinks = []

    def again(limit=10**6, full="oldest", keeping=ROWS):
        news = []
        spool = Spool(tmp_path / "a.spool", limit, full, news.append)
        sinks.append(Queued(server, spool, news, keeping))
        sinks[-1].name = "the server"
        return sinks[-1]

    yield again
    for sink in sinks:
        server.goes_on.set()
        sink.close()


def test_rows_arrive_in_order_in_batches_and_none_waits(opened, server):
    sink = opened()
    server.goes_on.clear()
    write(sink, range(10))
    sink.event(LOST)
    assert sink.waiting == 11
    server.goes_on.set()
    wait_until(lambda: not sink.waiting)
    assert frames(server.rows) == list(range(10))
    assert max(map(len, server.batches)) == 3
    row = server.rows[4]
    assert row["verdict"] == "anomalous"
    assert row["source"] == "camera:0"
    assert server.rows[-1]["event"] == "lost"
    ids = [row["id"] for row in server.rows]
    assert ids == sorted(set(ids))
    assert {row["spool"] for row in server.rows} == {sink._spool.name}


def test_a_server_that_is_away_is_told_once_and_then_gets_everything(opened, server):
    sink = opened()
    server.error = SinkError("cannot reach it")
    write(sink, range(5))
    wait_until(lambda: sink._error)
    (told,) = sink.news()
    assert told.startswith("cannot reach it; results wait in ")
    write(sink, range(5, 10))
    assert (sink.waiting, sink.lacks, list(sink.news())) == (10, 0, [])
    server.error = None
    wait_until(lambda: not sink.waiting)
    assert frames(server.rows) == list(range(10))
    assert list(sink.news()) == ["the server takes results again"]


def test_a_server_that_comes_and_goes_is_told_once_and_gets_everything(opened, server):
    sink, news = opened(), []
    for turn in range(5):
        server.error = SinkError(f"cannot reach it: {turn}")
        write(sink, [turn])
        wait_until(lambda: sink._error)
        news += sink.news()
        server.error = None
        wait_until(lambda: not sink.waiting and not sink._error)
        news += sink.news()
    told, well = news
    assert told.startswith("cannot reach it: 0; results wait in ")
    assert well == "the server takes results again"
    assert [row["frame"] for row in server.rows] == list(range(5))


def test_whatever_a_client_raises_is_told_and_results_wait(opened, server):
    sink = opened()
    server.error = RuntimeError("a mistake")
    write(sink, [0])
    wait_until(lambda: sink._error)
    assert sink.news()[0].startswith("the server: a mistake; results wait")
    server.error = None
    wait_until(lambda: server.rows)


def test_what_waits_at_the_end_is_sent_when_it_is_opened_again(opened, server):
    sink = opened()
    server.error = SinkError("cannot reach it")
    write(sink, range(5))
    sink.drain()
    sink.close()
    sink.close()
    assert (sink.waiting, server.closed) == (5, 1)
    server.error = None
    again = opened()
    wait_until(lambda: not again.waiting)
    assert frames(server.rows) == list(range(5))


def test_a_full_spool_is_told_and_counted(opened, server):
    sink = opened(limit=2000)
    server.goes_on.clear()
    write(sink, range(100))
    assert sink.waiting + sink.lacks == 100
    assert sink.lacks
    assert list(sink.news()) == [
        "the server: its spool is full or damaged, and results are dropped"
    ]
    write(sink, range(100, 110))
    assert list(sink.news()) == []
    server.goes_on.set()
    wait_until(lambda: not sink.waiting)
    assert frames(server.rows)[-1] == 109


def test_a_resumed_run_puts_in_each_row_once(opened, server):
    for keeping in (Keeping(resume=True), Keeping(resume=True)):
        sink = opened(keeping=keeping)
        write(sink, [0, 1])
        sink.event(Event("a.png", 1.0, "failure", "a.png is damaged"))
        sink.event(LOST)
        sink.write(result("\udce9.png", 7))
        sink.drain()
        sink.close()
    assert frames(server.rows) == [0, 1, 7]
    assert [row["event"] for row in server.rows if "event" in row] == ["failure", "lost", "lost"]
    sink = opened()  # another run, in which all are new
    write(sink, [0, 1])
    sink.drain()
    assert frames(server.rows) == [0, 1, 7, 0, 1]


def test_a_stream_tells_of_it_and_is_no_failure(opened, server, scorer):
    sink, other = opened(), Kept()
    server.error = SinkError("cannot reach it")
    stream = Stream(scorer, Listed(*map(frame, range(5))), [sink, other])
    stream.run()
    assert stream.complete
    assert stream.summary.endswith("6 wait for the server")  # with the event itself
    assert [event.kind for event in other.events] == ["sink"]
    assert other.events[0].detail.startswith("cannot reach it; results wait in ")


def test_a_stream_that_dropped_results_is_a_failure(opened, server, scorer):
    sink = opened(limit=700)
    server.error = SinkError("cannot reach it")
    stream = Stream(scorer, Listed(*map(frame, range(20))), [sink])
    stream.run()
    assert not stream.complete
    assert f"the server lacks {sink.lacks}" in stream.summary


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://", "has no host"),
        ("mqtt://host:99999", "is no URL: Port out of range"),
        ("mqtt://[::1", "is no URL"),
        ("mqtt://host?colour=red", "has the option colour, and can have spool, limit, full, ca"),
        ("mqtt://host?limit=much", "takes a size such as 100MB"),
        ("mqtt://host?full=both", "takes oldest or newest"),
        ("mqtt://host?full=oldest&full=newest", "twice"),
        ("mqtt://me:secret@host?limit=0MB", "takes a size"),
    ],
)
def test_a_url_that_is_wrong_gets_a_sentence_without_its_password(url, words):
    with pytest.raises(UsageError) as raised:
        Target(url, 1883, {})
    assert words in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_parts_of_a_url():
    target = Target("mqtt://a%40b:p%2Fq@[::1]/?limit=5kB", 1883, {})
    assert (target.host, target.port, target.user, target.password) == ("::1", 1883, "a@b", "p/q")
    assert (target.shown, target.is_loopback) == ("mqtt://[::1]:1883", True)
    assert target.options == {"limit": 5000}
    assert not Target("mqtt://10.0.0.1", 1883, {}).is_loopback
    hook = Target("https://h/a?b=c#spool=.", 443, {}, own_query=False)
    assert (hook.path, hook.options) == ("/a?b=c", {"spool": "."})


def test_where_spools_lie_and_that_each_stream_has_its_own(tmp_path, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    target = Target("mqtt://me:secret@host", 1883, {})
    spools = [target.open_spool(print), target.open_spool(print), target.open_spool(print, "a")]
    names = sorted(path.name for path in (tmp_path / "state" / "adae-edge").glob("*.spool"))
    assert len({spool.path for spool in spools}) == len(names) == 3
    assert all(name.startswith("mqtt-host-1883-") and "secret" not in name for name in names)
    assert stat.S_IMODE((tmp_path / "state" / "adae-edge").stat().st_mode) == 0o700
    for spool in spools:
        spool.close()
    again = target.open_spool(print)
    assert again.path == spools[0].path
    again.close()
    (tmp_path / "systemd").mkdir()
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'systemd'}:/var/lib/other")
    spool = target.open_spool(print)
    assert spool.path.parent == tmp_path / "systemd"
    spool.close()
    with pytest.raises(UsageError, match=r"has no folder .*no for its spool"):
        Target(f"mqtt://host?spool={tmp_path / 'no'}", 1883, {})
