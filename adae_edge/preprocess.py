"""From raw frames to what the network sees: they are cropped, resized and normalised here."""

from __future__ import annotations

from collections.abc import Sequence

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

        # the weights of a part of each axis
        n, height, width, channels = x.shape
        if isinstance(height, int) and height == width == self.side:
            return x.permute(0, 3, 1, 2)
        square = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
        squares = (square, square) if self.pad else (height, width)
        parts = (
            self._parts(height, squares[0], (4, 8, self.side)),
            self._parts(width, squares[1], (8,)),
        )
        rows = self._weights(height, squares[0], parts[0], x.device)
        columns = self._weights(width, squares[1], parts[1], x.device)

        # a product for each axis, and what the padding adds to it
        x = torch.matmul(rows, x.reshape(n * parts[0], height // parts[0], width * channels))
        if self.pad:
            x = x + self.pad_value * (1.0 - rows.sum(1, keepdim=True))
        x = x.reshape(n, self.side, width, channels).permute(0, 3, 1, 2)
        x = x.reshape(n, channels, self.side * parts[1], width // parts[1])
        x = torch.matmul(x, columns.T)
        if self.pad:
            x = x + self.pad_value * (1.0 - columns.sum(1))
        return x.reshape(n, channels, self.side, self.side)

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

    def _weights(self, length: int, square: int, parts: int, device: torch.device) -> Tensor:
        """Weights float32 [side / parts, length / parts] that resample one part of an axis.

        The axis has ``length`` pixels and is the middle of ``square`` pixels, which become
        ``side``: each is the mean over a window, one pixel wide where the axis grows. All positions
        below are in pixels of the frame.
        """
        edge = torch.scalar_tensor(square, dtype=torch.float32, device=device)
        pixel = torch.arange(length // parts, dtype=torch.float32, device=device)
        out = torch.arange(self.side // parts, dtype=torch.float32, device=device)[:, None]

        step = edge / self.side
        window = step.clamp(min=1)
        start = (out * step + (step - window) / 2).clamp(min=0)
        start = torch.minimum(start, edge - window)
        if self.pad:
            start = start - (edge - length) / 2
        overlap = torch.minimum(start + window, pixel + 1) - torch.maximum(start, pixel)
        return overlap.clamp(min=0) / window

    def _parts(self, length: int, square: int, tried: Sequence[int]) -> int:
        """Number of equal parts of an axis that are resampled alike, 1 for an axis without.

        It is the last number tried that divides the axis, with at least 8 pixels to a part: shorter
        ones cost more than they save. This is arithmetic without a branch, so that a graph of any
        size computes it for each size; for a fixed one, all powers of two are tried.
        """
        if isinstance(length, int):
            tried = [2**power for power in range(1, self.side.bit_length())]
        parts, fewer = 1, 1
        for count in tried:
            if self.side % count == 0:
                least = max(8 * count, self.side)  # a shorter axis grows, or gains nothing
                least = torch.sym_max(square, least)  # type: ignore[no-untyped-call]
                divides = length // count * count // least  # 1 or 0
                parts, fewer = parts + (count - fewer) * divides, count
        return parts

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
