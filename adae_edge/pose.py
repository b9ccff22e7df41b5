"""A rigid part that lies anywhere and at any angle, laid so that it always lies the same way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from adae_edge.resampling import pooled

# Where a part lies is seen in this many pixels a side at most, and its background's level in these.
PLACE_SIDE = 64
MEDIAN_SIDE = 32
# A weight that every pixel has, so that a frame without a part has a place too: its middle.
LEAST_WEIGHT = 1e-6
# A part is turned round where that is so much nearer: frames of one level differ by rounding alone.
LEAST_NEARER = 1e-3


class Pose(nn.Module):
    """Turns and shifts frames, so that the part in them fills one canvas, its main axis horizontal.

    A part is what differs from the frame's median. Its centroid is the canvas' centre, and the
    axis of its largest second moment the canvas' rows. Of the two directions of that axis the one
    is taken in which the canvas is nearer to what normals' canvases are on average.

    Lengths are in pixels of the canvas, each of which has the area of one pixel that the network
    sees. Frames that are not square are stretched there, and not in the canvas.

    Args:
        side: S of what the network sees.
        size: height and width of the canvas.

    Attributes:
        levels: float32 [2], the difference to the median from which a pixel belongs to the part,
            and that from which it does wholly.
        steps: float32 [2], height and width of a pixel that the network sees.
        upright: float32, added to the difference of both second moments, so that the axis of what
            has none is horizontal.
        lean: float32 [h, w], the normals' mean canvas turned round, minus the mean canvas.
    """

    levels: Tensor
    steps: Tensor
    upright: Tensor
    lean: Tensor

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.side, self.size = side, size
        self.register_buffer("levels", torch.tensor([0.0, 1.0]))
        self.register_buffer("steps", torch.ones(2))
        self.register_buffer("upright", torch.tensor(0.0))
        self.register_buffer("lean", torch.zeros(size))

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Lay the part of each frame into the canvas.

        Args:
            grey: float32 [N, S, S], 0 is black and 1 white.

        Returns:
            The canvases float32 [N, h, w], and where they lie, float32 [N, 4]: the centre's x and
                y from the frame's centre, and the cosine and sine of the angle.
        """
        place = self.place(grey)
        canvas = self.canvas(grey, place)
        turned = (canvas * self.lean).sum(dim=(1, 2)) > LEAST_NEARER
        canvas = torch.where(turned[:, None, None], canvas.flip(1, 2), canvas)
        centre, direction = place[:, :2], place[:, 2:]
        direction = torch.where(turned[:, None], -direction, direction)
        return canvas, torch.cat([centre, direction], dim=1)

    def weights(self, grey: Tensor) -> Tensor:
        """How much of a part each of P x P pixels is: grey as for ``forward`` -> [N, P, P]."""
        low, high = self.levels
        part = (away_from_median(grey) - low).clamp(min=0)
        return torch.minimum(part, high - low) + LEAST_WEIGHT

    def place(self, grey: Tensor) -> Tensor:
        """Centre and main axis of the parts, in either direction, as ``forward`` returns them."""
        weights = self.weights(grey)
        total = weights.sum(dim=(1, 2))
        y, x = self.positions(weights.shape[1])

        # The centroid, and the second moments about it.
        across, down = weights.sum(dim=1), weights.sum(dim=2)
        centre_x, centre_y = torch.matmul(across, x) / total, torch.matmul(down, y) / total
        x, y = x - centre_x[:, None], y - centre_y[:, None]
        along_x = (across * x.square()).sum(dim=1) / total
        along_y = (down * y.square()).sum(dim=1) / total
        mixed = (torch.matmul(weights, x[:, :, None]).squeeze(2) * y).sum(dim=1) / total

        # The main axis, by the form of its direction that loses no digits.
        difference, twice = along_x - along_y + self.upright, 2 * mixed
        size = (difference.square() + twice.square()).sqrt()
        longer = size + difference.abs()
        cosine = torch.where(difference >= 0, longer, twice)
        sine = torch.where(difference >= 0, twice, longer)
        norm = (cosine.square() + sine.square()).sqrt().clamp(min=1e-12)
        return torch.stack([centre_x, centre_y, cosine / norm, sine / norm], dim=1)

    def canvas(self, grey: Tensor, place: Tensor) -> Tensor:
        """The frame around each place, turned: float32 [N, h, w]; beyond its edge, the edge."""
        height, width = self.size
        x, y = middle_out(width, grey), middle_out(height, grey)[:, None]
        centre_x, centre_y, cosine, sine = torch.split(place[:, :, None], 1, dim=1)
        half = self.steps * (self.side / 2)
        columns = (centre_x + cosine * x - sine * y) / half[1]
        rows = (centre_y + sine * x + cosine * y) / half[0]
        return _sampled(grey, rows, columns, "border")

    def back(self, pixels: Tensor, place: Tensor) -> Tensor:
        """Put values of the canvas where the frame has them; what lies outside of it is 0.

        Args:
            pixels: float32 [N, h, w].
            place: as ``forward`` returned it.

        Returns:
            float32 [N, S, S].
        """
        height, width = self.size
        y, x = self.positions(self.side)
        centre_x, centre_y, cosine, sine = torch.split(place[:, :, None], 1, dim=1)
        x, y = x - centre_x, y[:, None] - centre_y
        columns = (cosine * x + sine * y) / (width / 2)
        rows = (cosine * y - sine * x) / (height / 2)
        return _sampled(pixels, rows, columns, "zeros")

    def positions(self, count: int) -> tuple[Tensor, Tensor]:
        """y and x of ``count`` equal parts of the frame's axes from its centre, [count] each."""
        places = middle_out(count, self.steps) * (self.side / count)
        return places * self.steps[0], places * self.steps[1]


def away_from_median(grey: Tensor) -> Tensor:
    """How far each of P x P pixels, 64 a side at most, is from the median of 32 x 32 pixels.

    float32 [N, S, S] become float32 [N, P, P].
    """
    small = pooled(grey, min(grey.shape[1], PLACE_SIDE))
    values = pooled(small, MEDIAN_SIDE).flatten(1)
    median = values.topk(values.shape[1] // 2, dim=1).values.amin(dim=1)
    return (small - median[:, None, None]).abs()


def middle_out(count: int, like: Tensor) -> Tensor:
    """Places of ``count`` pixels from their middle, float32 [count], on the device of ``like``."""
    return torch.arange(count, dtype=torch.float32, device=like.device) - (count - 1) / 2


def _sampled(pictures: Tensor, rows: Tensor, columns: Tensor, padding: str) -> Tensor:
    """Values between pixels, at rows and columns [N, h, w] from -1 to 1: float32 [N, h, w]."""
    grid = torch.stack([columns, rows], dim=3)
    sampled = functional.grid_sample(
        pictures[:, None], grid, mode="bilinear", padding_mode=padding, align_corners=False
    )
    return sampled.squeeze(1)
