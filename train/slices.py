"""The fit of the score ``local`` of slices to normals: no epochs, a second.

What normals' looks are is taken from patients whom the fit did not see, as in ``train/local.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adae_edge.model import ADAE
from adae_edge.slices import SliceLocal
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.loading import inputs_of
from adae_edge.train.local import FRAMES, LEAST_SPREAD, folds_of

# Few: what many components explain holds much of what a lesion is.
COMPONENTS = 20
# No place varies less: a quarter of a standard deviation of the volume.
LEAST_DEVIATION = 0.05


def fit_slice_local(model: ADAE, dataset: Dataset, indices: Indices) -> SliceLocal:
    """Fit the score to training normals; the same slices give the same numbers.

    Args:
        model: whose preprocessing is used; its side is 32 or more.
        dataset: the slices' data set.
        indices: of the training normals, in random order; the first 2000 are used.

    Raises:
        DatasetError: slices that cannot be decoded, or that are too small for the region.
    """
    # slices, and folds of whole patients
    indices, side = indices[:FRAMES], model.preprocess.side
    pictures = _pictures(model, dataset, indices)
    groups = None if dataset.groups is None else dataset.groups[indices]
    folds = torch.from_numpy(folds_of(len(indices), groups))

    # what unseen normals have, as slices and at their places
    slices, places = [], []
    with torch.inference_mode():
        for fold in range(int(folds.max()) + 1):
            partial = _fitted(pictures[folds != fold], side)
            largest, energies, inside = partial.looks(pictures[folds == fold])
            slices.append(largest)
            places.append(energies.movedim(1, -1)[inside > 0.5])

    # all of them
    local = _fitted(pictures, side)
    local.scores.copy_(_mean_and_spread(torch.cat(slices)))
    if len(seen := torch.cat(places)):
        local.places.copy_(_mean_and_spread(seen))
    return local.to(next(model.parameters()).device).eval()


def _pictures(model: ADAE, dataset: Dataset, indices: Indices) -> Tensor:
    """What the score sees of raw slices, float32 [N, 32, 32], on the CPU."""
    local = SliceLocal(model.preprocess.side, 1)
    with torch.inference_mode():
        inputs = inputs_of(model, dataset, indices)
        return torch.cat([local.pictures(model.preprocess(*part).cpu()) for part in inputs])


def _fitted(pictures: Tensor, side: int) -> SliceLocal:
    """The three looks, fitted to all of these pictures float32 [N, 32, 32]."""
    centre, basis = principal_components(pictures.flatten(1), COMPONENTS)
    local = SliceLocal(side, basis.shape[1])
    local.whole.centre.copy_(centre)
    local.whole.basis.copy_(basis.T)
    deviations = pictures.double().std(dim=0, correction=0).float()
    local.deviations.copy_(local.box @ deviations @ local.box.T + LEAST_DEVIATION)
    return local


def _mean_and_spread(values: Tensor) -> Tensor:
    """values: float32 [N, 3] -> float32 [2, 3]."""
    spread, mean = torch.std_mean(values.double(), dim=0, correction=0)
    return torch.stack([mean, spread.clamp(min=LEAST_SPREAD)]).float()
