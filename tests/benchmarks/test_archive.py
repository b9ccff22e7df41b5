"""The benchmark of an archive, run on a few slices."""

import json

import numpy as np

from adae_edge.benchmarks import archive
from tests.support.models import mean_model
from tests.support.slices import write_slice


def test_an_archive_is_scored_and_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(archive.os, "sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(archive, "SIDE", 64)
    model = tmp_path / "mean.onnx"
    model.write_bytes(mean_model(channels=1))
    series = tmp_path / "series"
    series.mkdir()
    ramp = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
    for number in range(3):
        write_slice(series / f"{number}.dcm", ramp + number, WindowCenter=900, WindowWidth=1800)
    out = tmp_path / "table"
    archive.main(out, model, series, slices=40, volume=34, rounds=1, cores="0,0")
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    assert [(row["form"], row["of"], row["goal"]) for row in rows] == [
        ("uncompressed", "scored", "at most 2"),
        ("uncompressed", archive.ONE, "at least 1.7"),
        ("JPEG 2000", "scored", "at most 1.15"),
        ("JPEG 2000", archive.ONE, "at least 1.7"),
        ("volume, uncompressed", "made into frames", "at most 1.5"),
        ("volume, JPEG 2000", "made into frames", "at most 1.5"),
    ]
    assert all(len(row["rounds_ms"][row["of"]]) == 1 for row in rows)
    assert "| JPEG 2000 | scored |" in out.with_suffix(".md").read_text()
