"""Fixtures that several test files share."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adae_edge.calibration import calibrate
from adae_edge.contract import Contract, Form, Network
from adae_edge.formats import modelfile
from tests.support.environments import build_wheel


@pytest.fixture(scope="session")
def contract():
    """A valid contract of a grey model file."""
    scores = np.random.default_rng(0).uniform(1, 2, 400).astype(np.float32)
    return Contract(
        kind="image", channels=1, side=32, resize="stretch", pad_value=0.0, region=None, network=Network(16, 32),
        score="l2", calibration=calibrate(scores), weights_sha256="0" * 64, data_sha256="1" * 64, version="0.1.0",
        form=Form(),
    )  # fmt: skip


@pytest.fixture(scope="session")
def small_model(contract):
    """The bytes of a valid model file whose score is the sum of a frame's pixels."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["float", "axes"], ["score"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "H", "W", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([1, 2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return modelfile.with_contract(model.SerializeToString(), contract)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package's wheel."""
    return build_wheel(tmp_path_factory.mktemp("built"))
