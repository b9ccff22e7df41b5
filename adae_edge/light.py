"""How light a frame is, which a lamp or an exposure changes also where scores stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import QUANTILES, Calibration, Region
from adae_edge.decoding.images import to_channels

_ACROSS = 32  # places that are looked at on each axis, so that a frame costs some microseconds


class Light(NamedTuple):
    """What is measured of a frame.

    Attributes:
        grey: the mean grey level, 0 to 255.
        white: the share of pixels that are white, so that more light does not change them, 0 to 1.
    """

    grey: float
    white: float


def light_of(pixels: NDArray[Any], region: Region | None) -> Light:
    """Measure a frame at places of a grid.

    Args:
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB).
        region: what the model looks at; None for all.
    """
    if region is not None:
        left, top, width, height = region
        pixels = pixels[top : top + height, left : left + width]
    step_down, step_across = (max(1, size // _ACROSS) for size in pixels.shape[:2])
    grey = to_channels(pixels[step_down // 2 :: step_down, step_across // 2 :: step_across], 1)
    return Light(float(grey.mean()), np.count_nonzero(grey == 255) / grey.size)


def with_light(calibration: Calibration, lights: Sequence[Light]) -> Calibration:
    """A calibration that keeps how light its normals were; of none it is left as it is."""
    if not lights:
        return calibration
    levels = np.linspace(0, 1, QUANTILES)
    values = np.quantile(np.array(lights), levels, axis=0)
    greys, whites = np.maximum.accumulate(values).T.tolist()  # rounding may have lowered some
    return replace(calibration, greys=tuple(greys), whites=tuple(whites))
