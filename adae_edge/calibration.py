"""The threshold, chosen from the scores of normals alone.

It needs numpy only, so that a device can do it, too.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import QUANTILES, Calibration, rate_words
from adae_edge.errors import UsageError

DEFAULT_FPR = 0.01
DEFAULT_CONFIDENCE = 0.95
_ABOVE = 1e-4  # the part by which a threshold lies above the score that it rests on
_ROUNDING = 1 + 1e-9  # so that a probability that rounding lifted still counts as equal


def calibrate(
    scores: NDArray[np.float32],
    fpr: float | None = None,
    confidence: float = DEFAULT_CONFIDENCE,
    peaks: NDArray[np.float32] | None = None,
    aside: NDArray[np.float32] | None = None,
    aside_peaks: NDArray[np.float32] | None = None,
) -> Calibration:
    """Choose the lowest threshold that keeps a false-positive rate with a confidence.

    The confidence is over the draw of the normals. Of many users who calibrate on normals of their
    own, the part ``confidence`` gets a threshold that at most ``fpr`` of all further normals
    exceed. The normals have to be drawn independently, as those to come are; nothing is assumed
    about the scores' distribution, see ``threshold_rank``. Equal scores only lower the rate. The
    threshold lies a ten-thousandth above the score that it rests on, so that no backend's rounding
    decides about that frame.

    The threshold of the map is chosen from the maps' largest values in the same way, so that at
    most ``fpr`` of all further normals have any pixel above it, with the same confidence.

    Normals that were set aside because a model misjudged them are no draw of all normals. So they
    count for no promise: they take their places among the scores, and the rank stays that of the
    others. A threshold can only rise by them, and keeps what it promises.

    Args:
        scores: float32 [n], scores of normals that the training did not see.
        fpr: bound on the false-positive rate; None takes 0.01, or the lowest that n can promise.
        confidence: probability that the bound holds, between 0 and 1.
        peaks: float32 [n], the largest value of each normal's map; None where there is no map.
        aside: float32 [m], scores of normals that were set aside as misjudged; None for none.
        aside_peaks: float32 [m], the same for their maps.

    Returns:
        The thresholds in the units of the score and of the map, and what they rest on.

    Raises:
        UsageError: no or non-finite scores or peaks, an impossible rate or confidence, or too few
            normals to promise it.
    """
    count = len(scores)
    if count == 0 or not all(np.isfinite(v).all() for v in (scores, aside) if v is not None):
        raise UsageError(
            "a threshold needs scores of normals, and every one must be a finite number"
        )
    if not all(np.isfinite(v).all() for v in (peaks, aside_peaks) if v is not None):
        raise UsageError("a map's threshold needs maps of finite numbers")
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence lies between 0 and 1, and {confidence} does not")
    if fpr is None:
        fpr = max(DEFAULT_FPR, lowest_fpr(count, confidence))
    if not 0 < fpr < 1:
        raise UsageError(f"a false-positive rate lies between 0 and 1, and {fpr} does not")
    rank = threshold_rank(count, fpr, confidence)
    if rank == 0:
        lowest = rate_words(lowest_fpr(count, confidence))
        raise UsageError(
            f"{count} calibration normal{'s' * (count > 1)} can promise a false-positive rate of "
            f"{lowest} at the lowest with {100 * confidence:g} % "
            f"confidence, not {fpr:g}: give {normals_needed(fpr, confidence):.0f} or more, or a "
            "higher rate"
        )
    ordered = np.sort(scores.astype(np.float64))
    every = scores if aside is None else np.append(scores, aside)
    if peaks is not None and aside_peaks is not None:
        peaks = np.append(peaks, aside_peaks)
    quantiles = np.quantile(ordered, np.linspace(0, 1, QUANTILES))
    return Calibration(
        threshold=_just_above(every, rank),
        target_fpr=float(fpr),
        confidence=float(confidence),
        normals=count,
        quantiles=tuple(float(q) for q in np.maximum.accumulate(quantiles)),
        map_threshold=None if peaks is None else _just_above(peaks, rank),
    )


def seem_trained(scores: NDArray[np.floating], calibration: Calibration) -> bool:
    """Whether the training probably saw these normals.

    Half of them then score lower than nine tenths of the normals that calibrated.

    Args:
        scores: float [n], theirs.
        calibration: the one that the training or a later command made of other normals.
    """
    return bool(np.median(scores) < calibration.quantiles[QUANTILES // 10])


def _just_above(values: NDArray[np.float32], rank: int) -> float:
    """What lies a ten-thousandth above the rank-th highest of the values."""
    value = float(np.sort(values.astype(np.float64))[-rank])
    return value + abs(value) * _ABOVE


def threshold_rank(normals: int, fpr: float, confidence: float) -> int:
    """The largest k for which the k-th highest score keeps a rate with a confidence, or 0.

    A threshold at the k-th highest score has a false-positive rate above ``fpr`` exactly if fewer
    than k of the n normals lie in the highest ``fpr`` of their distribution. With independent
    normals their number is binomial, whatever the distribution. So k is the largest with
    P(Bin(n, fpr) < k) <= 1 - confidence. That is the one-sided tolerance limit of Wilks (1941), and
    the training-conditional validity of Vovk (2012).

    Args:
        normals: n, how many normals were scored.
        fpr: bound on the false-positive rate.
        confidence: probability that the bound holds.
    """
    below = 0.0
    for k in range(normals):
        below += _binomial(normals, k, fpr)
        if below > (1 - confidence) * _ROUNDING:
            return k
    return normals


def lowest_fpr(normals: int, confidence: float = DEFAULT_CONFIDENCE) -> float:
    """The lowest false-positive rate that this many normals can promise.

    It is 1 - (1 - confidence) ** (1 / normals).
    """
    return -math.expm1(math.log(1 - confidence) / normals)


def normals_needed(fpr: float, confidence: float = DEFAULT_CONFIDENCE) -> float:
    """How many normals it takes to promise this rate.

    A whole number, infinite where it exceeds a float.
    """
    return float(np.ceil(math.log((1 - confidence) * _ROUNDING) / math.log1p(-fpr)))


def _binomial(n: int, k: int, p: float) -> float:
    """P(Bin(n, p) = k), by logarithms, because its factors leave a float's range for n = 10**6."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
