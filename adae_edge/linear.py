"""The linear network: an autoencoder in closed form, the principal components of normal frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearAutoencoder(nn.Module):
    """What of a frame lies in the span of K principal components.

    It stands in the place of G and of D. Both are the same, because what the components of normal
    frames give back is in their span already: D(G(x)) is G(x).

    Args:
        channels: C.
        side: S, pixels.
        components: K.

    Attributes:
        centre: float32 [C * S * S], the mean frame.
        basis: float32 [K, C * S * S], orthonormal rows.
    """

    def __init__(self, channels: int, side: int, components: int) -> None:
        super().__init__()
        values = channels * side * side
        self.shape = (channels, side, side)
        self.centre = nn.Parameter(torch.zeros(values), requires_grad=False)
        self.basis = nn.Parameter(torch.zeros(components, values), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, S, S] in [-1, 1] -> [N, C, S, S]."""
        explained = torch.matmul(self.activations(x), self.basis) + self.centre
        return explained.reshape(-1, *self.shape)

    def activations(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, S, S] -> float32 [N, K], how much of each component is in it."""
        return functional.linear(x.flatten(1) - self.centre, self.basis)
