"""``adae-edge calibrate``: a new threshold for the same graph, or the old model file as it was."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from onnx import ModelProto
from PIL import Image

from adae_edge import modelfile
from adae_edge.calibration import calibrate
from adae_edge.contract import Region
from adae_edge.errors import AdaeEdgeError, FrameError, ModelFileError, UsageError
from adae_edge.runtime.calibrate import recalibrate
from adae_edge.runtime.scorer import Scorer

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 6, 8), np.uint8)
SUMS = PIXELS.sum(axis=(1, 2)).astype(np.float32)  # what the model scores


@pytest.fixture
def model(tmp_path, small_model):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    return path


@pytest.fixture
def normals(tmp_path):
    folder = tmp_path / "normals"
    folder.mkdir()
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    return folder


def command(*arguments):
    line = [sys.executable, "-m", "adae_edge", "calibrate", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def assert_untouched(model, data, kept=("model.onnx", "normals")):
    """The old model file is there byte for byte, and nothing new is beside it."""
    assert model.read_bytes() == data
    assert sorted(path.name for path in model.parent.iterdir()) == sorted(kept)


def changed(data, change):
    graph = ModelProto.FromString(data)
    change(graph)
    return graph.SerializeToString()


def test_new_threshold_comes_from_the_folder(model, normals, small_model, contract):
    scores_before = Scorer(model, threads=1).score(PIXELS[..., None])
    done = command(model, normals, "--fpr", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"by {len(PIXELS)} calibration normals" in done.stdout
    assert f"wrote {model}" in done.stdout

    scorer = Scorer(model, threads=1)
    assert scorer.contract.calibration == calibrate(SUMS, 0.05)
    assert scorer.threshold > contract.calibration.threshold
    assert (scores_before > scorer.threshold).sum() == 5
    assert scorer.contract.with_calibration(contract.calibration) == contract
    np.testing.assert_array_equal(scorer.score(PIXELS[..., None]), scores_before)
    np.testing.assert_array_equal(scores_before, SUMS)
    assert ModelProto.FromString(model.read_bytes()).graph == ModelProto.FromString(small_model).graph
    assert model.with_name("model.onnx.previous").read_bytes() == small_model
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.onnx", "model.onnx.previous", "normals"]


def test_default_rate_is_one_percent(model, normals):
    assert recalibrate(model, str(normals)).calibration == calibrate(SUMS, 0.01)


def test_too_few_normals_for_the_default_rate_are_refused(model, normals, small_model):
    for path in sorted(normals.iterdir())[98:]:
        path.unlink()
    with pytest.raises(UsageError, match="give 99 or more"):
        recalibrate(model, str(normals))
    assert model.read_bytes() == small_model


def test_colour_frames_calibrate_a_grey_model_as_their_grey_ones_do(model, normals):
    grey = recalibrate(model, str(normals))
    for path in normals.iterdir():
        Image.open(path).convert("RGB").save(path)
    assert recalibrate(model, str(normals)) == grey


def test_previous_is_always_the_one_before(model, normals):
    recalibrate(model, str(normals), 0.05)
    second = model.read_bytes()
    recalibrate(model, str(normals), 0.1)
    assert model.with_name("model.onnx.previous").read_bytes() == second
    assert Scorer(model, threads=1).contract.calibration.target_fpr == 0.1


def test_previous_is_a_model_file_that_takes_over(model, normals, contract):
    recalibrate(model, str(normals))
    model.with_name("model.onnx.previous").replace(model)
    assert Scorer(model, threads=1).contract == contract


def test_calibrating_twice_gives_the_same_file(model, normals):
    recalibrate(model, str(normals))
    once = model.read_bytes()
    recalibrate(model, str(normals))
    assert model.read_bytes() == once


@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_corrupt_frame_leaves_the_model(model, normals, small_model, content):
    bad = normals / "060.png"
    bad.write_bytes(bad.read_bytes()[:60] if content == "half" else content)
    done = command(model, normals)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"adae-edge: {bad} cannot be decoded: ")
    assert done.stderr.count("\n") == 1
    assert_untouched(model, small_model)


def test_too_few_normals_leave_the_model(model, normals, small_model):
    done = command(model, normals, "--fpr", "0.001")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "adae-edge: 120 calibration normals can promise a false-positive rate of 0.00826 at the lowest, "
        "not 0.001: give 999 or more, or a higher rate\n"
    )
    assert_untouched(model, small_model)


@pytest.mark.parametrize("fpr", ["0", "1", "-0.5", "nan", "1e-320"])
def test_impossible_rate_leaves_the_model(model, normals, small_model, fpr):
    with pytest.raises(UsageError, match="false-positive rate"):
        recalibrate(model, str(normals), float(fpr))
    assert_untouched(model, small_model)


@pytest.mark.parametrize(("name", "code"), [("nowhere", 2), ("empty", 1)])
def test_no_frames_leave_the_model(model, small_model, name, code):
    (model.parent / "empty").mkdir()
    done = command(model, model.parent / name)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert str(model.parent / name) in done.stderr
    assert_untouched(model, small_model, ["empty", "model.onnx"])


def test_missing_model_is_wrong_use(normals):
    done = command(normals / "none.onnx", normals)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"adae-edge: there is no model file {normals / 'none.onnx'}\n"


def test_refused_model_is_left_as_it_is(model, normals):
    model.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is refused"):
        recalibrate(model, str(normals))
    assert_untouched(model, b"no model")


def test_frames_outside_of_the_region_leave_the_model(model, normals, small_model, contract):
    far = modelfile.with_contract(small_model, dataclasses.replace(contract, region=Region(4, 0, 8, 6)))
    model.write_bytes(far)
    with pytest.raises(FrameError, match="outside of a frame of 8 x 6"):
        recalibrate(model, str(normals))
    assert_untouched(model, far)


@pytest.mark.parametrize(("operator", "error"), [("Neg", ModelFileError), ("Acosh", UsageError)])
def test_scores_that_no_contract_can_hold_leave_the_model(model, normals, small_model, operator, error):
    """Negative ones, and with acosh(-1) ones that are no number: the next start would refuse the file."""

    def spoil(proto):
        proto.graph.node[1].output[0] = "sum"
        proto.graph.node.add(op_type="Neg", input=["sum"], output=["negative"])
        proto.graph.node.add(
            op_type="Identity" if operator == "Neg" else operator, input=["negative"], output=["score"]
        )

    spoilt = changed(small_model, spoil)
    model.write_bytes(spoilt)
    with pytest.raises(error, match=r"impossible|finite"):
        recalibrate(model, str(normals))
    assert_untouched(model, spoilt)


def test_previous_that_cannot_be_written_leaves_the_model(model, normals, small_model):
    model.with_name("model.onnx.previous").mkdir()
    with pytest.raises(AdaeEdgeError, match=r"cannot write .*model\.onnx\.previous"):
        recalibrate(model, str(normals))
    assert_untouched(model, small_model, ["model.onnx", "model.onnx.previous", "normals"])
