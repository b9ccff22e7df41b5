"""OpenCV for sources: imported with its messages off, and its pictures turned into frames."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.extras import needs
from adae_edge.interface import check_size

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

with needs("Reading a camera or a video", "camera"):
    import cv2

__all__ = ["cv2", "rgb"]


def rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """OpenCV's BGR or grey picture -> uint8 [H, W, C], RGB or grey.

    Raises:
        FrameError: the picture is too large.
    """
    check_size(pixels.shape[0], pixels.shape[1], "a frame")
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
