"""Frames that no camera gives, and how far their scores may be apart: for every gate, with and without PyTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract

Frame = NDArray[np.uint8]
# What the network takes for one frame: [H, W, C], and for frames in modality units a mean and a
# std.
Inputs = Sequence[Any]

# How far a score may be from PyTorch's, relative to it: that of nine reference frames in ten, and
# any frame's. In float32 rounding came to 8e-6 on trained networks, most of it on black frames.
# INT8 knows only activations as in the reference frames: of any frame it promises no more than a
# finite score.
TOLERANCES = {"fp32": (1e-5, 1e-5), "fp16": (4e-3, 2e-2), "int8": (0.1, math.inf)}
# The score local divides by what normals vary, which in a still scene is little more than rounding.
LOCAL_TOLERANCE = 1e-4, 1e-3
LARGEST = 8192


def tolerance_of(contract: Contract) -> tuple[float, float]:
    """How far scores of nine reference frames in ten, and of any frame, may be from PyTorch's."""
    return LOCAL_TOLERANCE if contract.score == "local" else TOLERANCES[contract.form.precision]


def as_inputs(frame: Frame, contract: Contract) -> Inputs:
    """An extreme frame as the model takes it; z-scores are clipped at both ends, and 0 is background."""
    if contract.kind == "image":
        return (frame,)
    return frame.astype(np.float32), np.float32(127), np.float32(20)


def extremes_as_seen(contract: Contract) -> list[Inputs]:
    """The extreme frames of the size that the network sees, or of the fixed one, as the model takes them."""
    side, fixed = contract.side, contract.form.size
    shape = (*(fixed or (side, side)), contract.channels)
    return [
        as_inputs(frame, contract) for _, frame in extreme_frames(contract) if frame.shape == shape
    ]


def extreme_frames(contract: Contract) -> list[tuple[str, Frame]]:
    """Frames that no camera gives, by name: black, white, noise, one hot pixel, odd and the largest sizes."""
    channels, side = contract.channels, contract.side
    generator = np.random.default_rng(0)
    named: list[tuple[str, Frame]] = []
    left, top, width, height = contract.region or (0, 0, 1, 1)
    sizes = {
        "network-sized": (side, side),
        "small": (side // 2 + 1, side // 2 + 3),
        "wide": (side + 5, 3 * side + 1),
    }
    fixed = contract.form.size
    if fixed:
        sizes = {"fixed-size": fixed}
    for size, (h, w) in sizes.items():
        shape = (max(h, top + height), max(w, left + width), channels)
        hot = np.zeros(shape, np.uint8)
        hot[top + height // 2, left + width // 2] = 255
        named += [
            (f"a {size} black frame", np.zeros(shape, np.uint8)),
            (f"a {size} white frame", np.full(shape, 255, np.uint8)),
            (f"a {size} frame of noise", generator.integers(0, 256, shape, np.uint8)),
            (f"a {size} frame with one hot pixel", hot),
        ]
    if fixed:
        return named
    largest = np.zeros((LARGEST, LARGEST, channels), np.uint8)
    largest[::3, ::5] = 200
    return [*named, ("the largest frame", largest)]
