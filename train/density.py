"""The density of normals: a Gaussian mixture over what the trained encoders see in them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from adae_edge.density import Density
from adae_edge.errors import TrainingError
from adae_edge.model import ADAE
from adae_edge.train.loading import unpack

# Chosen on a development part of MNIST, see docs/ablations.md. A Gaussian of 48 dimensions wants
# some hundred frames.
FRAMES = 12_000
DIMENSIONS = 48
COMPONENTS = 30
FRAMES_PER_COMPONENT = 400
STEPS = 20
# Part of the first component's variance: what normals vary less by is rounding, and dividing by it
# would blow it up.
NEGLIGIBLE = 1e-6
# Added to the variances, which are 1 over all normals.
REGULARISATION = 0.1


def fit_density(model: ADAE, frames: Tensor, seed: int) -> Density:
    """Fit the mixture to training normals.

    Args:
        model: trained, in eval mode.
        frames: of the training, as ``load_frames`` returns them, in random order; the first 12 000
            are used.
        seed: for the mixture's first guess.

    Returns:
        The density, on the model's device.

    Raises:
        TrainingError: what the encoders see is not finite.
    """
    # what the encoders see
    activations = _activations(model, frames[:FRAMES])
    count, values = activations.shape

    # fewer dimensions, each of variance 1
    pca = PCA(min(DIMENSIONS, count // 2, values), svd_solver="randomized", random_state=seed)
    pca.fit(activations)
    variances = pca.explained_variance_
    variances = variances[variances >= NEGLIGIBLE * variances[0]]
    dimensions = len(variances)
    basis = (pca.components_[:dimensions] / np.sqrt(variances + 1e-12)[:, None]).T
    whitened = ((activations - pca.mean_) @ basis).astype(np.float64)

    # the mixture
    mixture = GaussianMixture(
        min(max(count // FRAMES_PER_COMPONENT, 1), COMPONENTS),
        reg_covar=REGULARISATION,
        max_iter=STEPS,
        init_params="k-means++",
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A better fit of normals detects no more.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(whitened)

    # the products that the graph computes it by
    factors = mixture.precisions_cholesky_  # [K, D, D]: distance = (whitened - mean) @ factor
    offsets = np.einsum("kd,kde->ke", mixture.means_, factors)
    peaks = np.log(mixture.weights_) + np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    peaks -= np.logaddexp.reduce(peaks)
    factors = factors.transpose(1, 0, 2).reshape(dimensions, -1)
    arrays = (pca.mean_, basis, factors, offsets.reshape(-1), peaks)
    tensors = (torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays)
    return Density(*tensors).to(next(model.parameters()).device)


def _activations(model: ADAE, frames: Tensor) -> NDArray[np.float32]:
    """What the encoders see in packed frames, float32 [N, values].

    Raises:
        TrainingError: it is not finite.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        batches = frames.to(device).split(256)  # type: ignore[no-untyped-call]
        parts = [model.activations(unpack(batch, model.preprocess)) for batch in batches]
        activations: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    if not np.isfinite(activations).all():
        raise TrainingError(
            "the encoders' activations are not finite: train again with another --recipe or --seed"
        )
    return activations
