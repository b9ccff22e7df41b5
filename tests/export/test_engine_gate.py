"""The comparison of an engine with ONNX Runtime; model files stand in for engines."""

import pytest

from adae_edge.contract import Region
from adae_edge.errors import ParityError
from adae_edge.export.engine_gate import EngineParity, compare
from adae_edge.formats import modelfile
from tests.support.models import mean_model


@pytest.fixture
def model():
    return modelfile.check(mean_model(threshold=90.0))


def test_the_same_scores_pass(model):
    assert compare(modelfile.check(mean_model()), model) == EngineParity(scores=13, error=0)


def test_other_scores_are_refused(model):
    other = modelfile.check(mean_model(last="Sqrt"))
    sentence = r"engine scores a network-sized white frame as 15\.9687 where .* gives 255"
    with pytest.raises(ParityError, match=sentence):
        compare(other, model)


def test_nothing_compared_is_no_success(model):
    outside = Region(600, 600, 10, 10)  # of every frame here
    with pytest.raises(ParityError, match="takes no frame"):
        compare(modelfile.check(mean_model(region=outside)), model)
