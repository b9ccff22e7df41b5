"""The density of normals: a Gaussian mixture over what the encoders of a trained network see in them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from adae_edge.errors import TrainingError
from adae_edge.model import ADAE, Density
from adae_edge.train.loading import unpack

# Chosen on a development part of MNIST, see docs/ablations.md. A Gaussian of 48 dimensions wants
# some hundred frames.
FRAMES = 12_000
DIMENSIONS = 48
COMPONENTS = 30
FRAMES_PER_COMPONENT = 400
STEPS = 20
# Of the first component's variance: what normals vary less by is rounding, which dividing by it
# would blow up.
NEGLIGIBLE = 1e-6
# Added to the variances, which are 1 over all normals.
REGULARISATION = 0.1


def fit_density(model: ADAE, frames: Tensor, seed: int) -> Density:
    """Fit the mixture to training normals.

    Args:
        model: trained, in eval mode.
        frames: of the training, as ``load_frames`` returns them, in random order; the first 12 000
            are used.
        seed: of the mixture's first guess.

    Raises:
        TrainingError: what the encoders see is not finite.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        parts = frames[:FRAMES].to(device).split(256)  # type: ignore[no-untyped-call]
        activations = (
            torch.cat([model.activations(unpack(part, model.preprocess)) for part in parts])
            .cpu()
            .numpy()
        )
    if not np.isfinite(activations).all():
        raise TrainingError(
            "the encoders' activations are not finite: train again with another --recipe or --seed"
        )
    count, values = activations.shape
    components = min(max(count // FRAMES_PER_COMPONENT, 1), COMPONENTS)
    pca = PCA(min(DIMENSIONS, count // 2, values), svd_solver="randomized", random_state=seed).fit(
        activations
    )
    variances = pca.explained_variance_[
        pca.explained_variance_ >= NEGLIGIBLE * pca.explained_variance_[0]
    ]
    dimensions = len(variances)
    basis = (pca.components_[:dimensions] / np.sqrt(variances + 1e-12)[:, None]).T
    mixture = GaussianMixture(
        components,
        reg_covar=REGULARISATION,
        max_iter=STEPS,
        init_params="k-means++",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # a better fit of normals detects no more
        mixture.fit(((activations - pca.mean_) @ basis).astype(np.float64))

    factors = (
        mixture.precisions_cholesky_
    )  # [K, D, D]: whitened distance = (components - mean) @ factor
    offsets = np.einsum("kd,kde->ke", mixture.means_, factors)
    peaks = np.log(mixture.weights_) + np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    peaks -= np.logaddexp.reduce(peaks)
    arrays = (
        pca.mean_,
        basis,
        factors.transpose(1, 0, 2).reshape(dimensions, -1),
        offsets.reshape(-1),
        peaks,
    )
    return Density(
        *(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays)
    ).to(device)
