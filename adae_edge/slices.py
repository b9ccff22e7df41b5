"""Slices of volumes: where an object's inside is, and the score ``local`` of such slices.

The background of a slice is exactly -1, and most of the slice. What an autoencoder makes of it, and
of pixels that are part object and part background, tells of the head's shape and not of what is in
it. So the distances of the networks are measured inside, and so is the score here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adae_edge.linear import LinearAutoencoder
from adae_edge.local import COARSE_SIDE, squareplus
from adae_edge.resampling import bilinear, mean_of_three, pooled

# Above the background by this much, a pixel shows the object: half a standard deviation.
SHOWN = 0.1
# What is not farther above it is the background, rounded when it was resized.
ROUNDED = 1e-4
LOOKS = 3
# Added to squared errors, errors, and deviations in standard deviations, so that nothing has no
# finite logarithm.
FLOORS = (1e-3, 0.02, 0.05)


def interior(x: Tensor) -> Tensor:
    """How far pixels and all eight neighbours show the object and not the background.

    Args:
        x: float32 [N, 1, S, S] in [-1, 1], the background -1.

    Returns:
        float32 [N, 1, S, S], 0 to 1. It moves smoothly, so that rounding cannot flip a pixel.
    """
    shown = ((x + 1 - ROUNDED) / SHOWN).clamp(0, 1)
    return _least_of_three(_least_of_three(shown, 2), 3)


def _least_of_three(x: Tensor, axis: int) -> Tensor:
    """The least of each pixel and its two neighbours along an axis."""
    last = x.shape[axis] - 1
    before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, last)], dim=axis)
    after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], dim=axis)
    return torch.minimum(x, torch.minimum(before, after))


class SliceLocal(nn.Module):
    """Three looks at the inside of a slice, each in standard deviations of normals, averaged.

    The squared error of a linear autoencoder is summed over the slice. The largest of its absolute
    errors, and of the absolute deviations from normals at the same place, averaged over 3x3 pixels,
    find what is small. As in ``Local`` the ``squareplus`` of the average z is the score.

    Args:
        side: of what the network sees, at least 32.
        components: of the autoencoder.

    Attributes:
        whole: the autoencoder, whose centre is the mean slice, too.
        deviations: float32 [32, 32], standard deviation of normals at each place.
        scores: float32 [2, 3], mean and standard deviation of the looks at held-out normals.
        places: float32 [2, 3], the same of the single places inside.
    """

    deviations: Tensor
    scores: Tensor
    places: Tensor
    box: Tensor
    floors: Tensor
    spread: Tensor

    def __init__(self, side: int, components: int) -> None:
        super().__init__()
        self.whole = LinearAutoencoder(1, COARSE_SIDE, components)
        self.register_buffer("deviations", torch.ones(COARSE_SIDE, COARSE_SIDE))
        self.register_buffer("scores", torch.stack([torch.zeros(LOOKS), torch.ones(LOOKS)]))
        self.register_buffer("places", torch.stack([torch.zeros(LOOKS), torch.ones(LOOKS)]))
        self.register_buffer("box", mean_of_three(COARSE_SIDE), persistent=False)
        self.register_buffer("floors", torch.tensor(FLOORS), persistent=False)
        position = (torch.arange(side) + 0.5) * (COARSE_SIDE / side) - 0.5
        self.register_buffer("spread", bilinear(position, COARSE_SIDE), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, 1, S, S] in [-1, 1] -> score: float32 [N], greater than 0."""
        largest, _, _ = self.looks(self.pictures(x))
        return self.score(largest)

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: as for ``forward`` -> the score and float32 [N, S, S], the average z of each pixel.

        A pixel's z is 0 where it is as rare as normals' places are on average, and outside.
        """
        largest, energies, inside = self.looks(self.pictures(x))
        mean, deviation = self.places[0][:, None, None], self.places[1][:, None, None]
        pixels = ((energies - mean) / deviation).mean(dim=1) * inside
        return self.score(largest), torch.matmul(torch.matmul(self.spread, pixels), self.spread.T)

    def pictures(self, x: Tensor) -> Tensor:
        """x: as for ``forward`` -> float32 [N, 32, 32], by the mean."""
        return pooled(x.float().flatten(0, 1), COARSE_SIDE)

    def looks(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the three looks see in pictures float32 [N, 32, 32], in logarithms.

        Returns:
            float32 [N, 3] of the slices and [N, 3, 32, 32] of their places, and [N, 32, 32], how
                far a place lies inside.
        """
        x = pictures[:, None]
        inside = interior(x)
        errors = (x - self.whole(x)) * inside
        centre = self.whole.centre.reshape(COARSE_SIDE, COARSE_SIDE)
        moved = (x - centre) / self.deviations * inside
        sizes = torch.cat([errors.square(), errors.abs(), moved.abs()], dim=1)
        near = torch.matmul(torch.matmul(self.box, sizes), self.box.T)
        total = sizes[:, :1].sum(dim=(2, 3))
        largest = torch.cat([total, near[:, 1:].amax(dim=(2, 3))], dim=1)
        energies = (near + self.floors[:, None, None]).log()
        return (largest + self.floors).log(), energies, inside.flatten(0, 1)

    def score(self, largest: Tensor) -> Tensor:
        """largest: float32 [N, 3], of ``looks`` -> score: float32 [N]."""
        return squareplus(((largest - self.scores[0]) / self.scores[1]).mean(dim=1))
