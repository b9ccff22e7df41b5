"""Folders from which nothing can be learned: one clear sentence, and nothing half-written."""

import numpy as np
import pytest
from typer.testing import CliRunner

from adae_edge.cli.app import app
from adae_edge.errors import AdaeEdgeError
from adae_edge.train.metrics import Metrics, metrics_path
from tests.support.pictures import noise, save


def constant(folder, count=20):
    """Each frame of one level, another one each."""
    for index in range(count):
        save(folder / f"{index:02}.png", np.full((40, 56), 5 * index, np.uint8))


def equal_in_the_region(folder, count=20):
    """Frames that differ outside of the upper left corner alone."""
    same = noise(40, 56)
    for index in range(count):
        frame = np.random.default_rng(index).integers(0, 256, (40, 56), np.uint8)
        frame[:32, :32] = same[:32, :32]
        save(folder / f"{index:02}.png", frame)


def constant_in_the_region(folder, count=20):
    for index in range(count):
        frame = np.random.default_rng(index).integers(0, 256, (40, 56), np.uint8)
        frame[:32, :32] = index
        save(folder / f"{index:02}.png", frame)


def damaged_at(index):
    """Sound frames, and one that is none: whichever part it would be in, the folder is refused."""

    def write(folder):
        for number in range(20):
            save(folder / f"{number:02}.png", noise(40, 56 + number))
        (folder / f"{index:02}.png").write_bytes(b"junk")

    return write


def one(folder):
    save(folder / "a.png", noise(40, 56))


@pytest.mark.parametrize(
    ("write", "options", "told"),
    [
        *((damaged_at(index), [], f"{index:02}.png cannot be decoded") for index in (0, 7, 19)),
        (one, [], "1 normal image cannot be split into training, calibration and test"),
        (constant, [], "there is nothing in the normal frames"),
        (equal_in_the_region, ["--roi", "0,0,32,32"], "the normal frames vary in nothing"),
        (constant_in_the_region, ["--roi", "0,0,32,32"], "there is nothing in the normal frames"),
        (equal_in_the_region, ["--roi", "40,20,32,32"], "lies outside of a frame of 56 x 40"),
        (equal_in_the_region, ["--side", "128"], "--side 128 is larger than what the network"),
        (equal_in_the_region, ["--group", "folder"], "needs each frame in a sub-folder"),
        (equal_in_the_region, ["--group", "([01])"], "finds 2 groups among the normals, and 5"),
        (equal_in_the_region, ["--group", "no.csv"], "cannot read the groups in no.csv"),
    ],
)
def test_one_sentence_and_nothing_written(tmp_path, write, options, told):
    write(tmp_path / "data")
    out = tmp_path / "out" / "c.safetensors"
    out.parent.mkdir()
    train = ["train", str(tmp_path / "data"), "--recipe", "default", "--out", str(out), *options]
    error = CliRunner().invoke(app, train).exception
    assert isinstance(error, AdaeEdgeError)
    assert told in str(error)
    assert str(error).isprintable()
    assert not list(out.parent.iterdir())


def test_metrics_that_a_crash_damaged_are_no_reason_to_resume_nothing(tmp_path):
    out = tmp_path / "c.safetensors"
    metrics_path(out).write_bytes(b'{"seconds": 3}\n\xff\xfe\0\0\n{"sec')
    assert Metrics(out, 2).path.read_bytes() == b'{"seconds": 3}\n\xff\xfe\0\0\n'
