"""INT8: which convolutions bear it, and the graph with these as QDQ.

ONNX Runtime's own quantiser rounds, and ONNX Runtime scores what it made: here as in the file that
is written. Everything that is tried has the same ranges of the activations, from one calibration.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from onnxruntime.quantization import (
    CalibrationDataReader,
    QDQQuantizer,
    QuantType,
    TensorsData,
    create_calibrator,
)

from adae_edge.contract import Form
from adae_edge.errors import ParityError
from adae_edge.export.tolerances import LIMITS, error_of_most, layers_within
from adae_edge.runtime.backends.onnxruntime import session_options

# Frames in a run where the form leaves it open; the activations of more would only take memory.
BATCH = 16


def quantise(model: onnx.ModelProto, x: NDArray[np.float32], form: Form) -> onnx.ModelProto:
    """The graph with as many of its convolutions in INT8 as the scores of x allow.

    It has QDQ nodes: weights per channel, activations by their range in x.

    Args:
        model: float32, with convolutions alone (transposed ones would stay in float32).
        x: float32 [N, C, S, S], real frames as the network sees them, and extreme ones, without
            which an anomaly's activations would be cut off.
        form: of the graph; TensorRT takes activations in int8 whose zero is 0, and biases in
            float32.

    Raises:
        ParityError: no convolution bears it.
    """
    model = onnx.shape_inference.infer_shapes(model)
    network = _Network(model, x, form)
    chosen = layers_within(LIMITS["int8"], network.convolutions, network.error)
    if not chosen:
        raise ParityError(
            "int8 would change the scores too much in every single layer: export fp16 or fp32"
        )
    return _quantised(model, chosen, network.ranges, form)


class _Network:
    """What follows the preprocessing in a graph, in float32, and how it bears INT8.

    Attributes:
        convolutions: the names of its convolutions in the graph's order.
        ranges: what its activations are between, on x.
    """

    def __init__(self, model: onnx.ModelProto, x: NDArray[np.float32], form: Form) -> None:
        convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
        self.convolutions = [node.name for node in convolutions]
        self._seen = convolutions[0].input[0]
        self._model = onnx.utils.Extractor(model).extract_model([self._seen], ["score"])
        self._form = form
        self._x = x
        self.ranges = self._calibrated()
        self._expected = self._scores(self._model)

    def error(self, chosen: list[str]) -> float:
        """The relative error that nine scores in ten keep to with these convolutions in INT8."""
        if not chosen:
            return 0.0
        scores = self._scores(_quantised(self._model, chosen, self.ranges, self._form))
        return error_of_most(scores, self._expected)

    def _calibrated(self) -> TensorsData:
        """The smallest and the largest value of every activation on x."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            onnx.save(self._model, path)
            augmented = str(path.with_name("augmented.onnx"))
            calibrator = create_calibrator(path, ["Conv"], augmented)
            calibrator.collect_data(_Feeds(self._feeds()))
            return calibrator.compute_data()

    def _scores(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        """The scores of x by a network like this one, float32 [N]."""
        session = InferenceSession(
            model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
        )
        scores = [session.run(["score"], feed)[0] for feed in self._feeds()]
        return np.concatenate(scores)[: len(self._x)]

    def _feeds(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        """x in runs of one size; frames from its beginning fill up the last one."""
        batch = self._form.batch or BATCH
        runs = -(-len(self._x) // batch)
        filled = np.resize(self._x, (runs * batch, *self._x.shape[1:]))
        for part in np.split(filled, runs):
            yield {self._seen: part}


class _Feeds(CalibrationDataReader):  # type: ignore[misc]
    """An iterator as the calibrator takes it."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def _quantised(
    model: onnx.ModelProto, chosen: list[str], ranges: TensorsData, form: Form
) -> onnx.ModelProto:
    """A copy of the graph with the chosen convolutions, by name, in INT8."""
    symmetric = form.target == "tensorrt"
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        # 7 bits for a weight: CPUs without VNNI add pairs of products in 16 bits, which 8 would
        # overflow, so that the same file would score differently there.
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    return quantised
