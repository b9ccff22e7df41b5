"""What sinks are told, and what becomes of a sink that fails."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from adae_edge.errors import SinkError, SourceError
from adae_edge.runtime import Frame, Scorer, Stream
from adae_edge.runtime.sinks.shared import Shared
from tests.support.models import mean_model
from tests.support.streams import Counted, Kept, Listed, Steps, frame


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    with Scorer(tmp_path / "grey.onnx", threads=1) as opened:
        yield opened


def test_a_sink_that_fails_is_told_to_the_others_which_go_on(scorer):
    class Full(Kept):
        name = "jsonl:full.jsonl"

        def write(self, scored):
            raise SinkError("the disk is full")

    stream = Stream(scorer, Listed(*map(frame, range(30))), [kept := Kept(), full := Full()])
    stream.run()
    assert [scored.frame.id for scored in kept.results] == list(range(30))
    (event,) = kept.events
    assert (event.kind, event.source, event.detail) == ("sink", full.name, "the disk is full")
    assert full.events == []
    assert stream.metrics.events == {"sink": 1}
    assert stream.summary.endswith("; jsonl:full.jsonl lacks 30")
    assert not stream.complete


class Flaky(Kept):
    """A sink that fails while ``broken``."""

    name = "jsonl:rows.jsonl"

    def __init__(self, broken=True):
        super().__init__()
        self.broken, self.tries = broken, 0

    def write(self, scored):
        self.tries += 1
        if self.broken:
            raise SinkError("cannot write rows.jsonl: No space left on device")
        super().write(scored)


def test_a_sink_that_failed_is_tried_again_and_says_what_it_missed(scorer, monkeypatch):
    monkeypatch.setattr("adae_edge.runtime.delivery._AGAIN_S", 0.0)
    flaky = Flaky()

    def repair():
        flaky.broken = False

    counted = Counted({3: repair})
    Stream(scorer, Listed(*map(frame, range(6))), [counted, flaky]).run()
    assert [scored.frame.id for scored in flaky.results] == [2, 3, 4, 5]
    assert [event.detail for event in counted.events] == [
        "cannot write rows.jsonl: No space left on device",
        "jsonl:rows.jsonl keeps results again; it lacks 2",
    ]
    assert flaky.events[-1] == counted.events[1]


def test_a_sink_that_failed_is_not_tried_again_at_every_result(scorer):
    flaky = Flaky()
    Stream(scorer, Listed(*map(frame, range(50))), [Kept(), flaky]).run()
    assert flaky.tries <= 2  # a second may pass on a busy machine


def test_without_any_sink_that_keeps_results_a_camera_goes_on_and_a_file_ends(scorer, monkeypatch):
    monkeypatch.setattr("adae_edge.runtime.delivery._AGAIN_S", 0.0)
    camera = Listed(*(frame(number, 5, (1000, 1100, 1)) for number in range(5)))
    camera.live = True
    stream = Stream(scorer, camera, [Flaky()])
    stream.run()
    assert not stream.complete
    assert stream.summary.endswith(f"jsonl:rows.jsonl lacks {stream.metrics.frames}")

    stream = Stream(scorer, Listed(*map(frame, range(500))), [Flaky()])
    with pytest.raises(SinkError, match="No space left on device"):
        stream.run()
    assert stream.metrics.frames < 500


def test_what_no_sink_may_raise_ends_the_stream(scorer):
    def bug():
        raise ZeroDivisionError

    camera = Steps(*map(frame, range(9)), live=True)
    camera.go_on(9)
    with pytest.raises(ZeroDivisionError):
        Stream(scorer, [camera, Listed(*map(frame, range(500)))], [Counted({2: bug})]).run()


def test_no_password_is_told_of_a_source_that_goes_away(scorer, caplog):
    def gone():
        raise SourceError("rtsp://me:secret@10.0.0.7/live gives no more frames")

    camera = Listed(Frame("rtsp://me:secret@10.0.0.7/live", 0, 0.0, frame(0).pixels), gone)
    camera.name = "rtsp://***@10.0.0.7/live"
    with caplog.at_level("INFO", logger="adae_edge"):
        stream = Stream(scorer, [camera, Listed(frame(1))], [kept := Kept()])
        stream.run()
    assert len(kept.events) == 1
    for told in (kept.results, kept.events, stream.metrics, stream.summary, caplog.text):
        assert "secret" not in repr(told)


def test_a_shared_sink_is_called_by_one_thread_at_a_time():
    class Alone(Kept):
        """A sink that fails where two threads are in it."""

        inside = False

        def write(self, scored):
            assert not self.inside
            self.inside = True
            time.sleep(0.001)
            super().write(scored)
            self.inside = False

    shared = Shared(alone := Alone("boxes", shows="anomalous"))
    assert (shared.wants, shared.shows) == (alone.wants, alone.shows)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(shared.write, number) for number in range(40)]:
            done.result()
    shared.ended("camera:0")
    shared.close()
    assert (sorted(alone.results), alone.done, alone.closed) == (
        [*range(40)],
        [("camera:0", 40)],
        0,
    )


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(5, "Input/output error")])
def test_what_a_sink_raises_as_it_flushes_ends_the_stream_and_hangs_nothing(
    scorer, monkeypatch, error
):
    monkeypatch.setattr("adae_edge.runtime.delivery._FLUSH_S", 0.0)

    class Broken(Kept):
        def flush(self):
            raise error

    with pytest.raises(type(error)) as raised:
        Stream(scorer, Listed(*map(frame, range(300))), [Kept(), Broken()]).run()
    assert raised.value is error


def test_a_pipe_that_breaks_as_it_is_flushed_is_left_alone(scorer, monkeypatch):
    monkeypatch.setattr("adae_edge.runtime.delivery._FLUSH_S", 0.0)

    class Pipe(Kept):
        def flush(self):
            raise BrokenPipeError

    Stream(scorer, Listed(*map(frame, range(30))), [kept := Kept(), pipe := Pipe()]).run()
    assert [scored.frame.id for scored in kept.results] == list(range(30))
    assert len(pipe.results) < 30


def test_a_sink_that_fails_and_recovers_over_and_over_is_told_once(scorer, monkeypatch):
    monkeypatch.setattr("adae_edge.runtime.delivery._AGAIN_S", 0.0)

    class Flaky(Kept):
        def write(self, scored):
            if scored.frame.id % 2:
                raise SinkError("the disk is full")
            super().write(scored)

    kept, flaky = Kept(), Flaky()
    stream = Stream(scorer, Listed(*map(frame, range(40))), [kept, flaky])
    stream.run()
    assert [event.detail for event in kept.events] == [
        "the disk is full",
        "a sink keeps results again; it lacks 1",
    ]
    assert "a sink lacks 20" in stream.summary
    assert not stream.complete
