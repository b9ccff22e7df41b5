"""What a codestream says of its own size, compared with the header before any decoder sees it.

A codestream of two kilobytes may declare a picture of gigabytes. Its decoder would take the memory
first, or give the pixels of another picture than the header describes.
"""

from __future__ import annotations

from typing import NamedTuple

from adae_edge.decoding.dicom_bytes import Refused

BASELINE, LOSSLESS, JPEG_LS, JPEG_2000 = "JPEG", "lossless JPEG", "JPEG-LS", "JPEG 2000"

_SIZ = b"\xff\x4f\xff\x51"  # how a codestream of JPEG 2000 begins
_SOT = b"\xff\x90"  # how a part of a tile begins in it
_JP2_HEAD = 4096  # bytes of boxes before it, at most
_MOST_TILES = 65_535
# Frame headers of JPEG (ITU-T T.81 table B.1) and of JPEG-LS.
_SOF = {
    0xC0: BASELINE,
    0xC1: BASELINE,
    0xC2: BASELINE,
    0xC3: LOSSLESS,
    0xF7: JPEG_LS,
}
_OTHER_SOF = frozenset({0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


class Codestream(NamedTuple):
    """What a codestream declares: its kind, its sides in pixels, its components and their bits.

    Attributes:
        whole: whether no tile is missing. A decoder would leave it black.
    """

    kind: str
    rows: int
    columns: int
    components: int
    bits: int
    whole: bool = True


def check_codestream(
    data: bytes, kind: str, rows: int, columns: int, samples: int, allocated: int
) -> Codestream:
    """Refuse a codestream that is not the picture that the header describes.

    Args:
        data: the codestream of one frame.
        kind: what the transfer syntax says that it is.
        rows, columns, samples, allocated: the header's, with the bits that hold a sample.

    Returns:
        What it declares.

    Raises:
        Refused: it is damaged, of another kind or size, or no decoder is there for its bits.
    """
    found = _jpeg_2000(data) if kind == JPEG_2000 else _jpeg(data)
    if found is None:
        raise Refused(f"its pixels are no {kind}, or damaged")
    if found.kind != kind:
        raise Refused(f"its pixels are {found.kind}, and by its transfer syntax {kind}")
    if kind == BASELINE and found.bits != 8:
        raise Refused(
            f"it is a lossy JPEG of {found.bits} bits, for which there is no decoder: "
            "save it without compression"
        )
    if (found.rows, found.columns, found.components) != (rows, columns, samples):
        raise Refused(
            f"its codestream has {found.rows} rows, {found.columns} columns and "
            f"{found.components} samples per pixel, and its header {rows}, {columns} and {samples}"
        )
    if not found.whole:
        raise Refused("its codestream lacks tiles that it declares")
    if found.bits > allocated:
        raise Refused(f"its codestream has {found.bits} bits a sample, and its header {allocated}")
    return found


def _jpeg(data: bytes) -> Codestream | None:
    """What the frame header of JPEG or JPEG-LS says; None where there is none."""
    at = 2
    if not data.startswith(b"\xff\xd8"):
        return None
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _OTHER_SOF:
            raise Refused("its pixels are a kind of JPEG that is not read")
        if marker in _SOF:
            rows, columns = (
                int.from_bytes(data[start : start + 2], "big") for start in (at + 5, at + 7)
            )
            return Codestream(_SOF[marker], rows, columns, data[at + 9], data[at + 4])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _tiles(data: bytes, start: int) -> set[int]:
    """The numbers of the tiles of which a codestream of JPEG 2000 has parts (A.4.2)."""
    tiles, at = set(), start + 2
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _SOT:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    while data[at : at + 2] == _SOT:
        tiles.add(int.from_bytes(data[at + 4 : at + 6], "big"))
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        at += length or len(data)  # without a length it is the last one
    return tiles


def _jpeg_2000(data: bytes) -> Codestream | None:
    """What the marker SIZ (ISO 15444-1 A.5.1) says; None where there is none."""
    start = data.find(_SIZ, 0, _JP2_HEAD)
    if start < 0 or (start and b"pclr" in data[:start]):  # a palette makes more components
        return None
    fields = data[start + 8 : start + 40]
    if len(fields) < 32:
        return None
    right, bottom, left, top, width, height, tile_left, tile_top = (
        int.from_bytes(fields[at : at + 4], "big") for at in range(0, 32, 4)
    )
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    components = [data[at : at + 3] for at in range(start + 42, start + 42 + 3 * count, 3)]
    if not width or not height or not components or any(len(one) < 3 for one in components):
        return None
    tiles = -(-(right - tile_left) // width) * -(-(bottom - tile_top) // height)
    if not 1 <= tiles <= _MOST_TILES or any(one[1:] != b"\1\1" for one in components):
        return None  # more tiles than there may be, or components of other sizes
    bits = max(one[0] % 128 + 1 for one in components)
    whole = len(_tiles(data, start)) == tiles
    return Codestream(JPEG_2000, bottom - top, right - left, count, bits, whole)
