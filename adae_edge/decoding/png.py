"""What a PNG file says beside its pixels: whether it is whole, and how many bits are significant.

Pillow does not compare the checksums of the chunks that hold the pixels.
"""

from __future__ import annotations

import struct
import zlib

from adae_edge.decoding.kinds import PNG_SIGNATURE


def significant_bits(data: bytes) -> int | None:
    """The significant bits of a grey value or of red (chunk sBIT); None where nothing is said.

    Raises:
        ValueError: a chunk's checksum is not that of its content, or the file is cut short.
    """
    at, bits = len(PNG_SIGNATURE), None
    while True:
        head = data[at : at + 8]
        if len(head) < 8:
            raise ValueError("it is cut short")
        length, name = struct.unpack(">I4s", head)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("it is cut short")
        checksum = zlib.crc32(memoryview(data)[at + 4 : end])
        if checksum != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError("it is damaged: a checksum is wrong")
        if name == b"IHDR" and data[at + 18 : at + 20] != b"\0\0":
            raise ValueError("it is damaged: its compression is none of PNG's")
        if name == b"sBIT" and length:
            bits = data[at + 8]
        if name == b"IEND":
            return bits
        at = end + 4
