"""Standard streams that are closed or full: the work is done, and rows stay rows."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from adae_edge.train.metrics import Update
from adae_edge.train.progress import TrainingProgress
from tests.support.models import BUFFERED, HANGS_S, command, mean_model
from tests.support.pictures import noise, save


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    for name in ("a.png", "c.png"):
        save(tmp_path / "frames" / name, noise(20, 32))
    # libtiff tells of the missing rows on the number of the standard error output.
    whole, few = (zlib.compress(bytes(count), 0) for count in (640, 500))
    damaged = tmp_path / "frames" / "b.tif"
    options = {"compression": "zlib", "compressionargs": {"level": 0}}
    tifffile.imwrite(damaged, np.zeros((20, 32), np.uint8), **options)
    assert whole in damaged.read_bytes()
    damaged.write_bytes(damaged.read_bytes().replace(whole, few.ljust(len(whole), b"\0")))
    return tmp_path


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_every_row_is_a_row_whatever_the_standard_streams_are(folder, streams):
    rows = folder / "rows.jsonl"
    words = command("score", "m.onnx", "frames", "--to", f"jsonl:{rows.name}")
    done = subprocess.run(
        ["sh", "-c", f'"$@" {streams}', "sh", *words],
        cwd=folder,
        env=BUFFERED,
        capture_output=True,
        timeout=HANGS_S,
    )
    kept = [json.loads(line) for line in rows.read_bytes().splitlines()]
    assert [row.get("event", "frame") for row in kept] == ["frame", "failure", "frame"]
    assert done.returncode == 1  # for the damaged file
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_nothing_failed_where_nobody_listens(folder, streams):
    words = command("score", "m.onnx", "frames/a.png")
    done = subprocess.run(
        ["sh", "-c", f'"$@" {streams}', "sh", *words], cwd=folder, env=BUFFERED, timeout=HANGS_S
    )
    assert done.returncode == 0


def test_a_training_goes_on_where_its_log_is_full(monkeypatch):
    full = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    with TrainingProgress() as progress:
        progress.show(Update(0, 2, 9, 10, *[0.5] * 6))
    assert progress.epochs_done == 1
    with pytest.raises(OSError, match="No space"):
        full.close()
