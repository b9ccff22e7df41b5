"""What scores of slices are to be compared with, and pairs of slices of about the same area."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from adae_edge.model import ADAE
from adae_edge.train.data.dataset import Dataset, Indices, read_batches
from adae_edge.train.data.splits import Split
from adae_edge.train.loading import inputs_of
from adae_edge.train.slices import fit_slice_local

# Slices whose areas differ by no more than this part of the larger one are of the same area.
SIMILAR = 0.1

Scores = NDArray[np.float32]


def slice_scores(model: ADAE, dataset: Dataset, parts: Split) -> dict[str, Scores]:
    """Scores of the test slices that need no training, by name, float32 [N] each.

    These are ``local``; ``linear``, which is its first look, the error of a linear autoencoder
    inside of the brain; and properties of a slice.

    Args:
        model: whose preprocessing is used.
        dataset: the slices.
        parts: which of them train and which test.

    Raises:
        DatasetError: slices that cannot be decoded.
    """
    local = fit_slice_local(model, dataset, parts.train)
    named: dict[str, list[torch.Tensor]] = {"local": [], "linear": []}
    with torch.inference_mode():
        for inputs in inputs_of(model, dataset, parts.test):
            largest, _, _ = local.looks(local.pictures(model.preprocess(*inputs)))
            named["local"].append(local.score(largest))
            named["linear"].append(largest[:, 0])
    scores = {name: torch.cat(values).cpu().numpy() for name, values in named.items()}
    return scores | properties(dataset, parts.test)


def properties(dataset: Dataset, indices: Indices) -> dict[str, Scores]:
    """Area, mean and 98th percentile of the brain in slices, float32 [N] each.

    The area is in voxels, and the others in standard deviations of the volume's brain.
    """
    rows = []
    statistics = iter(zip(*dataset.statistics_of(indices), strict=True))
    for batch in read_batches(dataset, indices):
        for frame in batch:
            mean, deviation = next(statistics)
            brain = (frame[frame != 0] - mean) / deviation
            brain = brain if len(brain) else np.zeros(1, np.float32)
            rows.append((np.count_nonzero(frame), brain.mean(), np.quantile(brain, 0.98)))
    columns = np.array(rows, np.float32).T
    return dict(zip(("area", "mean", "98th percentile"), columns, strict=True))


def auroc_of_same_area(
    scores: Scores, anomalous: NDArray[np.bool_], patients: Indices, areas: Scores
) -> float | None:
    """AUROC over pairs of an anomalous and a normal slice of one patient and about the same area.

    Args:
        scores: float32 [N].
        anomalous: bool [N].
        patients: int [N], whose slice each is.
        areas: float32 [N], voxels of brain.

    Returns:
        0 to 1; None without such a pair.
    """
    bad, good = np.flatnonzero(anomalous)[:, None], np.flatnonzero(~anomalous)
    larger = np.maximum(areas[bad], areas[good])
    paired = (patients[bad] == patients[good]) & (
        np.abs(areas[bad] - areas[good]) <= SIMILAR * larger
    )
    if not paired.any():
        return None
    won = (scores[bad] > scores[good]) + 0.5 * (scores[bad] == scores[good])
    return float(won[paired].mean())
