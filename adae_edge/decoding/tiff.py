"""What a TIFF file's own tags say of its values, read before Pillow sees the file.

Pillow's modes do not tell signed values from unsigned ones, nor at every depth whether 0 is white.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from simplejpeg import decode_jpeg

BITS = 258
_SUBFILE, _COMPRESSION, _PHOTOMETRIC = 254, 259, 262
_SAMPLE_FORMAT, _SUBSAMPLING = 339, 530
_STRIPS, _TILES, _JPEG_TABLES = (273, 279), (324, 325), 347
_JPEG, _DEFLATE = 7, (8, 32946)
_MAX_PART = 2**29  # bytes, the largest frame with 16 bits a channel
_WIDTH, _HEIGHT, _ROWS, _PLANAR = 256, 257, 278, 284
_FOR_EACH = (BITS, _SAMPLE_FORMAT)  # with a value for each channel
_READ = (_SUBFILE, BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT, _ROWS)
_WHITE_IS_ZERO, _RGB, _YCBCR = 0, 2, 6
_REDUCED, _MASK = 1, 4
_UNREAD_COMPRESSIONS = {
    **dict.fromkeys((2, 3, 4), "as a fax, in which damage cannot be noticed"),
    6: "by the old kind of JPEG",
}
_UNREAD_VALUES = {2: "signed numbers", 3: "floating-point numbers"}
_SAVE = "save it with 8 or 16 bits a channel"


class _Tag(NamedTuple):
    """The first value of a tag, where in the file it stands, and its type as struct calls it."""

    value: int
    at: int
    letter: str


def prepared(data: bytes) -> tuple[bytes, bool]:
    """The file with 0 as black, and whether 0 is white in the file as it is.

    Raises:
        ValueError: its values are of a kind that is not read, or it holds no picture but a mask or
            a preview.
    """
    order = "<" if data[:2] == b"II" else ">"
    tags = _first_tags(data, order)

    # What is refused by name
    subfile = tags[_SUBFILE].value if _SUBFILE in tags else 0
    if subfile & (_REDUCED | _MASK):
        raise ValueError("its first page is a preview or a mask, and not the picture")
    values = tags[_SAMPLE_FORMAT].value if _SAMPLE_FORMAT in tags else 1
    if values not in (1, 4):
        name = _UNREAD_VALUES.get(values, "complex numbers")
        raise ValueError(f"it holds {name}, of which no rule says what is white: {_SAVE}")
    bits = tags[BITS].value if BITS in tags else 1
    if bits not in (1, 2, 4, 8, 12, 16):
        raise ValueError(f"it has values of {bits} bits: {_SAVE}")
    compression = tags[_COMPRESSION].value if _COMPRESSION in tags else 1
    if compression in _UNREAD_COMPRESSIONS:
        raise ValueError(f"it is compressed {_UNREAD_COMPRESSIONS[compression]}: save it otherwise")
    photometric = tags.get(_PHOTOMETRIC)
    plain = _SUBSAMPLING in tags and tags[_SUBSAMPLING].value == 1
    if compression == 1 and photometric and photometric.value == _YCBCR and not plain:
        raise ValueError("it has uncompressed colours of lower resolution: save it as RGB")

    if photometric is None:
        raise ValueError("it does not say whether 0 is black or white")
    if _PLANAR in tags and tags[_PLANAR].value not in (1, 2):
        raise ValueError("it is damaged: its planes are neither together nor apart")

    # Where 0 is white the file is read as if it were black
    if photometric.value != _WHITE_IS_ZERO:
        return data, False
    black = bytearray(data)
    struct.pack_into(order + photometric.letter, black, photometric.at, 1)
    return bytes(black), True


def deep_planes(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """The high bytes of 16-bit colours that an uncompressed file keeps in planes, [H, W, 3].

    Pillow reads one byte of two there.

    Returns:
        uint8 [H, W, 3], RGB; None for any other picture.

    Raises:
        ValueError: the planes are not as long as they should be.
    """
    tags = getattr(image, "tag_v2", {})
    wanted = {_PLANAR: 2, _COMPRESSION: 1, _PHOTOMETRIC: _RGB}
    if any(tags.get(tag) != value for tag, value in wanted.items()) or tags[BITS][0] != 16:
        return None
    parts = zip(tags.get(_STRIPS[0], ()), tags.get(_STRIPS[1], ()), strict=True)
    planes = b"".join(data[place : place + length] for place, length in parts)
    width, height, samples = tags[_WIDTH], tags[_HEIGHT], len(tags[BITS])
    if len(planes) != 2 * width * height * samples:
        raise ValueError("it is cut short, or has colours in tiles")
    values = np.frombuffer(planes, "<u2" if data[:2] == b"II" else ">u2")
    colours = values.reshape(samples, height, width)[:3] >> 8
    return colours.astype(np.uint8).transpose(1, 2, 0)


def check_parts(image: Image.Image, data: bytes) -> None:
    """Refuse damage in the strips or tiles of an opened TIFF that Pillow would conceal.

    Raises:
        ValueError: libjpeg has patched up a part, or the checksum of a deflated one is wrong.
    """
    tags = getattr(image, "tag_v2", {})
    compression = tags.get(_COMPRESSION, 1)
    if compression == 1 and _STRIPS[0] in tags:
        _check_strips(tags)
    if compression not in (_JPEG, *_DEFLATE):
        return
    places, lengths = _TILES if _TILES[0] in tags else _STRIPS
    tables = bytes(tags.get(_JPEG_TABLES, b""))[:-2]  # without the mark of its end
    for place, length in zip(tags[places], tags[lengths], strict=True):
        part = data[place : place + length]
        if compression == _JPEG:
            decode_jpeg(tables + part[2:] if tables else part, "GRAY")
        else:
            _check_deflated(part)


def _check_strips(tags: Any) -> None:
    """Refuse uncompressed strips that are not as many and as long as the picture needs."""
    width, height, bits = tags[_WIDTH], tags[_HEIGHT], tags.get(BITS, (1,))
    together = tags.get(_PLANAR, 1) == 1
    row_bytes = (width * bits[0] * (len(bits) if together else 1) + 7) // 8
    planes = 1 if together else len(bits)
    rows = min(tags.get(_ROWS, height), height)
    expected = row_bytes * height * planes
    strips, total = len(tags[_STRIPS[0]]), sum(tags[_STRIPS[1]])
    if strips != -(-height // max(rows, 1)) * planes:
        raise ValueError("it is damaged: its strips are not as many as it declares")
    if not expected <= total <= expected + row_bytes:
        raise ValueError("it is damaged: its strips are not as long as it declares")


def _check_deflated(part: bytes) -> None:
    """Inflate a part, a MiB at a time, so that zlib compares its checksum; raises ValueError."""
    inflater, rest, left = zlib.decompressobj(), part, _MAX_PART
    while not inflater.eof:
        inflated = inflater.decompress(rest, 2**20)
        rest, left = inflater.unconsumed_tail, left - len(inflated)
        if left < 0 or not (inflated or rest):
            raise ValueError("it is cut short or damaged")


def _first_tags(data: bytes, order: str) -> dict[int, _Tag]:
    """The tags of the first page whose values are whole numbers."""
    big = data[2:4] in (b"+\0", b"\0+")
    count_size, entry_size, offset = (8, 20, "Q") if big else (2, 12, "I")
    counts, entries = ("Q", "HHQ") if big else ("H", "HHI")
    try:
        (start,) = struct.unpack_from(order + offset, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + counts, data, start)
        tags = {}
        for number in range(min(count, 4096)):
            at = start + count_size + number * entry_size
            tag, kind, length = struct.unpack_from(order + entries, data, at)
            letter = {3: "H", 4: "I"}.get(kind)
            if tag in _READ and (letter is None or (length != 1 and tag not in _FOR_EACH)):
                raise ValueError("it is damaged: a tag has another type or length")
            if letter is None:
                continue
            place = at + struct.calcsize("=" + entries)
            if length * struct.calcsize("=" + letter) > struct.calcsize("=" + offset):
                (place,) = struct.unpack_from(order + offset, data, place)
            tags[tag] = _Tag(struct.unpack_from(order + letter, data, place)[0], place, letter)
    except (struct.error, OverflowError) as error:
        raise ValueError("it is cut short or damaged") from error
    return tags
