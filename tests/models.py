"""A model file whose score is the mean of a frame's values, and the command that scores with it."""

import os
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper

from adae_edge import modelfile
from adae_edge.contract import Calibration, Contract, Network


def a_contract(channels=1, threshold=100.0, region=None):
    calibration = Calibration(threshold, 0.01, 400, tuple(np.linspace(0, threshold, 101).tolist()))
    return Contract(
        kind="image", channels=channels, side=32, resize="stretch", pad_value=0.0, region=region,
        network=Network(16, 32), score="l2", calibration=calibration, weights_sha256="0" * 64,
        data_sha256="1" * 64, version="0.1.0",
    )  # fmt: skip


def mean_model(channels=1, threshold=100.0, region=None):
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float"], ["score"], axes=[1, 2, 3], keepdims=0),
        ],
        "mean",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "H", "W", channels])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return modelfile.with_contract(model.SerializeToString(), a_contract(channels, threshold, region))


def command(*arguments):
    return [sys.executable, "-m", "adae_edge", *map(str, arguments)]


def run(*arguments, cwd, **environment):
    """Run the command to its end; its output and its errors are text."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


def complaints(process):
    """The lines of its errors that are complaints; a traceback, or anything else unforeseen, fails."""
    lines = process.stderr.splitlines()
    known = [line for line in lines if line.startswith("adae-edge: ") or " frames scored, " in line]
    assert lines == known
    return [line.removeprefix("adae-edge: ") for line in lines if line.startswith("adae-edge: ")]
