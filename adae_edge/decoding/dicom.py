"""Decoding DICOM files into 8-bit frames: the one file that needs the [dicom] extra.

The order is the standard's (PS3.3 C.11 and C.7.6.3): modality rescale or LUT, then the VOI window
or LUT, then the inversion of MONOCHROME1.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.errors import FrameError
from adae_edge.extras import needs
from adae_edge.interface import check_size

with needs("Reading DICOM files", "dicom"):
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import JPEG2000TransferSyntaxes

MAX_FRAMES = 10_000
GREY = ("MONOCHROME1", "MONOCHROME2")


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
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Decode the frames of a DICOM file one after another.

    Grey pictures pass through their VOI window (the first one, if there are several). Without any,
    8 stored bits are taken as they are, and more are refused: no rule that looks at one picture
    alone would scale the next one in the same way. Colour pictures come as RGB.

    Args:
        path: the file.
        window: in place of the file's own, in modality units.

    Yields:
        The SOP instance UID, with "/1", "/2" ... for the frames of a multi-frame file; and the
        frame, uint8 [H, W, C], C 1 or 3.

    Raises:
        FrameError: no DICOM file, damaged, without pictures, of a kind that cannot be decoded, or
            without a window where one is needed.
    """
    frames = _frames(path, window)
    while True:
        # Around each step and not the loop, so that the caller's warnings are not held back.
        with _refusing(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def decode_one(path: Path, number: int, window: Window | None = None) -> NDArray[np.uint8]:
    """Decode one frame of a DICOM file by its number from 0, as ``decode_dicom`` does.

    Returns:
        uint8 [H, W, C], C 1 or 3.

    Raises:
        FrameError: as ``decode_dicom``, or there is no such frame.
    """
    with _refusing(path):
        for _, frame in _frames(path, window, [number]):
            return frame
        raise ValueError(f"it has no frame {number + 1}")


def read_header(path: Path) -> Header:
    """Read what a file says of its frames, without decoding them.

    Raises:
        FrameError: no DICOM file, damaged or without pictures.
    """
    with _refusing(path):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        if "Rows" not in data:
            raise FrameError(f"{path} holds no picture")
        planes = [data]
        for group in (data, *_groups(data, "Shared"), *_groups(data, "PerFrame")):
            planes += group.get("PlaneOrientationSequence") or []
        oriented = [plane for plane in planes if plane.get("ImageOrientationPatient")]
        return Header(
            frames=_count(data, path),
            grey=data.PhotometricInterpretation in GREY,
            size=(int(data.Rows), int(data.Columns)),
            series=str(data.get("SeriesInstanceUID") or ""),
            orientations=[_axes(plane.ImageOrientationPatient) for plane in oriented],
        )


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


def _count(data: Dataset, path: Path) -> int:
    count = int(data.get("NumberOfFrames") or 1)
    if count > MAX_FRAMES:
        raise FrameError(f"{path} declares {count} frames, and a file has {MAX_FRAMES} at most")
    return count


def _axes(cosines: Sequence[float]) -> NDArray[np.float64]:
    """Six direction cosines (PS3.3 C.7.6.2.1.1) -> float64 [2, 3], of length 1."""
    axes = np.array([float(cosine) for cosine in cosines]).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) < 0.01).all():
        raise ValueError("its orientation is no pair of directions")
    return np.asarray(axes / lengths)


def _frames(
    path: Path, window: Window | None, numbers: Sequence[int] | None = None
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Decode the frames with these numbers, or all, as ``decode_dicom`` yields them."""
    data = pydicom.dcmread(path)
    if "PixelData" not in data:
        raise FrameError(f"{path} holds no picture")
    check_size(int(data.Rows), int(data.Columns), str(path))
    count = _count(data, path)
    # pydicom fails on JPEG 2000 whose own sign is not the header's unless this plugin decodes it.
    plugin = "pylibjpeg" if data.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes else ""
    decoded = iter_pixels(data, indices=numbers, decoding_plugin=plugin)
    for number, pixels in zip(numbers or itertools.count(), decoded, strict=False):
        uid = str(data.get("SOPInstanceUID") or path.name)
        if data.PhotometricInterpretation in GREY:
            frame = _grey(_attributes(data, number), pixels, window)
        else:
            frame = _colour(data, pixels)
        if frame.ndim != 3 or frame.shape[2] not in (1, 3):
            raise ValueError(
                f"{data.PhotometricInterpretation} has not {data.SamplesPerPixel} samples per pixel"
            )
        yield (f"{uid}/{number + 1}" if count > 1 else uid), frame


def _grey(data: Dataset, pixels: NDArray[np.generic], window: Window | None) -> NDArray[np.uint8]:
    """Turn stored values [H, W] into a picture uint8 [H, W, 1], by modality and VOI transformation.

    pydicom's own functions serve scaled values, not pictures: a negative slope leaves them upside
    down, and indices beyond 255 into a VOI LUT of 8 bits wrap around.
    """
    # stored values, and what their bits can hold
    values = pixels.astype(np.float64)
    bits = int(data.BitsStored)
    low, high = 0.0, 2.0**bits - 1
    if data.PixelRepresentation != 0:
        low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1

    # modality units
    if data.get("ModalityLUTSequence"):
        values, low, high = _looked_up(values, data.ModalityLUTSequence[0], data)
        bits = int(data.ModalityLUTSequence[0].LUTDescriptor[2])
    elif data.get("RescaleSlope") is not None and data.get("RescaleIntercept") is not None:
        slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
        values = values * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))

    # from black to white
    if window is not None:
        values, low, high = _windowed(values, window, "LINEAR"), 0, 1
    elif data.get("VOILUTSequence"):
        values, low, high = _looked_up(values, data.VOILUTSequence[0], data)
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        own = data.WindowCenter, data.WindowWidth
        center, width = (float(np.ravel(value)[0]) for value in own)
        function = data.get("VOILUTFunction") or "LINEAR"
        values, low, high = _windowed(values, Window(center, width), function), 0, 1
    elif bits > 8:
        raise ValueError(
            "it has no VOI window, so which values are black and white is unknown: --window says it"
        )
    if not 0 < high - low < np.inf:
        raise ValueError("its rescaling maps every value to the same")
    shown = np.clip((values - low) / (high - low), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.asarray(np.rint(shown * 255).astype(np.uint8)[:, :, None])


def _looked_up(
    values: NDArray[np.float64], lut: Dataset, data: Dataset
) -> tuple[NDArray[np.float64], float, float]:
    """Look values up in a LUT (PS3.3 C.11.1.1 and C.11.2.1.1).

    Returns:
        The values, and the lowest and highest that the LUT's bits can hold.
    """
    entries, first, bits = (int(number) for number in lut.LUTDescriptor)
    table = lut.LUTData
    if isinstance(table, bytes):
        order = "<u2" if data.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        table = np.frombuffer(table, order)
    table = np.atleast_1d(np.asarray(table, np.float64))
    entries = entries or 2**16
    if len(table) < entries or not 1 <= bits <= 16:
        raise ValueError("its lookup table is not as long as it declares")
    indices = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.intp)
    return table[indices], 0, 2**bits - 1


def _windowed(values: NDArray[np.float64], window: Window, function: str) -> NDArray[np.float64]:
    """Map values through a window to 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window
    if not (width >= 1 or (width > 0 and function != "LINEAR")):
        raise ValueError(f"its window is {width:g} wide")
    if function == "LINEAR" and width == 1:
        return np.asarray(values > center - 0.5, np.float64)
    if function == "LINEAR":
        return (values - (center - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    raise ValueError(f"its window has the unknown function {function}")


def _colour(data: Dataset, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Turn stored colours [H, W, 3], or a palette's indices [H, W], into uint8 [H, W, 3], RGB."""
    depth = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)[..., :3]
        depth = pixels.dtype.itemsize * 8
    if depth < 8:
        raise ValueError(f"its colours have {depth} bits")
    return np.asarray((pixels.astype(np.uint32) >> (depth - 8)).astype(np.uint8))


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
