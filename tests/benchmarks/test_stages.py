"""The whole way of a frame is the one that score goes, and its stages add up to it."""

import json
import time

import pytest

from adae_edge.benchmarks import load, stages
from adae_edge.benchmarks.load import Rate
from adae_edge.benchmarks.stages import Course, Paced, StreamJob, measure_stream
from adae_edge.benchmarks.watch import decode_bound
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.runtime.opening import StreamRequest
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.stream import Stream
from adae_edge.stopwatch import STAGES, listening, stage
from tests.support import clips
from tests.support.models import mean_model, run
from tests.support.pictures import noise, save


def never():
    return False


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mean_model(3))
    return path


def job(model, source, seconds=None, rate=None, sinks=()):
    request = StreamRequest(model, (str(source),), sinks, max_latency=0.0)
    return StreamJob(request, seconds, rate and Rate.parse(rate))


def test_stages_are_told_only_while_somebody_listens():
    told = []
    with stage("grab"):
        pass
    with listening(lambda name, seconds: told.append((name, seconds >= 0))):
        with stage("grab"):
            pass
        with pytest.raises(KeyError), stage("decode"):
            raise KeyError
    with stage("sink"):
        pass
    assert told == [("grab", True), ("decode", True)]


def test_stages_and_what_is_left_over_are_the_whole(model, tmp_path):
    rows = tmp_path / "o.jsonl"
    found = measure_stream(
        job(model, "synthetic://?frames=60&size=64x48", sinks=(f"jsonl:{rows}",)), never
    )
    times = found["load"].times_s
    assert (len(times), found["ended"], found["size"]) == (59, "", (64, 48))
    assert found["first_s"] > 0
    mean_ms = sum(times) / len(times) * 1e3
    assert list(found["stages_ms"]) == [*STAGES, "rest"]
    assert sum(found["stages_ms"].values()) == pytest.approx(mean_ms, abs=1e-3)
    for name in ("grab", "convert", "inference", "sink", "rest"):
        assert found["stages_ms"][name] > 0, name
    assert all(0 < age <= whole for age, whole in zip(found["ages_s"], times, strict=True))
    assert [json.loads(line)["frame"] for line in rows.read_text().splitlines()] == [*range(60)]


def test_a_video_and_pictures_tell_grabbing_from_decoding(model, tmp_path):
    clip = clips.write(tmp_path, "h264.mp4")
    for number in range(30):
        save(tmp_path / "pictures" / f"{number}.png", noise(20, 30, 3))
    for source, frames in ((clip, clips.FRAMES), (tmp_path / "pictures", 30)):
        found = measure_stream(job(model, source), never)
        assert len(found["load"].times_s) == frames - 1
        told = found["stages_ms"]
        assert min(told[name] for name in STAGES if name != "sink") > 0, source


class Slow(Sink):
    """Takes 20 ms for each result."""

    def write(self, scored):
        time.sleep(0.02)


def test_a_slow_sink_shows_in_its_stage_in_the_queue_and_in_the_age(model):
    course = Course(100.0, 0.4)
    with Scorer(model) as scorer, listening(course.spent):
        source = Paced(open_source("synthetic://?frames=90&size=64x48"), course, never)
        Stream(scorer, source, [Slow(), stages._Arrival(course)], max_latency=0).run()
    course.finish()
    times = course.load.times_s
    assert len(times) == 40
    assert course.stages_ms()["sink"] >= 20
    assert max(course.load.queue) >= 10
    assert times[-1] >= 0.8 - 0.4  # 40 of 20 ms, and the last one is due after 0.4 s
    assert course.over


def test_a_queue_holds_no_more_frames_than_the_source_has(model, monkeypatch):
    monkeypatch.setattr(
        stages, "_Arrival", type("Slow", (stages._Arrival,), {"write": slow_arrival})
    )
    source = "synthetic://?frames=60&size=64x48"
    found = measure_stream(job(model, source, rate="200"), never)
    queue = found["load"].queue
    assert len(queue) == 59
    assert all(waiting <= 59 - done for done, waiting in enumerate(queue, 1))
    assert max(queue) > 20


def slow_arrival(self, scored):
    time.sleep(0.02)
    self._course.done(scored)


def test_a_closed_loop_has_one_frame_on_its_way(model, monkeypatch):
    began = []
    begin, done = Course.begin, Course.done
    monkeypatch.setattr(Course, "begin", lambda *of: began.append(1) or begin(*of))
    monkeypatch.setattr(Course, "done", lambda *of: began.append(-1) or done(*of))
    measure_stream(job(model, "synthetic://?frames=40&size=64x48"), never)
    assert began == [1, -1] * 40


def test_a_live_source_has_its_own_pace_and_ends_with_the_time(model):
    found = measure_stream(job(model, "synthetic://?fps=200&size=64x48", seconds=1), never)
    assert len(found["load"].times_s) >= load.MIN_RUNS
    assert found["ended"] == ""
    with pytest.raises(UsageError, match="has a rate of its own: leave out --rate"):
        measure_stream(job(model, "synthetic://?fps=200", rate="30"), never)


def test_frames_that_cannot_be_scored_are_told_and_the_others_kept(model, tmp_path):
    for number in range(30):
        save(tmp_path / f"{number:02}.png", noise(8, 8 + number, 3))
    (tmp_path / "11.png").write_bytes(b"no picture")
    (tmp_path / "12.png").write_bytes(b"")
    model.rename(tmp_path.parent / "m.onnx")
    found = measure_stream(job(tmp_path.parent / "m.onnx", str(tmp_path)), never)
    assert len(found["load"].times_s) == 27
    assert found["ended"].startswith(f"2 frames of {tmp_path} could not be scored: ")
    assert "11.png" in found["ended"]


def test_a_silent_camera_ends_when_it_is_asked_to_or_has_had_its_time(model, monkeypatch):
    until = time.monotonic() + 0.5
    silent = "synthetic://?fps=0.01&size=64x48"
    found = measure_stream(job(model, silent, 600), lambda: time.monotonic() > until)
    assert len(found["load"].times_s) == 0
    monkeypatch.setattr(stages, "_SILENCE_S", 0.2)
    found = measure_stream(job(model, silent, 0.1), never)
    assert "gave no two frames that could be scored" in found["ended"]


@pytest.mark.parametrize(
    ("source", "seconds", "frames", "sentence"),
    [
        ("synthetic://?frames=5", None, 4, "ended after 5 frames, and 21 are needed"),
        ("synthetic://?frames=1", None, 0, "gave no two frames that could be scored"),
        ("synthetic://?frames=40&size=64x48", 600, 39, "s, and 600 were asked for"),
    ],
)
def test_a_source_that_ends_too_early_is_told_and_what_was_measured_kept(
    model, source, seconds, frames, sentence
):
    found = measure_stream(job(model, source, seconds), never)
    assert sentence in found["ended"]
    assert len(found["load"].times_s) == frames


def test_a_sink_that_keeps_nothing_is_told_and_what_was_measured_kept(model):
    found = measure_stream(
        job(model, "synthetic://?frames=60&size=64x48", sinks=("jsonl:/dev/full",)), never
    )
    assert found["ended"].startswith("cannot write /dev/full: No space left on device")
    assert len(found["load"].times_s) == 59


def test_frames_that_cannot_be_decoded_hold_nothing_up(model, tmp_path):
    for number in range(30):
        save(tmp_path / "pictures" / f"{number:02}.png", noise(20, 30, 3))
    for number in (0, 7, 29):
        (tmp_path / "pictures" / f"{number:02}.png").write_bytes(b"no picture")
    found = measure_stream(job(model, tmp_path / "pictures"), never)
    assert len(found["load"].times_s) == 26
    assert found["ended"].startswith("3 frames of")
    for path in (tmp_path / "pictures").iterdir():
        path.write_bytes(b"no picture")
    found = measure_stream(job(model, tmp_path / "pictures"), never)
    assert "gave no two frames that could be scored: " in found["ended"]
    assert "00.png" in found["ended"]


def test_a_source_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(AdaeEdgeError) as refused:
        measure_stream(job(model, tmp_path / "nowhere"), never)
    assert refused.value.exit_code == 2


def test_the_highest_rate_that_holds_is_among_those_tried(model):
    wanted = job(model, "synthetic://?frames=150&size=64x48", None, "max:p90<10000ms")
    found = measure_stream(wanted, never)
    tried = [each["frames_per_s"] for each in found["tried"]]
    assert found["held"] == max(tried) == pytest.approx(found["rate"], abs=0.01)
    assert all(each["ms"] < 10_000 for each in found["tried"])
    found = measure_stream(job(model, "synthetic://?frames=150", 0.2, "max:p90<0.0001ms"), never)
    assert (found["held"], found["tried"]) == (None, [])


def test_where_most_time_is_decoding_it_is_said():
    share = dict.fromkeys((*STAGES, "rest"), 1.0)
    assert decode_bound(share) is None
    told = str(decode_bound({**share, "decode": 4.0}))
    assert told.startswith("decode-bound: grabbing and decoding take 56% of a frame's time; ")


@pytest.mark.parametrize("text", ["fast", "0.0", "-3", "max", "max:p42<20ms", "max:p99<0ms", "1e9"])
def test_another_rate_is_refused(text):
    with pytest.raises(UsageError):
        Rate.parse(text)


def test_rates_are_read():
    assert Rate.parse("29.97") == Rate(29.97)
    assert Rate.parse("max:p99<20ms") == Rate(None, "p99", 20)
    assert Rate.parse("max:p999 < 1.5s") == Rate(None, "p999", 1500)


def test_the_command_measures_a_stream_and_keeps_what_a_short_source_gave(model, tmp_path):
    options = ("--rate", "200", "--to", "rows.csv", "--json", "b.json", "--seconds", "9")
    done = run("bench", model, "synthetic://?frames=40&size=64x48", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "adae-edge: synthetic://?frames=40&size=64x48 ended after " in done.stderr
    assert "200 frames/s due: " in done.stdout
    assert "| inference |" in done.stdout
    result = json.loads((tmp_path / "b.json").read_text())
    (row,) = result["measurements"]
    assert (result["source"], result["sinks"]) == (
        "synthetic://?frames=40&size=64x48",
        ["rows.csv"],
    )
    assert (row["runs"], row["rate"], row["width"]) == (39, 200, 64)
    assert row["queue_max"] == max(row["queue"])
    assert "ended after" in result["ended_early"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 41


@pytest.mark.parametrize(
    "options",
    [("synthetic://", "--batch", "4"), ("synthetic://", "--size", "8x8"), ("--to", "terminal")],
)
def test_options_of_the_other_way_are_refused(model, tmp_path, options):
    done = run("bench", model, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
