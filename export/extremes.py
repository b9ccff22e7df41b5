"""Frames that no camera gives, for every gate, with and without PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.contract import MAX_SIDE, Contract

# The side of the largest frame of all.
LARGEST = MAX_SIDE


def extreme_frames(contract: Contract) -> dict[str, Batch]:
    """Extreme frames by name, each a batch of one, as a model of this contract takes them.

    Black, white, noise and one hot pixel in odd sizes, and the largest frame; or in the fixed size
    alone.
    """
    pictures: dict[str, NDArray[np.uint8]] = {}
    generator = np.random.default_rng(0)
    for size, (height, width) in _sizes(contract).items():
        shape = (height, width, contract.channels)
        pictures[f"a {size} black frame"] = np.zeros(shape, np.uint8)
        pictures[f"a {size} white frame"] = np.full(shape, 255, np.uint8)
        pictures[f"a {size} frame of noise"] = generator.integers(0, 256, shape, np.uint8)
        pictures[f"a {size} frame with one hot pixel"] = _with_hot_pixel(contract, shape)
    if contract.form.size is None:
        largest = np.zeros((LARGEST, LARGEST, contract.channels), np.uint8)
        largest[::3, ::5] = 200
        pictures["the largest frame"] = largest
    return {name: Batch.of_pictures(pixels[None], contract) for name, pixels in pictures.items()}


def _sizes(contract: Contract) -> dict[str, tuple[int, int]]:
    """Heights and widths by name, each large enough for the contract's region."""
    if contract.form.size is not None:
        return {"fixed-size": contract.form.size}
    side = contract.side
    sizes = {
        "network-sized": (side, side),
        "small": (side // 2 + 1, side // 2 + 3),
        "wide": (side + 5, 3 * side + 1),
    }
    left, top, width, height = contract.region or (0, 0, 1, 1)
    least_height, least_width = top + height, left + width
    return {
        name: (max(rows, least_height), max(columns, least_width))
        for name, (rows, columns) in sizes.items()
    }


def _with_hot_pixel(contract: Contract, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A black frame with one white pixel, in the middle of the contract's region."""
    left, top, width, height = contract.region or (0, 0, 1, 1)
    pixels = np.zeros(shape, np.uint8)
    pixels[top + height // 2, left + width // 2] = 255
    return pixels
