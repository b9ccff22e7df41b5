"""Turns and mirrors a decoded picture as its video says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError

Matrix: TypeAlias = Sequence[int]


def matrix_of(side_data: Iterable[Any]) -> Matrix | None:
    """The display matrix in a frame's side data: its first five numbers that turn and mirror."""
    side = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    return None if side is None else np.frombuffer(bytes(side), np.int32)[:5].tolist()


def turned(pixels: NDArray[np.uint8], matrix: Matrix) -> tuple[NDArray[np.uint8], bool]:
    """Turn and mirror a picture by a display matrix, and tell whether its axes changed places."""
    across, down_by_x, _, across_by_y, down = matrix
    sideways = across == down == 0
    if not sideways and (down_by_x or across_by_y):
        raise FrameError("it is turned by an angle that is no multiple of 90 degrees")
    if sideways:
        pixels, across, down = pixels.transpose(1, 0, 2), across_by_y, down_by_x
    picture = pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(picture), sideways
