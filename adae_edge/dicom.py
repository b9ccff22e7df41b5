"""Decoding DICOM files into 8-bit frames: the one file that needs the [dicom] extra.

The order is the standard's (PS3.3 C.11 and C.7.6.3): modality rescale or LUT, then the VOI window or
LUT, then the inversion of MONOCHROME1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError, MissingExtra
from adae_edge.frames import check_size

try:
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
    from pydicom.pixels.utils import iter_pixels
except ImportError:
    raise MissingExtra("Reading DICOM files", "dicom") from None

MAX_FRAMES = 10_000


def decode_dicom(path: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Decode the frames of a DICOM file one after another.

    Grey pictures pass through their VOI window (the first one, if there are several); without any the
    window is all that the stored bits can hold. Colour pictures of 8 bits come as RGB.

    Yields:
        The SOP instance UID, with "/1", "/2" ... for the frames of a multi-frame file, and the frame
        uint8 [H, W, C], C 1 or 3.

    Raises:
        FrameError: no DICOM file, damaged, without pictures, or of a kind that cannot be decoded.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(path)
            if "PixelData" not in data:
                raise FrameError(f"{path} holds no picture")
            count = int(data.get("NumberOfFrames") or 1)
            check_size(int(data.Rows), int(data.Columns), str(path))
            if count > MAX_FRAMES:
                raise FrameError(f"{path} declares {count} frames, and a file has {MAX_FRAMES} at most")
            for number, pixels in enumerate(iter_pixels(data)):
                uid = str(data.get("SOPInstanceUID") or path.name)
                if data.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2"):
                    frame = _grey(_attributes(data, number), pixels)
                else:
                    frame = _colour(data, pixels)
                yield (f"{uid}/{number + 1}" if count > 1 else uid), frame
        except FrameError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged data
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise FrameError(f"{path} cannot be decoded as DICOM: {reason}") from None


def _grey(data: Dataset, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Stored values [H, W] through modality and VOI transformation -> uint8 [H, W, 1]."""
    values = apply_modality_lut(pixels, data)
    low, high = _modality_range(data)
    if data.get("VOILUTSequence"):
        values = apply_voi_lut(values, data)
        low, high = 0, 2 ** data.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        values = apply_windowing(values, data)
    shown = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.asarray(np.rint(shown * 255).astype(np.uint8)[:, :, None])


def _colour(data: Dataset, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Stored colours [H, W, 3] or indices [H, W] into a palette -> uint8 [H, W, 3], RGB."""
    depth = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)
        depth = pixels.dtype.itemsize * 8
    if depth < 8:
        raise ValueError(f"its colours have {depth} bits")
    return np.asarray((pixels.astype(np.uint16) >> (depth - 8)).astype(np.uint8))


def _modality_range(data: Dataset) -> tuple[float, float]:
    """The values that the stored bits can have after the modality transformation (PS3.3 C.11.1)."""
    bits = int(data.BitsStored)
    low, high = (0, 2**bits - 1) if data.PixelRepresentation == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if data.get("ModalityLUTSequence"):
        low, high = 0, 2 ** data.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    if data.get("RescaleSlope") is not None and data.get("RescaleIntercept") is not None:
        slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
        return low * slope + intercept, high * slope + intercept
    return low, high


def _attributes(data: Dataset, number: int) -> Dataset:
    """The attributes that hold for one frame; an enhanced file keeps them in functional groups (PS3.3 C.7.6.16)."""
    groups = list(data.get("SharedFunctionalGroupsSequence") or [])[:1]
    groups += list(data.get("PerFrameFunctionalGroupsSequence") or [])[number : number + 1]
    if not groups:
        return data
    found = Dataset()
    found.file_meta = data.file_meta
    found.update({element.tag: element for element in data.group_dataset(0x0028)})
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(macro) or []:
                found.update(item)
    return found
