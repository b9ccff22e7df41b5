"""The bytes of a DICOM file around its pixels: whether they are as long as the file says."""

from __future__ import annotations

import os
from typing import BinaryIO, Literal

UNKNOWN = 2**32 - 1  # a length that is not given: a mark ends what has it
Order = Literal["little", "big"]

_META = 132  # where the meta information begins
# Value representations (PS3.5 6.2), and those whose length takes four bytes.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = _LONG | frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


def pixel_length(file: BinaryIO, order: Order) -> int | None:
    """The length in bytes that a file declares of its pixels, where it stands before them.

    Returns:
        ``UNKNOWN`` where they end by a mark; None if the pixels do not follow.
    """
    group, element = (int.from_bytes(file.read(2), order) for _ in range(2))
    if (group, element) != (0x7FE0, 0x0010):
        return None
    start = file.read(4)  # a VR, or the length where there is none, whatever the syntax says
    return int.from_bytes(file.read(4) if start[:2] in (b"OB", b"OW", b"UN") else start, order)


def fragments(file: BinaryIO, size: int) -> int:
    """How many fragments of compressed pixels are there whole, after their table of offsets."""
    count = -1
    while file.tell() + 8 <= size:
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"\xfe\xff\xdd\xe0" and length == 0:
            return max(count, 0)
        if tag != b"\xfe\xff\x00\xe0":
            raise ValueError("its compressed pixels are damaged")
        if file.tell() + length > size:
            return max(count, 0)
        count += 1
        file.seek(length, os.SEEK_CUR)
    return max(count - 1, 0)  # the last one was cut, or something before it lacks bytes


def check_end(file: BinaryIO, end: int, size: int, implicit: bool, order: Order) -> None:
    """Refuse pixels that do not end where they say, for then some lie elsewhere."""
    if size < end:
        raise ValueError("it is cut short")
    if not _are_elements(file, end, size, implicit, order):
        raise ValueError(f"{size - end} bytes follow its pixels that are no part of them")


def check_meta(file: BinaryIO) -> None:
    """Refuse a file whose meta information is longer or shorter than it says."""
    file.seek(_META)
    first = file.read(12)
    if first[:4] != b"\2\0\0\0":
        return  # it does not say
    start = _META + 12
    end = start + int.from_bytes(first[8:], "little")
    whole = first[4:8] == b"UL\4\0" and _are_elements(file, start, end, False, "little", b"\2\0")
    file.seek(end)
    if not whole or file.read(2) == b"\2\0":
        raise ValueError("its meta information is not as long as it says")


def _are_elements(
    file: BinaryIO, start: int, end: int, implicit: bool, order: Order, group: bytes = b""
) -> bool:
    """Whether data elements fill the bytes from start to end, of one group if it is given."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        if not head.startswith(group) or not (implicit or head[4:6] in _VRS):
            return False
        long = head[4:6] in _LONG
        at, count = (4, 4) if implicit else (8, 4) if long else (6, 2)
        length = int.from_bytes(head[at : at + count], order)
        if length == UNKNOWN:
            return not group
        start += at + count + length
    return start == end
