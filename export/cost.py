"""What a lower precision costs and gains, beside float32 on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from adae_edge.batch import Batch
from adae_edge.export.tolerances import relative_errors
from adae_edge.formats.modelfile import ModelFile
from adae_edge.runtime import Scorer

SPEED_BATCHES = (1, 64)
SPEED_ROUNDS = 15
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LOWER = (onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8)


class Errors(NamedTuple):
    """Relative differences of scores: what half of them, 90 % and 99 % keep to, and the largest."""

    p50: float
    p90: float
    p99: float
    largest: float


@dataclass(frozen=True)
class Cost:
    """A precision beside float32, both run by ONNX Runtime on this machine's CPU.

    Attributes:
        convolutions: those in this precision, and all; the others stayed in float32.
        frames: whose scores were compared.
        errors: of their scores.
        flipped: decisions at the threshold that differ.
        auroc: float32's and this precision's, where labels were given.
        bytes: size of float32's model file and of this one.
        speed: throughput as a multiple of float32's by batch size, the median of paired rounds.
    """

    convolutions: tuple[int, int]
    frames: int
    errors: Errors
    flipped: int
    auroc: tuple[float, float] | None
    bytes: tuple[int, int]
    speed: dict[int, float]

    def lines(self, precision: str) -> str:
        """Say as a table for the terminal what the precision costs and gains."""
        count, every = self.convolutions
        p50, p90, p99, largest = (f"{error:.1e}" for error in self.errors)
        before, after = (size / 1e6 for size in self.bytes)
        speeds = [f"{ratio:.2f} times at batch {batch}" for batch, ratio in self.speed.items()]
        rows = [
            f"{count} of {every} convolutions in {precision}, the others in fp32; "
            f"beside fp32 alone, on {self.frames} frames:",
            f"  score error   median {p50}, 90 % {p90}, 99 % {p99}, largest {largest}",
            f"  decisions     {self.flipped} flipped at the threshold",
        ]
        if self.auroc:
            rows.append("  AUROC         {1:.4f} in place of {0:.4f}".format(*self.auroc))
        rows.append(f"  size          {after:.2f} MB in place of {before:.2f} MB")
        rows.append(f"  throughput    {', '.join(speeds)}, by ONNX Runtime on this CPU")
        return "\n".join(rows)


def measure_cost(
    exact: ModelFile, lower: ModelFile, frames: Sequence[Batch], anomalous: Sequence[bool] | None
) -> Cost:
    """Score the same frames in both precisions, and time both in alternation.

    Args:
        exact: float32's model file.
        lower: the other precision's.
        frames: real ones, each a batch of one.
        anomalous: their labels, where they are known and of both kinds.
    """
    with Scorer(exact) as before, Scorer(lower) as after:
        expected = np.concatenate([before.score(*frame.arrays()) for frame in frames])
        scores = np.concatenate([after.score(*frame.arrays()) for frame in frames])
        speed = {
            count: _speed(before, after, Batch.joined([frames[0]] * count))
            for count in SPEED_BATCHES
        }
    errors = relative_errors(scores, expected)
    threshold = np.float32(exact.contract.calibration.threshold)
    auroc = None
    if anomalous is not None:
        auroc = _auroc(anomalous, expected), _auroc(anomalous, scores)
    return Cost(
        convolutions=convolutions_of(lower),
        frames=len(frames),
        errors=Errors(*map(float, np.percentile(errors, [50, 90, 99, 100]))),
        flipped=int(((expected > threshold) != (scores > threshold)).sum()),
        auroc=auroc,
        bytes=(len(exact.data), len(lower.data)),
        speed=speed,
    )


def convolutions_of(file: ModelFile) -> tuple[int, int]:
    """Count the convolutions whose weights are in a lower precision than float32, and all."""
    graph = onnx.load_from_string(file.data).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            types[node.output[0]] = types.get(node.input[0], 0)
    weights = [types[node.input[1]] for node in graph.node if node.op_type in _CONVOLUTIONS]
    return sum(kind in _LOWER for kind in weights), len(weights)


def _auroc(anomalous: Sequence[bool], scores: NDArray[np.float32]) -> float:
    return float(roc_auc_score(anomalous, scores))


def _speed(before: Scorer, after: Scorer, batch: Batch) -> float:
    """The second one's throughput as a multiple of the first one's."""
    ratios = [_seconds(before, batch) / _seconds(after, batch) for _ in range(SPEED_ROUNDS)]
    return float(np.median(ratios))


def _seconds(scorer: Scorer, batch: Batch) -> float:
    started = time.perf_counter()
    scorer.score(*batch.arrays())
    return time.perf_counter() - started
