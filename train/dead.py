"""Dead pixels: places of an output that are saturated on the wrong side."""

from __future__ import annotations

import torch
from torch import Tensor

from adae_edge.model import ADAE
from adae_edge.train.loading import unpack

FRAMES = 256
SATURATED = 0.99
# Of the frames: at a dead pixel at least as many are saturated and wrong by half of the range.
SHARE = 0.1
WRONG = 1.0


def dead_pixels(model: ADAE, frames: Tensor) -> tuple[int, int]:
    """Count the dead pixels of G(x) and of D(x).

    A pixel counts if on a tenth of the frames or more its value is beyond 0.99, of at most 1, and
    farther than 1 from the frame's. With a slope of nearly 0 there, no training would mend it.

    Args:
        model: trained, in eval mode.
        frames: of the training, as ``load_frames`` returns them; the first 256 are looked at.
    """
    with torch.inference_mode():
        parts = frames[:FRAMES].split(64)  # type: ignore[no-untyped-call]
        x = torch.cat([unpack(part, model.preprocess) for part in parts])
        counts = []
        for network in (model.generator, model.discriminator):
            y = torch.cat([network(part) for part in x.split(64)])  # type: ignore[no-untyped-call]
            wrong = (y.abs() > SATURATED) & ((y - x).abs() > WRONG)
            counts.append(int((wrong.float().mean(dim=0) >= SHARE).sum()))
    return counts[0], counts[1]


def dead_note(model: ADAE, frames: Tensor) -> str:
    """A sentence on dead pixels, or "" without any; its arguments are those of ``dead_pixels``."""
    generator, discriminator = dead_pixels(model, frames)
    if not generator and not discriminator:
        return ""
    return (
        f"{generator} pixels of G and {discriminator} of D are stuck at black or white where the "
        "frames are not: train again with another --seed or --recipe"
    )
