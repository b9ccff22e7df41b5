"""A threshold is good for frames that were decoded as those that it was chosen on."""

from dataclasses import replace

import numpy as np
import pytest

from adae_edge.decoding import rules
from adae_edge.formats import modelfile
from tests.support import clips
from tests.support.models import a_contract, as_schema_4, complaints, frame_rows, mean_model, run
from tests.support.pictures import save

SAYS = "was not calibrated: its threshold may be off until adae-edge calibrate"


@pytest.fixture
def desk(tmp_path):
    """A folder with a video of 40 frames and as many pictures, and models of three times."""
    clips.write(tmp_path, "h264.mp4")
    (tmp_path / "frames").mkdir()
    for number in range(40):
        save(tmp_path / "frames" / f"{number}.png", np.full((8, 8, 3), 100 + number, np.uint8))
    now = mean_model(3)
    (tmp_path / "now.onnx").write_bytes(now)
    old = replace(a_contract(3), decoding=None)
    (tmp_path / "old.onnx").write_bytes(modelfile.with_contract(now, old))
    other = replace(a_contract(3), decoding="pictures 1, dicom 1, video 1")
    (tmp_path / "other.onnx").write_bytes(modelfile.with_contract(now, other))
    return tmp_path


@pytest.mark.parametrize("model", ["old.onnx", "other.onnx"])
def test_a_model_of_another_rule_scores_and_wants_a_calibration_until_it_has_one(model, desk):
    score = ("score", model, "h264.mp4", "--to")
    first = run(*score, "first.jsonl", cwd=desk)
    assert first.returncode == 0
    (complaint,) = complaints(first)
    assert SAYS in complaint
    assert {row["wants"] for row in frame_rows(desk / "first.jsonl")} == {"calibrate"}

    assert run("calibrate", model, "h264.mp4", "--fpr", "0.2", cwd=desk).returncode == 0

    second = run(*score, "second.jsonl", cwd=desk)
    assert second.returncode == 0
    assert not complaints(second)
    assert {row["wants"] for row in frame_rows(desk / "second.jsonl")} == {None}
    scores = [
        [row["score"] for row in frame_rows(desk / f"{name}.jsonl")] for name in ("first", "second")
    ]
    assert scores[0] == scores[1]


def test_only_the_rule_of_a_frame_s_own_kind_counts(desk, monkeypatch):
    for model in ("old.onnx", "now.onnx", "other.onnx"):
        done = run("score", model, "frames", "--to", f"{model}.jsonl", cwd=desk)
        assert done.returncode == 0
        assert not complaints(done)
        assert {row["wants"] for row in frame_rows(desk / f"{model}.jsonl")} == {None}


def test_a_file_of_schema_4_keeps_no_rule():
    assert "decoding" not in as_schema_4(a_contract(3))
    assert rules.is_covered("pictures 1", None)
    assert rules.is_covered("", None)
    assert not rules.is_covered("video 2", None)
    assert not rules.is_covered("volumes 2", rules.rules_of("image"))
    assert rules.is_covered(rules.VIDEO, rules.rules_of("image"))
    assert rules.is_covered(rules.VOLUMES, rules.rules_of("modality"))
