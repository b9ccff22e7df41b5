"""How far scores may be apart, and how that is measured, for every gate and every choice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract

Layer = TypeVar("Layer")

# Scores below this are compared as if they were this, so that rounding around 0 is no large error.
SMALLEST_SCORE = 1e-3
_FAR = 1e30


class Tolerance(NamedTuple):
    """How far from PyTorch's score a graph's score may be, relative to it.

    Attributes:
        typical: nine reference frames in ten keep to it.
        largest: every frame keeps to it.
    """

    typical: float
    largest: float


# In float32 rounding came to 8e-6 on trained networks, most of it on black frames. INT8 knows only
# activations as in the reference frames: of any frame it promises no more than a finite score.
TOLERANCES = {
    "fp32": Tolerance(1e-5, 1e-5),
    "fp16": Tolerance(4e-3, 2e-2),
    "int8": Tolerance(0.1, math.inf),
}
# The score local divides by what normals vary, which in a still scene is little more than rounding.
LOCAL_TOLERANCE = Tolerance(1e-4, 1e-3)
# The error that nine real frames in ten keep to where layers are chosen for a lower precision:
# layers that would make it larger stay in float32.
LIMITS = {"fp16": 2e-3, "int8": 0.05}


def tolerance_of(contract: Contract) -> Tolerance:
    """How far the scores of a model file with this contract may be from PyTorch's."""
    return LOCAL_TOLERANCE if contract.score == "local" else TOLERANCES[contract.form.precision]


def relative_errors(
    scores: NDArray[np.float32], expected: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The distance of each score from the expected one, relative to it; both float32 [N]."""
    size = np.maximum(np.abs(expected), SMALLEST_SCORE)
    return np.abs(scores.astype(np.float64) - expected) / size


def error_of_most(scores: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The relative error that nine scores in ten keep to; a score that is no number is far away."""
    errors = np.nan_to_num(relative_errors(scores, expected), nan=_FAR, posinf=_FAR)
    return float(np.quantile(errors, 0.9))


def layers_within(
    limit: float, layers: Iterable[Layer], error: Callable[[list[Layer]], float]
) -> list[Layer]:
    """Choose as many layers for a lower precision as the scores allow.

    A trained network may make much of little: where a layer's outputs hardly vary, the next one
    amplifies them, and with them what was rounded away. Such layers are left out, the worst of
    them first.

    Args:
        limit: the error that is allowed.
        layers: all that could be chosen.
        error: the error with some of them in the lower precision; 0 with none.
    """
    chosen = list(layers)
    if error(chosen) <= limit:
        return chosen
    alone = {layer: error([layer]) for layer in chosen}
    chosen.sort(key=alone.__getitem__)
    while error(chosen) > limit:
        chosen.pop()
    return chosen
