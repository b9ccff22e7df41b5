"""The sinks mqtt: and mqtts:, with a real broker."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adae_edge.benchmarks.peers import broker as peers
from adae_edge.benchmarks.peers.broker import subscriber, wait_until
from adae_edge.benchmarks.peers.certificates import certificate
from adae_edge.errors import UsageError
from adae_edge.runtime.sinks import mqtt
from tests.support.network import LOST, frames, quick_sinks, write
from tests.support.peers import peers as needed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a sink by its URL, and closes it."""
    with quick_sinks(monkeypatch, mqtt, "?", tmp_path) as again:
        yield again


@pytest.fixture
def broker(tmp_path):
    with needed(), peers.broker(tmp_path / "broker") as one:
        yield one


def told_of(sink):
    """Wait for what is told, and return it."""
    told = []
    wait_until(lambda: told.extend(sink.news()) or told)
    return told[0]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_rows_arrive_in_order_each_once_and_the_state_is_told(opened, broker, version):
    with subscriber(broker.port, "line/1") as heard:
        sink = opened(f"mqtt://127.0.0.1:{broker.port}?topic=line/1&version={version}")
        write(sink, range(100))
        sink.event(LOST)
        wait_until(lambda: len(heard.received) == 101)
        wait_until(lambda: not sink.waiting)
        assert heard.states == ["online"]
        sink.close()
        wait_until(lambda: heard.states == ["online", "offline"])
    assert frames(heard.received) == list(range(100))
    assert {row["topic"] for row in heard.received} == {"line/1/frames", "line/1/events"}
    assert heard.received[-1]["event"] == "lost"


def test_everything_arrives_in_order_after_a_broker_was_away(opened, broker):
    with subscriber(broker.port) as heard:
        sink = opened(f"mqtt://127.0.0.1:{broker.port}")
        write(sink, range(50))
        broker.stop()
        write(sink, range(50, 200))
        assert "results wait in" in told_of(sink)
        broker.begin()
        wait_until(lambda: not sink.waiting)
        wait_until(lambda: len(heard.frames) == 200)
    assert frames(heard.frames) == list(range(200))


def test_a_broker_that_is_frozen_is_told_and_gets_everything_when_it_thaws(
    opened, broker, monkeypatch
):
    with subscriber(broker.port) as heard:
        sink = opened(f"mqtt://127.0.0.1:{broker.port}")
        write(sink, range(10))
        wait_until(lambda: not sink.waiting)
        monkeypatch.setattr(mqtt, "_ANSWER_S", 1.0)
        broker.peer.freeze()
        write(sink, range(10, 60))
        assert f"mqtt://127.0.0.1:{broker.port} does not answer" in told_of(sink)
        broker.peer.thaw()
        wait_until(lambda: not sink.waiting)
        wait_until(lambda: len(heard.frames) == 60)
    assert frames(heard.frames) == list(range(60))


def test_a_client_that_is_killed_leaves_its_last_will(broker, tmp_path):
    url = f"mqtt://127.0.0.1:{broker.port}?spool={tmp_path}"
    script = (
        "import time\nfrom adae_edge.runtime.sinks.registry import open_sink\n"
        "from tests.support.network import write\n"
        f"sink = open_sink({url!r})\nwrite(sink, [1])\ntime.sleep(60)\n"
    )
    with subscriber(broker.port) as heard:
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT)
        try:
            wait_until(lambda: heard.frames)
            assert heard.states == ["online"]
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        wait_until(lambda: heard.states == ["online", "offline"])


def test_a_password_that_is_refused_is_told_and_never_shown(opened, tmp_path):
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    with (
        needed(),
        peers.broker(
            tmp_path / "broker", ["allow_anonymous false", f"password_file {passwords}"]
        ) as one,
    ):
        sink = opened(f"mqtt://me:very-secret@127.0.0.1:{one.port}")
        write(sink, [1])
        told = told_of(sink)
    assert "refuses the connection: not authorized" in told
    assert "very-secret" not in told + sink.name
    assert sink.waiting == 1


def test_a_topic_that_is_refused_is_told(opened, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("topic read #\n")
    with (
        needed(),
        peers.broker(tmp_path / "broker", ["allow_anonymous true", f"acl_file {rules}"]) as one,
    ):
        sink = opened(f"mqtt://127.0.0.1:{one.port}")
        write(sink, [1])
        assert "refuses a message: not authorized" in told_of(sink)
        assert sink.waiting == 1


def test_home_assistant_is_told_what_there_is(opened, broker):
    with subscriber(broker.port, "homeassistant") as heard:
        sink = opened(f"mqtt://127.0.0.1:{broker.port}?topic=line/1&discovery=homeassistant")
        write(sink, [1])
        wait_until(lambda: len(heard.received) == 2)
    by_topic = {row["topic"]: row for row in heard.received}
    score = by_topic["homeassistant/sensor/line_1/score/config"]
    assert score["state_topic"] == "line/1/frames"
    assert score["availability_topic"] == "line/1/status"
    assert "homeassistant/binary_sensor/line_1/anomalous/config" in by_topic


# paho leaves it to the garbage collector to close what a handshake failed on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_is_checked(opened, tmp_path):
    made, key = certificate(tmp_path)
    tls = [f"certfile {made}", f"keyfile {key}"]
    with needed(), peers.broker(tmp_path / "broker", tls=tls) as one:
        url = f"mqtts://localhost:{one.port}"
        sink = opened(url)
        write(sink, range(3))
        assert "has a certificate that is not trusted: self" in told_of(sink)
        sink.close()
        sink = opened(f"{url}?ca={made}")
        wait_until(lambda: not sink.waiting)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://host/line/1", "has no path: give ?topic=line/1"),
        ("mqtt://host?topic=a/+", "takes a topic without + and #"),
        ("mqtt://host?topic=", "takes a topic without"),
        ("mqtt://host?topic=a/#", "has a # in it"),
        ("mqtt://host?version=4", "takes 5 or 3.1.1"),
        ("mqtt://host?ca=x.pem", "is not encrypted, and so has no option ca"),
        ("mqtts://host?ca=no.pem", "cannot read certificates from no.pem"),
    ],
)
def test_what_is_refused_before_anything_starts(opened, url, words):
    with pytest.raises(UsageError) as raised:
        opened(url)
    assert words in str(raised.value)
