"""From frames to the batch that a scorer takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adae_edge.batch import Batch
from adae_edge.decoding.images import to_channels
from adae_edge.runtime.frame import Frame

# Frames in one run of the graph. Small ones gain by company; together they must stay in the cache,
# beyond which each costs more than alone.
MOST_FRAMES = 16
_VALUES_TOGETHER = 2**20
_BYTES_TOGETHER = 2**24  # of whole pictures that are held beside shrunk frames


def room_for(frame: Frame) -> int:
    """How many frames of this one's shape are scored in one run, at least 1."""
    by_values = _VALUES_TOGETHER // max(1, frame.pixels.size)
    by_bytes = _BYTES_TOGETHER // max(1, frame.held_bytes)
    return max(1, min(MOST_FRAMES, by_values, by_bytes))


def batch_of(frames: Sequence[Frame], channels: int) -> Batch:
    """A batch of frames of one shape, in the model's number of channels.

    Args:
        frames: of the model's kind, at least one.
        channels: 1 or 3, of the contract.

    Raises:
        FrameError: the frames have neither one channel nor three.
    """
    pictures = [to_channels(frame.pixels, channels) for frame in frames]
    pixels = np.stack(pictures) if len(pictures) > 1 else pictures[0][None]
    if frames[0].mean is None or frames[0].std is None:
        return Batch(pixels)
    mean = np.array([frame.mean for frame in frames], np.float32)
    return Batch(pixels, mean, np.array([frame.std for frame in frames], np.float32))
