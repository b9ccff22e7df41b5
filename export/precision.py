"""INT8: ranges of the activations from real frames. And what a lower precision costs and gains."""

from __future__ import annotations

import copy
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from sklearn.metrics import roc_auc_score

from adae_edge.contract import Form
from adae_edge.errors import ParityError
from adae_edge.export.extremes import Inputs
from adae_edge.export.forms import staged_in
from adae_edge.interface import INPUTS
from adae_edge.model import ADAE
from adae_edge.runtime import Scorer

SPEED_BATCHES = (1, 64)
SPEED_ROUNDS = 15


@dataclass(frozen=True)
class Cost:
    """A precision beside float32, both run by ONNX Runtime on this machine's CPU.

    Attributes:
        lowered: convolutions in this precision, and how many there are; the others stayed in
            float32.
        frames: whose scores were compared.
        errors: relative differences of their scores: median, 90th and 99th percentile, and the
            largest.
        flipped: decisions at the threshold that differ.
        auroc: float32's and this precision's, where labels were given.
        bytes: size of float32's model file and of this one.
        speed: throughput as a multiple of float32's by batch size, the median of paired rounds.
    """

    lowered: tuple[int, int]
    frames: int
    errors: tuple[float, float, float, float]
    flipped: int
    auroc: tuple[float, float] | None
    bytes: tuple[int, int]
    speed: dict[int, float]

    def lines(self, precision: str) -> str:
        """The same for the terminal."""
        p50, p90, p99, largest = (f"{error:.1e}" for error in self.errors)
        speeds = ", ".join(
            f"{ratio:.2f} times at batch {batch}" for batch, ratio in self.speed.items()
        )
        rows = [
            "{} of {} convolutions in {}, the others in fp32; beside fp32 alone, on {} frames:".format(
                *self.lowered, precision, self.frames
            ),
            f"  score error   median {p50}, 90 % {p90}, 99 % {p99}, largest {largest}",
            f"  decisions     {self.flipped} flipped at the threshold",
            f"  size          {self.bytes[1] / 1e6:.2f} MB in place of {self.bytes[0] / 1e6:.2f} MB",
            f"  throughput    {speeds}, by ONNX Runtime on this CPU",
        ]
        if self.auroc:
            rows.insert(3, f"  AUROC         {self.auroc[1]:.4f} in place of {self.auroc[0]:.4f}")
        return "\n".join(rows)


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Real frames one by one, as the graph takes them: as often as a run of fixed batch has frames."""

    def __init__(self, references: Sequence[Inputs], batch: int) -> None:
        self.left = iter(references)
        self.batch = batch

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        frame = next(self.left, None)
        if frame is None:
            return None
        return {
            name: np.stack([value] * self.batch) for name, value in zip(INPUTS, frame, strict=False)
        }


def quantise(
    model: onnx.ModelProto, references: Sequence[Inputs], formed: ADAE, form: Form
) -> onnx.ModelProto:
    """The graph with its convolutions in INT8, as QDQ: weights per channel, activations by their range in real frames.

    Args:
        model: float32, with convolutions alone (transposed ones would stay in float32).
        references: real frames, and extreme ones, without which an anomaly's activations would be
            cut off.
        formed: what was traced; its stages say which convolutions bear it.
        form: of the graph; TensorRT takes activations in int8 whose zero is 0, and biases in
            float32.

    Raises:
        ParityError: none does.
    """
    chosen = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and _wanted(node.input[1], formed)
    ]
    if not chosen:
        raise ParityError(
            "int8 would change the scores too much in every single layer: export fp16 or fp32"
        )
    symmetric, batch = form.target == "tensorrt", form.batch
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a preparation that the export has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "int8.onnx"
            quantize_static(
                model,
                out,
                _Frames(references, batch or 1),
                quant_format=QuantFormat.QDQ,
                nodes_to_quantize=chosen,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
            )
            quantised = onnx.load(out)
    finally:
        logger.setLevel(level)
    return quantised if symmetric else rearranged_in_int8(quantised)


def rearranged_in_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with each depth-to-space before the dequantisation that feeds it, where it moves fewer bytes.

    ONNX Runtime then runs the activation after it in INT8, too.
    """
    nodes = list(model.graph.node)
    maker = {output: at for at, node in enumerate(nodes) for output in node.output}
    for at, node in enumerate(nodes):
        before = maker.get(node.input[0])
        if (
            node.op_type == "DepthToSpace"
            and before is not None
            and nodes[before].op_type == "DequantizeLinear"
        ):
            moved, dequantised = copy.deepcopy(node), copy.deepcopy(nodes[before])
            moved.input[0], moved.output[0] = nodes[before].input[0], f"{node.output[0]}_int8"
            dequantised.input[0], dequantised.output[0] = moved.output[0], node.output[0]
            nodes[before], nodes[at] = moved, dequantised
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return model


def _wanted(weight: str, formed: ADAE) -> bool:
    """Whether the convolution with the weight of this name, as the tracer gives it, is in a chosen stage."""
    return any(
        weight.startswith(f"model.{name}.exact.{at}.")
        for name, network in staged_in(formed).items()
        for at in network.chosen
    )


def measure_cost(
    exact: bytes,
    lower: bytes,
    lowered: tuple[int, int],
    frames: Sequence[Inputs],
    anomalous: Sequence[bool] | None,
) -> Cost:
    """Score the same frames in both precisions, and time both in alternation.

    Args:
        exact: float32's model file.
        lower: the other precision's.
        lowered: as in ``Cost``.
        frames: real ones.
        anomalous: their labels, where they are known and of both kinds.
    """
    scorers = _scorer(exact), _scorer(lower)
    before, after = (
        np.concatenate([scorer.score(*_stacked([one])) for one in frames]) for scorer in scorers
    )
    errors = np.abs(after - before) / np.maximum(before, 1e-3)
    p50, p90, p99 = np.percentile(errors, [50, 90, 99]).tolist()
    limit = np.float32(scorers[0].threshold)
    auroc = None
    if anomalous is not None:
        auroc = float(roc_auc_score(anomalous, before)), float(roc_auc_score(anomalous, after))
    return Cost(
        lowered,
        len(frames),
        (p50, p90, p99, float(errors.max())),
        int(((before > limit) != (after > limit)).sum()),
        auroc,
        (len(exact), len(lower)),
        {batch: _speed(scorers, _stacked([frames[0]] * batch)) for batch in SPEED_BATCHES},
    )


def _scorer(data: bytes) -> Scorer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        return Scorer(path)


def _stacked(frames: Sequence[Inputs]) -> list[NDArray[Any]]:
    return [np.stack(column) for column in zip(*frames, strict=True)]


def _speed(scorers: tuple[Scorer, Scorer], inputs: list[NDArray[Any]]) -> float:
    """The second one's throughput as a multiple of the first one's."""
    ratios = []
    for _ in range(SPEED_ROUNDS):
        seconds = []
        for scorer in scorers:
            begun = time.perf_counter()
            scorer.score(*inputs)
            seconds.append(time.perf_counter() - begun)
        ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))
