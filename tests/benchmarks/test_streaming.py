"""The benchmarks of shrunk frames and of streaming, run on a short clip."""

import json

import pytest

from adae_edge.benchmarks import shrunk, streaming
from adae_edge.contract import Region
from adae_edge.errors import UsageError
from tests.support.clips import FRAMES, write
from tests.support.models import mean_model


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "mean.onnx"
    path.write_bytes(mean_model(channels=3))
    return path


def test_scores_of_shrunk_frames_are_compared_with_those_of_whole_ones(model, tmp_path):
    shrunk.main(tmp_path / "table", [model], [write(tmp_path, "h264.mp4")], jpegs=4)

    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["count"] for row in rows] == [FRAMES, 2, 2]
    assert [row["sizes"] for row in rows] == [["64x64"], ["96x80"], ["480x270"]]
    assert 0 < rows[0]["largest_percent"] < 0.2  # a mean alone moves by rounding
    assert rows[1]["largest_percent"] == 0
    assert rows[2]["largest_percent"] < 0.2
    assert "| mean | h264.mp4 | 40 | 64x64 |" in (tmp_path / "table.md").read_text()


def test_a_model_that_is_given_whole_frames_has_nothing_to_compare(tmp_path):
    path = tmp_path / "region.onnx"
    path.write_bytes(mean_model(channels=3, region=Region(0, 0, 9, 9)))
    with pytest.raises(UsageError, match="whole frames alone"):
        shrunk.main(tmp_path / "table", [path], [write(tmp_path, "h264.mp4")])


def test_cpu_times_stand_beside_those_of_decoding_alone(model, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming.os, "sched_setaffinity", lambda *_: None)
    clip = write(tmp_path, "h264.mp4")
    streaming.main(tmp_path / "table", [model], [clip], rounds=1, jpegs=3)

    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    works = ["decoding alone", "accurate decoding", "mean", "mean --exact", "mean, graph"]
    pictures = [work for work in works if work != "accurate decoding"]
    assert [row["work"] for row in rows] == [*works, *works, *pictures, *pictures]
    assert all(row["ms"] > 0 for row in rows)
    assert {row["ratio"] for row in rows if row["work"] == "decoding alone"} == {1.0}


def test_two_decoding_threads_stand_beside_one_by_the_clock_on_the_wall(model, tmp_path):
    clip = write(tmp_path, "h264.mp4")
    streaming.main(tmp_path / "table", [model], [clip], rounds=1, jpegs=9, wall=True)

    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    videos, pictures = ["decoding alone", "mean"], ["decoding alone", "mean", "mean --jobs 2"]
    assert [row["work"] for row in rows] == [*videos, *videos, *pictures, *pictures]
    for one, two in zip(rows[5::3], rows[6::3], strict=True):
        assert two["ratio"] == pytest.approx(two["rounds_ms"][0] / one["rounds_ms"][0], abs=0.001)
