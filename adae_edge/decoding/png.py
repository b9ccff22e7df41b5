"""What a PNG file says beside its pixels, and whether it is whole.

Pillow does not compare the checksums of the chunks that hold the pixels, leaves rows that are
missing black, and makes up colours that a palette lacks.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from adae_edge.decoding.kinds import PNG_SIGNATURE

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the type of colours
# Where the seven passes of an interlaced picture begin, and their steps: x, y, step x, step y.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_PIECE = 2**20  # bytes that are inflated at a time


class Said(NamedTuple):
    """What a file says of its values.

    Attributes:
        significant: the significant bits of a grey value or of red; None where nothing is said.
        colours: how many its palette has; 0 without one.
        interlaced: whether its rows come in seven passes.
    """

    significant: int | None
    colours: int
    interlaced: bool


def read(data: bytes) -> Said:
    """Read what a file says beside its pixels, to its end.

    Raises:
        ValueError: a chunk's checksum is not that of its content, or the file is cut short.
    """
    significant, colours, interlaced = None, 0, False
    for name, content in _chunks(data):
        if name == b"IHDR":
            if bytes(content[10:12]) != b"\0\0":
                raise ValueError("it is damaged: its compression is none of PNG's")
            interlaced = bytes(content[12:13]) != b"\0"
        elif name == b"PLTE":
            colours = len(content) // 3
        elif name == b"sBIT" and content:
            significant = content[0]
    return Said(significant, colours, interlaced)


def check_rows(data: bytes) -> None:
    """Count the bytes of a file's pixels, which has been read before.

    Raises:
        ValueError: there are fewer than its header declares.
        zlib.error: they are damaged.
    """
    left, inflating = 0, zlib.decompressobj()
    for name, content in _chunks(data):
        if name == b"IHDR":
            left = _pixel_bytes(*struct.unpack_from(">IIBB2xB", content))
        rest: bytes | memoryview = content if name == b"IDAT" else b""
        while rest and left > 0:
            left -= len(inflating.decompress(rest, min(left, _PIECE)))
            rest = inflating.unconsumed_tail
    if left > 0:
        raise ValueError("it is cut short: rows of it are missing")


def _pixel_bytes(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """How many bytes the rows of a picture have, each with that of its filter."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth * _CHANNELS.get(colour, 1) // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The name and the content of each chunk; raises ValueError for one that is not whole."""
    at, view, name = len(PNG_SIGNATURE), memoryview(data), b""
    while name != b"IEND":
        head = data[at : at + 8]
        if len(head) < 8:
            raise ValueError("it is cut short")
        length, name = struct.unpack(">I4s", head)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("it is cut short")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("it is damaged: a checksum is wrong")
        yield name, view[at + 8 : end]
        at = end + 4
