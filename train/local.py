"""The fit of the score ``local`` to normals: no epochs, a few seconds.

What normals' energies are is taken from frames that the fit did not see: it is repeated without a
third of them, for each third.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adae_edge.local import Local, grey_of
from adae_edge.model import ADAE
from adae_edge.pose import Pose
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.loading import inputs_of
from adae_edge.train.looks import Looks, energies_of, fitted, joined, pictures_of, rarest_of, some
from adae_edge.train.pose import Trial, choose_pose

# A Gaussian of 64 values wants some hundred frames, and gains nothing from more than that.
FRAMES = 2000
# The first of them choose the pose.
TRIED = 300
FOLDS = 3
# Energies of frames that do not vary would be divided by nothing.
LEAST_SPREAD = 0.02


class Fit(NamedTuple):
    """What a fit comes to.

    Attributes:
        local: the score.
        trial: what decided whether it turns parts; None where nothing lies on a background.
        scores: float32 [N], of each frame by the fit without its fold.
        peaks: float32 [N], the largest values of their maps, or more where a map has more pixels
            than the frame.
    """

    local: Local
    trial: Trial | None
    scores: NDArray[np.float32]
    peaks: NDArray[np.float32]


def fit_local(model: ADAE, dataset: Dataset, indices: Indices) -> Fit:
    """Fit the score to training normals; the same frames give the same numbers.

    Raw frames are read, because what a still scene varies by is less than the rounding of the
    frames that train the networks.

    Args:
        model: whose preprocessing is used; its side is 32 or more.
        dataset: the frames' data set.
        indices: of the training normals, in random order; the first 2000 are used.

    Raises:
        DatasetError: frames that cannot be decoded, or that are too small for the region.
    """
    indices = indices[:FRAMES]
    pose, trial = _pose(model, dataset, indices[:TRIED])
    pictures = _pictures(model, dataset, indices, pose)
    folds = torch.from_numpy(_folds(dataset, indices))

    # What unseen normals have.
    side = model.preprocess.side
    tops, sums, held_out = [], [], []
    for fold in range(int(folds.max()) + 1):
        partial = fitted(some(pictures, folds != fold), side, pose)
        energies = energies_of(partial, some(pictures, folds == fold))
        tops.append(rarest_of(energies))
        sums.append(torch.stack([_moments(energy) for energy in energies.values()], dim=1))
        held_out.append(energies)

    # All of them.
    local = fitted(pictures, side, pose)
    spread, mean = torch.std_mean(torch.cat(tops).double(), dim=0)
    local.scores.copy_(torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]))
    count, total, squares = torch.stack(sums).sum(dim=0)
    mean = total / count
    spread = (squares / count - mean.square()).clamp(min=0).sqrt()
    local.places.copy_(torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]))
    order = np.argsort(folds.numpy(), kind="stable")
    scores, peaks = (values[np.argsort(order)] for values in _scored(local, joined(held_out)))
    return Fit(local.to(next(model.parameters()).device).eval(), trial, scores, peaks)


def _scored(local: Local, energies: Looks) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The scores of frames with these energies, and the peaks of their maps, float32 [N] each.

    A map that a pose turns back into the frame has no value above its own and the 0 around it.
    """
    scores, peaks = [], []
    with torch.inference_mode():
        for start in range(0, len(energies["whole"]), 64):
            part = {name: values[start : start + 64] for name, values in energies.items()}
            scores.append(local.score(part))
            highest = local.map(part).amax(dim=(1, 2))
            peaks.append(highest if local.pose is None else highest.clamp(min=0))
    return torch.cat(scores).numpy(), torch.cat(peaks).numpy()


def folds_of(count: int, groups: Indices | None) -> Indices:
    """The fold of each frame, int [count]; groups stay whole, and the largest are dealt first."""
    if groups is None or len(np.unique(groups)) < 2:
        return np.arange(count) % min(FOLDS, count)
    names, sizes = np.unique(groups, return_counts=True)
    loads = np.zeros(min(FOLDS, len(names)), int)
    fold_of = {}
    for index in np.argsort(-sizes, kind="stable"):
        fold_of[names[index]] = int(loads.argmin())
        loads[loads.argmin()] += sizes[index]
    return np.array([fold_of[name] for name in groups])


def held_out_third(dataset: Dataset, indices: Indices) -> NDArray[np.bool_]:
    """Which of these frames the first partial fit does not see, bool [N]."""
    held_out: NDArray[np.bool_] = _folds(dataset, indices) == 0
    return held_out


def _folds(dataset: Dataset, indices: Indices) -> Indices:
    """The folds of these frames, of which groups are not divided."""
    return folds_of(len(indices), None if dataset.groups is None else dataset.groups[indices])


def _pose(model: ADAE, dataset: Dataset, indices: Indices) -> tuple[Pose | None, Trial | None]:
    """The pose that these normals choose."""
    parts = list(_grey(model, dataset, indices))
    aspect = float(np.median(np.concatenate([np.full(len(grey), of) for grey, of in parts])))
    held_out = torch.from_numpy(_folds(dataset, indices) == 0)
    return choose_pose(torch.cat([grey for grey, _ in parts]), held_out, aspect)


def _pictures(model: ADAE, dataset: Dataset, indices: Indices, pose: Pose | None) -> Looks:
    """What each look sees of raw frames, float32 [N, h, w], on the CPU."""
    local = Local(model.preprocess.side, 1, pose)
    return joined([pictures_of(local, grey) for grey, _ in _grey(model, dataset, indices)])


def _grey(model: ADAE, dataset: Dataset, indices: Indices) -> Iterator[tuple[Tensor, float]]:
    """What the network sees of raw frames, grey, float32 [n, S, S], and their height by width."""
    region, pad = model.preprocess.region, model.preprocess.pad
    for inputs in inputs_of(model, dataset, indices):
        _, height, width, _ = inputs[0].shape
        if region is not None:
            width, height = region[2:]
        with torch.inference_mode():
            grey = grey_of(model.preprocess(*inputs)).cpu()
        yield grey, 1.0 if pad else height / width


def _moments(energy: Tensor) -> Tensor:
    """float64 [3]: how many values, their sum and the sum of their squares."""
    values = energy.double()
    return torch.stack([
        torch.tensor(float(values.numel()), dtype=torch.float64),
        values.sum(),
        values.square().sum(),
    ])  # fmt: skip
