"""Decoding pictures into frames, by the same rules for training and for scoring.

A frame is a uint8 array [H, W, C], C 1 (grey) or 3 (RGB). Values are scaled by the file's format,
never by its content.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from adae_edge.contract import MAX_SIDE
from adae_edge.errors import FrameError, UsageError
from adae_edge.interface import check_size

NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

Value = TypeVar("Value", bound=np.generic)

# The formats behind these names, and GIF for files given by name. Others are not even tried: one of
# Pillow's decoders runs Ghostscript on what it is given.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"})
_RGB_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"})


def decode_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file.

    EXIF orientation is applied; 16-bit grey keeps its high byte; an alpha channel is dropped. What
    a decoder merely warns of is not refused.

    Returns:
        uint8 [H, W, C], C 1 for a grey file and 3 (RGB) for any other.

    Raises:
        FrameError: the file is missing, empty, truncated, no image, has several pages, a depth that
            8 bits cannot hold by a fixed rule, or declares more than 8192 x 8192 pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as image:
                check_size(image.height, image.width, str(path))
                pages = getattr(image, "n_frames", 1)
                if pages > 1 and image.format != "MPO":
                    raise FrameError(
                        f"{path} has {pages} pages, and a file is one frame: save each page as a "
                        "file"
                    )
                return _pixels(ImageOps.exif_transpose(image), _mode(image), path)
    except FrameError:
        raise
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path} declares more than {MAX_SIDE} x {MAX_SIDE} pixels") from error
    except FileNotFoundError as error:
        raise FrameError(f"{path} does not exist") from error
    except PermissionError as error:
        raise FrameError(f"{path} may not be read: permission denied") from error
    except UnidentifiedImageError as error:
        reason = "it is empty" if path.stat().st_size == 0 else "it is no image, or a damaged one"
        raise FrameError(f"{path} cannot be decoded: {reason}") from error
    except Exception as error:  # decoders raise many kinds on damaged data
        reason = f"{error}".replace(str(path), "it") or type(error).__name__
        raise FrameError(f"{path} cannot be decoded: {reason}") from error


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_grey(path: Path) -> bool:
    """Whether an image file's header declares a grey picture; False if it cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return _mode(image) in _GREY_MODES
    except Exception:
        return False


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM: by its name, or by the mark behind its preamble."""
    if path.suffix.lower() in (".dcm", ".dicom"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def to_channels(frame: NDArray[Value], channels: int) -> NDArray[Value]:
    """Convert between grey and colour, by the one rule of the project.

    Grey to RGB repeats the value. RGB to grey is ITU-R BT.601 luma, (299 R + 587 G + 114 B) / 1000
    rounded half up.

    Args:
        frame: uint8 [..., 1 or 3], one frame or several, RGB; or float32 [..., 1], which stays as
            it is.
        channels: 1 or 3.

    Returns:
        [..., channels]; the same array where nothing is to be converted.
    """
    if frame.shape[-1] == channels:
        return frame
    if channels == 3:
        return np.repeat(frame, 3, axis=-1)
    luma = frame.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
    return ((luma + 500) // 1000).astype(frame.dtype)[..., None]


def _mode(image: Image.Image) -> str:
    """Pillow's mode; it calls a PGM file of 16 bits, alone among the formats, one of 32."""
    return "I;16" if image.mode == "I" and image.format == "PPM" else image.mode


def _pixels(image: Image.Image, mode: str, path: Path) -> NDArray[np.uint8]:
    """The pixels of an opened image in 8 bits, uint8 [H, W, C]."""
    if mode.startswith("I;16"):
        return (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)[:, :, None]
    if mode in _GREY_MODES:
        return np.asarray(image.convert("L"))[:, :, None]
    if mode in _RGB_MODES:
        return np.asarray(image.convert("RGB"))
    raise FrameError(f"{path} has pixels of mode {mode}: save it with 8 or 16 bits a channel")


def frame_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT as width and height, pixels; raises UsageError for anything else."""
    sizes = text.lower().split("x")
    whole = len(sizes) == 2 and all(size.isdecimal() for size in sizes)
    if not whole or not all(0 < int(size) <= MAX_SIDE for size in sizes):
        raise UsageError(f"a frame size is WIDTHxHEIGHT, as 640x480, and {text} is something else")
    width, height = map(int, sizes)
    return width, height
