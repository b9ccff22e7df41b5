"""Decoding DICOM files into 8-bit frames: the one file that needs the [dicom] extra."""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_bytes import (
    UNKNOWN,
    Order,
    check_end,
    check_meta,
    fragments,
    pixel_length,
)
from adae_edge.decoding.dicom_values import GREY, check_layout, colour, grey, palette
from adae_edge.errors import FrameError, NoPicture
from adae_edge.extras import needs
from adae_edge.interface import check_size

with needs("Reading DICOM files", "dicom"):
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import UID, JPEG2000TransferSyntaxes, RLELossless

MAX_FRAMES = 10_000


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
    source: Path | BinaryIO, window: Window | None = None, name: str = ""
) -> Iterator[tuple[str, NDArray[np.uint8] | FrameError]]:
    """Decode the frames of a DICOM file one after another.

    Grey pictures pass through their VOI window (the first one, if there are several). Without any,
    8 stored bits are taken as they are, and more are refused: no rule that looks at one picture
    alone would scale the next one in the same way. Colour pictures come as RGB.

    Args:
        source: the file, or one that is open and can be sought, such as a member of an archive.
        window: in place of the file's own, in modality units.
        name: what sentences call the file; its path if not given.

    Yields:
        The SOP instance UID, with "/1", "/2" ... for the frames of a multi-frame file; and the
        frame, uint8 [H, W, C], C 1 or 3, or why this one of several cannot be decoded.

    Raises:
        FrameError: no DICOM file, damaged, of a kind that cannot be decoded, or without a window
            where one is needed.
        NoPicture: it holds something else than pictures.
    """
    file = _opened(source, name)
    with _refusing(file.name):
        uid = str(file.data.get("SOPInstanceUID") or Path(file.name).name)
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
    with _refusing(file.name):
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
        source: its path, or itself where it was given open.
        name: what sentences call it.
        data: what stands before the pixels; the pixels too, where they are deflated or of 1 bit.
        frames: how many it holds.
        complete: how many of them it has data of.
        little_endian: the order of its bytes.
    """

    source: Path | BinaryIO
    name: str
    data: Dataset
    frames: int
    complete: int
    little_endian: bool


def _opened(source: Path | BinaryIO, name: str = "") -> _File:
    """The header of a file; that of a path is kept for the next frame of the same one."""
    if isinstance(source, Path):
        name = name or str(source)
        with _refusing(name):
            state = source.stat()
            return _kept(source, name, state.st_mtime_ns, state.st_size)
    name = name or str(getattr(source, "name", "")) or "a file"
    with _refusing(name):
        return _read(source, source, name)


@functools.lru_cache(maxsize=4)
def _kept(path: Path, name: str, changed: int, size: int) -> _File:
    """The header of a file as it is since it was changed."""
    with path.open("rb") as file:
        return _read(file, path, name)


def _read(file: BinaryIO, source: Path | BinaryIO, name: str) -> _File:
    """Read and check the header of a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    data = pydicom.dcmread(file, stop_before_pixels=True)
    pixels_at = file.tell()
    check_meta(file)
    file.seek(pixels_at)
    _check_kind(data, name)
    order: Order = "little" if data.original_encoding[1] else "big"
    syntax = UID(data.file_meta.get("TransferSyntaxUID") or "")
    if not syntax.is_transfer_syntax:
        raise ValueError("it does not say by which transfer syntax it is encoded")
    if syntax.is_deflated or data.get("BitsAllocated") == 1:
        file.seek(0)
        data = pydicom.dcmread(file)
        length = len(data.PixelData) if "PixelData" in data else None
    else:
        length = pixel_length(file, order)
    if length is None:
        raise FrameError(f"{name} holds no picture: it ends before its pixels")
    check_size(int(data.Rows), int(data.Columns), name)
    check_layout(data)
    if syntax.is_compressed and not syntax.is_deflated:
        if length != UNKNOWN:
            raise ValueError("its pixels are compressed, and have a length as if they were not")
        frames = _declared(data) or 1
        complete = fragments(file, size)
    else:
        frames = complete = _native_frames(data, length)
        if "PixelData" not in data:
            check_end(file, file.tell() + length, size, syntax.is_implicit_VR, order)
    groups = _groups(data, "PerFrame")
    if groups and len(groups) < frames:
        raise ValueError(f"it has {frames} frames, and describes {len(groups)} of them")
    complete = min(frames, complete)
    return _File(source, name, data, frames, complete, bool(syntax.is_little_endian))


def _check_kind(data: Dataset, place: str) -> None:
    """Refuse what holds no picture by its SOP class, whatever else it holds."""
    uid = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID") or ""
    name = UID(uid).name
    if name != uid and "Image Storage" not in name:
        raise NoPicture(f"{place} holds no picture: it is of the kind {name}")
    if data.get("Rows") is None:
        raise FrameError(f"{place} holds no picture: it has no Rows")


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
    with _refusing(file.name):
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
def _refusing(name: str) -> Iterator[None]:
    """Silence what pydicom warns of, and turn what it raises into a FrameError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except FrameError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged data
            raise FrameError(f"{name} cannot be decoded as DICOM: {_reason(error)}") from error


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
    source: Path | BinaryIO | Dataset = file.source
    if not isinstance(source, Path):
        source.seek(0)
    if "PixelData" in data:
        source = data
    elif file.frames == 1:
        source = pydicom.dcmread(source)
    # pydicom fails on JPEG 2000 whose own sign is not the header's unless this plugin decodes it.
    # pylibjpeg's decoder of RLE panics on damaged data.
    syntax = data.file_meta.TransferSyntaxUID
    plugin = "pylibjpeg" if syntax in JPEG2000TransferSyntaxes else ""
    (pixels,) = iter_pixels(
        source,
        indices=[number],
        decoding_plugin="pydicom" if syntax == RLELossless else plugin,
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
