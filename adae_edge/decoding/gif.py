"""Whether a GIF file is whole: Pillow passes over what it does not understand."""

from __future__ import annotations

import struct

SIGNATURES = (b"GIF87a", b"GIF89a")
_EXTENSION, _PICTURE, _END = 0x21, 0x2C, 0x3B


def check(data: bytes) -> None:
    """Follow the blocks of a file to its end.

    Raises:
        ValueError: one is none of GIF's, the file is cut short, or a picture lies outside of the
            screen.
    """
    try:
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        at = 13 + _table_bytes(flags)
        while (label := data[at]) != _END:
            if label == _PICTURE:
                left, top, *size, flags = struct.unpack_from("<HHHHB", data, at + 1)
                if left + size[0] > width or top + size[1] > height:
                    raise ValueError("it is damaged: its picture lies outside of its frame")
                at += 11 + _table_bytes(flags)
            elif label == _EXTENSION:
                at += 2
            else:
                raise ValueError("it is damaged: a block of it is unknown")
            while length := data[at]:
                at += 1 + length
            at += 1
    except (IndexError, struct.error) as error:
        raise ValueError("it is cut short") from error


def _table_bytes(flags: int) -> int:
    """The bytes of a table of colours, as a block's flags tell it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
