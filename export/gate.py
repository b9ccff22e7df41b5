"""The parity gate: the exported graph, run by the runtime, must score as the trained network does."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.errors import ParityError
from adae_edge.model import ADAE
from adae_edge.modelfile import ModelFile
from adae_edge.runtime import Scorer

Frame = NDArray[np.uint8]
# What the network takes for one frame: [H, W, C], and for frames in modality units a mean and a std.
Inputs = Sequence[Any]

# Relative to the score. Rounding in float32 came to 7e-6 on a trained network, most of it on black frames.
TOLERANCE = 1e-4
BATCHES = (1, 2, 7)
LARGEST = 8192


@dataclass(frozen=True)
class Parity:
    """What the gate measured.

    Attributes:
        scores: how many pairs of scores were compared.
        worst: largest difference relative to PyTorch's score.
        tolerance: what would have been refused.
        flipped: decisions at the threshold that differ.
        backend: what ran the graph.
    """

    scores: int
    worst: float
    tolerance: float
    flipped: int
    backend: str


def check_parity(model: ADAE, exported: ModelFile, references: list[Inputs]) -> Parity:
    """Compare the graph's scores with PyTorch's on real and on extreme frames, alone and in batches.

    Args:
        model: the trained network in eval mode.
        exported: the model file that is about to be written.
        references: real frames, each with what else the network takes for it.

    Raises:
        ParityError: a score differs by more than the tolerance, alone or in some batch or order; says
            which frame, and how far.
    """
    contract = exported.contract
    groups: dict[tuple[int, ...], list[tuple[str, Inputs]]] = defaultdict(list)
    extremes = [(name, _inputs(frame, contract)) for name, frame in extreme_frames(contract)]
    for name, inputs in [*((f"reference frame {i}", one) for i, one in enumerate(references)), *extremes]:
        groups[inputs[0].shape].append((name, inputs))
    threshold = np.float32(contract.calibration.threshold)
    compared = flipped = 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(exported.data)
        scorer = Scorer(path)
    for named in groups.values():
        names = [name for name, _ in named]
        stacked = [np.stack(column) for column in zip(*(inputs for _, inputs in named), strict=True)]
        with torch.inference_mode():
            alone = [[torch.from_numpy(array[i : i + 1]) for array in stacked] for i in range(len(named))]
            expected = np.concatenate([model(*inputs).numpy() for inputs in alone])
        for what, scores in _arrangements(scorer, stacked):
            error = np.abs(scores - expected) / np.maximum(np.abs(expected), 1e-3)
            error = np.where(np.isfinite(scores) & np.isfinite(expected), error, np.inf)
            at = int(error.argmax())
            if error[at] > TOLERANCE:
                raise ParityError(
                    f"the graph scores {names[at]} {what} as {scores[at]:.6g} where the network gives "
                    f"{expected[at]:.6g}, {error[at]:.1e} apart and {TOLERANCE:.0e} is allowed: nothing was written"
                )
            worst = max(worst, float(error[at]))
            compared += len(scores)
            flipped += int(((scores > threshold) != (expected > threshold)).sum())
    return Parity(compared, worst, TOLERANCE, flipped, scorer.backend.name)


def _arrangements(scorer: Scorer, inputs: list[NDArray[Any]]) -> list[tuple[str, NDArray[np.float32]]]:
    """The same frames' scores: in batches of several sizes, and in another order."""
    count = len(inputs[0])
    found = []
    for size in BATCHES:
        if size == 1 or count >= size:
            parts = [scorer.score(*(array[at : at + size] for array in inputs)) for at in range(0, count, size)]
            found.append((f"in batches of {size}", np.concatenate(parts)))
    if count > 1:
        order = np.random.default_rng(0).permutation(count)
        shuffled = np.empty(count, np.float32)
        shuffled[order] = scorer.score(*(array[order] for array in inputs))
        found.append(("in another order", shuffled))
    return found


def _inputs(frame: Frame, contract: Contract) -> Inputs:
    """An extreme frame as the model takes it; z-scores are clipped at both ends, and 0 is background."""
    if contract.kind == "image":
        return (frame,)
    return frame.astype(np.float32), np.float32(127), np.float32(20)


def extreme_frames(contract: Contract) -> list[tuple[str, Frame]]:
    """Frames that no camera gives, by name: black, white, noise, one hot pixel, odd and the largest sizes."""
    channels, side = contract.channels, contract.side
    generator = np.random.default_rng(0)
    named: list[tuple[str, Frame]] = []
    left, top, width, height = contract.region or (0, 0, 1, 1)
    sizes = {"network-sized": (side, side), "small": (side // 2 + 1, side // 2 + 3), "wide": (side + 5, 3 * side + 1)}
    for size, (h, w) in sizes.items():
        shape = (max(h, top + height), max(w, left + width), channels)
        hot = np.zeros(shape, np.uint8)
        hot[top + height // 2, left + width // 2] = 255
        named += [
            (f"a {size} black frame", np.zeros(shape, np.uint8)),
            (f"a {size} white frame", np.full(shape, 255, np.uint8)),
            (f"a {size} frame of noise", generator.integers(0, 256, shape, np.uint8)),
            (f"a {size} frame with one hot pixel", hot),
        ]
    largest = np.zeros((LARGEST, LARGEST, channels), np.uint8)
    largest[::3, ::5] = 200
    return [*named, ("the largest frame", largest)]
