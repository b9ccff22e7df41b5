"""Stored values of DICOM frames that are not compressed, or only by run lengths; and colours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.dicom_bytes import Refused
from adae_edge.decoding.dicom_header import element_of, value_of

MAX_FRAMES = 10_000
GREY = ("MONOCHROME1", "MONOCHROME2")
# What comes as RGB, beside palettes.
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_SAMPLES = {**dict.fromkeys((*GREY, "PALETTE COLOR"), 1), **dict.fromkeys(_COLOURS, 3)}
_PALETTES = ("Red", "Green", "Blue")
_NEEDED = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
)
_RLE_HEADER = 64  # bytes: the number of segments, and where each begins

_Stored = NDArray[np.generic]


class Layout(NamedTuple):
    """How the values of a frame lie, by its header (PS3.3 C.7.6.3).

    Attributes:
        rows, columns, samples: its shape.
        photometric: what its values mean.
        allocated, stored: bits of a value, and those of them that count.
        signed: whether it may be negative.
        planar: 1 where the samples of colours lie in planes.
        little_endian: the order of bytes.
        words: whether bytes are written in words, which matters in big-endian files.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    signed: bool
    planar: int
    little_endian: bool
    words: bool

    @property
    def frame_bits(self) -> int:
        """How many bits a frame has that is not compressed."""
        bits = self.rows * self.columns * self.samples * self.allocated
        return bits * 2 // 3 if self.photometric == "YBR_FULL_422" else bits

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a value as it lies in the file."""
        order = "<" if self.little_endian else ">"
        return np.dtype(f"{order}{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def value_range(self) -> tuple[int, int]:
        """The lowest and the highest value that the bits that count can hold."""
        span = 2**self.stored
        return (-span // 2, span // 2 - 1) if self.signed else (0, span - 1)

    @classmethod
    def of(cls, data: Any, little_endian: bool, vr: bytes) -> Layout:
        """Read a header; refuse one whose bits, samples and colours no decoder gives right.

        Raises:
            Refused: it does, with the reason.
        """
        # what has to be there
        found = {keyword: _read(data, keyword, little_endian) for keyword in _NEEDED}
        for keyword, value in found.items():
            if value is None:
                raise Refused(f"its header has no {keyword}")
        photometric = str(found.pop("PhotometricInterpretation"))
        rows, columns, samples, allocated, stored, sign = map(int, found.values())

        # bits
        high = _read(data, "HighBit", little_endian)
        high = stored - 1 if high is None else int(high)
        if not 1 <= stored <= allocated <= 32 or allocated not in (1, 8, 16, 32):
            raise Refused(f"it has {stored} bits stored of {allocated}")
        if high != stored - 1:
            raise Refused(f"its highest bit is number {high}, and of {stored} it is {stored - 1}")
        if sign not in (0, 1):
            raise Refused(f"its pixel representation is {sign}")

        # colours
        planar = int(value_of(data, "PlanarConfiguration") or 0)
        if photometric not in _SAMPLES:
            raise Refused(f"its colours are {photometric}, which are not read")
        if samples != _SAMPLES[photometric]:
            raise Refused(f"{photometric} has not {samples} samples per pixel")
        if photometric not in GREY and sign:
            raise Refused("its colours are signed")
        if planar not in (0, 1):
            raise Refused(f"its planar configuration is {planar}")
        if allocated == 1 and (samples > 1 or not little_endian):
            raise Refused("its pixels of 1 bit are coloured, or big-endian")
        return cls(
            rows=rows,
            columns=columns,
            samples=samples,
            photometric=photometric,
            allocated=allocated,
            stored=stored,
            signed=bool(sign),
            planar=planar if samples > 1 else 0,
            little_endian=little_endian,
            words=vr == b"OW",
        )


def _read(data: Any, keyword: str, little_endian: bool) -> Any:
    """The value of an element, or None; a plain number without what pydicom makes of it first.

    Converting and validating seven numbers takes pydicom longer than decoding a frame takes.
    """
    element = element_of(data, keyword)
    is_number = element is not None and keyword != "PhotometricInterpretation"
    if is_number and element.is_raw and element.VR in (None, "US") and element.length == 2:
        return int.from_bytes(element.value, "little" if little_endian else "big")
    return value_of(data, keyword)


def declared_frames(data: Any) -> int | None:
    """How many frames a file declares; None where it does not."""
    count = value_of(data, "NumberOfFrames")
    if count in (None, ""):
        return None
    if not 1 <= int(count) <= MAX_FRAMES:
        raise Refused(f"it declares {count} frames, and a file has 1 to {MAX_FRAMES}")
    return int(count)


def native_frames(data: Any, layout: Layout, length: int) -> int:
    """How many frames are in so many bytes of pixels that are not compressed.

    A file that does not declare it has as many as fill its bytes.
    """
    held, declared = length * 8 // layout.frame_bits, declared_frames(data)
    if not held or held < (declared or 0) or (declared and held > declared):
        raise Refused(f"its pixels are {held} whole frames, and it declares {declared or 1}")
    if held > MAX_FRAMES:
        raise Refused(f"it holds {held} frames, and a file has {MAX_FRAMES} at most")
    return declared or held


def native(file: BinaryIO, start: int, number: int, layout: Layout) -> _Stored:
    """Read a frame that is not compressed.

    Args:
        file: where it lies.
        start: where the pixels of all frames begin in it.
        number: of the frame, from 0.
        layout: of the file's frames.

    Returns:
        [H, W] or [H, W, 3], YBR_FULL_422 as YBR_FULL.

    Raises:
        Refused: the file ends before.
    """
    # the bytes that hold the frame, in whole words
    first, end = number * layout.frame_bits, (number + 1) * layout.frame_bits
    from_byte, to_byte = first // 16 * 2, -(-end // 8)
    file.seek(start + from_byte)
    swapped = layout.allocated == 8 and layout.words and not layout.little_endian
    content = file.read(to_byte - from_byte + (to_byte % 2 if swapped else 0))
    if len(content) < to_byte - from_byte:
        raise Refused("its data end before")
    if swapped:
        content = np.frombuffer(content, ">u2").astype("<u2").tobytes()

    # values
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        return bits[first - from_byte * 8 :][: end - first].reshape(layout.rows, layout.columns)
    count = (end - first) // layout.allocated
    values = np.frombuffer(content, layout.dtype, count, first // 8 - from_byte)
    if layout.photometric == "YBR_FULL_422":  # two pixels share their colours
        if layout.columns % 2:
            raise Refused("pairs of its pixels share their colours, and its rows are odd")
        pairs = values.reshape(-1, 4)
        values = pairs[:, [0, 2, 3, 1, 2, 3]]
        return values.reshape(layout.rows, layout.columns, 3)
    return _arranged(values, layout)


def unpacked(data: bytes, layout: Layout, decode_segment: Callable[[bytes], bytes]) -> _Stored:
    """Decode a frame that is compressed by run lengths (PS3.5 annex G).

    Each segment holds one byte of every value. Segments are decoded alone, and their sizes are
    compared here: pylibjpeg-rle's decoder of frames ends with a panic where they are wrong.

    Returns:
        [H, W] or [H, W, 3].

    Raises:
        Refused: the segments are not what the header describes.
    """
    width, size = layout.allocated // 8, layout.rows * layout.columns
    head = np.frombuffer(data[:_RLE_HEADER], "<u4")
    if len(head) < _RLE_HEADER // 4 or head[0] != layout.samples * width or not width:
        raise Refused("its run lengths have not one segment for each byte of a value")
    starts = [*head[1 : head[0] + 1].tolist(), len(data)]
    if starts[0] < _RLE_HEADER or any(a >= b for a, b in pairwise(starts)):
        raise Refused("its run lengths are damaged")
    planes = []
    for start, end in pairwise(starts):
        try:
            plane = decode_segment(data[start:end])
        except ValueError as error:
            raise Refused("its run lengths are damaged") from error
        if not size <= len(plane) <= size + 1:  # one that is odd may be filled up
            raise Refused(f"its run lengths make {len(plane)} bytes of {size} pixels")
        planes.append(np.frombuffer(plane, np.uint8, size))
    values = np.stack(planes).reshape(layout.samples, width, size)[:, ::-1]  # the low byte first
    kind = layout.dtype.newbyteorder("<")
    values = np.ascontiguousarray(np.moveaxis(values, 1, 2)).view(kind)
    return _arranged(values.ravel(), layout._replace(planar=1))


def _arranged(values: _Stored, layout: Layout) -> _Stored:
    """Values in the order of a frame, [H, W] or [H, W, 3]."""
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar:
        planes = values.reshape(layout.samples, layout.rows, layout.columns)
        return np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    return values.reshape(layout.rows, layout.columns, layout.samples)


def palette(data: Any, pixels: NDArray[np.generic], little_endian: bool) -> NDArray[np.uint8]:
    """Look a palette's indices [H, W] up, uint8 [H, W, 3], RGB (PS3.3 C.7.6.3.1.5 and 6).

    Raises:
        Refused: a table is not what it declares.
    """
    channels = []
    for name in _PALETTES:
        descriptor = value_of(data, f"{name}PaletteColorLookupTableDescriptor")
        table = value_of(data, f"{name}PaletteColorLookupTableData")
        if descriptor is None or table is None:
            raise Refused(f"its palette has no {name.lower()}")
        entries, first, bits = (int(number) for number in descriptor)
        entries = entries % 2**16 or 2**16
        content = bytes(table)
        if bits not in (8, 16):
            raise Refused(f"its palette has {bits} bits")
        wide = len(content) >= 2 * entries
        if not wide and not little_endian:  # bytes are swapped in pairs
            content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
        kind = "u1" if not wide else "<u2" if little_endian else ">u2"
        table = np.frombuffer(content[: 2 * entries if wide else entries], kind)
        if len(table) < entries or (bits == 16 and not wide):
            raise Refused("its palette is not as long as it declares")
        indices = np.clip(pixels.astype(np.int64) - first % 2**16, 0, entries - 1)
        channels.append(table.astype(np.uint16)[indices] >> (bits - 8))
    return np.stack(channels, axis=-1).astype(np.uint8)


def colour(data: Any, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Turn colours of any depth from 8 bits on into uint8 [H, W, 3]."""
    depth = int(data.BitsStored)
    if depth < 8:
        raise Refused(f"its colours have {depth} bits")
    return (pixels.astype(np.uint32) >> (depth - 8)).astype(np.uint8)
