"""``adae-edge score`` with several sources, and with several sinks of which one fails."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.models import complaints, frame_rows, mean_model, run, summary_of

VALUES = (50, 100, 150, 250)


def picture(path, value):
    Image.new("L", (8, 6), value).save(path)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a grey model, and pictures whose scores are their values."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "grey.onnx").write_bytes(mean_model(1))
    (folder / "frames").mkdir()
    for value in VALUES:
        picture(folder / "frames" / f"{value:03}.png", value)
    return folder


def test_several_sources_go_into_one_model_in_their_order(desk, tmp_path):
    sources = ["frames/250.png", "frames", "frames/050.png"]
    process = run("score", "grey.onnx", *sources, "--to", tmp_path / "s.jsonl", cwd=desk)
    assert (process.returncode, complaints(process)) == (0, [])
    assert [row["score"] for row in frame_rows(tmp_path / "s.jsonl")] == [250, *VALUES, 50]
    assert summary_of(process).startswith("6 frames scored, 3 anomalous")


def test_one_of_several_sources_that_fails_on_its_way(desk, tmp_path):
    picture(tmp_path / "1.png", 10)
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48)
    )
    for _ in range(20):
        writer.write(np.full((48, 64, 3), 20, np.uint8))
    writer.release()
    (tmp_path / "half.png").write_bytes((tmp_path / "1.png").read_bytes()[:45])
    sources = ["half.png", "clip.avi", "1.png"]
    process = run("score", desk / "grey.onnx", *sources, "--to", "s.jsonl", cwd=tmp_path)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("half.png cannot be decoded")
    names = [row["source"] for row in frame_rows(tmp_path / "s.jsonl")]
    assert names == ["clip.avi"] * 20 + ["1.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_disk_that_is_full_under_one_sink_of_two(desk, tmp_path):
    to = ["--to", "jsonl:/dev/full", "--to", tmp_path / "s.jsonl"]
    process = run("score", "grey.onnx", "frames", *to, cwd=desk)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("cannot write /dev/full: No space left on device")
    assert [row["score"] for row in frame_rows(tmp_path / "s.jsonl")] == list(VALUES)
    assert summary_of(process).endswith("; jsonl:/dev/full lacks 4")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_disk_that_is_full_under_the_only_sink_is_told_once(desk):
    process = run("score", "grey.onnx", "frames", "--to", "jsonl:/dev/full", cwd=desk)
    assert process.returncode == 1
    (sentence,) = complaints(process)
    assert sentence.startswith("cannot write /dev/full: No space left on device")
    assert summary_of(process).endswith("; jsonl:/dev/full lacks 4")


def test_several_jobs_write_the_rows_of_one(desk, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        picture(folder / f"{number:03}.png", number)
    (folder / "007.png").write_bytes(b"\x89PNG")
    (folder / "020.gif").write_bytes(b"")
    written = []
    for jobs in (1, 3):
        path = tmp_path / f"{jobs}.jsonl"
        process = run("score", "grey.onnx", folder, "--to", path, "--jobs", jobs, cwd=desk)
        assert process.returncode == 1
        kept = [(row["source"], row["frame"], row["score"]) for row in frame_rows(path)]
        written.append((kept, complaints(process)))
    assert written[0] == written[1]
    assert [score for _, _, score in written[0][0]] == [n for n in range(40) if n != 7]
    assert len(written[0][1]) == 2
