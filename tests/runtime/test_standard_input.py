"""Streams on the standard input, by real pipes: ffmpeg writes, and OpenCV says what was in them."""

import os
import subprocess
import threading
import time

import cv2
import numpy as np
import pytest

from adae_edge.errors import SourceError
from adae_edge.runtime.sources.av import Recording
from adae_edge.runtime.sources.pipe import Pipe
from adae_edge.runtime.sources.trust import Missing
from tests.support.clips import FRAMES, content, ffmpeg
from tests.support.models import BUFFERED, command, mean_model

STREAMS = {
    "y4m": ("-f", "yuv4mpegpipe"),
    "ppm": ("-f", "image2pipe", "-c:v", "ppm"),
    "pgm": ("-f", "image2pipe", "-c:v", "pgm"),
    "nut": ("-f", "nut", "-c:v", "rawvideo"),
    "nut of h264": ("-f", "nut", "-c", "copy"),
    "mpegts": ("-f", "mpegts", "-c", "copy"),
    "matroska": ("-f", "matroska", "-c", "copy"),
    "mjpeg": ("-f", "mjpeg", "-q:v", "2"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(content("h264.mp4"))
    return path


def stream(clip, kind):
    return ffmpeg("-i", clip, *STREAMS[kind], "-")


def through_a_pipe(data):
    """What a recording gives whose bytes come through a pipe, in small parts."""
    reading, writing = os.pipe()

    def feed():
        for start in range(0, len(data), 30_000):
            os.write(writing, data[start : start + 30_000])
        os.close(writing)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        return list(Recording("the standard input", pipe=Pipe(reading)))
    finally:
        os.close(reading)
        feeder.join()


@pytest.mark.parametrize("kind", STREAMS)
def test_every_frame_comes_through_a_pipe_as_opencv_has_it(kind, clip):
    items = through_a_pipe(stream(clip, kind))

    assert [item.number for item in items] == list(range(FRAMES))
    capture = cv2.VideoCapture(str(clip))
    for item in items:
        expected = capture.read()[1][:, :, ::-1].astype(float)
        if kind == "pgm":
            expected = np.repeat(expected @ (0.299, 0.587, 0.114), 3).reshape(expected.shape)
        assert np.abs(item.pixels - expected).mean() < 8
    timed = [item.seconds is not None for item in items]
    assert all(timed) if kind not in ("ppm", "pgm") else not any(timed)


@pytest.mark.parametrize("kind", ["y4m", "ppm", "pgm", "nut", "mpegts", "matroska", "mjpeg"])
def test_what_ends_in_mid_frame_keeps_the_frames_before_and_says_so(kind, clip):
    data = stream(clip, kind)
    *items, last = through_a_pipe(data[: int(len(data) * 0.81)])

    assert isinstance(last, Missing)
    assert last.failed
    frames = [item for item in items if not isinstance(item, Missing)]
    assert 10 < len(frames) < FRAMES
    whole = through_a_pipe(data)
    timed = whole[0].seconds is not None
    by_time = {frame.seconds if timed else frame.number: frame.pixels for frame in whole}
    for frame in frames:
        expected = by_time[frame.seconds if timed else frame.number]
        assert np.array_equal(frame.pixels, expected)


def score(folder, *arguments, **options):
    (folder / "model.onnx").write_bytes(mean_model(1))
    return subprocess.run(
        command("score", "model.onnx", *arguments),
        cwd=folder,
        env=BUFFERED,
        capture_output=True,
        check=False,
        timeout=200,
        **options,
    )


def test_a_pipe_is_scored_to_its_end(tmp_path, clip):
    done = score(tmp_path, "-", input=stream(clip, "nut"))
    assert done.returncode == 0, done.stderr
    rows = done.stdout.decode().splitlines()
    assert len(rows) == FRAMES
    assert rows[39].split()[2:] == ["-", "39"]


def test_a_pipe_that_is_closed_in_mid_frame_is_a_failure_with_its_rows_kept(tmp_path, clip):
    data = stream(clip, "y4m")
    done = score(tmp_path, "-", input=data[: int(len(data) * 0.71)])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 28
    complaint, _ = done.stderr.decode().splitlines()
    assert complaint.startswith("adae-edge: the standard input ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the standard input cannot be opened as a video: it is empty"),
        (b"no video at all\n" * 400, "it is no such stream; y4m, PPM, NUT, MPEG-TS"),
        (b"#EXTM3U\n#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n", "it is no such stream"),
        (b"ffconcat version 1.0\nfile clip.mp4\n", "it is no such stream"),
    ],
)
def test_what_is_no_stream_is_a_sentence(content, says, tmp_path):
    done = score(tmp_path, "-", input=content)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert says in line


def test_a_terminal_and_a_closed_input_are_sentences(tmp_path):
    master, terminal = os.openpty()
    done = score(tmp_path, "-", stdin=terminal)
    assert done.returncode == 2
    assert "the standard input is a terminal: pipe a video" in done.stderr.decode()
    os.close(terminal)
    os.close(master)
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command("score", "model.onnx", "-")],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"the standard input is closed" in done.stderr


def test_a_named_pipe_is_told_how_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = score(tmp_path, "pipe")
    assert done.returncode == 2
    assert "pipe is a pipe: read it as the source - behind < pipe" in done.stderr.decode()


def test_a_reader_that_waits_can_be_stopped():
    reading, writing = os.pipe()
    pipe = Pipe(reading)
    threading.Timer(0.1, pipe.stop).start()
    started = time.monotonic()
    with pytest.raises(SourceError, match="it is empty"):
        Recording("the standard input", pipe=pipe)
    assert time.monotonic() - started < 60
    os.close(reading)
    os.close(writing)
