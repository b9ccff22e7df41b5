"""What travels from a source through the scorer to the sinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.images import to_channels


@dataclass(frozen=True)
class Frame:
    """One frame and where it came from.

    Attributes:
        source: the file's path, or camera:N.
        id: number of the frame or slice in its source from 0, or the SOP instance UID of a DICOM
            file.
        time: when it was captured or decoded, seconds since 1970, UTC.
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB), or a slice float32 [H, W, 1]; may be
            read-only.
        mean, std: of the brain in a slice's volume; None for pictures.
    """

    source: str
    id: int | str
    time: float
    pixels: NDArray[np.uint8 | np.float32]
    mean: float | None = None
    std: float | None = None

    def inputs(self, channels: int) -> list[NDArray[Any]]:
        """What ``Scorer.score`` takes for this frame alone, in the model's number of channels."""
        statistics = [value for value in (self.mean, self.std) if value is not None]
        return [
            to_channels(self.pixels, channels)[None],
            *(np.array([value], np.float32) for value in statistics),
        ]
