"""Annotated videos: one for each source, whole at any time, and under a limit on the disk."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import numpy as np
import pytest

from adae_edge.benchmarks.peers.processes import peer
from adae_edge.decoding.rules import PICTURES, VIDEO
from adae_edge.errors import SinkError, UsageError
from adae_edge.runtime import Frame, Scored, open_sink
from adae_edge.runtime.drawing import COLORS, annotated
from adae_edge.runtime.frame import Event
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sinks import video
from tests.support import clips
from tests.support.models import HANGS_S, command, mean_model, run_limited

RNG = np.random.default_rng(0)


def result(number, source="camera:0", size=(240, 320), score=1.0, step=0.1, **frame):
    pixels = np.full((*size, 3), 40 + 5 * (number % 30), np.uint8)
    taken = Frame(source, number, 1.7e9 + step * number, pixels, **frame)
    return Scored(taken, score, 1.5, opened=source)


def noisy(number, source="camera:0"):
    scored = result(number, source)
    pixels = RNG.integers(0, 256, scored.frame.pixels.shape, np.uint8)
    return replace(scored, frame=replace(scored.frame, pixels=pixels))


def shown(path):
    """The pictures of a video, and when each is shown."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


def boxes_of(path):
    """The names of an MP4's outermost parts."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def test_each_frame_is_in_the_video_at_its_time_with_its_verdict(tmp_path):
    path = tmp_path / "out.mp4"
    results = [result(number, score=2.0 if number == 3 else 1.0) for number in range(8)]
    with open_sink(str(path)) as sink:
        for scored in results:
            sink.write(scored)
    pictures, times = shown(path)
    assert times == pytest.approx([0.1 * number for number in range(8)], abs=1e-3)
    for picture, scored in zip(pictures, results, strict=True):
        assert picture.shape == annotated(scored).shape
        assert picture[1, -2] == pytest.approx(COLORS[scored.verdict], abs=12)
        assert picture[-20, 200].mean() == pytest.approx(scored.frame.pixels.mean(), abs=4)
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert boxes_of(path) == ["ftyp", "free", "mdat", "moov"]  # an ordinary MP4


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        # a video's own times, and not when it was decoded
        ([{"video_time": t, "decoding": VIDEO} for t in (5.0, 5.5, 7.0)], (0, 0.5, 2.0)),
        # pictures of files were taken at no known time
        ([{"decoding": PICTURES}] * 3, (0, 0.25, 0.5)),
        # a camera that was opened again counts anew, and one that was away leaves no gap
        ([{"video_time": t} for t in (9.0, 0.5, 0.6, 500.0)], (0, 0.04, 0.14, 0.18)),
    ],
    ids=["video", "pictures", "camera"],
)
def test_times_are_those_of_the_source(frames, times, tmp_path):
    with open_sink(str(tmp_path / "o.mp4")) as sink:
        for number, frame in enumerate(frames):
            sink.write(result(number, step=0.001, **frame))
    assert shown(tmp_path / "o.mp4")[1] == pytest.approx(times, abs=1e-3)


def test_each_source_and_each_size_has_its_file_and_none_is_replaced(tmp_path):
    (tmp_path / "o_notes.mp4").write_bytes(b"mine")
    with open_sink(f"video:{tmp_path / 'o.mp4'}") as sink:
        for number in range(4):
            sink.write(result(number))
            sink.write(result(number, "rtsp://10.0.0.7/live"))
        sink.write(result(4, size=(300, 400)))
        sink.write(result(5, size=(300, 400)))
    first = (tmp_path / "o.mp4").read_bytes()
    with open_sink(f"video:{tmp_path / 'o.mp4'}") as sink:
        sink.write(result(9))
    assert (tmp_path / "o.mp4").read_bytes() == first
    counts = {path.name: len(shown(path)[0]) for path in tmp_path.glob("o*Z_*.mp4")}
    assert counts == {
        "o_20231114T221320.000Z_10-0-0-7-live.mp4": 4,
        "o_20231114T221320.400Z_camera-0.mp4": 2,
        "o_20231114T221320.900Z_camera-0.mp4": 1,
    }
    assert len(shown(tmp_path / "o.mp4")[0]) == 4
    assert (tmp_path / "o_notes.mp4").read_bytes() == b"mine"


def test_the_video_of_a_source_that_gives_no_more_frames_is_finished(tmp_path):
    with open_sink(f"video:{tmp_path / 'o.mp4'}") as sink:
        sink.write(result(0))
        sink.write(result(0, "camera:1"))
        assert "moov" not in boxes_of(tmp_path / "o.mp4")[-1:]
        sink.ended("camera:0")
        assert boxes_of(tmp_path / "o.mp4")[-1] == "moov"
        sink.ended("camera:0")
        sink.write(result(1, "camera:1"))
    assert [len(shown(path)[0]) for path in sorted(tmp_path.glob("*.mp4"))] == [1, 2]


def test_pictures_of_a_folder_are_one_video(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    (tmp_path / "frames").mkdir()
    for number in range(5):
        pixels = result(number).frame.pixels
        av.VideoFrame.from_ndarray(pixels).to_image().save(tmp_path / "frames" / f"{number}.png")
    request = StreamRequest(
        tmp_path / "m.onnx", (str(tmp_path / "frames"),), (f"video:{tmp_path / 'o.mp4'}",)
    )
    with open_stream(request, lambda event: None) as stream:
        stream.run()
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["o.mp4"]
    assert len(shown(tmp_path / "o.mp4")[0]) == 5


def test_a_videos_whole_frames_are_shown(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    clip = clips.write(tmp_path, "h264.mp4")  # 96 x 80, and the model takes 64 x 64
    request = StreamRequest(tmp_path / "m.onnx", (str(clip),), (str(tmp_path / "o.mp4"),))
    with open_stream(request, lambda event: None) as stream:
        stream.run()
    pictures, _ = shown(tmp_path / "o.mp4")
    assert len(pictures) == clips.FRAMES
    assert pictures[0].shape[1] == 4 * 96
    whole, _ = clips.read(clip)
    inner = pictures[10][-4 * 80 :: 4, ::4].astype(int)
    assert np.abs(inner - whole[10].pixels).mean() < 12


def test_what_a_killed_process_leaves_can_be_played(tmp_path):
    with open_sink(str(tmp_path / "o.mp4")) as sink:
        for number in range(100):
            sink.write(noisy(number))
        # what the file holds before anything was ended
        shutil.copy(tmp_path / "o.mp4", tmp_path / "left.mp4")
    pictures, times = shown(tmp_path / "left.mp4")
    assert 9.9 - times[-1] <= 2.2  # all but the last two seconds
    assert len(pictures) == pytest.approx(10 * times[-1] + 1)
    assert len(shown(tmp_path / "o.mp4")[0]) == 100


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_a_video(ending, tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    source = "synthetic://?fps=40&size=320x240"
    words = command("score", "m.onnx", source, "--to", "video:o.mp4")
    with peer(words, cwd=tmp_path) as scoring:
        path, until = tmp_path / "o.mp4", time.monotonic() + HANGS_S
        while not path.exists() or path.stat().st_size < 20_000:  # a fragment and more
            assert time.monotonic() < until
            time.sleep(0.05)
        scoring.tell(ending)
        code = scoring.process.wait(HANGS_S)
    assert code == (0 if ending == signal.SIGTERM else -signal.SIGKILL)
    pictures, _ = shown(path)
    assert len(pictures) > 20
    assert (boxes_of(path)[-1] == "moov") == (ending == signal.SIGTERM)


def test_the_oldest_parts_go_first_and_earlier_runs_are_counted(tmp_path):
    limit = 2_000_000
    kept = [tmp_path / name for name in ("o.mp4", "o_mine.mp4", "p_20231114T221320.000Z_x.mp4")]
    for path in kept:
        path.write_bytes(bytes(3_000_000))
    taken = set()
    for run in range(2):
        with open_sink(f"video:{tmp_path / 'o.mp4'}?limit=2MB") as sink:
            for number in range(120):
                sink.write(noisy(120 * run + number, f"camera:{number % 2}"))
                parts = sorted(tmp_path.glob("o_*Z_*.mp4"))
                taken.update(parts)
                assert sum(path.stat().st_size for path in parts) <= limit
    assert all(path.stat().st_size == 3_000_000 for path in kept)
    assert len(parts) > 3
    assert sorted(taken)[0] not in parts
    assert {path.name.rpartition("_")[2] for path in parts} == {"camera-0.mp4", "camera-1.mp4"}
    for path in parts[1:]:
        assert shown(path)[0]


def test_a_limit_that_not_even_a_part_keeps_is_told(tmp_path):
    with open_sink(f"video:{tmp_path / 'o.mp4'}?limit=1kB") as sink:
        for number in range(5):
            sink.write(result(number))
        with pytest.raises(SinkError, match=r"a part of [0-9]+ bytes is above the limit of 1000"):
            sink.ended("camera:0")
    assert list(tmp_path.glob("*.mp4")) == []


def test_parts_that_are_open_count_against_the_limit_also_of_many_sources(tmp_path):
    limit = 6_000_000

    def held():
        return sum(path.stat().st_size for path in tmp_path.glob("o_*.mp4"))

    with open_sink(f"video:{tmp_path / 'o.mp4'}?limit=6MB") as sink:
        for number in range(30 * 12):
            sink.write(noisy(number, f"camera:{number % 12}"))
            assert held() <= limit
        open_ones = sorted(tmp_path.glob("o_*.mp4"))[-12:]
        assert sum(path.stat().st_size for path in open_ones) > limit / 8
    assert limit / 2 < held() <= limit


@pytest.mark.parametrize("options", ["", "?limit=2MB"])
def test_videos_of_one_name_have_one_writer(options, tmp_path):
    name = f"video:{tmp_path / 'o.mp4'}{options}"
    other = "import sys\nfrom adae_edge import open_sink\nopen_sink(sys.argv[1])\n"
    run = [sys.executable, "-c", other, name]
    with open_sink(name) as sink, open_sink(f"video:{tmp_path / 'p.mp4'}{options}"):
        sink.write(result(0))
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        said = f"another run writes its videos to {tmp_path / 'o.mp4'}: give each a name of its own"
        assert said in done.stderr
        with pytest.raises(SinkError, match="another run"):
            open_sink(name)
    assert not list(tmp_path.glob(".*"))
    holder = other + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    subprocess.run([sys.executable, "-c", holder, name], check=False)
    open_sink(name).close()  # of a process that was killed nothing stays


def test_a_part_ends_after_its_minutes(tmp_path):
    with open_sink(f"video:{tmp_path / 'o.mp4'}?minutes=0.05") as sink:
        for number in range(70):
            sink.write(result(number))
    assert sorted(len(shown(path)[0]) for path in tmp_path.iterdir()) == [8, 31, 31]


def test_a_file_that_cannot_grow_is_told_and_what_was_written_can_be_played(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    with open_sink(str(tmp_path / "noise.mp4")) as sink:
        for number in range(60):
            sink.write(noisy(number))
    arguments = ["score", "m.onnx", "noise.mp4", "--to", "video:o.mp4", "--to", "s.jsonl"]
    ran = run_limited(300_000, *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert "cannot write a video beside o.mp4: File too large" in ran.stderr
    assert "video:o.mp4 lacks" in ran.stderr
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) >= 60
    shown_frames = 0
    # its last packet is cut, where the disk ended
    with contextlib.suppress(av.InvalidDataError), av.open(str(tmp_path / "o.mp4")) as container:
        for _ in container.decode(video=0):
            shown_frames += 1
    assert shown_frames > 10
    # tried again once a second, and nothing that is no video is left of it
    assert all(path.stat().st_size > 10_000 for path in tmp_path.glob("o*.mp4"))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{}/a/o.mp4", "there is no folder"),
        ("{}/o.avi", "a video is written as MP4: give video:o.mp4"),
        ("{}/o.mp4?limit=2", "takes a size such as 100MB"),
        ("{}/o.mp4?minutes=0", "takes minutes, above 0"),
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(place, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        open_sink("video:" + place.format(tmp_path))


def test_a_folder_that_goes_away_is_the_sinks_error(tmp_path):
    (tmp_path / "v").mkdir()
    with open_sink(f"video:{tmp_path / 'v' / 'o.mp4'}") as sink:
        shutil.rmtree(tmp_path / "v")
        with pytest.raises(SinkError, match="No such file"):
            sink.write(result(0))
        sink.event(Event("camera:0", 0.0, "lost", "went away"))
        (tmp_path / "v").mkdir()
        sink.write(result(1))
    assert len(shown(tmp_path / "v" / "o.mp4")[0]) == 1


def test_one_video_that_cannot_be_ended_leaves_the_others_whole(tmp_path, monkeypatch):
    def fail(file):
        if file.path.name == "o.mp4":
            raise av.error.ExternalError(-542398533, "the encoder failed")
        end(file)

    end = video._File.close
    monkeypatch.setattr(video._File, "close", fail)
    sink = open_sink(str(tmp_path / "o.mp4"))
    for number in range(3):
        sink.write(result(number, "camera:0"))
        sink.write(result(number, "camera:1"))
    with pytest.raises(SinkError, match="the encoder failed"):
        sink.close()
    sink.close()
    (other,) = tmp_path.glob("o_*.mp4")
    assert boxes_of(other)[-1] == "moov"
