"""What trivial scores reach: the simplest things that could have found the same anomalies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from adae_edge.model import ADAE
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.loading import inputs_of

SIDES = (32, 64)
COMPONENTS = (40, 200)
PATCH, STRIDE = 8, 4
# Of the mean variance at a place, added to every direction.
RIDGE = 0.01

Scores = NDArray[np.float32]


def yardsticks(model: ADAE, dataset: Dataset, train: Indices, test: Indices) -> dict[str, Scores]:
    """Trivial scores of frames by name, float32 [N] each, higher is more anomalous.

    Args:
        model: whose preprocessing is used, with a side of 64 or more.
        dataset: the frames' data set.
        train: indices of normals.
        test: indices of the N frames that are scored.

    Raises:
        DatasetError: frames that cannot be decoded, or that are too small for the region.
    """
    known, new = (_small(model, dataset, indices) for indices in (train, test))
    return {name: scores.numpy().astype(np.float32) for name, scores in _scores(known, new)}


def _small(model: ADAE, dataset: Dataset, indices: Indices) -> dict[int, Tensor]:
    """Frames as grey pictures by side, float32 [N, side, side], 0 to 1."""
    with torch.inference_mode():
        grey = torch.cat([
            model.preprocess(*inputs).mean(dim=1, keepdim=True).cpu()
            for inputs in inputs_of(model, dataset, indices)
        ])  # fmt: skip
    return {side: functional.adaptive_avg_pool2d((grey + 1) / 2, side)[:, 0] for side in SIDES}


def _scores(known: dict[int, Tensor], new: dict[int, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every yardstick's name and scores, float [N]."""
    brightness = new[64].mean(dim=(1, 2))
    yield "mean brightness", brightness
    yield "darkness", -brightness
    yield "standard deviation", new[64].std(dim=(1, 2))
    for side in SIDES:
        for count in COMPONENTS:
            errors = _component_errors(known[side], new[side], count)
            name = f"{count} principal components of {side} x {side} pixels"
            yield f"{name}, sum", errors.sum(dim=(1, 2))
            yield f"{name}, local maximum", functional.avg_pool2d(errors, 5, 1).amax(dim=(1, 2))
    distances = torch.cdist(new[32].flatten(1), known[32].flatten(1))
    yield "nearest neighbour of 32 x 32 pixels", distances.amin(dim=1)
    yield "a Gaussian per position of 8 x 8 patches", _patch_distances(known[64], new[64])


def _component_errors(known: Tensor, new: Tensor, count: int) -> Tensor:
    """Squared errors float32 [N, S, S] of new pictures by the components of known ones."""
    centre, basis = principal_components(known.flatten(1), count)
    deviations = new.flatten(1) - centre
    errors = deviations - deviations @ basis @ basis.T
    return errors.square().reshape(new.shape)


def _patch_distances(known: Tensor, new: Tensor) -> Tensor:
    """The largest Mahalanobis distance float64 [N] over all positions."""
    known, new = (
        pictures.double().unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE).flatten(3).flatten(1, 2)
        for pictures in (known, new)
    )
    largest = torch.zeros(len(new), dtype=torch.float64)
    for position in range(known.shape[1]):
        mean = known[:, position].mean(dim=0)
        covariance = torch.cov(known[:, position].T)
        ridge = RIDGE * covariance.trace() / len(covariance) + 1e-6
        covariance += ridge * torch.eye(len(covariance))
        deviations = new[:, position] - mean
        squared = (deviations @ torch.linalg.inv(covariance) * deviations).sum(dim=1)
        largest = torch.maximum(largest, squared.clamp(min=0).sqrt())
    return largest


def auroc_within(scores: Scores, anomalous: NDArray[np.bool_], groups: Indices) -> float:
    """AUROC over pairs of an anomalous and a normal frame of one group.

    Args:
        scores: float32 [N].
        anomalous: bool [N].
        groups: int [N], whose frame each is.
    """
    won, pairs = 0.0, 0
    for group in np.unique(groups):
        bad, good = (scores[(groups == group) & (anomalous == kind)] for kind in (True, False))
        won += float((bad[:, None] > good).sum()) + 0.5 * float((bad[:, None] == good).sum())
        pairs += bad.size * good.size
    return won / pairs if pairs else float("nan")
