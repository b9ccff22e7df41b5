"""The density of normals: a Gaussian mixture over what the network sees in them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from adae_edge.density import LEAST_LEFT, Density
from adae_edge.errors import TrainingError
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import ADAE
from adae_edge.train.loading import unpack


@dataclass(frozen=True)
class Sizes:
    """How large the mixture is.

    Attributes:
        frames: that are looked at, at most.
        dimensions: principal components, at most.
        gaussians: at most.
        frames_per_gaussian: at least.
        mixtures: fitted from different first guesses, and averaged.
        start: how scikit-learn guesses first.
        steps: of expectation and maximisation.
        regularisation: added to the variances, which are 1 over all normals.
        rest: whether what the components leave is one more dimension.
    """

    frames: int
    dimensions: int
    gaussians: int
    frames_per_gaussian: int
    mixtures: int
    start: str
    steps: int
    regularisation: float
    rest: bool


# Of the encoders' activations. Chosen on a development part of MNIST, see docs/ablations.md. A
# Gaussian of 48 dimensions wants some hundred frames.
ENCODERS = Sizes(12_000, 48, 30, 400, 1, "k-means++", 20, 0.1, rest=False)
# Of the picture itself, with the recipe linear; see docs/density.md.
PICTURE = Sizes(30_000, 20, 100, 100, 3, "kmeans", 3, 0.003, rest=True)
# Pictures have length 1. What a pixel or a component varies less by is noise, and what all pictures
# vary less by is rounding.
NOISE = 1e-3
ROUNDING = 1e-5
# The logarithm of what components leave varies by this at least, where normals are all alike.
LEAST_SPREAD = 0.02
# Part of the first component's variance: what normals vary less by is rounding, and dividing by it
# would blow it up.
NEGLIGIBLE = 1e-6


def fit_density(model: ADAE, frames: Tensor, seed: int) -> Density:
    """Fit the mixture to training normals.

    Args:
        model: trained, in eval mode.
        frames: of the training, as ``load_frames`` returns them, in random order; the first 12 000
            are used, or 30 000 by a linear network.
        seed: for the mixtures' first guesses.

    Returns:
        The density, on the model's device.

    Raises:
        TrainingError: what the encoders see is not finite, or the pictures are all alike.
    """
    sizes = PICTURE if isinstance(model.generator, LinearAutoencoder) else ENCODERS
    activations = _activations(model, frames[: sizes.frames])
    return density_of(activations, sizes, seed).to(next(model.parameters()).device)


def density_of(activations: NDArray[np.float32], sizes: Sizes, seed: int) -> Density:
    """Fit a mixture of these sizes to what is seen of normals, float32 [N, V].

    Raises:
        TrainingError: they are all alike, where what the components leave is looked at.
    """
    # fewer dimensions, each of variance 1
    count, values = activations.shape
    pca = PCA(min(sizes.dimensions, count // 2, values), svd_solver="randomized", random_state=seed)
    pca.fit(activations)
    variances = pca.explained_variance_
    if sizes.rest and variances[0] < ROUNDING**2:
        raise TrainingError(
            "the training frames are all alike, but for their brightness: the score density has "
            "nothing to learn from them"
        )
    variances = variances[variances >= NEGLIGIBLE * variances[0]]
    components = pca.components_[: len(variances)]
    least = NOISE if sizes.rest else 1e-6
    basis = (components / np.sqrt(variances + least**2)[:, None]).T
    deviations = activations - pca.mean_
    whitened = (deviations @ basis).astype(np.float64)

    # what they leave, one dimension more
    if sizes.rest:
        rest, spreads = _rest(deviations, components)
        middle, spread = rest.mean(), max(rest.std(), LEAST_SPREAD)
        whitened = np.column_stack([whitened, (rest - middle) / spread])

    # the mixtures, as one: the mean of their densities
    fitted = [_mixture(whitened, sizes, seed * sizes.mixtures + i) for i in range(sizes.mixtures)]
    factors = np.concatenate([mixture.precisions_cholesky_ for mixture in fitted])  # [K, E, E]
    means = np.concatenate([mixture.means_ for mixture in fitted])
    weights = np.concatenate([mixture.weights_ for mixture in fitted]) / sizes.mixtures

    # the products that the graph computes it by
    offsets = np.einsum("kd,kde->ke", means, factors)  # distance = (whitened - mean) @ factor
    peaks = np.log(weights) + np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    peaks -= np.logaddexp.reduce(peaks)
    if sizes.rest:
        factors[:, -1] /= spread
        offsets += middle * factors[:, -1]
    factors = factors.transpose(1, 0, 2).reshape(whitened.shape[1], -1)
    arrays = [pca.mean_, basis, factors, offsets.reshape(-1), peaks]
    arrays += [spreads] if sizes.rest else []
    tensors = (torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays)
    return Density(*tensors)


def _rest(
    deviations: NDArray[np.float32], components: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What components leave of normals, as ``Density.coordinates`` measures it.

    Args:
        deviations: float32 [N, V], from the mean.
        components: float32 [D, V], orthonormal.

    Returns:
        Half the logarithms of the mean squares, float64 [N], and each value's standard deviation,
            float64 [V].
    """
    left = (deviations - deviations @ components.T @ components).astype(np.float64)
    spreads = np.sqrt(left.var(axis=0) + NOISE**2)
    squares = np.square(left / spreads).mean(axis=1)
    return 0.5 * np.log(np.maximum(squares, LEAST_LEFT)), spreads


def _mixture(whitened: NDArray[np.float64], sizes: Sizes, seed: int) -> GaussianMixture:
    """Fit one mixture to the principal components of normals, float64 [N, D]."""
    gaussians = min(max(len(whitened) // sizes.frames_per_gaussian, 1), sizes.gaussians)
    mixture = GaussianMixture(
        gaussians,
        reg_covar=sizes.regularisation,
        max_iter=sizes.steps,
        init_params=sizes.start,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A better fit of normals detects no more.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(whitened)


def _activations(model: ADAE, frames: Tensor) -> NDArray[np.float32]:
    """What the network sees in packed frames, float32 [N, values].

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
