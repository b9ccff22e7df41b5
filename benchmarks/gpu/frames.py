"""Frames to score: of the size that a model takes, and real digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge.runtime import Scorer

SIDE = 32
_HEADER_BYTES = 16
_DIGIT_SIDE = 28


def frame_size(scorer: Scorer) -> tuple[int, int]:
    """Return the width and height that a model takes; those of the network where it takes any."""
    height, width = scorer.form.size or (SIDE, SIDE)
    return width, height


def mnist_frames(folder: Path, count: int) -> NDArray[np.uint8]:
    """Read test images of MNIST's unpacked file, uint8 [count, 28, 28, 1]."""
    data = (folder / "t10k-images-idx3-ubyte").read_bytes()
    pixels = np.frombuffer(data, np.uint8, offset=_HEADER_BYTES)
    return pixels.reshape(-1, _DIGIT_SIDE, _DIGIT_SIDE, 1)[:count]
