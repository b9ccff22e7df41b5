"""The fit of the score ``local`` to normals: no epochs, a few seconds.

What normals' energies are is taken from frames that the fit did not see: it is repeated without a
third of them, for each third.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from adae_edge.local import VALUES, Gaussians, Local, of_rarest
from adae_edge.model import ADAE
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.loading import inputs_of

# A Gaussian of 64 values wants some hundred frames, and gains nothing from more than that.
FRAMES = 2000
COMPONENTS = 200
FOLDS = 3
# How far a place's covariance is drawn to what all places have, of its own size, and how much of
# that is the same in every direction.
SHRINKAGE = 0.01
ROUND = 0.2
# Of white: every pixel's noise, at least. A frame's own 8 bits are no finer.
NOISE = 0.1 / 255
# Energies of frames that do not vary would be divided by nothing.
LEAST_SPREAD = 0.02
_CHUNK = 64


def fit_local(model: ADAE, dataset: Dataset, indices: Indices) -> Local:
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
    side = model.preprocess.side
    pictures = _pictures(model, dataset, indices)
    groups = None if dataset.groups is None else dataset.groups[indices]
    folds = torch.from_numpy(folds_of(len(indices), groups))

    # What unseen normals have.
    tops, sums = [], []
    for fold in range(int(folds.max()) + 1):
        partial = _fitted(_some(pictures, folds != fold), side)
        energies = _energies(partial, _some(pictures, folds == fold))
        tops.append(torch.stack([of_rarest(energy) for energy in energies.values()], dim=1))
        sums.append(torch.stack([_moments(energy) for energy in energies.values()], dim=1))

    # All of them.
    local = _fitted(pictures, side)
    spread, mean = torch.std_mean(torch.cat(tops).double(), dim=0)
    local.scores.copy_(torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]))
    count, total, squares = torch.stack(sums).sum(dim=0)
    mean = total / count
    spread = (squares / count - mean.square()).clamp(min=0).sqrt()
    local.places.copy_(torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]))
    return local.to(next(model.parameters()).device).eval()


def folds_of(count: int, groups: Indices | None) -> Indices:
    """int [count], the fold of each frame; groups stay whole, the largest are dealt first."""
    if groups is None or len(np.unique(groups)) < 2:
        return np.arange(count) % min(FOLDS, count)
    names, sizes = np.unique(groups, return_counts=True)
    loads = np.zeros(min(FOLDS, len(names)), int)
    fold_of = {}
    for index in np.argsort(-sizes, kind="stable"):
        fold_of[names[index]] = int(loads.argmin())
        loads[loads.argmin()] += sizes[index]
    return np.array([fold_of[name] for name in groups])


def _pictures(model: ADAE, dataset: Dataset, indices: Indices) -> dict[str, Tensor]:
    """What each look sees of raw frames, float32 [N, side, side], on the CPU."""
    local = Local(model.preprocess.side, 1)
    with torch.inference_mode():
        parts = [
            local.pictures(model.preprocess(*inputs).cpu())
            for inputs in inputs_of(model, dataset, indices)
        ]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _some(pictures: dict[str, Tensor], chosen: Tensor) -> dict[str, Tensor]:
    return {name: values[chosen] for name, values in pictures.items()}


def _fitted(pictures: dict[str, Tensor], side: int) -> Local:
    """The three looks, fitted to all of these pictures."""
    flat = pictures["whole"].flatten(1)
    centre, basis = principal_components(flat, COMPONENTS)
    local = Local(side, basis.shape[1])
    local.whole.centre.copy_(centre)
    local.whole.basis.copy_(basis)
    fit_gaussians(local.coarse, pictures["coarse"])
    fit_gaussians(local.fine, pictures["fine"])
    return local


def fit_gaussians(look: Gaussians, pictures: Tensor) -> None:
    """Give the look its means and factors.

    Args:
        look: whose buffers are filled.
        pictures: float32 [N, side, side], logarithms of grey levels.
    """
    mean = pictures.mean(dim=0, dtype=torch.float64)
    means = look.patches(mean[None])[:, 0]
    products = torch.zeros(len(means), VALUES, VALUES, dtype=torch.float64)
    for part in pictures.split(_CHUNK):  # type: ignore[no-untyped-call]
        deviations = look.patches(part.double()) - means[:, None]
        products += deviations.transpose(1, 2) @ deviations
    covariance = products / len(pictures)

    # Shrink each place's covariance, and add the noise that every camera has.
    size = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    common = covariance.mean(dim=0)
    common = common / common.trace().clamp(min=1e-30)
    target = ROUND / VALUES * torch.eye(VALUES) + (1 - ROUND) * common
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * target
    plain = Gaussians(look.side, look.stride, centred=False)
    noise = NOISE * torch.exp(-plain.patches(mean[None])[:, 0])
    covariance += torch.diag_embed(noise.square())

    # The factor F of the inverse, F F^T.
    lower = torch.linalg.cholesky(covariance)
    eye = torch.eye(VALUES, dtype=torch.float64).expand_as(lower)
    factors = torch.linalg.solve_triangular(lower, eye, upper=False).transpose(1, 2)
    look.means.copy_(means)
    look.factors.copy_(factors)


def _energies(local: Local, pictures: dict[str, Tensor]) -> dict[str, Tensor]:
    """The looks' energies, float32 [N, h, w] each."""
    with torch.inference_mode():
        return {
            name: torch.cat([look(part) for part in torch.split(pictures[name], _CHUNK)])
            for name, look in local.looks().items()
        }


def _moments(energy: Tensor) -> Tensor:
    """float64 [3]: how many values, their sum and the sum of their squares."""
    values = energy.double()
    return torch.stack([
        torch.tensor(float(values.numel()), dtype=torch.float64),
        values.sum(),
        values.square().sum(),
    ])  # fmt: skip
