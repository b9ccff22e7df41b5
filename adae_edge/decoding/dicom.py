"""Decoding DICOM files into 8-bit frames: the one file that needs the [dicom] extra."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_values import GREY, check_layout, colour, grey, palette
from adae_edge.errors import FrameError, NoPicture
from adae_edge.extras import needs
from adae_edge.interface import check_size

with needs("Reading DICOM files", "dicom"):
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import UID, JPEG2000TransferSyntaxes
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

MAX_FRAMES = 10_000
_UNKNOWN = 2**32 - 1
_VRS = frozenset(vr.value for vr in STANDARD_VR)
_META = 132  # where the meta information begins
_Order = Literal["little", "big"]


class Header(NamedTuple):
    """What a DICOM file says of its frames.

    Attributes:
        frames: how many there are.
        grey: whether they are grey.
        size: their rows and columns.
        series: the series instance UID, or "".
        orientations: of the whole file or of each frame, as far as they are given: float64 [2, 3],
            the directions of rows and columns in the patient, of length 1.
    """

    frames: int
    grey: bool
    size: tuple[int, int]
    series: str
    orientations: list[NDArray[np.float64]]


def decode_dicom(
    path: Path, window: Window | None = None
) -> Iterator[tuple[str, NDArray[np.uint8] | FrameError]]:
    """Decode the frames of a DICOM file one after another.

    Grey pictures pass through their VOI window (the first one, if there are several). Without any,
    8 stored bits are taken as they are, and more are refused: no rule that looks at one picture
    alone would scale the next one in the same way. Colour pictures come as RGB.

    Args:
        path: the file.
        window: in place of the file's own, in modality units.

    Yields:
        The SOP instance UID, with "/1", "/2" ... for the frames of a multi-frame file; and the
        frame, uint8 [H, W, C], C 1 or 3, or why this one of several cannot be decoded.

    Raises:
        FrameError: no DICOM file, damaged, of a kind that cannot be decoded, or without a window
            where one is needed.
        NoPicture: it holds something else than pictures.
    """
    file = _opened(path)
    with _refusing(path):
        uid = str(file.data.get("SOPInstanceUID") or path.name)
    for number in range(file.frames):
        if file.frames == 1:
            yield uid, _decoded(file, number, window)
            return
        try:
            frame: NDArray[np.uint8] | FrameError = _decoded(file, number, window)
        except FrameError as error:
            frame = FrameError(f"frame {number + 1} of {error}")
        yield f"{uid}/{number + 1}", frame


def decode_one(path: Path, number: int, window: Window | None = None) -> NDArray[np.uint8]:
    """Decode one frame of a DICOM file by its number from 0, as ``decode_dicom`` does.

    Returns:
        uint8 [H, W, C], C 1 or 3.

    Raises:
        FrameError: as ``decode_dicom``, or there is no such frame.
    """
    file = _opened(path)
    if not 0 <= number < file.frames:
        raise FrameError(f"{path} has no frame {number + 1}")
    return _decoded(file, number, window)


def read_header(path: Path) -> Header:
    """Read what a file says of its frames, without decoding them.

    Raises:
        FrameError: no DICOM file, or damaged.
        NoPicture: it holds something else than pictures.
    """
    file = _opened(path)
    data = file.data
    with _refusing(path):
        planes = [data]
        for group in (data, *_groups(data, "Shared"), *_groups(data, "PerFrame")):
            planes += group.get("PlaneOrientationSequence") or []
        oriented = [plane for plane in planes if plane.get("ImageOrientationPatient")]
        return Header(
            frames=file.frames,
            grey=data.PhotometricInterpretation in GREY,
            size=(int(data.Rows), int(data.Columns)),
            series=str(data.get("SeriesInstanceUID") or ""),
            orientations=[_axes(plane.ImageOrientationPatient) for plane in oriented],
        )


class _File(NamedTuple):
    """A file whose header was read and checked.

    Attributes:
        path: the file's.
        data: what stands before the pixels; the pixels too, where they are deflated or of 1 bit.
        frames: how many it holds.
        complete: how many of them it has data of.
        little_endian: the order of its bytes.
    """

    path: Path
    data: Dataset
    frames: int
    complete: int
    little_endian: bool


def _opened(path: Path) -> _File:
    """The header of a file, which is kept for the next frame of the same one."""
    with _refusing(path):
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> _File:
    """Read and check the header of a file as it is since it was changed."""
    with path.open("rb") as file:
        data = pydicom.dcmread(file, stop_before_pixels=True)
        pixels_at = file.tell()
        _check_meta(file)
        file.seek(pixels_at)
        _check_kind(data, path)
        order: _Order = "little" if data.original_encoding[1] else "big"
        syntax = UID(data.file_meta.get("TransferSyntaxUID") or "")
        if not syntax.is_transfer_syntax:
            raise ValueError("it does not say by which transfer syntax it is encoded")
        if syntax.is_deflated or data.get("BitsAllocated") == 1:
            data = pydicom.dcmread(path)
            length = len(data.PixelData) if "PixelData" in data else None
        else:
            length = _pixel_length(file, order)
        if length is None:
            raise FrameError(f"{path} holds no picture: it ends before its pixels")
        check_size(int(data.Rows), int(data.Columns), str(path))
        check_layout(data)
        if syntax.is_compressed and not syntax.is_deflated:
            if length != _UNKNOWN:
                raise ValueError("its pixels are compressed, and have a length as if they were not")
            frames = _declared(data) or 1
            complete = _fragments(file, size)
        else:
            frames = complete = _native_frames(data, length)
            if "PixelData" not in data:
                _check_end(file, file.tell() + length, size, syntax.is_implicit_VR, order)
    groups = _groups(data, "PerFrame")
    if groups and len(groups) < frames:
        raise ValueError(f"it has {frames} frames, and describes {len(groups)} of them")
    return _File(path, data, frames, min(frames, complete), bool(syntax.is_little_endian))


def _check_kind(data: Dataset, path: Path) -> None:
    """Refuse what holds no picture by its SOP class, whatever else it holds."""
    uid = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""
    name = UID(uid).name
    if name != uid and "Image Storage" not in name:
        raise NoPicture(f"{path} holds no picture: it is of the kind {name}")
    if data.get("Rows") is None:
        raise FrameError(f"{path} holds no picture: it has no Rows")


def _pixel_length(file: BinaryIO, order: _Order) -> int | None:
    """The length in bytes that a file declares of its pixels, where it stands before them.

    Returns:
        ``_UNKNOWN`` where they end by a mark; None if the pixels do not follow.
    """
    group, element = (int.from_bytes(file.read(2), order) for _ in range(2))
    if (group, element) != (0x7FE0, 0x0010):
        return None
    start = file.read(4)  # a VR, or the length where there is none, whatever the syntax says
    return int.from_bytes(file.read(4) if start[:2] in (b"OB", b"OW", b"UN") else start, order)


def _fragments(file: BinaryIO, size: int) -> int:
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


def _check_end(file: BinaryIO, end: int, size: int, implicit: bool, order: _Order) -> None:
    """Refuse pixels that do not end where they say, for then some lie elsewhere."""
    if size < end:
        raise ValueError("it is cut short")
    if not _are_elements(file, end, size, implicit, order):
        raise ValueError(f"{size - end} bytes follow its pixels that are no part of them")


def _check_meta(file: BinaryIO) -> None:
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
    file: BinaryIO, start: int, end: int, implicit: bool, order: _Order, group: bytes = b""
) -> bool:
    """Whether data elements fill the bytes from start to end, of one group if it is given."""
    while start < end:
        file.seek(start)
        head = file.read(12)
        if not head.startswith(group) or not (implicit or head[4:6].decode("latin-1") in _VRS):
            return False
        long = head[4:6].decode("latin-1") in EXPLICIT_VR_LENGTH_32
        at, count = (4, 4) if implicit else (8, 4) if long else (6, 2)
        length = int.from_bytes(head[at : at + count], order)
        if length == _UNKNOWN:
            return not group
        start += at + count + length
    return start == end


def _declared(data: Dataset) -> int | None:
    """How many frames a file declares; None where it does not."""
    count = data.get("NumberOfFrames")
    if count in (None, ""):
        return None
    if not 1 <= int(count) <= MAX_FRAMES:
        raise ValueError(f"it declares {count} frames, and a file has 1 to {MAX_FRAMES}")
    return int(count)


def _native_frames(data: Dataset, length: int) -> int:
    """How many frames are in so many bytes of pixels that are not compressed.

    A file that does not declare it has as many as fill its bytes.
    """
    bits = int(data.Rows) * int(data.Columns) * int(data.SamplesPerPixel) * int(data.BitsAllocated)
    if data.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits * 2 // 3
    held, declared = length * 8 // bits, _declared(data)
    if not held or held < (declared or 0) or (declared and held > declared):
        raise ValueError(f"its pixels are {held} whole frames, and it declares {declared or 1}")
    if held > MAX_FRAMES:
        raise ValueError(f"it holds {held} frames, and a file has {MAX_FRAMES} at most")
    return declared or held


def _decoded(file: _File, number: int, window: Window | None) -> NDArray[np.uint8]:
    """Decode one frame, uint8 [H, W, C]."""
    with _refusing(file.path):
        data = file.data
        if number >= file.complete:
            raise ValueError("its data ends before")
        pixels = _stored(file, number)
        if data.PhotometricInterpretation in GREY:
            return grey(_attributes(data, number), pixels, window, file.little_endian)
        if data.PhotometricInterpretation != "PALETTE COLOR":
            return colour(data, pixels)
        if "SegmentedRedPaletteColorLookupTableData" in data:
            shown: NDArray[np.uint16] = apply_color_lut(pixels, data)[..., :3].astype(np.uint16)
            depth = int(data.RedPaletteColorLookupTableDescriptor[2])
            return (shown >> (depth - 8)).astype(np.uint8)
        return palette(data, pixels, file.little_endian)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Silence what pydicom warns of, and turn what it raises into a FrameError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except FrameError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged data
            raise FrameError(f"{path} cannot be decoded as DICOM: {_reason(error)}") from error


def _axes(cosines: Sequence[float]) -> NDArray[np.float64]:
    """Six direction cosines (PS3.3 C.7.6.2.1.1) -> float64 [2, 3], of length 1."""
    axes = np.array([float(cosine) for cosine in cosines]).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) < 0.01).all():
        raise ValueError("its orientation is no pair of directions")
    return np.asarray(axes / lengths)


def _stored(file: _File, number: int) -> NDArray[np.generic]:
    """The stored values of one frame, [H, W] or [H, W, 3]; YBR comes as RGB."""
    data = file.data
    if data.BitsAllocated == 1:  # pydicom gives frames that begin within a byte with another shape
        if not file.little_endian:
            raise ValueError("its pixels of 1 bit are big-endian")
        shape = int(data.Rows), int(data.Columns)
        bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
        return np.reshape(bits[number * shape[0] * shape[1] :][: shape[0] * shape[1]], shape)
    source: Path | Dataset = file.path
    if "PixelData" in data:
        source = data
    elif file.frames == 1:
        source = pydicom.dcmread(file.path)
    # pydicom fails on JPEG 2000 whose own sign is not the header's unless this plugin decodes it.
    jpeg2000 = data.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes
    (pixels,) = iter_pixels(
        source,
        indices=[number],
        decoding_plugin="pylibjpeg" if jpeg2000 else "",
        number_of_frames=file.frames,
    )
    return np.asarray(pixels)


def _reason(error: Exception) -> str:
    """The first line of a message, with the first of the list that it announces.

    It may quote the file, so that it is made safe to print.
    """
    lines = str(error).splitlines() or [type(error).__name__]
    text = " ".join(line.strip() for line in lines[: 2 if lines[0].endswith(":") else 1])
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def _attributes(data: Dataset, number: int) -> Dataset:
    """The attributes that hold for one frame.

    An enhanced file keeps them in functional groups (PS3.3 C.7.6.16).
    """
    groups = _groups(data, "Shared")[:1] + _groups(data, "PerFrame")[number : number + 1]
    if not groups:
        return data
    attributes = Dataset()
    attributes.file_meta = data.file_meta
    attributes.update({element.tag: element for element in data.group_dataset(0x0028)})
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(macro) or []:
                attributes.update(item)
    return attributes


def _groups(data: Dataset, kind: str) -> list[Dataset]:
    """The functional groups of an enhanced file, of all its frames or of each."""
    return list(data.get(f"{kind}FunctionalGroupsSequence") or [])
