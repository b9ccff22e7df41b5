"""Where the pixels of an anomaly map lie in a frame, as the preprocessing has it.

No PyTorch is needed, so that a device can do it, too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract, Region


class Axis(NamedTuple):
    """One axis of a map over the same axis of a frame.

    Attributes:
        start, length: the part of the frame that the network looks at, in pixels of the frame.
        origin: where the map's first pixel begins, in pixels of the frame; outside of it where the
            frame is padded.
        step: how many pixels of the frame a pixel of the map spans.
        size: the map's pixels.
    """

    start: int
    length: int
    origin: float
    step: float
    size: int

    @property
    def shown(self) -> slice:
        """The map's pixels that show the part of the frame, or enter a bilinear picture of it.

        So the largest value of a map in the frame's pixels is none above that of these.
        """
        first, last = (
            min(max((edge - self.origin) / self.step - 0.5, 0), self.size - 1)
            for edge in (self.start + 0.5, self.start + self.length - 0.5)
        )
        return slice(math.floor(first), math.ceil(last) + 1)

    def in_frame(self, first: int, end: int) -> tuple[int, int]:
        """The map's pixels ``first`` to before ``end`` -> first pixel and length in the frame."""
        stop = self.start + self.length
        begin = min(max(math.floor(self.origin + first * self.step), self.start), stop - 1)
        end = min(max(math.ceil(self.origin + end * self.step), begin + 1), stop)
        return begin, end - begin


class Placement(NamedTuple):
    """Both axes of a map over a frame."""

    rows: Axis
    columns: Axis

    def shown(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of maps float32 [..., h, w] that shows what the network looks at."""
        return maps[..., self.rows.shown, self.columns.shown]

    def peaks(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The largest value in that part of maps float32 [N, h, w]: float32 [N]."""
        peaks: NDArray[np.float32] = self.shown(maps).max(axis=(1, 2))
        return peaks


def placement(height: int, width: int, side: int, pad: bool, region: Region | None) -> Placement:
    """Place a map in the network's pixels.

    Args:
        height, width: of the frame, pixels.
        side: height and width of the map.
        pad: whether the part that is looked at is the middle of a square.
        region: the part of the frame that is looked at; None for all of it.
    """
    left, top, inner_width, inner_height = region or (0, 0, width, height)
    square = max(inner_height, inner_width)

    def axis(start: int, length: int) -> Axis:
        span = square if pad else length
        return Axis(start, length, start - (span - length) / 2, span / side, side)

    return Placement(axis(top, inner_height), axis(left, inner_width))


def placement_of(contract: Contract, height: int, width: int) -> Placement:
    """Place the map that a model file returns for a frame of this height and width, pixels."""
    if contract.form.anomaly_map == "frame":
        left, top, inner_width, inner_height = contract.region or (0, 0, width, height)
        rows = Axis(top, inner_height, 0, 1, height)
        return Placement(rows, Axis(left, inner_width, 0, 1, width))
    return placement(height, width, contract.side, contract.resize == "pad", contract.region)
