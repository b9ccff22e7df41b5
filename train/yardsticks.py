"""Yardsticks: what the simplest things would have found on the same frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from adae_edge.decoding.images import to_channels
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Dataset, Indices, read_batches
from adae_edge.train.loading import check_region

# A checkpoint keeps this many training normals in so many pixels a side, 2.5 MB at the most.
FRAMES = 600
SIDE = 64
SMALL_SIDE = 32

# Never more than half of the frames, whatever the name says.
COMPONENTS = (40, 200)
PATCH, STRIDE = 8, 4
# Of the mean variance at a place, added to every direction; and the rounding to 8 bits.
RIDGE = 0.01
ROUNDING = 1e-6
# Where half of the normals have so much exact black, the rest of a frame is an object.
BACKGROUND = 0.05

LOWER = ", lower is anomalous"

_CHUNK = 256

Pictures = NDArray[np.uint8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Yardstick:
    """What one simple score reached.

    Attributes:
        name: what it computes.
        auroc: 0 to 1.
    """

    name: str
    auroc: float


def small_pictures(
    model: ADAE, dataset: Dataset, indices: Indices, side: int | None = None
) -> Pictures:
    """Frames as the model crops and pads them, grey and small.

    Args:
        model: whose preprocessing is used, but for its side.
        dataset: the frames' data set.
        indices: which of its frames.
        side: S; None is 32 for small frames and slices, and else 64.

    Returns:
        uint8 [N, S, S].

    Raises:
        DatasetError: frames that cannot be decoded, or that are too small for the region.
    """
    whole = model.preprocess
    if side is None:
        side = SMALL_SIDE if dataset.small or dataset.kind == "modality" else SIDE
    preprocess = with_side(whole, side)
    parts = [np.empty((0, side, side), np.uint8)]
    start = 0
    for batch in read_batches(dataset, indices):
        check_region(whole.region, batch.shape)
        batch = to_channels(batch, model.channels)
        inputs = [batch, *dataset.statistics_of(indices[start : start + len(batch)])]
        start += len(batch)
        chunks = [torch.split(torch.from_numpy(array), _CHUNK) for array in inputs]
        for chunk in zip(*chunks, strict=True):
            grey = preprocess(*chunk).mean(dim=1)
            parts.append(((grey + 1) * 127.5).round().to(torch.uint8).numpy())
    return np.concatenate(parts)


def with_side(preprocess: Preprocess, side: int) -> Preprocess:
    """The same preprocessing to another side."""
    resize = "pad" if preprocess.pad else "stretch"
    return Preprocess(side, resize, preprocess.pad_value, preprocess.region, preprocess.z_range)


def measure_yardsticks(
    known: Pictures, new: Pictures, anomalous: NDArray[np.bool_]
) -> tuple[Yardstick, ...]:
    """Measure what simple scores reach, the best one first.

    Of a plain property the better side counts.

    Args:
        known: uint8 [M, S, S], training normals, two at least.
        new: uint8 [N, S, S], unseen frames.
        anomalous: bool [N], which of them are; some are and some are not.
    """
    auroc = {
        name: float(roc_auc_score(anomalous, scores))
        for name, scores in simple_scores(known, new).items()
    }
    for lower in [name for name in auroc if name.endswith(LOWER)]:
        higher = lower.removesuffix(LOWER)
        del auroc[higher if auroc[higher] < auroc[lower] else lower]
    ordered = sorted(auroc.items(), key=lambda item: -item[1])
    return tuple(Yardstick(name, value) for name, value in ordered)


def yardsticks(model: ADAE, dataset: Dataset, train: Indices, test: Indices) -> dict[str, Scores]:
    """Simple scores of frames by name, float32 [N] each, higher is more anomalous.

    Args:
        model: whose preprocessing is used, but for its side.
        dataset: the frames' data set.
        train: indices of normals.
        test: indices of the N frames that are scored.

    Raises:
        DatasetError: frames that cannot be decoded, or that are too small for the region.
    """
    known, new = (small_pictures(model, dataset, indices) for indices in (train, test))
    return simple_scores(known, new)


def simple_scores(known: Pictures, new: Pictures) -> dict[str, Scores]:
    """Simple scores by name, float32 [N] each, higher is more anomalous.

    A plain property of a frame is there twice, once as it is and once negated.

    Args:
        known: uint8 [M, S, S], training normals, two at least.
        new: uint8 [N, S, S].
    """
    scores: dict[str, Scores] = {}
    for name, values in _properties(known, new):
        scores |= {name: values, f"{name}{LOWER}": -values}
    fitted, tested = (torch.from_numpy(pictures.copy()) for pictures in (known, new))
    for name, distances in _detectors(fitted, tested):
        scores[name] = distances.numpy()
    return scores


def _properties(known: Pictures, new: Pictures) -> Iterator[tuple[str, Scores]]:
    """Every plain property's name and values, float32 [N].

    The known frames tell whether there is a background.
    """
    levels = new.reshape(len(new), -1).astype(np.float32) / 255
    black = (known == 0).reshape(len(known), -1).mean(axis=1)
    objects, of_what = list(levels), ""
    if np.median(black) > BACKGROUND:
        objects, of_what = [frame[frame > 0] for frame in levels], " of what is not black"
        objects = [values if len(values) else np.zeros(1, np.float32) for values in objects]
        yield "area of what is not black", (levels > 0).mean(axis=1, dtype=np.float32)
    yield f"mean brightness{of_what}", np.array([values.mean() for values in objects])
    yield f"standard deviation{of_what}", np.array([values.std() for values in objects])
    bright = [np.quantile(values, 0.98) for values in objects]
    yield f"98th percentile{of_what}", np.array(bright, np.float32)


def _detectors(known: Tensor, new: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Every detector's name and scores, float [N]."""
    side = known.shape[1]
    for size in sorted({SMALL_SIDE, side}):
        small_known, small_new = shrunk(known, size), shrunk(new, size)
        for count in COMPONENTS:
            total, largest = _component_errors(small_known, small_new, count)
            name = f"{count} principal components of {size} x {size} pixels"
            yield f"{name}, sum", total
            yield f"{name}, local maximum", largest
    distances = torch.cdist(
        shrunk(new, SMALL_SIDE).flatten(1), shrunk(known, SMALL_SIDE).flatten(1)
    )
    yield f"nearest neighbour of {SMALL_SIDE} x {SMALL_SIDE} pixels", distances.amin(dim=1)
    yield "a Gaussian per position of 8 x 8 patches", _patch_distances(known, new)


def shrunk(pictures: Tensor | Pictures, side: int) -> Tensor:
    """Grey levels uint8 [N, S, S] -> float32 [N, side, side], 0 to 1, by the area's mean."""
    levels = torch.as_tensor(pictures).float()[:, None] / 255
    return functional.adaptive_avg_pool2d(levels, side)[:, 0]


def _component_errors(known: Tensor, new: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The squared error's sum and its largest mean over 5 x 5 pixels, float32 [N] each."""
    centre, basis = principal_components(known.flatten(1), count)
    sums, maxima = [], []
    for chunk in new.split(_CHUNK):  # type: ignore[no-untyped-call]
        deviations = chunk.flatten(1) - centre
        errors = (deviations - deviations @ basis @ basis.T).square().reshape(chunk.shape)
        sums.append(errors.sum(dim=(1, 2)))
        maxima.append(functional.avg_pool2d(errors, 5, 1).amax(dim=(1, 2)))
    return torch.cat(sums), torch.cat(maxima)


def _patch_distances(known: Tensor, new: Tensor) -> Tensor:
    """The largest squared Mahalanobis distance over all positions, float32 [N]."""
    patches = _patches(known).double()
    means = patches.mean(dim=1, keepdim=True)
    deviations = patches - means
    covariance = deviations.transpose(1, 2) @ deviations / (len(known) - 1)
    ridge = RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(dim=1) + ROUNDING
    covariance += ridge[:, None, None] * torch.eye(PATCH * PATCH)
    inverse = torch.linalg.inv(covariance).float()
    largest = []
    for chunk in new.split(_CHUNK):  # type: ignore[no-untyped-call]
        deviations = _patches(chunk) - means.float()
        squared = (deviations @ inverse * deviations).sum(dim=2)
        largest.append(squared.amax(dim=0))
    return torch.cat(largest)


def _patches(pictures: Tensor) -> Tensor:
    """Grey levels uint8 [N, S, S] -> the patches at each of P places, float32 [P, N, 64]."""
    windows = pictures.unfold(1, PATCH, STRIDE).unfold(2, PATCH, STRIDE)
    return windows.flatten(3).flatten(1, 2).transpose(0, 1).float() / 255


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
