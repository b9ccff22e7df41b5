"""The score ``local``: how rare the rarest places of a frame are among normals.

Everything here is computed in float32, whatever the precision of G and D, and nothing depends on
them: the score is a function of what the network sees. ``train/local.py`` fits it to normals.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from adae_edge.pose import Pose
from adae_edge.resampling import area, bilinear, mean_of_three, pooled, resampled

# Grey levels are compared by their logarithms, so that a lamp's brightness is a shift. This share
# of white is added first, without which black would weigh more than anything else.
DARK = 0.03
PATCH = 8
VALUES = PATCH * PATCH
# The whole picture is looked at in this many pixels along its shorter side, and details in this
# many at most.
COARSE_SIDE = 32
FINE_SIDE = 128
# A frame's energy is the mean over this share of its places, the rarest ones.
RAREST = 0.01
# No place is less rare than that: a distance of a thousandth standard deviation a value.
LOWEST = 1e-6

Size = tuple[int, int]


class Gaussians(nn.Module):
    """One Gaussian for each place over the raw 8x8 patches there.

    Args:
        size: height and width of the pictures, pixels, multiples of the stride.
        stride: pixels from one place to the next, a divisor of 8.
        centred: whether a patch's mean is taken out, which leaves its texture.

    Attributes:
        means: float32 [P, 64], of the patches at each of the P places.
        factors: float32 [P, 64, 64], from a patch's deviation to whitened values.
    """

    means: Tensor
    factors: Tensor

    def __init__(self, size: Size, stride: int, centred: bool) -> None:
        super().__init__()
        self.size, self.stride, self.centred = size, stride, centred
        self.rows, self.columns = ((length - PATCH) // stride + 1 for length in size)
        places = self.rows * self.columns
        self.register_buffer("means", torch.zeros(places, VALUES))
        self.register_buffer("factors", torch.zeros(places, VALUES, VALUES))

    def patches(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, h, w] -> float32 [P, N, 64], the patch at each place.

        Blocks of stride x stride pixels are put together, in place of a convolution, so that no
        backend rounds them to fewer bits.
        """
        stride, (height, width) = self.stride, self.size
        split = pictures.reshape(-1, height // stride, stride, width // stride, stride)
        split = split.transpose(2, 3)
        parts = [
            split[:, top : top + self.rows, left : left + self.columns].flatten(3)
            for top in range(PATCH // stride)
            for left in range(PATCH // stride)
        ]
        patches = torch.cat(parts, dim=3).flatten(1, 2).transpose(0, 1)
        return patches - patches.mean(dim=2, keepdim=True) if self.centred else patches

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, h, w] -> float32 [N, rows, columns], energies.

        An energy is the logarithm of the Mahalanobis distance divided by its number of values.
        """
        whitened = torch.matmul(self.patches(pictures) - self.means[:, None], self.factors)
        squared = whitened.square().mean(dim=2).transpose(0, 1)
        return energy(squared).reshape(-1, self.rows, self.columns)

    def spread(self, size: Size) -> tuple[Tensor, Tensor]:
        """Weights float32 [height, rows] and [width, columns] that give each pixel its energy."""
        rows, columns = (
            bilinear((middles(pixels, own) - PATCH / 2) / self.stride, count)
            for pixels, own, count in zip(size, self.size, (self.rows, self.columns), strict=True)
        )
        return rows, columns


class Components(nn.Module):
    """A linear autoencoder of the whole picture: what its principal components do not explain.

    Args:
        size: height and width of the picture, pixels.
        components: K, how many.

    Attributes:
        centre: float32 [h * w], the mean picture.
        basis: float32 [h * w, K], orthonormal.
    """

    centre: Tensor
    basis: Tensor
    box_rows: Tensor
    box_columns: Tensor

    def __init__(self, size: Size, components: int) -> None:
        super().__init__()
        self.size = size
        height, width = size
        self.register_buffer("centre", torch.zeros(height * width))
        self.register_buffer("basis", torch.zeros(height * width, components))
        self.register_buffer("box_rows", mean_of_three(height), persistent=False)
        self.register_buffer("box_columns", mean_of_three(width), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures: float32 [N, h, w] -> float32 [N, h, w], energies.

        An energy is half the logarithm of the squared error, averaged over 3x3 pixels.
        """
        deviation = pictures.flatten(1) - self.centre
        explained = torch.matmul(torch.matmul(deviation, self.basis), self.basis.T)
        squared = (deviation - explained).square().reshape(-1, *self.size)
        return energy(resampled(squared, self.box_rows, self.box_columns))

    def spread(self, size: Size) -> tuple[Tensor, Tensor]:
        """Weights float32 [height, h] and [width, w] that give each pixel its energy."""
        rows, columns = (
            bilinear(middles(pixels, own) - 0.5, own)
            for pixels, own in zip(size, self.size, strict=True)
        )
        return rows, columns


class Local(nn.Module):
    """Three looks at a frame, each in standard deviations of what normals have, averaged.

    Patches of the coarse picture show light and shape, those of the fine one texture, and the
    components of the whole what does not go together. The ``squareplus`` of the average z is the
    score.

    Args:
        side: S of what the network sees, at least 32.
        components: of the whole picture.
        pose: lays the part in each frame the same way, and its canvas is looked at; None looks at
            frame as it lies.

    Attributes:
        scores: float32 [2, 3], mean and standard deviation of the looks' energies of held-out
            normals.
        places: float32 [2, 3], the same of the energies of their single places.
    """

    scores: Tensor
    places: Tensor

    def __init__(self, side: int, components: int, pose: Pose | None = None) -> None:
        super().__init__()
        self.side, self.pose = side, pose
        size = (side, side) if pose is None else pose.size
        fine, coarse = shrunk(size, FINE_SIDE, 4), shrunk(size, COARSE_SIDE, 2)
        self.coarse = Gaussians(coarse, 2, centred=False)
        self.fine = Gaussians(fine, 4, centred=True)
        self.whole = Components(coarse, components)
        self.register_buffer("scores", torch.stack([torch.zeros(3), torch.ones(3)]))
        self.register_buffer("places", torch.stack([torch.zeros(3), torch.ones(3)]))

        # Weights that follow from the sizes alone.
        self.keep("to_fine", *map(area, fine, size))
        self.keep("to_coarse", *map(area, coarse, fine))
        for name, look in self.looks().items():
            self.keep(f"from_{name}", *look.spread(size))

    @staticmethod
    def like(side: int, weights: Mapping[str, Tensor]) -> Local:
        """A score that weights named as in ``state_dict`` fit into.

        Raises:
            KeyError, IndexError: they are no weights of this score.
        """
        pose = None
        if "pose.lean" in weights:
            height, width = weights["pose.lean"].shape
            pose = Pose(side, (height, width))
        return Local(side, weights["whole.basis"].shape[1], pose)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, S, S] in [-1, 1] -> score: float32 [N], greater than 0."""
        fine, _ = self.seen(grey_of(x))
        return self.score(self.energies(self.pictures(fine)))

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: as for ``forward`` -> the score and float32 [N, S, S], the average z of each pixel.

        A pixel's z is 0 where it is as rare as normals' places are on average, and where a pose
        leaves it outside of the canvas.
        """
        fine, place = self.seen(grey_of(x))
        energies = self.energies(self.pictures(fine))
        pixels = self.map(energies)
        if self.pose is not None and place is not None:
            pixels = self.pose.back(pixels, place)
        return self.score(energies), pixels

    def keep(self, name: str, rows: Tensor, columns: Tensor) -> None:
        """Keep the weights by which ``resample`` resizes pictures under this name."""
        self.register_buffer(f"rows_{name}", rows, persistent=False)
        self.register_buffer(f"columns_{name}", columns, persistent=False)

    def resample(self, pictures: Tensor, name: str) -> Tensor:
        """Resize pictures float32 [N, h, w] by the weights of this name."""
        return resampled(pictures, getattr(self, f"rows_{name}"), getattr(self, f"columns_{name}"))

    def looks(self) -> dict[str, Gaussians | Components]:
        """The three looks by name, in the order of ``scores`` and ``places``."""
        return {"coarse": self.coarse, "fine": self.fine, "whole": self.whole}

    def seen(self, grey: Tensor) -> tuple[Tensor, Tensor | None]:
        """What of grey frames is looked at, and where it lies, as ``Pose.forward`` says.

        float32 [N, S, S] become float32 [N, h, w], both 0 for black and 1 for white.
        """
        if self.pose is None:
            return pooled(grey, self.fine.size[0]), None
        canvas, place = self.pose(grey)
        if self.fine.size != self.pose.size:
            canvas = self.resample(canvas, "to_fine")
        return canvas, place

    def pictures(self, fine: Tensor) -> dict[str, Tensor]:
        """Each look's pictures of what ``seen`` gives, float32 [N, h, w], in logarithms."""
        coarse = log_grey(self.resample(fine, "to_coarse"))
        return {"coarse": coarse, "fine": log_grey(fine), "whole": coarse}

    def energies(self, pictures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The looks' energies at their places, float32 [N, rows, columns] each."""
        return {name: look(pictures[name]) for name, look in self.looks().items()}

    def score(self, energies: dict[str, Tensor]) -> Tensor:
        """energies: of ``energies`` -> score: float32 [N]."""
        rarest = torch.stack([of_rarest(energy) for energy in energies.values()], dim=1)
        return squareplus(((rarest - self.scores[0]) / self.scores[1]).mean(dim=1))

    def map(self, energies: dict[str, Tensor]) -> Tensor:
        """energies: of ``energies`` -> z of the frame's or canvas' pixels, float32 [N, h, w]."""
        total = torch.zeros(())
        for index, (name, energy) in enumerate(energies.items()):
            pixels = self.resample(energy, f"from_{name}")
            total = total + (pixels - self.places[0, index]) / self.places[1, index]
        return total / len(energies)


def grey_of(x: Tensor) -> Tensor:
    """What the network sees, [N, C, S, S] in [-1, 1] -> float32 [N, S, S], 0 to 1."""
    return (x.float().mean(dim=1) + 1) / 2


def log_grey(grey: Tensor) -> Tensor:
    """grey: float32, 0 is black and 1 white -> its logarithm, which shadows cannot drown."""
    return (grey + DARK).log()


def shrunk(size: Size, shorter: int, multiple: int) -> Size:
    """Height and width with a shorter side of at most ``shorter``, both multiples of a number."""
    scale = min(shorter / min(size), 1)
    height, width = (multiple * round(scale * length / multiple) for length in size)
    return height, width


def middles(count: int, length: int) -> Tensor:
    """The middles of ``count`` equal parts of an axis of ``length`` pixels: float32 [count]."""
    return (torch.arange(count) + 0.5) * (length / count)


def energy(squared: Tensor) -> Tensor:
    """squared: float32, mean squares -> half their logarithm, bounded below."""
    return 0.5 * squared.clamp(min=LOWEST).log()


def squareplus(z: Tensor) -> Tensor:
    """z: float32 [N], standard deviations -> (z + sqrt(z^2 + 4)) / 2, without cancellation.

    The result is greater than 0, 1 for the average normal, and z itself where z is large.
    """
    root = (z.square() + 4).sqrt() + z.abs()
    return torch.where(z > 0, root / 2, 2 / root)


def of_rarest(energies: Tensor) -> Tensor:
    """energies: float32 [N, h, w] -> float32 [N], the mean over the rarest hundredth of places."""
    values = energies.flatten(1)
    return values.topk(max(int(RAREST * values.shape[1]), 1), dim=1).values.mean(dim=1)
