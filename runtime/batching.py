"""From frames to the batch that a scorer takes."""

from __future__ import annotations

import numpy as np

from adae_edge.batch import Batch
from adae_edge.decoding.images import to_channels
from adae_edge.runtime.frame import Frame


def batch_of(frame: Frame, channels: int) -> Batch:
    """A batch of one frame, in the model's number of channels.

    Args:
        frame: of the model's kind.
        channels: 1 or 3, of the contract.

    Raises:
        FrameError: the frame has neither one channel nor three.
    """
    pixels = to_channels(frame.pixels, channels)[None]
    if frame.mean is None or frame.std is None:
        return Batch(pixels)
    return Batch(pixels, np.array([frame.mean], np.float32), np.array([frame.std], np.float32))
