"""Calibration frames that look nearly as a training frame does, as neighbours in a film do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adae_edge.train.yardsticks import SMALL_SIDE, Pictures, shrunk

# Of the median distance between two frames, and of that to the nearest other training frame.
OF_ANY = 0.05
OF_NEAREST = 0.4


def near_copies(trained: Pictures, calibrating: Pictures) -> int:
    """Count calibration frames that are nearly a training frame.

    Frames are compared in 32 x 32 pixels, without their mean and contrast.

    Args:
        trained: uint8 [M, S, S], training normals.
        calibrating: uint8 [N, S, S], calibration normals.

    Returns:
        How many of the N are so near to one of the M as different frames are not. 0 where fewer
            than three trained, or where they do not vary.
    """
    if len(trained) < 3 or not len(calibrating):
        return 0
    known, new = _normalised(trained), _normalised(calibrating)
    among = _distances(known, known)
    typical = np.median(among[~np.eye(len(known), dtype=bool)])
    np.fill_diagonal(among, np.inf)
    limit = max(OF_ANY * typical, OF_NEAREST * np.median(among.min(axis=1)))
    return int((_distances(new, known).min(axis=1) < limit).sum())


def describe_near_copies(count: int, calibrating: int) -> str:
    """The sentence that tells the count of near copies, "" for none."""
    if not count:
        return ""
    return (
        f"{count} of {calibrating} calibration frames {'is' if count == 1 else 'are'} nearly a "
        "training frame, so the threshold and the test promise too much: --group keeps together "
        "what belongs together"
    )


def _normalised(pictures: Pictures) -> NDArray[np.float64]:
    """Small pictures float64 [N, 1024] of mean 0 and standard deviation 1, or 0 where constant."""
    levels = shrunk(pictures, SMALL_SIDE).flatten(1).double().numpy()
    levels -= levels.mean(axis=1, keepdims=True)
    contrast: NDArray[np.float64] = levels.std(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = levels / np.maximum(contrast, 1e-6)
    return normalised


def _distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances float64 [N, M] between rows."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares - 2 * first @ second.T, 0))
    return distances
