"""The threshold, from the scores of normals alone. Needs numpy only, so a device can do it too."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import QUANTILES, Calibration
from adae_edge.errors import UsageError

DEFAULT_FPR = 0.01
_ABOVE = 1e-4


def lowest_fpr(normals: int) -> float:
    """The lowest false-positive rate that this many normals can promise: 1 / (normals + 1)."""
    return 1 / (normals + 1)


def calibrate(scores: NDArray[np.float32], fpr: float | None = None) -> Calibration:
    """Choose the threshold so that a new normal exceeds it with probability at most ``fpr``.

    Split conformal prediction: of n + 1 exchangeable normals each is equally likely to be among
    the k highest, so with k = floor(fpr * (n + 1)) the k-th highest of n scores keeps the promise
    whatever the scores' distribution (Vovk et al., Algorithmic Learning in a Random World, 2005).
    The threshold lies a ten-thousandth above that score, so that no backend's rounding decides about
    the frame that it rests on.

    Args:
        scores: float32 [n], scores of normals that the training did not see.
        fpr: target false-positive rate; None takes 0.01, or the lowest that n can promise.

    Raises:
        UsageError: no or non-finite scores, or too few normals to promise ``fpr``.
    """
    count = len(scores)
    if count == 0 or not np.isfinite(scores).all():
        raise UsageError("a threshold needs scores of normals, and every one must be a finite number")
    if fpr is None:
        fpr = max(DEFAULT_FPR, lowest_fpr(count))
    if not 0 < fpr < 1:
        raise UsageError(f"a false-positive rate lies between 0 and 1, and {fpr} does not")
    rank = min(math.floor(fpr * (count + 1) + 1e-9), count)
    if rank < 1:
        raise UsageError(
            f"{count} calibration normals can promise a false-positive rate of {lowest_fpr(count):.3g} at the lowest, "
            f"not {fpr:g}: give {np.ceil((1 - 1e-9) / fpr) - 1:.0f} or more, or a higher rate"
        )
    ordered = np.sort(scores.astype(np.float64))
    quantiles = np.quantile(ordered, np.linspace(0, 1, QUANTILES))
    return Calibration(
        threshold=float(ordered[-rank]) * (1 + _ABOVE),
        target_fpr=float(fpr),
        normals=count,
        quantiles=tuple(float(q) for q in np.maximum.accumulate(quantiles)),
    )
