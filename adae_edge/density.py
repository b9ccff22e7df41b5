"""The score ``density``: how rare normals make what the network sees in a frame."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DENSITY = ("centre", "basis", "factors", "offsets", "peaks")
# Of what the components leave, the mean square in standard deviations: less is rounding.
LEAST_LEFT = 1e-6


class Density(nn.Module):
    """Tells how rare a frame is among normals, by what the network sees in it.

    A mixture of K Gaussians over the D principal components of the activations, fitted to normals
    by ``train/density.py``. The score is sqrt(-2 log(p / p_max)), where p_max is the sum of the
    Gaussians' peaks. With one Gaussian it is the Mahalanobis distance. It is never negative.

    Attributes:
        centre: float32 [V], the mean activations.
        basis: float32 [V, D], principal components, each divided by its standard deviation.
        factors: float32 [E, K * E], from E coordinates to the K whitened distances.
        offsets: float32 [K * E], the Gaussians' means in those.
        peaks: float32 [K], logarithms of the Gaussians' peaks as shares of p_max.
        spreads: float32 [V], standard deviations of what the components leave of normals, where the
            logarithm of what they leave is one more coordinate; E is D + 1. None: E is D.
    """

    centre: Tensor
    basis: Tensor
    factors: Tensor
    offsets: Tensor
    peaks: Tensor
    spreads: Tensor | None

    def __init__(
        self,
        centre: Tensor,
        basis: Tensor,
        factors: Tensor,
        offsets: Tensor,
        peaks: Tensor,
        spreads: Tensor | None = None,
    ) -> None:
        super().__init__()
        for name, value in zip(DENSITY, (centre, basis, factors, offsets, peaks), strict=True):
            self.register_buffer(name, value)
        self.register_buffer("spreads", spreads)

    def forward(self, activations: Tensor) -> Tensor:
        """Score activations float32 [N, V]: float32 [N]."""
        coordinates = self.coordinates(activations)
        distances = torch.matmul(coordinates, self.factors) - self.offsets
        squared = distances.reshape(-1, self.peaks.shape[0], self.factors.shape[0]).square()
        # Written out for OpenVINO: where the sum drops its dimension itself it takes the peaks of
        # other Gaussians, and the operator of torch.logsumexp adds up exponentials without taking
        # the largest out first.
        logs = self.peaks - 0.5 * squared.sum(dim=2, keepdim=True).flatten(1)
        largest = logs.amax(dim=1)
        log_share = (logs - largest[:, None]).exp().sum(dim=1).log() + largest
        return (-2.0 * log_share).clamp(min=0.0).sqrt()

    def coordinates(self, activations: Tensor) -> Tensor:
        """What the mixture is over: float32 [N, V] -> float32 [N, E]."""
        deviation = activations - self.centre
        components = torch.matmul(deviation, self.basis)
        if self.spreads is None:
            return components
        explained = torch.matmul(components / self.basis.square().sum(dim=0), self.basis.T)
        left = ((deviation - explained) / self.spreads).square().mean(dim=1, keepdim=True)
        return torch.cat([components, 0.5 * left.clamp(min=LEAST_LEFT).log()], dim=1)
