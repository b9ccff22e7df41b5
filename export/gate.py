"""The parity gate: the graph, run by the runtime, must score as the trained network does."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.devices import DEVICES
from adae_edge.errors import AdaeEdgeError, ParityError
from adae_edge.export.extremes import extreme_frames
from adae_edge.export.forms import Fused
from adae_edge.export.tolerances import SMALLEST_SCORE, Tolerance, relative_errors, tolerance_of
from adae_edge.formats.modelfile import ModelFile
from adae_edge.model import ADAE
from adae_edge.runtime import Scorer

# A map's error is that of one pixel, which the score averages over all of them.
MAP_SLACK = 10
BATCHES = (1, 2, 7)

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """What the gate measured.

    Attributes:
        scores: how many pairs of scores were compared.
        error: difference relative to PyTorch's score that nine reference frames in ten keep to.
        tolerance: what would have been refused.
        flipped: decisions at the threshold that differ, of reference frames.
        verified: backends that were asked, as "onnxruntime cpu".
        unverified: backends that this machine lacks.
    """

    scores: int
    error: float
    tolerance: float
    flipped: int
    verified: tuple[str, ...]
    unverified: tuple[str, ...]

    def lines(self) -> str:
        """Say for the terminal what was compared, and what could not be."""
        text = (
            f"parity: {self.scores} scores by {', '.join(self.verified)}, nine frames in ten "
            f"within {self.error:.1e} of PyTorch's ({self.tolerance:.0e} allowed), "
            f"{self.flipped} decisions flipped"
        )
        if self.unverified:
            text += f"\nunverified, for this machine lacks them: {', '.join(self.unverified)}"
        return text


def check_parity(
    model: ADAE, formed: ADAE, exported: ModelFile, references: Sequence[Batch]
) -> Parity:
    """Compare the graph's scores with PyTorch's on real and on extreme frames.

    They are scored alone, in batches and in another order, by every backend that this machine has.
    For fp16 PyTorch's own float16 is asked, too, because ONNX Runtime's CPU may compute parts of
    such a graph in float32.

    Args:
        model: the trained network in eval mode.
        formed: the same in the form that was traced.
        exported: the model file that is about to be written.
        references: real frames, each a batch of one.

    Raises:
        ParityError: a score differs by more than the tolerance, alone or in some batch or order, or
            an anomaly map does; says which frame, and how far.
    """
    contract = exported.contract
    tolerance = tolerance_of(contract)
    comparison = _Comparison(tolerance, np.float32(contract.calibration.threshold))
    with contextlib.ExitStack() as opened:
        scorers, unverified = _scorers(exported)
        for scorer in scorers.values():
            opened.callback(scorer.close)
        for group in _groups(references, extreme_frames(contract)):
            expected = _by_pytorch(model, group.batch)
            for backend, scorer in scorers.items():
                for arrangement, scores in _arranged(scorer, group.batch):
                    comparison.add(group, f"{arrangement} by {backend}", scores, expected)
                if contract.form.anomaly_map is not None:
                    _check_maps(model, scorer, backend, group, MAP_SLACK * tolerance.largest)
            if contract.form.precision == "fp16":
                scores = _by_pytorch(formed, group.batch)
                comparison.add(group, "by PyTorch in float16", scores, expected)
    error = comparison.error_of_most()
    return Parity(
        comparison.count, error, tolerance.typical, comparison.flipped, tuple(scorers), unverified
    )


@dataclass(frozen=True)
class _Group:
    """Frames of one size, which can be scored in one batch.

    Attributes:
        names: of the frames, for messages.
        real: bool [N], which of them are reference frames.
        batch: the frames, N of them.
    """

    names: list[str]
    real: NDArray[np.bool_]
    batch: Batch


def _groups(references: Sequence[Batch], extremes: Mapping[str, Batch]) -> Iterator[_Group]:
    """Reference and extreme frames together, those of each size in a group."""
    named = {f"reference frame {index}": batch for index, batch in enumerate(references)}
    by_shape: dict[tuple[int, ...], dict[str, Batch]] = defaultdict(dict)
    for name, batch in (named | dict(extremes)).items():
        by_shape[batch.frames.shape][name] = batch
    for group in by_shape.values():
        real = np.array([name in named for name in group])
        yield _Group(list(group), real, Batch.joined(group.values()))


@dataclass
class _Comparison:
    """Scores beside those that are expected, and what came of all comparisons so far."""

    tolerance: Tolerance
    threshold: np.float32
    count: int = 0
    flipped: int = 0
    errors: list[float] = field(default_factory=list)  # of reference frames

    def add(self, group: _Group, how: str, scores: Scores, expected: Scores) -> None:
        """Compare a group's scores; raises ParityError where one is far away or no number."""
        errors = relative_errors(scores, expected)
        errors[~(np.isfinite(scores) & np.isfinite(expected))] = math.nan
        refused = np.isnan(errors) | (errors > self.tolerance.largest)
        if refused.any():
            index = int(np.nan_to_num(errors, nan=math.inf).argmax())
            raise ParityError(
                f"the graph scores {group.names[index]} {how} as {scores[index]:.6g} where the "
                f"network gives {expected[index]:.6g}, {errors[index]:.1e} apart and "
                f"{self.tolerance.largest:.0e} is allowed: nothing was written"
            )
        decisions = (scores > self.threshold) != (expected > self.threshold)
        self.count += len(scores)
        self.flipped += int(decisions[group.real].sum())
        self.errors += errors[group.real].tolist()

    def error_of_most(self) -> float:
        """The error that nine reference frames in ten keep to, unless it is too large."""
        error = float(np.percentile(self.errors, 90))
        if error > self.tolerance.typical:
            raise ParityError(
                f"one reference frame in ten is scored more than {error:.1e} apart from the "
                f"network's score, and {self.tolerance.typical:.0e} is allowed: nothing was written"
            )
        return error


def _scorers(exported: ModelFile) -> tuple[dict[str, Scorer], tuple[str, ...]]:
    """The file's scorer on each backend that is here, by name, and the names of the others."""
    scorers: dict[str, Scorer] = {}
    missing = []
    for device in DEVICES:
        name = f"onnxruntime {device}"
        try:
            scorers[name] = Scorer(exported, device)
        except AdaeEdgeError:
            if device == "cpu":
                raise
            missing.append(name)
    return scorers, tuple(missing)


def _taken(batch: Batch, index: slice | NDArray[np.intp]) -> list[NDArray[Any]]:
    """The arrays of some frames of a batch."""
    return [array[index] for array in batch.arrays()]


def _by_pytorch(model: Callable[..., torch.Tensor], batch: Batch) -> Scores:
    """PyTorch's scores of the frames one by one."""
    scores = []
    with torch.inference_mode():
        for index in range(len(batch.frames)):
            alone = _taken(batch, slice(index, index + 1))
            scores.append(model(*map(torch.from_numpy, alone)).numpy())
    return np.concatenate(scores)


def _arranged(scorer: Scorer, batch: Batch) -> Iterator[tuple[str, Scores]]:
    """Score the frames in batches of several sizes, and in another order."""
    count = len(batch.frames)
    for size in BATCHES:
        if size > max(1, count):
            continue
        starts = range(0, count, size)
        parts = [scorer.score(*_taken(batch, slice(start, start + size))) for start in starts]
        yield f"in batches of {size}", np.concatenate(parts)
    if count > 1:
        order = np.random.default_rng(0).permutation(count)
        scores = np.empty(count, np.float32)
        scores[order] = scorer.score(*_taken(batch, order))
        yield "in another order", scores


def _check_maps(model: ADAE, scorer: Scorer, backend: str, group: _Group, allowed: float) -> None:
    """Compare each frame's anomaly map with PyTorch's, in relation to the map's largest value."""
    fused = Fused(model, scorer.form.anomaly_map)
    for index, name in enumerate(group.names):
        alone = _taken(group.batch, slice(index, index + 1))
        _, pixels = scorer.score_with_map(*alone)
        with torch.inference_mode():
            expected = fused(*map(torch.from_numpy, alone))[1].numpy()
        largest = max(float(np.abs(expected).max()), SMALLEST_SCORE)
        error = float(np.abs(pixels - expected).max()) / largest
        if pixels.shape != expected.shape or not (error <= allowed and math.isfinite(error)):
            raise ParityError(
                f"the anomaly map of {name} by {backend} is {error:.1e} of its largest value from "
                f"the network's, and {allowed:.0e} is allowed: nothing was written"
            )
