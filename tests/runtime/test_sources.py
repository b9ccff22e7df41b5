"""Sources: every frame of a file once and in order, and the newest of a camera."""

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from adae_edge.decoding.kinds import is_dicom
from adae_edge.errors import SourceError, UsageError
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video
from tests.support.models import complaints, mean_model, run

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (250, 250, 10), (10, 250, 250)]


def save(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def record(path, frames, codec="MJPG"):
    """A video of these RGB frames."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def numbered(count, height=48, width=64):
    """Frames of the colours in turn, whose lower half shows their number as eight bits."""
    frames = []
    for number in range(count):
        frame = np.empty((height, width, 3), np.uint8)
        frame[:] = COLOURS[number % len(COLOURS)]
        bits = [255 * (number >> bit & 1) for bit in range(8)]
        frame[height // 2 :] = np.repeat(bits, width // 8)[:, None]
        frames.append(frame)
    return frames


def number_of(frame):
    """Which of the numbered frames this is, by its bits; its colour must be that one's."""
    height, width, _ = frame.shape
    bits = frame[height * 3 // 4, width // 16 :: width // 8].mean(axis=1) > 127
    number = sum(1 << bit for bit in range(8) if bits[bit])
    colour = frame[: height // 4].mean(axis=(0, 1))
    assert np.abs(colour - COLOURS[number % len(COLOURS)]).max() < 25
    return number


def test_a_folder_in_order_of_path_with_everything_in_it(tmp_path):
    names = ["b.png", "a/2.JPG", "a/10.tiff", "a/deep/er/x.bmp", "Z.webp", "c.pgm"]
    for number, name in enumerate(names):
        save(tmp_path / name, number)
    frames = list(open_source(str(tmp_path)))
    assert [frame.source for frame in frames] == [
        str(tmp_path / name)
        for name in ("Z.webp", "a/10.tiff", "a/2.JPG", "a/deep/er/x.bmp", "b.png", "c.pgm")
    ]
    assert {frame.id for frame in frames} == {0}
    assert {frame.pixels.shape for frame in frames if frame.source.endswith(("png", "pgm"))} == {
        (6, 8, 1)
    }


def test_other_files_are_left_out_and_counted(tmp_path):
    wanted = save(tmp_path / "frame.png")
    for name in (
        "notes.txt",
        "Thumbs.db",
        "frame.png.bak",
        "scores.jsonl",
        "no_suffix",
        "movie.avi",
    ):
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(str(tmp_path))
    gone, frame = source
    assert (gone.kind, frame.source) == ("failure", str(wanted))
    assert "gone.png is a link to a file that is not there" in gone.detail
    assert source.left_out == {
        ".txt": 1,
        "hidden": 1,
        ".bak": 1,
        ".jsonl": 1,
        "without a suffix": 1,
        ".avi": 1,
        ".png": 1,
    }


def test_a_bad_file_is_yielded_as_a_failure_and_the_rest_follow(tmp_path):
    save(tmp_path / "1.png", 1)
    (tmp_path / "2.png").write_bytes(b"broken")
    (tmp_path / "3.dcm").write_bytes(b"broken")
    save(tmp_path / "4.png", 4)
    first, second, third, fourth = open_source(str(tmp_path))
    assert (int(first.pixels.max()), int(fourth.pixels.max())) == (1, 4)
    assert second.kind == "failure"
    assert str(tmp_path / "2.png") in second.detail
    assert third.kind == "failure"
    assert str(tmp_path / "3.dcm") in third.detail


def test_a_file_that_goes_away_while_others_are_read(tmp_path):
    for name in ("1.png", "2.png", "3.png"):
        save(tmp_path / name)
    frames = iter(open_source(str(tmp_path)))
    next(frames)
    (tmp_path / "2.png").unlink()
    gone, last = frames
    assert isinstance(gone, Event)
    assert last.source == str(tmp_path / "3.png")


def test_a_source_can_be_read_twice(tmp_path):
    save(tmp_path / "1.png")
    source = open_source(str(tmp_path))
    assert len(list(source)) == len(list(source)) == 1


def test_a_frame_carries_the_time_of_its_decoding(tmp_path):
    before = time.time()
    (frame,) = open_source(str(save(tmp_path / "1.png")))
    assert before <= frame.time <= time.time()
    assert not open_source(str(tmp_path)).live


def test_one_file_of_any_name(tmp_path):
    path = save(tmp_path / "frame.png").rename(tmp_path / "frame.from.the.camera")
    (frame,) = open_source(str(path))
    assert frame.pixels.shape == (6, 8, 1)


def test_nothing_to_score(tmp_path):
    with pytest.raises(SourceError, match="no images and no DICOM files"):
        open_source(str(tmp_path))
    for spec in (
        str(tmp_path / "nowhere"),
        "camera:",
        "camera:-1",
        "camera:front",
        "rtsp://",
        "rtsp://camera/1#tls",
        "x" * 5000,
    ):
        with pytest.raises(UsageError):
            open_source(spec)


def test_dicom_is_recognised_by_name_or_by_its_mark(tmp_path):
    slice_ = tmp_path / "IM000001"
    slice_.write_bytes((SHIPPED / "MR_small.dcm").read_bytes())
    assert is_dicom(slice_)
    assert is_dicom(tmp_path / "anything.DCM")
    assert not is_dicom(save(tmp_path / "frame.png"))
    assert not is_dicom(tmp_path / "nowhere")
    found, picture, end = open_source(str(tmp_path))
    assert (end.kind, end.series.complete, end.series.revision) == ("series", "files", 1)
    assert found.source == str(slice_)
    assert found.id == "1.3.6.1.4.1.5962.1.1.4.1.1.20040826185059.5457"
    assert found.pixels.shape == (64, 64, 1)
    assert picture.id == 0


def test_the_frames_of_a_dicom_file_come_one_by_one():
    path = str(SHIPPED / "examples_ybr_color.dcm")
    *frames, end = open_source(path)
    assert len(frames) == end.series.slices == 30
    assert end.series.uid == frames[0].instance.series
    assert [frame.instance.number for frame in frames] == list(range(1, 31))
    assert str(frames[0].instance.dataset().SOPInstanceUID) == frames[0].instance.sop_instance
    assert frames[0].id.endswith("/1")
    assert frames[29].id.endswith("/30")
    assert {frame.source for frame in frames} == {path}


@pytest.mark.parametrize(("name", "codec"), [("clip.avi", "MJPG"), ("clip.MP4", "mp4v")])
def test_a_video_gives_every_frame_once_in_order_as_rgb(tmp_path, name, codec):
    path = record(tmp_path / name, numbered(23), codec)
    source = open_source(str(path))
    assert not source.live
    frames = list(source)
    assert [frame.id for frame in frames] == list(range(23))
    assert {frame.source for frame in frames} == {str(path)}
    assert [number_of(frame.pixels) for frame in frames] == list(range(23))
    assert {(frame.pixels.dtype.name, frame.pixels.shape) for frame in frames} == {
        ("uint8", (48, 64, 3))
    }


def test_red_is_red(tmp_path):
    red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    (frame,) = open_source(str(record(tmp_path / "red.avi", [red])))
    assert frame.pixels[..., 0].min() > 240
    assert frame.pixels[..., 1:].max() < 15


def test_a_truncated_video_gives_what_is_there_and_then_says_so(tmp_path):
    path = record(tmp_path / "clip.avi", numbered(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *frames, last = open_source(str(path))
    assert 10 < len(frames) < 50
    assert [frame.id for frame in frames] == list(range(len(frames)))
    assert last.kind == "failure"
    assert "clip.avi has damaged frames" in last.detail


def test_a_video_without_a_single_frame_is_a_failure(tmp_path):
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48)).release()
    (only,) = open_source(str(path))
    assert isinstance(only, Event)


@pytest.mark.parametrize(
    "content", [b"", b"not a video", b"RIFF\xff\xff\xff\xffAVI LIST" + bytes(500)]
)
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        open_source(str(path))


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("camera:99", 1, "there is no camera 99"),
        ("99", 1, "there is no camera 99"),
        ("camera:99999999999", 2, "there is no camera 99999999999"),
        ("clip.mp4", 1, "clip.mp4 cannot be opened as a video"),
        ("nowhere", 2, "there is no source nowhere"),
    ],
)
def test_a_missing_source_is_one_sentence_and_libraries_are_silent(tmp_path, source, code, says):
    (tmp_path / "model.onnx").write_bytes(mean_model())
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(400))
    process = run("score", "model.onnx", source, cwd=tmp_path)
    assert process.returncode == code
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert complaints(process) == [line.removeprefix("adae-edge: ")]
    assert says in line


def open_files():
    return {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def test_a_video_that_is_left_early_lets_go_of_its_file(tmp_path):
    path = record(tmp_path / "clip.avi", numbered(20))
    frames = iter(Video(str(path), Wanted()))
    next(frames)
    assert str(path) in open_files()
    frames.close()
    assert str(path) not in open_files()
