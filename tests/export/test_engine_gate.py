"""The comparison of an engine with ONNX Runtime; with model files in the engine's place, as engines take a GPU."""

import pytest

from adae_edge.contract import Region
from adae_edge.errors import ParityError
from adae_edge.export.engine_gate import compare
from tests.support.models import mean_model


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr("adae_edge.export.extremes.LARGEST", 500)
    path = tmp_path / "m.onnx"
    path.write_bytes(mean_model(threshold=90.0))
    return path


def test_the_same_scores_pass(tmp_path, model):
    same = tmp_path / "same.onnx"
    same.write_bytes(mean_model())
    assert compare(same, model) == (13, 0)


def test_other_scores_are_refused(tmp_path, model):
    other = tmp_path / "other.onnx"
    other.write_bytes(mean_model(last="Sqrt"))
    with pytest.raises(
        ParityError,
        match=r"other\.onnx scores a network-sized white frame as 15\.9687 where .* gives 255",
    ):
        compare(other, model)


def test_nothing_compared_is_no_success(tmp_path, model):
    fixed = tmp_path / "fixed.onnx"
    fixed.write_bytes(mean_model(region=Region(600, 600, 10, 10)))  # outside of every frame here
    with pytest.raises(ParityError, match="takes no frame"):
        compare(fixed, model)
