"""Frames as PNG files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode_png(pixels: NDArray[np.uint8 | np.float32]) -> bytes:
    """The bytes of a lossless PNG file of a frame, made fast rather than small.

    Args:
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB).
    """
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    data = io.BytesIO()
    picture.save(data, "PNG", compress_level=1)
    return data.getvalue()
