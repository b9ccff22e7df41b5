"""Saved anomalous frames: their files, their names, the limit on the disk, and what goes wrong."""

import io
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import SinkError, UsageError
from adae_edge.formats.files import write_atomically
from adae_edge.placement import placement
from adae_edge.runtime import Frame, Scored, open_sink
from adae_edge.runtime.frame import Box
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sinks import pictures
from tests.support import clips
from tests.support.models import json_rows, mean_model, run_limited

NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z_[A-Za-z0-9-]+_[A-Za-z0-9-]+(-\d)?")
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def result(number=0, score=2.0, source="camera:0", pixels=NOISE, frame=None):
    taken = Frame(source, number if frame is None else frame, 1.7e9 + number, pixels)
    values = np.zeros((8, 8), np.float32)
    values[2, 3] = 3.0
    place = placement(40, 60, 8, False, None)
    boxes = (Box(22, 10, 8, 5, 3.0),)
    return Scored(taken, score, 1.5, 0, "", values, boxes, placement=place, map_threshold=1.0)


PARTS = ("review", "frames")


def saved(folder):
    """The stems of the pairs of files in a folder, in order; every one has both files."""
    review, frames = (sorted(path.stem for path in (folder / part).iterdir()) for part in PARTS)
    assert review == frames
    return review


def test_an_anomalous_frame_is_saved_whole_and_with_its_map_beside_it(tmp_path):
    with open_sink(f"pictures:{tmp_path / 'p'}") as sink:
        sink.write(result(0, score=1.0))  # normal
        sink.write(result(1))
        sink.write(replace(result(2), anomaly_map=None, boxes=None, placement=None))
    stems = saved(tmp_path / "p")
    assert stems == ["20231114T221321.000Z_camera-0_1", "20231114T221322.000Z_camera-0_2"]
    for stem in stems:
        with Image.open(tmp_path / "p" / "frames" / f"{stem}.png") as frame:
            assert np.array_equal(np.asarray(frame), NOISE)
    widths = []
    for stem in stems:
        with Image.open(tmp_path / "p" / "review" / f"{stem}.jpg") as review:
            widths.append(review.width)
    # enlarged six times; without a map the frame stands alone
    assert widths == [2 * 360 + 4, 360]


@pytest.mark.parametrize(
    ("source", "frame"),
    [
        ("rtsp://***@10.0.0.7:554/live?channel=1&x=é漢🙂", 12),
        ("C:\\parts\\CON", "1.2.840.113619.2.55.3.604688119.971.1" * 3),
        ("a" * 300 + "/" + "b" * 300 + ".png", 0),
        ("..", "../../x"),
        ("\udce9\n", ""),
    ],
)
def test_names_are_safe_on_every_file_system(source, frame, tmp_path):
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(result(source=source, frame=frame))
        sink.write(result(source=source, frame=frame))  # of the same millisecond
    stems = saved(tmp_path)
    assert len(stems) == 2
    for stem in stems:
        assert NAME.fullmatch(stem)
        assert len(stem) < 160
    assert {path.name for path in tmp_path.iterdir()} == set(PARTS)


def test_the_oldest_go_first_and_earlier_runs_are_counted(tmp_path):
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(result(0))
    (one,) = saved(tmp_path)
    size = sum((tmp_path / part).joinpath(f"{one}{suffix}").stat().st_size for part, suffix in
               (("review", ".jpg"), ("frames", ".png")))  # fmt: skip
    limit = size * 3 + size // 2
    for first in (1, 4):  # the program is started again
        with open_sink(f"pictures:{tmp_path}?limit={limit // 1000}kB") as sink:
            for number in range(first, first + 3):
                sink.write(result(number))
                held = [
                    path.stat().st_size for part in PARTS for path in (tmp_path / part).iterdir()
                ]
                assert sum(held) <= limit
    assert [stem.rpartition("_")[2] for stem in saved(tmp_path)] == ["4", "5", "6"]


def test_files_of_others_are_neither_counted_nor_removed(tmp_path):
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(result(0))
    (stem,) = saved(tmp_path)
    kept = [
        tmp_path / "review" / f"{stem}.txt",  # somebody's note beside a picture
        tmp_path / "review" / "20200101.jpg",
        tmp_path / "frames" / f"my_{stem}.png",
        tmp_path / f"{stem}.jpg",
        tmp_path / "frames" / f".{stem}.png.tmp",
    ]
    for path in kept:
        path.write_bytes(bytes(300_000))
    (tmp_path / "review" / f"{stem[:-1]}9.jpg").mkdir()
    with open_sink(f"pictures:{tmp_path}?limit=500kB") as sink:
        for number in range(1, 9):
            sink.write(result(number))
    assert all(path.exists() for path in kept)
    assert not (tmp_path / "review" / f"{stem}.jpg").exists()
    assert (tmp_path / "review" / f"{stem[:-1]}9.jpg").is_dir()


def test_a_folder_in_which_another_run_saves_is_refused(tmp_path):
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(result(0))
        left = tmp_path / "review" / ".20260101T000000.000Z_a.jpg.7.tmp"
        left.touch()  # is being written by that run
        other = "import sys\nfrom adae_edge import open_sink\nopen_sink(sys.argv[1])\n"
        command = [sys.executable, "-c", other, f"pictures:{tmp_path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"another run saves its pictures in {tmp_path}: give" in done.stderr
        assert left.exists()
    with open_sink(f"pictures:{tmp_path}"):
        assert not left.exists()


def test_half_a_file_of_a_killed_process_is_cleared_away(tmp_path):
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(result(0))
    (stem,) = saved(tmp_path)
    half = tmp_path / "frames" / f".{stem}.png.4711.tmp"
    half.write_bytes(b"half")
    open_sink(f"pictures:{tmp_path}").close()
    assert not half.exists()
    assert saved(tmp_path) == [stem]


def test_a_picture_that_somebody_removed_is_no_loss(tmp_path):
    with open_sink(f"pictures:{tmp_path}?limit=500kB") as sink:
        sink.write(result(0))
        for part in PARTS:
            for path in (tmp_path / part).iterdir():
                path.unlink()
        for number in range(1, 9):
            sink.write(result(number))
    assert saved(tmp_path)[-1].endswith("_8")


def test_a_full_disk_leaves_no_half_pair_and_is_over_once_there_is_room(tmp_path, monkeypatch):
    full = True

    def write(path, data):
        if full and path.suffix == ".png":
            raise pictures.AdaeEdgeError(f"cannot write {path}: No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr(pictures, "write_atomically", write)
    with open_sink(f"pictures:{tmp_path}") as sink:
        with pytest.raises(SinkError, match="No space left"):
            sink.write(result(0))
        assert saved(tmp_path) == []
        full = False
        sink.write(result(1))
    assert len(saved(tmp_path)) == 1


def test_a_file_that_cannot_grow_is_told_and_rows_go_on(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    Image.fromarray(NOISE // 2 + 120).save(tmp_path / "a.png")
    arguments = ["score", "m.onnx", "a.png", "--to", "pictures:p", "--to", "s.jsonl"]
    ran = run_limited(3000, *arguments, cwd=tmp_path)
    assert ran.returncode == 1
    assert "File too large" in ran.stderr
    assert "pictures:p lacks 1" in ran.stderr
    assert any(row.get("score") for row in json_rows(tmp_path / "s.jsonl"))
    assert saved(tmp_path / "p") == []


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{}/a/b", "there is no folder"),
        ("{}/file", "it is there, and no folder"),
        ("{}/p?limit=1", "takes a size such as 100MB"),
        ("{}/p?size=1MB", "has the option size, and can have limit"),
    ],
)
def test_a_place_that_cannot_be_is_one_sentence(place, sentence, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=sentence):
        open_sink("pictures:" + place.format(tmp_path))


def test_a_picture_above_the_limit_is_told(tmp_path):
    with (
        open_sink(f"pictures:{tmp_path}?limit=1kB") as sink,
        pytest.raises(SinkError, match="limit"),
    ):
        sink.write(result(0))
    assert saved(tmp_path) == []


def test_a_slice_is_saved_for_review_alone(tmp_path):
    values = np.full((40, 60, 1), 1000.0, np.float32)
    frame = Frame("v.nii.gz", 3, 0.0, values, mean=900.0, std=50.0)
    with open_sink(f"pictures:{tmp_path}") as sink:
        sink.write(Scored(frame, 2.0, 1.5))
    assert len(list((tmp_path / "review").iterdir())) == 1
    assert list((tmp_path / "frames").iterdir()) == []


def scores_with(model, source, folder, *sinks):
    rows = folder / f"{len(sinks)}.jsonl"
    request = StreamRequest(model, (str(source),), (*sinks, str(rows)), threshold=0.0)
    with open_stream(request, lambda event: None) as stream:
        stream.run()
    return [row["score"] for row in json_rows(rows) if "score" in row]  # and a note: no map


def test_whole_frames_are_saved_and_scores_stay_those_of_shrunk_ones(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    clip = clips.write(tmp_path, "h264.mp4")
    plain = scores_with(tmp_path / "m.onnx", clip, tmp_path)
    with_pictures = scores_with(tmp_path / "m.onnx", clip, tmp_path, f"pictures:{tmp_path / 'p'}")
    assert with_pictures == plain
    whole, _ = clips.read(clip)
    stems = saved(tmp_path / "p")
    assert len(stems) == len(whole) == clips.FRAMES
    numbers = sorted(stems, key=lambda stem: int(stem.rpartition("_")[2]))
    for stem, frame in zip(numbers, whole, strict=True):
        data = (tmp_path / "p" / "frames" / f"{stem}.png").read_bytes()
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), frame.pixels)
