"""``adae-edge calibrate``: a new threshold for the same graph, or the old model file as it was."""

import dataclasses
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from onnx import ModelProto
from PIL import Image

from adae_edge.calibration import calibrate, threshold_rank
from adae_edge.contract import QUANTILES, Region
from adae_edge.errors import AdaeEdgeError, FrameError, ModelFileError, UsageError
from adae_edge.formats import modelfile
from adae_edge.runtime.calibrate import recalibrate
from adae_edge.runtime.scorer import Scorer
from tests.support.models import as_schema_1

PIXELS = np.random.default_rng(0).integers(0, 256, (120, 8, 8), np.uint8)
MEANS = PIXELS.mean(axis=(1, 2)).astype(np.float32)  # what the model scores, without rounding


def of_scores(contract):
    """A calibration without how light its normals were."""
    assert contract.calibration.greys is not None
    return dataclasses.replace(contract.calibration, greys=None, whites=None)


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


FPR = 0.05  # 59 normals can promise it


def command(*arguments, **options):
    line = [sys.executable, "-m", "adae_edge", "calibrate", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, **options)


def assert_untouched(model, data, kept=("model.onnx", "normals")):
    """The old model file is there byte for byte, and nothing new is beside it."""
    assert model.read_bytes() == data
    assert sorted(path.name for path in model.parent.iterdir()) == sorted(kept)


def changed(data, change):
    graph = ModelProto.FromString(data)
    change(graph)
    return graph.SerializeToString()


def test_normals_that_the_training_saw_are_suspected(model, normals, contract):
    higher = tuple(np.full(QUANTILES, float(MEANS.max()) + 1))
    known = dataclasses.replace(contract.calibration, quantiles=higher)
    model.write_bytes(modelfile.with_contract(model.read_bytes(), contract.with_calibration(known)))
    done = command(model, normals, "--fpr", "0.05")
    assert done.returncode == 0
    assert "as if the training had seen them: then the threshold is too low" in done.stdout
    again = command(model, normals, "--fpr", "0.05")  # beside themselves, they are no lower
    assert "as if the training" not in again.stdout


def test_new_threshold_comes_from_the_folder(model, normals, small_model, contract):
    scores_before = Scorer(model, threads=1).score(PIXELS[..., None])
    done = command(model, normals, "--fpr", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    scorer = Scorer(model, threads=1)
    assert done.stdout == (
        f"threshold {scorer.threshold:.4f}: false-positive rate at most 0.05 with 95 % confidence, "
        f"by 120 calibration normals\n"
        f"the threshold before, {contract.calibration.threshold:.4f}, lies below 120 of these 120 "
        "normals (100.00%)\n"
        f"wrote {model}\n"
    )
    assert of_scores(scorer.contract) == calibrate(MEANS, 0.05)
    assert scorer.threshold > contract.calibration.threshold
    assert (scores_before > scorer.threshold).sum() == 1
    assert scorer.contract.with_calibration(contract.calibration) == contract
    np.testing.assert_array_equal(scorer.score(PIXELS[..., None]), scores_before)
    np.testing.assert_array_equal(scores_before, MEANS)
    assert (
        ModelProto.FromString(model.read_bytes()).graph == ModelProto.FromString(small_model).graph
    )
    assert model.with_name("model.onnx.previous").read_bytes() == small_model
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "model.onnx",
        "model.onnx.previous",
        "normals",
    ]


def test_confidence_can_be_chosen(model, normals):
    done = command(model, normals, "--fpr", "0.05", "--confidence", "0.8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "at most 0.05 with 80 % confidence, by" in done.stdout
    assert of_scores(Scorer(model, threads=1).contract) == calibrate(MEANS, 0.05, 0.8)


def test_too_few_normals_for_the_default_rate_are_refused(model, normals, small_model):
    with pytest.raises(UsageError, match=r"not 0\.01: give 299 or more"):
        recalibrate(model, str(normals))
    assert_untouched(model, small_model)


def test_default_rate_is_one_percent(model, normals):
    for copy in range(2):
        for path in sorted(normals.glob("???.png")):
            path.with_name(f"{path.stem}-{copy}.png").hardlink_to(path)
    assert of_scores(recalibrate(model, str(normals)).contract) == calibrate(
        np.tile(MEANS, 3), 0.01
    )


def test_what_the_threshold_before_did_is_counted(model, normals):
    first = recalibrate(model, str(normals), 0.3)
    for path in sorted(normals.iterdir())[60:]:
        path.unlink()
    second = recalibrate(model, str(normals), FPR)
    assert second.before == first.contract.calibration
    assert second.above_before == (MEANS[:60] > first.contract.calibration.threshold).sum() > 0


def test_a_file_of_schema_1_gets_a_threshold_of_schema_2(model, normals, small_model, contract):
    """Its old threshold stays readable as FILE.previous, and promised its rate on average."""

    def age(proto):
        del proto.metadata_props[0]  # the digest, which no such file has
        proto.metadata_props[0].value = json.dumps(as_schema_1(contract))

    model.write_bytes(changed(small_model, age))
    assert Scorer(model, threads=1).contract.calibration.confidence is None
    assert recalibrate(model, str(normals), FPR).before.confidence is None
    assert of_scores(Scorer(model, threads=1).contract) == calibrate(MEANS, FPR)
    assert modelfile.read(f"{model}.previous").contract.calibration.promise.endswith(
        "0.01 on average"
    )


def test_colour_frames_calibrate_a_grey_model_as_their_grey_ones_do(model, normals):
    grey = recalibrate(model, str(normals), FPR).contract
    for path in normals.iterdir():
        Image.open(path).convert("RGB").save(path)
    assert recalibrate(model, str(normals), FPR).contract == grey


def test_previous_is_always_the_one_before(model, normals):
    recalibrate(model, str(normals), 0.05)
    second = model.read_bytes()
    recalibrate(model, str(normals), 0.1)
    assert model.with_name("model.onnx.previous").read_bytes() == second
    assert Scorer(model, threads=1).contract.calibration.target_fpr == 0.1


def test_previous_is_a_model_file_that_takes_over(model, normals, contract):
    recalibrate(model, str(normals), FPR)
    model.with_name("model.onnx.previous").replace(model)
    assert Scorer(model, threads=1).contract == contract


def test_calibrating_twice_with_the_same_normals_keeps_the_file_before(model, normals, small_model):
    recalibrate(model, str(normals), FPR)
    once = model.read_bytes()
    recalibrate(model, str(normals), FPR)
    assert model.read_bytes() == once
    assert model.with_name("model.onnx.previous").read_bytes() == small_model


def test_a_link_stays_a_link_and_modes_stay(model, normals, small_model):
    target = model.with_name("elsewhere") / "target.onnx"
    target.parent.mkdir()
    model.replace(target)
    target.chmod(0o640)
    model.symlink_to(target)
    recalibrate(model, str(normals), FPR)
    assert model.is_symlink()
    previous = model.with_name("model.onnx.previous")
    assert target.read_bytes() != previous.read_bytes() == small_model
    assert (target.stat().st_mode & 0o777, previous.stat().st_mode & 0o777) == (0o640, 0o640)
    assert [path.name for path in target.parent.iterdir()] == ["target.onnx"]


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
        "adae-edge: 120 calibration normals can promise a false-positive rate of 0.0247 at the "
        "lowest "
        "with 95 % confidence, not 0.001: give 2995 or more, or a higher rate\n"
    )
    assert_untouched(model, small_model)


@pytest.mark.parametrize("fpr", ["0", "1", "-0.5", "nan", "1e-320"])
def test_impossible_rate_leaves_the_model(model, normals, small_model, fpr):
    with pytest.raises(UsageError, match="false-positive rate"):
        recalibrate(model, str(normals), float(fpr))
    assert_untouched(model, small_model)


@pytest.mark.parametrize("confidence", ["0", "1", "95", "nan"])
def test_impossible_confidence_leaves_the_model(model, normals, small_model, confidence):
    done = command(model, normals, "--confidence", confidence)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"adae-edge: a confidence lies between 0 and 1, and {float(confidence)} does not\n"
    )
    assert_untouched(model, small_model)


def test_one_normal_promises_next_to_nothing(model, normals, small_model):
    done = command(model, normals / "000.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        "1 calibration normal can promise a false-positive rate of 0.95 at the lowest"
        in done.stderr
    )
    assert_untouched(model, small_model)
    assert command(model, normals / "000.png", "--fpr", "0.95").returncode == 0
    assert Scorer(model, threads=1).threshold == pytest.approx(MEANS[0], rel=1e-3)


@pytest.mark.parametrize("level", [0, 7])
def test_normals_that_all_score_the_same_are_all_normal(model, normals, level):
    for path in normals.iterdir():
        Image.new("L", (8, 8), level).save(path)
    recalibrate(model, str(normals), FPR)
    scorer = Scorer(model, threads=1)
    assert scorer.threshold == pytest.approx(level, rel=1e-3)
    assert not (scorer.score(np.full((1, 8, 8, 1), level, np.uint8)) > scorer.threshold).any()


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
    far = modelfile.with_contract(
        small_model, dataclasses.replace(contract, region=Region(4, 0, 8, 6))
    )
    model.write_bytes(far)
    with pytest.raises(
        FrameError, match=r"000\.png 0: the model .* lies outside of a frame of 8 x 8"
    ):
        recalibrate(model, str(normals))
    assert_untouched(model, far)


@pytest.mark.parametrize(
    ("operator", "sentence"),
    [
        ("Neg", "has threshold = .* impossible"),
        ("Log", r"000\.png 0: the score is not a finite number"),
        ("Exp", r"000\.png 0: the score is not a finite number"),
    ],
)
def test_scores_that_no_contract_can_hold_leave_the_model(
    model, normals, small_model, contract, operator, sentence
):
    """Negative ones, NaN and infinity: the next start would refuse the file."""

    def spoil(proto):
        proto.graph.node[-1].output[0] = "raw"
        proto.graph.node.add(
            op_type="Identity" if operator == "Exp" else "Neg",
            input=["raw"],
            output=["signed"],
        )
        proto.graph.node.add(
            op_type="Identity" if operator == "Neg" else operator,
            input=["signed"],
            output=["score"],
        )

    spoilt = modelfile.with_contract(changed(small_model, spoil), contract)
    model.write_bytes(spoilt)
    with pytest.raises((ModelFileError, FrameError), match=sentence):
        recalibrate(model, str(normals), FPR)
    assert_untouched(model, spoilt)


def test_previous_that_cannot_be_written_leaves_the_model(model, normals, small_model):
    model.with_name("model.onnx.previous").mkdir()
    with pytest.raises(AdaeEdgeError, match=r"cannot write .*model\.onnx\.previous"):
        recalibrate(model, str(normals), FPR)
    assert_untouched(model, small_model, ["model.onnx", "model.onnx.previous", "normals"])


def test_a_full_disk_leaves_both_old_files(model, normals):
    """As on a full disk, no file may grow beyond a limit, and the new one would."""
    recalibrate(model, str(normals), FPR)
    previous = model.with_name("model.onnx.previous")
    first, second = previous.read_bytes(), model.read_bytes()
    for path in sorted(normals.iterdir())[100:]:
        path.unlink()

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = command(model, normals, "--fpr", FPR, preexec_fn=fill)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"adae-edge: cannot write {model}.next: File too large\n"
    assert (previous.read_bytes(), model.read_bytes()) == (first, second)
    assert_untouched(model, second, ["model.onnx", "model.onnx.previous", "normals"])


@pytest.mark.parametrize("place", ["file", "folder"])
def test_what_is_read_only_is_left_as_it_is(model, normals, small_model, place):
    locked = model if place == "file" else model.parent
    locked.chmod(0o500)
    try:
        if os.access(locked, os.W_OK):
            pytest.skip("nothing is read-only for this user")
        done = command(model, normals, "--fpr", FPR)
    finally:
        locked.chmod(0o700)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"adae-edge: cannot write {locked}: it is read-only\n"
    assert_untouched(model, small_model)


@pytest.fixture
def misjudged(tmp_path):
    folder = tmp_path / "misjudged"
    folder.mkdir()
    for level in (200, 210, 220):  # brighter than any normal frame
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(folder / f"{level}.png")
    return folder


def test_frames_that_were_set_aside_are_normal_afterwards(model, normals, misjudged):
    recalibrate(model, str(normals), FPR)
    done = command(model, normals, "--fpr", FPR, "--with", misjudged)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 frames that were set aside are normal now" in done.stdout
    scorer = Scorer(model, threads=1)
    rank = threshold_rank(120, FPR, 0.95)
    assert scorer.threshold == pytest.approx([220, 210, 200][rank - 1] * 1.0001, rel=1e-6)
    assert scorer.contract.calibration.normals == 120


def test_normals_that_are_given_twice_would_promise_too_much(model, normals, small_model):
    for again in ((normals.parent / "." / "normals",), ("--with", normals)):
        done = command(model, normals, *again, "--fpr", FPR)
        assert (done.returncode, done.stderr) == (2, "adae-edge: a source is named twice\n")
    assert_untouched(model, small_model)


def test_frames_that_were_set_aside_never_lower_a_threshold():
    """Though low scores among them would, if they counted as drawn."""
    scores = np.linspace(1, 2, 200, dtype=np.float32)
    alone = calibrate(scores, FPR, peaks=scores * 2)
    low = np.zeros(5000, np.float32)
    assert calibrate(scores, FPR, peaks=scores * 2, aside=low, aside_peaks=low) == alone
    high = np.full(2, 9, np.float32)
    raised = calibrate(scores, FPR, peaks=scores * 2, aside=high, aside_peaks=high)
    assert raised.threshold > alone.threshold
    assert raised.map_threshold > alone.map_threshold
    assert (raised.normals, raised.quantiles) == (alone.normals, alone.quantiles)


def test_a_frame_set_aside_that_cannot_be_scored_changes_nothing(model, normals, misjudged):
    data = model.read_bytes()
    (misjudged / "200.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = command(model, normals, "--fpr", FPR, "--with", misjudged)
    assert (done.returncode, done.stdout) == (1, "")
    assert "200.png" in done.stderr
    assert_untouched(model, data, ("model.onnx", "normals", "misjudged"))


def test_rollback_puts_the_previous_file_back_and_a_second_one_takes_it_back(model, normals):
    first = model.read_bytes()
    recalibrate(model, str(normals), FPR)
    second = model.read_bytes()
    done = command(model, "--rollback")
    assert (done.returncode, done.stderr) == (0, "")
    threshold = modelfile.check(first).contract.calibration.threshold
    assert done.stdout.startswith(f"threshold {threshold:.4f} as before")
    previous = model.with_name("model.onnx.previous")
    assert (model.read_bytes(), previous.read_bytes()) == (first, second)
    assert command(model, "--rollback").returncode == 0
    assert (model.read_bytes(), previous.read_bytes()) == (second, first)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give either normals, or --rollback alone"),
        (("normals", "--rollback"), "give either normals, or --rollback alone"),
        (("--rollback", "--with", "normals"), "give either normals, or --rollback alone"),
        (("--rollback",), "there is no file model.onnx.previous, so nothing can be taken back"),
    ],
)
def test_rollback_that_cannot_be_is_refused(model, normals, small_model, arguments, sentence):
    done = command("model.onnx", *arguments, cwd=model.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert_untouched(model, small_model)


def test_a_damaged_previous_file_is_not_put_back(model, normals, small_model):
    previous = model.with_name("model.onnx.previous")
    previous.write_bytes(small_model[: len(small_model) // 2])
    done = command(model, "--rollback")
    assert done.returncode == 1, done.stdout
    assert "model.onnx.previous" in done.stderr
    assert_untouched(model, small_model, ("model.onnx", "model.onnx.previous", "normals"))
