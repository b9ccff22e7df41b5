"""The silhouette of a head in a slice, of 64 voxels at once.

64 voxels of a row are the bits of a word. Three bits of a sum are three words.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_BITS = 64  # of a word
_ONE, _LAST = np.uint64(1), np.uint64(_BITS - 1)

_Mask: TypeAlias = NDArray[np.bool_]
_Words: TypeAlias = NDArray[np.uint64]


def silhouette(above: _Mask) -> _Mask:
    """A slice's voxels [H, W] above the threshold -> the majority of 3x3 voxels, filled."""
    return mask_of(filled(_majority(words_of(above))), above.shape[1])


def words_of(mask: _Mask) -> _Words:
    """A mask [H, W] as words [H, W / 64]; the bits behind the last voxel are 0."""
    height, width = mask.shape
    words = np.zeros((height, -(-width // _BITS)), "<u8")
    packed = np.packbits(mask, axis=1, bitorder="little")
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def mask_of(words: _Words, width: int) -> _Mask:
    """The mask [H, width] that words are of."""
    bits = words.astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(bits, axis=1, count=width, bitorder="little").view(np.bool_)


def filled(words: _Words) -> _Words:
    """The voxels that have some of the mask on both sides, or are one, in row and column."""
    above = np.bitwise_or.accumulate(words, axis=0)
    below = np.bitwise_or.accumulate(words[::-1], axis=0)[::-1]
    before = words | -words  # the lowest bit of a word, and all above it
    behind = words.copy()
    for step in (1, 2, 4, 8, 16, 32):
        behind |= behind >> step
    for column in range(1, words.shape[1]):  # the outermost bit goes on through the row
        before[:, column] |= -(before[:, column - 1] >> _LAST)
        behind[:, -column - 1] |= -(behind[:, -column] & _ONE)
    return above & below & before & behind


def _majority(words: _Words) -> _Words:
    """The voxels of which 5 or more of the 3x3 around them are in the mask."""
    here = np.pad(words, ((1, 1), (0, 0)))
    left, right = here << _ONE, here >> _ONE
    left[:, 1:] |= here[:, :-1] >> _LAST
    right[:, :-1] |= here[:, 1:] << _LAST
    ones, twos = _sum(left, here, right)
    one, two = _sum(ones[:-2], ones[1:-1], ones[2:])
    too, four = _sum(twos[:-2], twos[1:-1], twos[2:])
    two, more = two ^ too, two & too
    five: _Words = (four & more) | ((four | more) & (one | two))
    return five


def _sum(first: _Words, second: _Words, third: _Words) -> tuple[_Words, _Words]:
    """The two bits of a sum of three, the low one first."""
    odd = first ^ second
    return odd ^ third, (first & second) | (odd & third)
