"""The linear network: an autoencoder in closed form, the principal components of normal frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# The score density looks at a picture of this side at most.
VIEW_SIDE = 16


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
        components = functional.linear(x.flatten(1) - self.centre, self.basis)
        return (torch.matmul(components, self.basis) + self.centre).reshape(-1, *self.shape)

    def activations(self, x: Tensor) -> Tensor:
        """What the score density looks at: the picture itself, its brightness divided out.

        A frame darker than one grey level is not made brighter. The last value tells it: how bright
        a frame is in grey levels, 1 at most. Only a frame that is all but black has less.

        x: float32 [N, C, S, S] in [-1, 1] -> float32 [N, C * s * s + 1]: a picture of s x s pixels,
        whose L2 norm is 1, over all channels together; and that value.
        """
        # the mean of each block of pixels, 0 is black
        channels, side, _ = self.shape
        small = min(side, VIEW_SIDE)
        values = channels * small * small
        blocks = x.float().reshape(-1, small, side // small, small, side // small)
        picture = (blocks.mean(dim=(2, 4)).reshape(-1, values) + 1) / 2

        # their norm
        grey_level = values**0.5 / 255
        norm = picture.square().sum(dim=1, keepdim=True).sqrt()
        bright = norm.clamp(max=grey_level) / grey_level
        return torch.cat([picture / norm.clamp(min=grey_level), bright], dim=1)
