"""Confidence intervals of the AUROC by DeLong's method, or by Obuchowski's where groups exist."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from adae_edge.train.data.dataset import Indices

CONFIDENCE = 0.95


def auroc_interval(
    scores: NDArray[np.float32], anomalous: NDArray[np.bool_], groups: Indices | None = None
) -> tuple[float, float] | None:
    """The interval that holds the AUROC with 95 % confidence.

    It is symmetric in the AUROC's logit, so it stays between 0 and 1. Where all pairs are ranked
    alike no variance can be estimated: the bound is then that of as many independent pairs as there
    are groups of the rarer kind.

    Args:
        scores: float32 [N]; higher is more anomalous.
        anomalous: bool [N].
        groups: int [N], which frames belong together and so are not independent; None where each
            stands alone.

    Returns:
        Lower and upper bound, or None where fewer than two groups have one of the kinds.
    """
    groups = np.arange(len(scores)) if groups is None else groups
    positive, negative = scores[anomalous], scores[~anomalous]
    names, group = np.unique(groups, return_inverse=True)
    with_positive = len(np.unique(group[anomalous]))
    with_negative = len(np.unique(group[~anomalous]))
    if min(with_positive, with_negative) < 2:
        return None

    # Of each frame, the share of the other kind that it is ranked rightly against.
    right = np.empty(len(scores))
    together = rankdata(scores)
    right[anomalous] = (together[anomalous] - rankdata(positive)) / len(negative)
    right[~anomalous] = 1 - (together[~anomalous] - rankdata(negative)) / len(positive)
    auroc = float(right[anomalous].mean())
    tail = (1 - CONFIDENCE) / 2
    if auroc in (0.0, 1.0):
        bound = tail ** (1 / min(with_positive, with_negative))
        return (bound, 1.0) if auroc else (0.0, 1 - bound)

    # The variance, from sums over groups.
    deviations = (right - auroc) / np.where(anomalous, len(positive), len(negative))
    of_positive = np.bincount(group, deviations * anomalous, len(names))
    of_negative = np.bincount(group, deviations * ~anomalous, len(names))
    variance = (
        with_positive / (with_positive - 1) * (of_positive**2).sum()
        + with_negative / (with_negative - 1) * (of_negative**2).sum()
        + 2 * len(names) / (len(names) - 1) * (of_positive * of_negative).sum()
    )
    middle = np.log(auroc / (1 - auroc))
    reach = NormalDist().inv_cdf(1 - tail) * np.sqrt(max(variance, 0)) / (auroc * (1 - auroc))
    low, high = (float(1 / (1 + np.exp(-value))) for value in (middle - reach, middle + reach))
    return low, high
