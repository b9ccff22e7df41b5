"""From raw frames to what the network sees: they are cropped, resized and normalised here."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from adae_edge.contract import Region


class Preprocess(nn.Module):
    """Turns raw frames of both kinds into what the network sees: crops, resizes and normalises.

    Resizing works per axis: the area average where the axis shrinks, bilinear where it grows. It is
    one matrix product per axis, whose weights follow from the frame's size alone. With
    ``resize="pad"`` the frame is centred in a square of ``pad_value`` first, by the same product
    with shifted weights (the paper's section 4.1 pads slices so).

    Grey levels are resized and then mapped to [-1, 1]. Values in modality units become z-scores
    first: (frame - mean) / std, clipped to ``z_range`` and divided by it, which is what a tanh can
    give back. A value of 0 is outside of the object and becomes -1, as the padding does. As a
    z-score it would be another grey for each volume, and the background is most of a frame.

    Args:
        side: height and width that the network sees, pixels.
        resize: "stretch" or "pad".
        pad_value: grey level 0 to 255 around a padded frame.
        region: part of the frame to look at, or None for all of it.
        z_range: standard deviations that become 1, for frames in modality units; None for grey
            levels.
    """

    def __init__(
        self,
        side: int,
        resize: str = "stretch",
        pad_value: float = 0.0,
        region: Region | None = None,
        z_range: float | None = None,
    ) -> None:
        super().__init__()
        self.side = side
        self.pad = resize == "pad"
        self.pad_value = pad_value if z_range is None else -1.0
        self.region = region
        self.z_range = z_range

    def forward(
        self, frames: Tensor, mean: Tensor | None = None, std: Tensor | None = None
    ) -> Tensor:
        """Prepare frames for the network.

        Args:
            frames: uint8 [N, H, W, C], RGB or grey; with ``z_range`` float32 [N, H, W, 1], modality
                units.
            mean, std: float32 [N], for frames in modality units.

        Returns:
            float32 [N, C, side, side] in [-1, 1].
        """
        if self.z_range is None:
            return self.normalise(self.resize(frames))
        assert mean is not None
        assert std is not None
        return self.resize(self.standardise(frames, mean, std))

    def standardise(self, frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Turn values in modality units into clipped z-scores, and the background into -1.

        Frames are float32 [N, H, W, 1], mean and std [N]; the result is in [-1, 1].
        """
        assert self.z_range is not None
        z = (frames - mean.reshape(-1, 1, 1, 1)) / (self.z_range * std.reshape(-1, 1, 1, 1))
        return torch.where(frames == 0, -1.0, z.clamp(-1.0, 1.0))

    def resize(self, frames: Tensor) -> Tensor:
        """Crop and resize frames [N, H, W, C] to float32 [N, C, side, side], on the same scale."""
        # the region alone
        x = frames.to(torch.float32)
        if self.region is not None:
            left, top, width, height = self.region
            x = x[:, top : top + height, left : left + width, :]

        # the weights of both axes
        n, height, width, channels = x.shape
        if isinstance(height, int) and height == width == self.side:
            return x.permute(0, 3, 1, 2)
        square = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
        rows = self._weights(height, square if self.pad else height, x.device)
        columns = self._weights(width, square if self.pad else width, x.device)
        repeats = self._repeats(height, square), self._repeats(width, square)

        # a product for each axis, and the padding
        x = x.reshape(n * repeats[0], height // repeats[0], width * channels)
        x = torch.matmul(_block(rows, repeats[0]), x).reshape(n, self.side, width, channels)
        x = x.permute(0, 3, 1, 2).reshape(n, channels, self.side * repeats[1], width // repeats[1])
        x = torch.matmul(x, _block(columns, repeats[1]).T).reshape(
            n, channels, self.side, self.side
        )
        if self.pad:
            covered = rows.sum(1, keepdim=True) * columns.sum(1)
            x = x + self.pad_value * (1.0 - covered)
        return x

    def restore(self, x: Tensor, height: int, width: int) -> Tensor:
        """Put values of the network's pixels where a frame has them, bilinear.

        float32 [N, side, side] become float32 [N, height, width], 0 outside of the region.
        """
        left, top, inner_width, inner_height = self.region or (0, 0, width, height)
        square = torch.sym_max(inner_height, inner_width)  # type: ignore[no-untyped-call]
        rows = self._weights_back(
            height, top, inner_height, square if self.pad else inner_height, x.device
        )
        columns = self._weights_back(
            width, left, inner_width, square if self.pad else inner_width, x.device
        )
        return torch.matmul(torch.matmul(rows, x), columns.T)

    def normalise(self, x: Tensor) -> Tensor:
        """Map grey levels 0 to 255, of any shape, to float32 in [-1, 1] (section 4.1)."""
        return x.to(torch.float32) / 127.5 - 1.0

    def _weights(self, length: int, square: int, device: torch.device) -> Tensor:
        """Weights float32 [side, length] that resample one axis of ``length`` pixels.

        The axis is the middle of ``square`` pixels, which become ``side``. All positions below are
        in pixels of the frame.
        """
        edge = torch.scalar_tensor(square, dtype=torch.float32, device=device)
        step = edge / self.side
        margin = (edge - length) / 2
        pixel = torch.arange(length, dtype=torch.float32, device=device)
        out = torch.arange(self.side, dtype=torch.float32, device=device)[:, None]

        start = out * step - margin
        overlap = torch.minimum(start + step, pixel + 1) - torch.maximum(start, pixel)
        area = overlap.clamp(min=0) / step

        centre = (out + 0.5) * step - 0.5
        centre = torch.minimum(centre.clamp(min=0), edge - 1) - margin
        bilinear = (1 - (centre - pixel).abs()).clamp(min=0)
        return torch.where(step > 1, area, bilinear)

    def _repeats(self, length: int, square: int) -> int:
        """Number of equal parts of an axis that are resampled alike; 1 for an unknown length."""
        if not isinstance(length, int) or length <= self.side or (self.pad and length != square):
            return 1
        return math.gcd(length, self.side)

    def _weights_back(
        self, length: int, start: int, inner: int, square: int, device: torch.device
    ) -> Tensor:
        """Weights float32 [length, side] that give pixels back what was made of them.

        These are the ``inner`` pixels from ``start`` on, the middle of ``square``; others get 0.
        """
        edge = torch.scalar_tensor(square, dtype=torch.float32, device=device)
        margin = (edge - inner) / 2
        pixel = torch.arange(length, dtype=torch.float32, device=device)[:, None] - start
        seen = torch.arange(self.side, dtype=torch.float32, device=device)
        centre = ((pixel + 0.5 + margin) * (self.side / edge) - 0.5).clamp(0, self.side - 1)
        inside = (pixel >= 0) & (pixel < inner)
        return torch.where(inside, (1 - (centre - seen).abs()).clamp(min=0), 0.0)


def _block(weights: Tensor, repeats: int) -> Tensor:
    """The first of equal blocks on the diagonal of weights [side, length] that are 0 elsewhere."""
    side, length = weights.shape
    return weights[: side // repeats, : length // repeats]
