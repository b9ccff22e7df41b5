"""The bytes of a DICOM file around its pixels, read without pydicom, which trusts their lengths."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from adae_edge.errors import FrameError

UNKNOWN = 2**32 - 1  # a length that is not given: a mark ends what has it
HEAD = 132  # bytes that tell a DICOM file
Order = Literal["little", "big"]

_META = HEAD  # where the meta information begins, behind a preamble
_SMALL = 2**18  # bytes of a file that is read at once
_INFLATED = 256_000_000  # bytes at most
_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
_EXPLICIT_SYNTAX = b"1.2.840.10008.1.2.1"
# Value representations (PS3.5 6.2), and those whose length takes four bytes.
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = _LONG | frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
# How the codestreams of JPEG, JPEG-LS and JPEG 2000 begin.
_STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")

# Where bytes begin in a file, and how many they are.
Span = tuple[int, int]


class Refused(FrameError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


class Pixels(NamedTuple):
    """The pixels of a file as it declares them.

    Attributes:
        at: where they begin in the file.
        length: in bytes, or ``UNKNOWN`` where they end by a mark.
        vr: their value representation, b"" where there is none.
    """

    at: int
    length: int
    vr: bytes


def begins_as_dicom(head: bytes) -> bool:
    """Whether the first ``HEAD`` bytes of a file are DICOM's.

    Behind a preamble there is a mark. A file without one begins with an element of group 2 or 8.
    """
    if head[128:_META] == b"DICM":
        return True
    little, big = head[:2] in (b"\2\0", b"\x08\0"), head[:2] == b"\0\x08"
    if len(head) < 8 or not (little or big):
        return False
    element = int.from_bytes(head[2:4], "little" if little else "big")
    return element <= 0x18 and (head[4:6] in _VRS or (little and head[5:8] == b"\0\0\0"))


def held(path: Path, size: int) -> Path | BinaryIO:
    """A file that is small as its bytes, which are quicker to read in small pieces; or its path."""
    if size > _SMALL:
        return path
    with path.open("rb") as file:
        return io.BytesIO(file.read(size))  # no more: a larger buffer costs more than reading


def inflated(file: BinaryIO) -> BinaryIO:
    """The file itself; one of the deflated syntax is inflated into memory, up to a limit.

    Raises:
        Refused: it is no DICOM file, its meta information has another length than it says, or the
            deflated data are damaged or too large.
    """
    file.seek(0)
    head = file.read(HEAD)
    if not begins_as_dicom(head):
        raise Refused("it is no DICOM file")
    start = _META if head[128:_META] == b"DICM" else 0
    end = _meta_end(file, start)
    file.seek(0)
    meta = file.read(end)
    if _DEFLATED_SYNTAX not in meta[start:]:
        return file
    plain = io.BytesIO()  # with the name of the syntax that the inflated data have
    plain.write(
        meta.replace(_DEFLATED_SYNTAX, _EXPLICIT_SYNTAX.ljust(len(_DEFLATED_SYNTAX), b"\0"))
    )
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not stream.eof:
            data = stream.unconsumed_tail or file.read(2**16)
            piece = stream.decompress(data, 2**20)
            if not data and not piece:
                raise Refused("it is cut short")
            plain.write(piece)
            if plain.tell() > _INFLATED:
                raise Refused(f"it inflates to more than {_INFLATED // 10**6} MB")
    except zlib.error as error:
        raise Refused("its deflated data are damaged") from error
    return plain


def pixels_after(file: BinaryIO, order: Order) -> Pixels:
    """What a file declares of its pixels, where it stands before them.

    Raises:
        Refused: the pixels do not follow, or are floating-point numbers.
    """
    group, element = (int.from_bytes(file.read(2), order) for _ in range(2))
    if (group, element) in ((0x7FE0, 0x0008), (0x7FE0, 0x0009)):
        raise Refused("its pixels are floating-point numbers, which are not read")
    if (group, element) != (0x7FE0, 0x0010):
        raise Refused("it ends before its pixels")
    start = file.read(4)  # a VR, or the length where there is none, whatever the syntax says
    if start[:2] in (b"OB", b"OW", b"UN"):
        length = int.from_bytes(file.read(4), order)
        return Pixels(file.tell(), length, start[:2])
    return Pixels(file.tell(), int.from_bytes(start, order), b"")


def check_end(file: BinaryIO, end: int, size: int, implicit: bool, order: Order) -> None:
    """Refuse pixels that do not end where they say, for then some lie elsewhere."""
    if size < end:
        raise Refused("it is cut short")
    if not _are_elements(file, end, size, implicit, order):
        raise Refused(f"{size - end} bytes follow its pixels that are no part of them")


def frame_spans(file: BinaryIO, size: int, frames: int, extended: bytes) -> list[list[Span]]:
    """The fragments of each compressed frame that is there whole (PS3.5 A.4).

    A table of offsets serves if it names as many fragments as there are frames. Without a table, a
    frame is one fragment, or begins where a codestream does.

    Args:
        file: stands where the compressed pixels begin.
        size: of the file in bytes.
        frames: how many it declares.
        extended: its extended table of offsets, or b"".

    Raises:
        Refused: the fragments are damaged, or which frame they belong to is not told.
    """
    (table_at, table_length), *spans = _fragments(file, size) or [(0, 0)]
    whole = bool(spans) and spans[-1] == (0, 0)  # there is a mark at their end
    spans = spans[:-1] if whole else spans
    if frames == 1:
        held = sum(_begins_codestream(file, at) for at, _ in spans)
        if held > 1:
            raise Refused(f"its pixels are {held} whole frames, and it declares 1")
        return [spans] if whole and spans else []
    file.seek(table_at)
    base = table_at + table_length + 8  # offsets count from the first fragment's head
    named = _offsets(extended, 8) or _offsets(file.read(table_length), 4)
    starts = [at for at, _ in spans]
    if (
        len(named) == frames
        and named == sorted({*named})
        and {*starts} >= {base + at for at in named}
    ):
        firsts = [starts.index(base + at) for at in named]
    elif len(spans) == frames or not whole:
        firsts = list(range(len(spans)))
    else:
        firsts = [number for number, at in enumerate(starts) if _begins_codestream(file, at)]
        if len(firsts) != frames or firsts[0]:
            raise Refused(
                f"it has {frames} frames in {len(spans)} fragments, and does not say which"
            )
    return [spans[first:end] for first, end in zip(firsts, [*firsts[1:], len(spans)], strict=True)]


def _fragments(file: BinaryIO, size: int) -> list[Span]:
    """The table of offsets, the fragments that are there whole, and (0, 0) if a mark ends them."""
    spans: list[Span] = []
    while file.tell() + 8 <= size:
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag == b"\xfe\xff\xdd\xe0" and length == 0:
            return [*spans, (0, 0)]
        if tag != b"\xfe\xff\x00\xe0":
            raise Refused("its compressed pixels are damaged")
        if file.tell() + length > size:
            return spans
        spans.append((file.tell(), length))
        file.seek(length, os.SEEK_CUR)
    return spans[:-1]  # the last one was cut, or something before it lacks bytes


def _offsets(table: bytes, width: int) -> list[int]:
    """The numbers of a table of offsets."""
    return [
        int.from_bytes(table[at : at + width], "little")
        for at in range(0, len(table) - width + 1, width)
    ]


def _begins_codestream(file: BinaryIO, at: int) -> bool:
    """Whether a codestream begins here."""
    file.seek(at)
    return file.read(8).startswith(_STARTS)


def _meta_end(file: BinaryIO, start: int) -> int:
    """Where the meta information ends; refuses one that is longer or shorter than it says."""
    file.seek(start)
    first = file.read(12)
    if first[:4] != b"\2\0\0\0":  # it does not say
        return max(_ends(file, start, start + 2**16, False, "little", b"\2\0"), default=start)
    start += 12
    end = start + int.from_bytes(first[8:], "little")
    whole = first[4:8] == b"UL\4\0" and _are_elements(file, start, end, False, "little", b"\2\0")
    file.seek(end)
    if not whole or file.read(2) == b"\2\0":
        raise Refused("its meta information is not as long as it says")
    return end


def _are_elements(
    file: BinaryIO, start: int, end: int, implicit: bool, order: Order, group: bytes = b""
) -> bool:
    """Whether data elements fill the bytes from start to end, of one group if it is given."""
    for at in _ends(file, start, end, implicit, order, group):
        start = at
    return start == end


def _ends(
    file: BinaryIO, start: int, end: int, implicit: bool, order: Order, group: bytes
) -> Iterator[int]:
    """Where each data element ends, of one group if it is given.

    One of unknown length is taken for the last one, unless they are of a group.
    """
    while start < end:
        file.seek(start)
        head = file.read(12)
        if not head.startswith(group) or not (implicit or head[4:6] in _VRS):
            return
        long = head[4:6] in _LONG
        at, count = (4, 4) if implicit else (8, 4) if long else (6, 2)
        length = int.from_bytes(head[at : at + count], order)
        if length == UNKNOWN:
            if not group:
                yield end
            return
        start += at + count + length
        yield start
