"""The stream: what it hands to its sinks, what it counts, and how it is stopped."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import adae_edge
from adae_edge.contract import Form
from adae_edge.decoding.images import to_channels
from adae_edge.errors import SinkError, SourceError, UsageError
from adae_edge.export.exporter import export
from adae_edge.placement import placement_of
from adae_edge.runtime import (
    Event,
    Frame,
    Metrics,
    Scored,
    Scorer,
    Source,
    Stream,
    open_source,
)
from adae_edge.runtime.frame import Instance, SeriesEnd
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, HIGHEST, MAP, PIXELS
from tests.support.models import mean_model
from tests.support.streams import Counted, Kept, Listed, Steps, frame


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    with Scorer(tmp_path / "grey.onnx", threads=1) as opened:
        yield opened


def test_it_counts_and_goes_on_after_a_failure(scorer):
    broken = Event("camera:0", 1.0, "failure", "the second one is broken")
    items = [frame(0), broken, frame(2, 80, (9, 3, 3)), frame(3, 0, (4, 0, 1))]
    kept = Kept(), Kept()
    stream = Stream(scorer, Listed(*items), kept)
    metrics = stream.run()
    assert metrics is stream.metrics
    for sink in kept:
        assert [(s.frame.id, s.score, s.threshold, s.verdict) for s in sink.results] == [
            (0, 120.0, 100.0, "anomalous"),
            (2, 80.0, 100.0, "normal"),
        ]
        assert [event.kind for event in sink.events] == ["failure", "failure"]
        assert sink.events[0] == broken
        assert sink.events[1].detail == (
            "camera:0 3: a frame is 0 x 4 pixels, and a frame has 1 x 1 to 8192 x 8192"
        )
        assert sink.closed == 0
    assert (metrics.frames, metrics.anomalous, metrics.failures) == (2, 1, 2)
    assert len(metrics.latencies_s) == 2
    assert metrics.latency_p50_ms > 0
    assert stream.summary.startswith("2 frames scored, 1 anomalous (above 100.0000), 2 not scored;")
    assert Metrics().latency_p50_ms is None
    assert stream.sources[0].closed == 1


def test_events_of_every_kind_are_counted_by_their_kind_and_score_nothing(scorer):
    items = [Event("camera:0", 0.0, kind, kind) for kind in ("live", "stalled", "live", "gap")]
    metrics = Stream(scorer, Listed(*items), [kept := Kept()]).run()
    assert metrics.events == {"live": 2, "stalled": 1, "gap": 1}
    assert (metrics.frames, metrics.failures, kept.results) == (0, 0, [])
    assert kept.events == items


def test_an_event_of_an_unknown_kind_cannot_be_made():
    with pytest.raises(ValueError, match="no event of the kind"):
        Event("camera:0", 0.0, "lively", "")


def test_a_score_at_the_threshold_is_normal(scorer):
    stream = Stream(scorer, Listed(frame(0, 100)), [kept := Kept()])
    stream.run()
    assert kept.results[0].verdict == "normal"
    stream = Stream(scorer, Listed(frame(0, 100)), [kept := Kept()], threshold=99.5)
    stream.run()
    assert kept.results[0].verdict == "anomalous"


def test_conversion_in_the_stream_is_the_projects_rule(scorer):
    colours = np.random.default_rng(4).integers(0, 256, (6, 7, 3), np.uint8)
    Stream(scorer, Listed(Frame("x", 0, 0.0, colours)), [kept := Kept()]).run()
    assert kept.results[0].score == pytest.approx(to_channels(colours, 1).mean(), rel=1e-6)


def test_only_a_sink_that_wants_pixels_gets_them(scorer):
    wanting, light = Kept(PIXELS), Kept()
    Stream(scorer, Listed(frame(0, 7)), [light, wanting]).run()
    assert wanting.results[0].frame.pixels.tolist() == np.full((4, 5, 1), 7).tolist()
    assert light.results[0].frame.pixels.shape == (0, 0, 1)
    assert light.results[0].frame.pixels.base is None
    assert (light.results[0].frame.id, light.results[0].score) == (0, 7.0)


@pytest.fixture(scope="module")
def mapped(checkpoints, tmp_path_factory):
    """A model with an anomaly map in the frame's pixels."""
    out = tmp_path_factory.mktemp("mapped") / "m.onnx"
    export(checkpoints("digits"), out, form=Form(anomaly_map="frame"))
    return out


@pytest.fixture
def runs(mapped, monkeypatch):
    """A scorer of that model, and what was asked of its graph: frames and outputs of each run."""
    with Scorer(mapped, threads=1) as scorer:
        run, asked = scorer.backend.run, []

        def noted(inputs, names):
            asked.append((len(inputs[0]), *names))
            return run(inputs, names)

        monkeypatch.setattr(scorer.backend, "run", noted)
        yield scorer, asked


MIXED = [frame(number, value) for number, value in enumerate((120, 0, 200, 30, 250))]


def test_a_map_is_computed_only_if_a_sink_wants_it(runs):
    scorer, asked = runs
    Stream(scorer, Listed(frame(0)), [plain := Kept()]).run()
    Stream(scorer, Listed(frame(0)), [other := Kept(), wanting := Kept(MAP)]).run()
    assert asked == [(1, "score"), (1, "score", "anomaly_map")]
    expected, maps = scorer.score_with_map(frame(0).pixels[None])
    assert plain.results[0].anomaly_map is None
    assert plain.results[0].placement is None
    assert wanting.results[0].anomaly_map.shape == (4, 5)
    assert np.array_equal(wanting.results[0].anomaly_map, maps[0])
    assert wanting.results[0].score == plain.results[0].score == float(expected[0])
    assert wanting.results[0].placement == placement_of(scorer.contract, 4, 5)
    assert other.results[0].anomaly_map is not None


@pytest.mark.parametrize("wants", [MAP, BOXES])
def test_a_map_of_anomalous_frames_costs_the_normal_ones_nothing(runs, wants):
    scorer, asked = runs
    Stream(scorer, Listed(*MIXED), [plain := Kept()]).run()
    scores = [scored.score for scored in plain.results]
    threshold = sorted(scores)[2]
    asked.clear()
    Stream(scorer, Listed(*MIXED), [shown := Kept(wants, shows=ANOMALOUS)], threshold).run()
    # every frame once for its score, and the two above the threshold again with their maps
    assert sum(frames for frames, *outputs in asked if outputs == ["score"]) == 5
    assert sum(frames for frames, *outputs in asked if outputs == ["score", "anomaly_map"]) == 2
    assert [scored.score for scored in shown.results] == scores
    above = [scored.score > threshold for scored in shown.results]
    assert [scored.anomaly_map is not None for scored in shown.results] == above
    assert [scored.boxes is not None for scored in shown.results] == (
        above if wants == BOXES else [False] * 5
    )


def test_where_all_maps_are_shown_each_frame_is_run_once(runs):
    scorer, asked = runs
    Stream(scorer, Listed(*MIXED), [plain := Kept()]).run()
    asked.clear()
    sinks = Kept(BOXES, shows=ANOMALOUS), (shown := Kept(MAP))
    Stream(scorer, Listed(*MIXED), sinks, threshold=1e9).run()
    assert {tuple(outputs) for _, *outputs in asked} == {("score", "anomaly_map")}
    assert sum(frames for frames, *_ in asked) == 5
    assert [scored.score for scored in shown.results] == [scored.score for scored in plain.results]
    assert all(scored.boxes is None for scored in shown.results)


def test_pixels_of_normal_frames_are_dropped_where_anomalous_ones_are_shown(scorer):
    kept = Kept(PIXELS, shows=ANOMALOUS)
    Stream(scorer, Listed(frame(0, 7), frame(1, 9)), [kept], threshold=8.0).run()
    assert [scored.frame.pixels.shape for scored in kept.results] == [(0, 0, 1), (4, 5, 1)]


def test_a_model_without_the_map_that_a_sink_shows_says_so_once(scorer):
    kept = Kept(MAP, BOXES)
    Stream(scorer, Listed(frame(0), frame(1)), [kept]).run()
    assert [scored.anomaly_map for scored in kept.results] == [None, None]
    (event,) = kept.events
    assert (event.kind, "export it with --anomaly-map" in event.detail) == ("note", True)
    Stream(scorer, Listed(frame(0)), [kept := Kept(BOXES)]).run()
    assert kept.events == []


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number(scorer, threshold):
    with pytest.raises(UsageError, match="a threshold is a number"):
        Stream(scorer, Listed(), [], threshold)


def test_stop_ends_it_after_the_frame_in_hand(scorer):
    kept = Kept()
    stopped = threading.Event()
    source = Listed(frame(0), lambda: stopped.wait(60), frame(1), frame(2))
    stream = Stream(scorer, source, [kept, Counted({1: lambda: (stream.stop(), stopped.set())})])
    assert not stream.stopped
    stream.run()
    assert stream.stopped
    assert [scored.frame.id for scored in kept.results] == [0]
    assert source.closed == 1


def test_another_thread_can_stop_it(scorer):
    class Endless(Source):
        live = True

        def __iter__(self):
            number = 0
            while not self._stopping:
                yield frame(number)
                number += 1

    stop = Counted({1: lambda: threading.Thread(target=stream.stop).start()})
    stream = Stream(scorer, Endless(), [kept := Kept(), stop])
    stream.run()
    assert stream.endless
    assert len(kept.results) == stream.metrics.frames > 0


def test_a_source_that_goes_away_and_a_sink_that_fails_leave_complete_metrics(scorer):
    def gone():
        raise SourceError("camera:0 gives no more frames")

    stream = Stream(scorer, Listed(frame(0), gone), [Kept()])
    with pytest.raises(SourceError):
        stream.run()
    assert (stream.metrics.frames, stream.sources[0].closed) == (1, 1)

    class Full(Kept):
        def write(self, scored):
            raise SinkError("the disk is full")

    stream = Stream(scorer, Listed(frame(0), frame(1)), [Full()])
    with pytest.raises(SinkError, match="the disk is full"):
        stream.run()
    assert stream.sources[0].closed == 1
    assert stream.summary.endswith("; a sink lacks 2")
    assert not stream.complete


def test_a_result_knows_its_age(scorer):
    Stream(scorer, Listed(frame(0)), [kept := Kept()]).run()
    assert kept.results[0].age > 1e9  # the frame is of 1970


def test_the_public_names_are_those_of_the_list_and_a_device_gets_them_from_the_package():
    assert set(adae_edge.__all__) <= set(dir(adae_edge))
    for name in adae_edge.__all__:
        assert getattr(adae_edge, name) is not None
    assert adae_edge.Stream is Stream
    assert adae_edge.open_source is open_source
    assert adae_edge.Scored is Scored
    with pytest.raises(AttributeError, match="has no attribute"):
        adae_edge.nothing  # noqa: B018


def test_the_log_says_what_happened_and_a_program_without_one_prints_nothing(scorer, caplog, capfd):
    broken = Event("camera:0", 1.0, "failure", "the second one is broken")
    with caplog.at_level("INFO", logger="adae_edge"):
        Stream(scorer, Listed(frame(0), broken), [Kept()]).run()
    assert [record.getMessage() for record in caplog.records] == [
        "failure: the second one is broken",
        "1 frames scored, 1 failures",
    ]
    assert {record.name for record in caplog.records} == {"adae_edge.runtime.stream"}
    assert capfd.readouterr() == ("", "")


def running(stream):
    """A stream that runs in a thread; it is joined by ``ended``."""
    thread = threading.Thread(target=stream.run, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(60)
    assert not thread.is_alive()


def test_sources_that_end_are_scored_one_after_the_other_in_order(scorer):
    first = Listed(*(frame(number, number) for number in range(40)))
    second = Listed(*(frame(number, number, (6, 2, 1)) for number in range(40, 70)))
    first.name, second.name = "first", "second"
    metrics = Stream(scorer, [first, second], [kept := Kept()]).run()
    assert [scored.frame.id for scored in kept.results] == list(range(70))
    assert [scored.score for scored in kept.results] == list(range(70))
    assert metrics.by_source == {"first": 40, "second": 30}
    assert (first.closed, second.closed, metrics.skipped) == (1, 1, 0)
    assert kept.done == [("first", 40), ("second", 70)]


def test_the_scores_of_a_batch_are_those_of_its_frames_alone(checkpoints, tmp_path):
    export(checkpoints("digits"), tmp_path / "m.onnx")
    frames = np.random.default_rng(5).integers(0, 256, (50, 28, 28, 1), np.uint8)
    found = []
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        for latency in (0.02, 0):
            sizes, score = [], scorer.score
            scorer.score = lambda *arrays, score=score, sizes=sizes: (
                sizes.append(len(arrays[0])) or score(*arrays)
            )
            items = [Frame("x", number, 0.0, pixels) for number, pixels in enumerate(frames)]
            Stream(scorer, Listed(*items), [kept := Kept()], max_latency=latency).run()
            found.append([scored.score for scored in kept.results])
            assert (max(sizes) > 1) == (latency > 0)
            scorer.score = score
    assert found[0] == found[1]


def test_a_frame_of_a_batch_that_fails_fails_alone(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(1, last="Log"))
    values = [5, 6, 0, 7]
    grey = [frame(number, value) for number, value in enumerate(values)]
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        Stream(scorer, Listed(*grey), [kept := Kept()], max_latency=60).run()
    assert [scored.frame.id for scored in kept.results] == [0, 1, 3]
    (event,) = kept.events
    assert event.detail == "camera:0 2: the score is not a finite number"


def test_a_slice_of_a_batch_with_impossible_values_fails_alone(checkpoints, tmp_path):
    export(checkpoints("slices"), tmp_path / "m.onnx")
    slices = [
        Frame("v", n, 0.0, np.full((20, 20, 1), n + 1, np.float32), 1.0, 2.0) for n in range(4)
    ]
    slices[1].pixels[3, 3] = np.nan
    with Scorer(tmp_path / "m.onnx", threads=1) as scorer:
        Stream(scorer, Listed(*slices), [kept := Kept()], max_latency=60).run()
    assert [scored.frame.id for scored in kept.results] == [0, 2, 3]
    (event,) = kept.events
    assert event.detail == "v 1: a frame has values that are not finite numbers"


def test_one_source_of_several_that_goes_away_is_told_and_the_others_go_on(scorer):
    def gone():
        raise SourceError("first.mp4 cannot be read any further")

    first, second = Listed(frame(0), gone, frame(1)), Listed(frame(2), frame(3))
    first.name = "first.mp4"
    stream = Stream(scorer, [first, second], [kept := Kept()])
    stream.run()
    assert [scored.frame.id for scored in kept.results] == [0, 2, 3]
    (event,) = kept.events
    assert (event.kind, event.source) == ("lost", "first.mp4")
    assert event.detail == "first.mp4 cannot be read any further"
    assert kept.done[0] == ("first.mp4", 1)
    assert not stream.complete


def test_what_was_scored_before_a_source_breaks_is_kept(scorer):
    def breaks():
        raise PermissionError(13, "Permission denied", "frames")

    with pytest.raises(PermissionError):
        Stream(scorer, Listed(frame(0), frame(1), breaks), [kept := Kept()]).run()
    assert [scored.frame.id for scored in kept.results] == [0, 1]
    stream = Stream(scorer, [Listed(breaks), Listed(frame(2))], [kept := Kept()])
    stream.run()
    assert [event.detail for event in kept.events] == [": Permission denied"]


def test_what_no_source_may_raise_ends_all_of_them(scorer):
    def bug():
        raise ZeroDivisionError

    camera = Steps(frame(1), live=True)
    with pytest.raises(ZeroDivisionError):
        Stream(scorer, [Listed(frame(0), bug), camera]).run()
    assert camera._stopping


def test_a_frame_may_change_its_size_and_colours_in_the_stream(scorer):
    shapes = [(512, 640, 1), (3000, 4500, 1), (40, 50, 3), (50, 40, 3), (512, 640, 1)]
    items = [frame(number, 10 * number, shape) for number, shape in enumerate(shapes)]
    Stream(scorer, Listed(*items), [kept := Kept()]).run()
    assert [scored.score for scored in kept.results] == [0, 10, 20, 30, 40]
    assert [scored.frame.size for scored in kept.results] == [shape[:2] for shape in shapes]


class Burst(Source):
    """A camera that gives the first frame, and the others while that one is being scored."""

    live, name = True, "camera:0"

    def __init__(self, count):
        self.count, self.scoring, self.given = count, threading.Event(), threading.Event()

    def __iter__(self):
        yield frame(0)
        assert self.scoring.wait(60)
        for number in range(1, self.count):
            yield frame(number)
        self.given.set()


@pytest.mark.parametrize(("live", "ids"), [(True, [0, 99]), (False, list(range(100)))])
def test_a_model_that_is_too_slow_gets_the_newest_frame_of_a_camera_and_every_one_of_a_file(
    scorer, live, ids
):
    """What waits decides, and no rate; each frame is given once, and skips are counted."""
    source, score = Burst(100), scorer.score
    source.live = live

    def slow(*arrays):
        source.scoring.set()
        if live:
            assert source.given.wait(60)
        return score(*arrays)

    scorer.score = slow
    metrics = Stream(scorer, source, [kept := Kept()], max_latency=0).run()
    assert [scored.frame.id for scored in kept.results] == ids
    assert [scored.frame.skipped for scored in kept.results] == ([0, 98] if live else [0] * 100)
    assert metrics.skipped == 100 - len(ids)
    assert metrics.by_source == {"camera:0": len(ids)}
    assert len(metrics.ages_s) == len(ids)
    assert metrics.age_p99_ms >= metrics.age_p50_ms > 0


def test_a_stopped_stream_ends_after_the_frames_that_the_model_has(scorer):
    """Stopped while the first frame is scored and four wait: they are the next run's."""
    captured, stopped, score = threading.Event(), threading.Event(), scorer.score

    def slow(*arrays):
        assert captured.wait(60)
        stream.stop()
        stopped.set()
        return score(*arrays)

    scorer.score = slow
    large = [frame(number, 3, (1100, 1000, 1)) for number in range(9)]
    broken = Event("camera:0", 1.0, "failure", "the next one is broken")
    source = Listed(*large[:5], broken, captured.set, lambda: stopped.wait(60), *large[5:])
    stream = Stream(scorer, source, [kept := Kept()])
    stream.run()
    assert [scored.frame.id for scored in kept.results] == [0]
    assert kept.events == []


def test_a_stopped_camera_ends_though_it_waits_for_a_frame(scorer):
    camera = Steps(*map(frame, range(9)), live=True)
    stream = Stream(scorer, camera, [Counted({1: lambda: stream.stop()})])
    thread = running(stream)
    camera.go_on()
    ended(thread)
    assert stream.metrics.frames == 1
    assert stream.endless


def slice_of(series, number, value):
    return replace(frame(number, value), instance=Instance("1.1", series, "1.2.3", f"1.{number}"))


def series_end(uid, slices):
    end = SeriesEnd(uid, "files", 1, slices)
    return Event("camera:0", 1.0, "series", "it has ended", series=end)


def test_of_a_series_only_slices_above_those_before_are_run_again_for_a_map(runs):
    scorer, asked = runs
    values = [10, 40, 20, 60, 30, 60]
    frames = [slice_of("1.7", number, value) for number, value in enumerate(values)]
    scores = scorer.score(np.stack([one.pixels for one in frames])).tolist()
    asked.clear()
    kept = Kept(PIXELS, MAP, shows=HIGHEST)
    Stream(scorer, Listed(*frames, frame(6, 90)), [kept], threshold=10**9).run()
    rises = [score > max(scores[:place], default=0) for place, score in enumerate(scores)]
    assert 1 <= sum(rises) < 6
    assert [one.anomaly_map is not None for one in kept.results] == [*rises, False]
    assert [bool(one.frame.pixels.size) for one in kept.results] == [*rises, False]
    assert sum(count for count, *outputs in asked if "anomaly_map" in outputs) == sum(rises)


def test_a_series_that_comes_again_has_its_highest_slice_again(runs):
    scorer, _ = runs
    kept = Kept(MAP, shows=HIGHEST)
    once = [slice_of("1.7", 0, 60), slice_of("1.7", 1, 60), series_end("1.7", 2)]
    Stream(scorer, Listed(*once, *once), [kept], max_latency=5.0).run()
    assert [one.anomaly_map is not None for one in kept.results] == [True, False] * 2
    assert {one.contract for one in kept.results} == {scorer.contract}
    assert kept.results[0].file == "m.onnx"
