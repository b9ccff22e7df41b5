"""Several streams in one process: one that fails ends no other, unless it was to run for ever."""

import os
import threading

import pytest

from adae_edge.errors import SourceError
from adae_edge.runtime import Scorer, Stream
from adae_edge.runtime.notify import Notifier
from adae_edge.runtime.station import Station
from tests.support.streams import Kept, Listed, Steps, frame


@pytest.fixture
def scorer(small_model, tmp_path):
    (tmp_path / "m.onnx").write_bytes(small_model)
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        yield scorer


def lost():
    raise SourceError("the disk went away")


def test_a_stream_that_fails_is_told_and_the_others_go_on(scorer):
    kept, told = Kept(), []
    late = Steps(*map(frame, range(20)))

    def told_of(sentence):
        told.append(sentence)
        late.go_on(20)  # only now the other one gets its frames

    streams = [Stream(scorer, Listed(frame(0), lost)), Stream(scorer, late, [kept])]
    assert not Station(streams, told_of).run()
    assert told == ["stream 1 failed: the disk went away"]
    assert len(kept.results) == 20


def test_a_stream_that_was_to_run_for_ever_takes_the_others_with_it(scorer):
    class Endless(Listed):
        endless = True

    told = []
    other = Steps(*map(frame, range(5)), live=True)
    streams = [Stream(scorer, Endless(frame(0), lost)), Stream(scorer, other)]
    assert not Station(streams, told.append).run()
    assert told == ["stream 1 failed: the disk went away"]
    assert streams[1].stopped


def test_what_nobody_foresaw_is_one_sentence_too(scorer):
    told = []
    assert not Station([Stream(scorer, Listed(frame(0), lambda: 1 / 0))], told.append).run()
    assert told == ["stream 1 failed: division by zero"]


def test_stop_ends_all(scorer):
    sources = [Steps(live=True), Steps(live=True)]
    station = Station([Stream(scorer, source) for source in sources], lost)
    threading.Timer(0.1, station.stop).start()
    assert station.run()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(environment, seconds):
    assert Notifier(print, {"NOTIFY_SOCKET": "/run/x", **environment}).watchdog_s == seconds
    assert Notifier(print, environment).watchdog_s is None
