"""The score ``local``: how rare the rarest places of a frame are among normals.

Everything here is computed in float32, whatever the precision of G and D, and nothing depends on
them: the score is a function of what the network sees. ``train/local.py`` fits it to normals.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Grey levels are compared by their logarithms, so that a lamp's brightness is a shift. This share
# of white is added first, without which black would weigh more than anything else.
DARK = 0.03
PATCH = 8
VALUES = PATCH * PATCH
# The whole frame is looked at in this many pixels a side, and details in this many at most.
COARSE_SIDE = 32
FINE_SIDE = 128
# A frame's energy is the mean over this share of its places, the rarest ones.
RAREST = 0.01
# No place is less rare than that: a distance of a thousandth standard deviation a value.
LOWEST = 1e-6


class Gaussians(nn.Module):
    """One Gaussian for each place over the raw 8x8 patches there.

    Args:
        side: of the pictures, pixels.
        stride: pixels from one place to the next, a divisor of 8.
        centred: whether a patch's mean is taken out, which leaves its texture.

    Attributes:
        means: float32 [P, 64], of the patches at each of the P places.
        factors: float32 [P, 64, 64], from a patch's deviation to whitened values.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, side: int, stride: int, centred: bool) -> None:
        super().__init__()
        self.side, self.stride, self.centred = side, stride, centred
        self.across = (side - PATCH) // stride + 1
        places = self.across**2
        self.register_buffer("means", torch.zeros(places, VALUES))
        self.register_buffer("factors", torch.zeros(places, VALUES, VALUES))

    def patches(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, side, side] -> float32 [P, N, 64], the patch at each place.

        Blocks of stride x stride pixels are put together, in place of a convolution, so that no
        backend rounds them to fewer bits.
        """
        stride, across, blocks = self.stride, self.across, self.side // self.stride
        split = pictures.reshape(-1, blocks, stride, blocks, stride).transpose(2, 3)
        parts = [
            split[:, top : top + across, left : left + across].flatten(3)
            for top in range(PATCH // stride)
            for left in range(PATCH // stride)
        ]
        patches = torch.cat(parts, dim=3).flatten(1, 2).transpose(0, 1)
        return patches - patches.mean(dim=2, keepdim=True) if self.centred else patches

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, side, side] -> float32 [N, across, across], energies.

        An energy is the logarithm of the Mahalanobis distance divided by its number of values.
        """
        whitened = torch.matmul(self.patches(pictures) - self.means[:, None], self.factors)
        squared = whitened.square().mean(dim=2).transpose(0, 1)
        return energy(squared).reshape(-1, self.across, self.across)

    def resampling(self, side: int) -> Tensor:
        """Weights float32 [side, across] that spread the values of patches along an axis."""
        middle = (torch.arange(side) + 0.5) * (self.side / side)
        position = (middle - PATCH / 2) / self.stride
        return bilinear(position, self.across)


class Components(nn.Module):
    """A linear autoencoder of the whole picture: what its principal components do not explain.

    Args:
        side: of the pictures, pixels.
        components: K, how many.

    Attributes:
        centre: float32 [side * side], the mean picture.
        basis: float32 [side * side, K], orthonormal.
    """

    centre: Tensor
    basis: Tensor
    box: Tensor

    def __init__(self, side: int, components: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("centre", torch.zeros(side * side))
        self.register_buffer("basis", torch.zeros(side * side, components))
        self.register_buffer("box", mean_of_three(side), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, side, side] -> float32 [N, side, side], energies.

        An energy is half the logarithm of the squared error, averaged over 3x3 pixels.
        """
        deviation = pictures.flatten(1) - self.centre
        explained = torch.matmul(torch.matmul(deviation, self.basis), self.basis.T)
        squared = (deviation - explained).square().reshape(-1, self.side, self.side)
        return energy(torch.matmul(torch.matmul(self.box, squared), self.box.T))

    def resampling(self, side: int) -> Tensor:
        """Weights float32 [side, self.side] that spread the pixels over an axis."""
        return bilinear((torch.arange(side) + 0.5) * (self.side / side) - 0.5, self.side)


class Local(nn.Module):
    """Three looks at a frame, each in standard deviations of what normals have, averaged.

    Patches of the coarse picture show light and shape, those of the fine one texture, and the
    components of the whole what does not go together. The squareplus of the average z,
    (z + sqrt(z^2 + 4)) / 2, makes a score of it: positive, 1 for the average normal, and z itself
    where z is large.

    Args:
        side: of what the network sees, at least 32.
        components: of the whole picture.

    Attributes:
        scores: float32 [2, 3], mean and standard deviation of the looks' energies of held-out
            normals.
        places: float32 [2, 3], the same of the energies of their single places.
    """

    scores: Tensor
    places: Tensor

    def __init__(self, side: int, components: int) -> None:
        super().__init__()
        self.side = side
        self.fine_side = min(side, FINE_SIDE)
        self.coarse = Gaussians(COARSE_SIDE, 2, centred=False)
        self.fine = Gaussians(self.fine_side, 4, centred=True)
        self.whole = Components(COARSE_SIDE, components)
        self.register_buffer("scores", torch.stack([torch.zeros(3), torch.ones(3)]))
        self.register_buffer("places", torch.stack([torch.zeros(3), torch.ones(3)]))
        for name, look in self.looks().items():
            self.register_buffer(f"spread_{name}", look.resampling(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, S, S] in [-1, 1] -> score: float32 [N], greater than 0."""
        return self.score(self.energies(self.pictures(x)))

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: as for ``forward`` -> the score and float32 [N, S, S], the average z of each pixel.

        A pixel's z is 0 where it is as rare as normals' places are on average.
        """
        energies = self.energies(self.pictures(x))
        return self.score(energies), self.map(energies)

    def looks(self) -> dict[str, Gaussians | Components]:
        """The three looks by name, in the order of ``scores`` and ``places``."""
        return {"coarse": self.coarse, "fine": self.fine, "whole": self.whole}

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """x: as for ``forward`` -> each look's picture, float32 [N, side, side], in logarithms."""
        grey = (x.float().mean(dim=1) + 1) / 2
        fine = pooled(grey, self.fine_side)
        coarse = log_grey(pooled(fine, COARSE_SIDE))
        return {"coarse": coarse, "fine": log_grey(fine), "whole": coarse}

    def energies(self, pictures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The looks' energies at their places, float32 [N, h, w] each."""
        return {name: look(pictures[name]) for name, look in self.looks().items()}

    def score(self, energies: dict[str, Tensor]) -> Tensor:
        """energies: of ``energies`` -> score: float32 [N]."""
        rarest = torch.stack([of_rarest(energy) for energy in energies.values()], dim=1)
        z = ((rarest - self.scores[0]) / self.scores[1]).mean(dim=1)
        root = (z.square() + 4).sqrt() + z.abs()
        return torch.where(z > 0, root / 2, 2 / root)

    def map(self, energies: dict[str, Tensor]) -> Tensor:
        """energies: of ``energies`` -> z: float32 [N, S, S]."""
        total = torch.zeros(())
        for index, (name, energy) in enumerate(energies.items()):
            spread = getattr(self, f"spread_{name}")
            pixels = torch.matmul(torch.matmul(spread, energy), spread.T)
            total = total + (pixels - self.places[0, index]) / self.places[1, index]
        return total / len(energies)


def log_grey(grey: Tensor) -> Tensor:
    """grey: float32, 0 is black and 1 white -> its logarithm, which shadows cannot drown."""
    return (grey + DARK).log()


def pooled(pictures: Tensor, side: int) -> Tensor:
    """pictures: float32 [N, S, S] -> float32 [N, side, side], by the mean; S a multiple of side."""
    of = pictures.shape[1] // side
    return pictures.reshape(-1, side, of, side, of).mean(dim=(2, 4)) if of > 1 else pictures


def energy(squared: Tensor) -> Tensor:
    """squared: float32, mean squares -> half their logarithm, bounded below."""
    return 0.5 * squared.clamp(min=LOWEST).log()


def of_rarest(energies: Tensor) -> Tensor:
    """energies: float32 [N, h, w] -> float32 [N], the mean over the rarest hundredth of places."""
    values = energies.flatten(1)
    return values.topk(max(int(RAREST * values.shape[1]), 1), dim=1).values.mean(dim=1)


def mean_of_three(side: int) -> Tensor:
    """Weights float32 [side, side]: each pixel's mean with its neighbours; edges mirror theirs."""
    index = torch.arange(side)
    weights = torch.zeros(side, side)
    for step in (-1, 0, 1):
        neighbour = (index + step).abs()
        neighbour = torch.where(neighbour >= side, 2 * side - 2 - neighbour, neighbour)
        weights[index, neighbour] += 1 / 3
    return weights


def bilinear(position: Tensor, count: int) -> Tensor:
    """Weights float32 [len(position), count] of ``count`` values at the positions, from 0 on."""
    position = position.clamp(0, count - 1)
    return (1 - (position[:, None] - torch.arange(count)).abs()).clamp(min=0)
