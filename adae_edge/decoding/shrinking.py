"""Which frames are shrunk while they are decoded, and to what size.

Decoders shrink a frame for a part of what the graph takes. They take means over areas, as the
graph does, and leave more pixels than the network sees, of which the graph takes means in turn.
"""

from __future__ import annotations

from typing import NamedTuple

from adae_edge.contract import Contract

# Pixels that are left for each that the network sees. FFmpeg takes means over any area. libjpeg
# takes them over whole pixels, so that parts of them are misplaced: at four times scores moved by
# 0.3 %, and at five by less than 0.1 %.
_VIDEO, _JPEG = 2, 5
_SCORES = ("l2", "generator")
# By how much libjpeg shrinks each axis, the most first.
_DIVISORS = (8, 4, 2)


class Shrinking(NamedTuple):
    """How far frames may be shrunk for a model.

    Attributes:
        side: height and width that the network sees, pixels.
        pad: whether the aspect ratio is kept, as the model pads frames to a square.
        keep: whether a shrunk frame keeps the way to its whole picture, for who shows it.
        grey: whether the model sees no colours, so that a shrunk JPEG needs none.
    """

    side: int
    pad: bool = False
    keep: bool = False
    grey: bool = False

    @staticmethod
    def by(contract: Contract) -> Shrinking | None:
        """How frames may be shrunk for a model; None where each has to stay as it is.

        They stay for a region of interest, which is in the frame's pixels, for a graph of a fixed
        size, for a map in the frame's pixels, and where they are slices of volumes. They stay for
        scores other than sums over all pixels, too: logarithms of small distances moved by more
        than 0.2 %.
        """
        form = contract.form
        whole = contract.region or form.size or form.anomaly_map == "frame"
        if contract.kind != "image" or whole or contract.score not in _SCORES:
            return None
        return Shrinking(contract.side, contract.resize == "pad", grey=contract.channels == 1)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, pixels, to which a video's frame is shrunk; it never grows.

        With ``pad`` the longer axis keeps up to twice as much, by which the shorter one is nearest
        to a whole number of pixels: otherwise the edge would move in the padded square.
        """
        least = _VIDEO * self.side
        if not self.pad:
            return min(height, least), min(width, least)
        longer, shorter = max(height, width), min(height, width)
        if longer <= least:
            return height, width
        lengths = range(least, min(2 * least, longer) + 1)
        best = min(lengths, key=lambda length: _from_whole(shorter * length / longer))
        other = max(1, round(shorter * best / longer))
        return (best, other) if height >= width else (other, best)

    def divisor(self, height: int, width: int) -> int:
        """By how much both axes of a JPEG are divided: 8, 4 or 2 without a rest, or 1."""
        kept = max(height, width) if self.pad else min(height, width)
        for divisor in _DIVISORS:
            if not (height % divisor or width % divisor) and kept // divisor >= _JPEG * self.side:
                return divisor
        return 1


def _from_whole(value: float) -> float:
    return abs(value - round(value))
