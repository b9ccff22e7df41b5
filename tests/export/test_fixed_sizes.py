"""Fixed sizes through the command: our own loader takes what it writes, at the usual sizes."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from adae_edge.cli.app import app
from adae_edge.contract import Region
from adae_edge.export import cost
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.runtime import Scorer
from tests.support.models import run
from tests.support.pictures import write_pictures
from tests.support.trained import train_on

SMALL, HD = (320, 240), (1280, 720)
VGA, FULL_HD = (640, 480), (1920, 1080)
MODELS = {
    "stretched": {},
    "padded": {"resize": "pad", "pad_value": 114.0},
    "region": {"region": Region(7, 5, 240, 131)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of each way to fit a frame, and two pictures of each size."""
    folder = tmp_path_factory.mktemp("sizes")
    data = write_pictures(folder / "data", 60, SMALL[::-1])
    for name, changed in MODELS.items():
        train_on(str(data), folder / f"{name}.safetensors", epochs=1, side=8, **changed)
    for width, height in (SMALL, VGA, HD, FULL_HD):
        write_pictures(folder / f"{width}x{height}", 2, (height, width))
    return folder


def export(folder, name, size, out, *options):
    """Run the command on a checkpoint for frames of one size, width and height."""
    text = f"{size[0]}x{size[1]}"
    arguments = [folder / f"{name}.safetensors", "--out", out, "--fixed-size", text]
    arguments += ["--frames", folder / text / "normal", *options]
    done = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"wrote {out}: " in done.stdout
    return Scorer(out)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """What a precision gains in time is not asked here."""
    monkeypatch.setattr(cost, "SPEED_ROUNDS", 1)
    monkeypatch.setattr(cost, "SPEED_BATCHES", (1,))


@pytest.mark.parametrize(
    ("name", "size", "options", "tolerance"),
    [
        ("stretched", SMALL, (), 1e-5),
        ("padded", VGA, ("--anomaly-map", "frame"), 1e-5),
        ("region", VGA, ("--precision", "int8", "--fixed-batch", "2"), 0.2),
        ("region", HD, ("--precision", "fp16", "--anomaly-map", "frame"), 0.01),
        ("padded", HD, ("--precision", "int8", "--target", "tensorrt"), 0.2),
        ("stretched", FULL_HD, ("--target", "openvino", "--anomaly-map", "frame"), 1e-5),
    ],
    ids=str,
)
def test_a_fixed_size_is_taken_by_the_loader_and_scores_as_pytorch(
    folder, tmp_path, name, size, options, tolerance
):
    scorer = export(folder, name, size, tmp_path / "m.onnx", *options)
    width, height = size
    assert scorer.form.size == (height, width)
    operators = modelfile.read(tmp_path / "m.onnx").operators
    assert not operators.keys() & {"Range", "Shape", "Min", "Max", "Where"}  # all is computed
    frames = np.random.default_rng(0).integers(0, 256, (3, height, width, 1), np.uint8)
    network = load_network(Checkpoint.load(folder / f"{name}.safetensors"))
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(scorer.score(frames), expected, rtol=tolerance)
    if scorer.form.anomaly_map:
        assert scorer.score_with_map(frames)[1].shape == (3, height, width)


def test_a_second_export_of_a_fixed_size_is_the_same_bytes(folder, tmp_path):
    export(folder, "padded", VGA, tmp_path / "m.onnx", "--anomaly-map", "frame")
    checkpoint, frames = folder / "padded.safetensors", folder / "640x480" / "normal"
    there = tmp_path / "there"
    there.mkdir()
    options = ("--fixed-size", "640x480", "--anomaly-map", "frame", "--frames", frames)
    done = run("export", checkpoint, "--out", "m.onnx", *options, cwd=there)
    assert done.returncode == 0, done.stderr
    assert (there / "m.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
