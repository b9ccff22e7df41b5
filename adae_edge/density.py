"""The score ``density``: how rare normals make what the encoders of G and D see in a frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DENSITY = ("centre", "basis", "factors", "offsets", "peaks")


class Density(nn.Module):
    """Tells how rare a frame is among normals, by what both encoders see in it.

    A mixture of K Gaussians over the D principal components of the activations, fitted to normals
    by ``train/density.py``. The score is sqrt(-2 log(p / p_max)), where p_max is the sum of the
    Gaussians' peaks. With one Gaussian it is the Mahalanobis distance. It is never negative.

    Attributes:
        centre: float32 [V], the mean activations.
        basis: float32 [V, D], principal components, each divided by its standard deviation.
        factors: float32 [D, K * D], from components to the K whitened distances.
        offsets: float32 [K * D], the Gaussians' means in those.
        peaks: float32 [K], logarithms of the Gaussians' peaks as shares of p_max.
    """

    centre: Tensor
    basis: Tensor
    factors: Tensor
    offsets: Tensor
    peaks: Tensor

    def __init__(
        self, centre: Tensor, basis: Tensor, factors: Tensor, offsets: Tensor, peaks: Tensor
    ) -> None:
        super().__init__()
        for name, value in zip(DENSITY, (centre, basis, factors, offsets, peaks), strict=True):
            self.register_buffer(name, value)

    def forward(self, activations: Tensor) -> Tensor:
        """Score activations float32 [N, V]: float32 [N]."""
        components = torch.matmul(activations - self.centre, self.basis)
        distances = torch.matmul(components, self.factors) - self.offsets
        squared = distances.reshape(-1, self.peaks.shape[0], self.basis.shape[1]).square()
        # Written out for OpenVINO: where the sum drops its dimension itself it takes the peaks of
        # other Gaussians, and the operator of torch.logsumexp adds up exponentials without taking
        # the largest out first.
        logs = self.peaks - 0.5 * squared.sum(dim=2, keepdim=True).flatten(1)
        largest = logs.amax(dim=1)
        log_share = (logs - largest[:, None]).exp().sum(dim=1).log() + largest
        return (-2.0 * log_share).clamp(min=0.0).sqrt()
