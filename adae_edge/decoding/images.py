"""Decoding pictures into frames, by the same rules for training and for scoring.

A frame is a uint8 array [H, W, C], C 1 (grey) or 3 (RGB). Values are scaled by the file's format,
never by its content.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from simplejpeg import decode_jpeg

from adae_edge.contract import MAX_SIDE
from adae_edge.decoding import gif, png, tiff
from adae_edge.decoding.kinds import PNG_SIGNATURE, TIFF_SIGNATURES, why_no_picture
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import FrameError, UsageError
from adae_edge.interface import check_size
from adae_edge.stopwatch import stage

Value = TypeVar("Value", bound=np.generic)

# Others are not even tried: one of Pillow's decoders runs Ghostscript on what it is given.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_BYTES = 2**29  # the largest frame with 16 bits a channel, and its header
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})
_RGB_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"})
_ORIENTATION = 0x0112
# What makes a picture upright, by the Orientation tag of TIFF and Exif.
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda frame: frame[:, ::-1],
    3: lambda frame: frame[::-1, ::-1],
    4: lambda frame: frame[::-1],
    5: lambda frame: frame.swapaxes(0, 1),
    6: lambda frame: np.rot90(frame, -1),
    7: lambda frame: frame[::-1, ::-1].swapaxes(0, 1),
    8: lambda frame: np.rot90(frame),
}
_SIDEWAYS = 5  # from here on height and width change places


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: uint8 [H, W, C], as ``decode_image`` returns them.
        full: height and width before it was shrunk; None where it was not.
    """

    pixels: NDArray[np.uint8]
    full: tuple[int, int] | None = None


def decode_image(path: Path, bits: int | None = None) -> NDArray[np.uint8]:
    """Decode an image file, as its own tags say.

    Orientation is applied, white is white whichever value stands for it, and an alpha channel is
    dropped. 16-bit grey keeps its high byte. What a decoder merely warns of in a header is not
    refused; pixels that it would have to make up are.

    Args:
        path: the file.
        bits: of a camera whose grey values lie in the low bits of 16-bit files, 9 to 16; None
            where such files use all of their bits.

    Returns:
        uint8 [H, W, C], C 1 for a grey file and 3 (RGB) for any other.

    Raises:
        FrameError: the file is missing, empty, truncated, damaged, no image, has several pages, a
            depth that 8 bits cannot hold by a fixed rule, or declares more than 8192 x 8192 pixels.
    """
    return decode_shrunk(path, bits, None).pixels


def decode_shrunk(path: Path, bits: int | None, shrinking: Shrinking | None) -> Picture:
    """Decode an image file as ``decode_image`` does, and shrink a JPEG while it is decoded.

    libjpeg makes an eighth, a quarter or a half of each axis, and leaves out the colours for a grey
    model. A JPEG in CMYK stays whole, because its colours are a product of inks, and so do files of
    other kinds.

    Args:
        path, bits: as for ``decode_image``.
        shrinking: what has to be left; None leaves it whole.

    Raises:
        FrameError: as ``decode_image``.
    """
    try:
        with stage("grab"), path.open("rb") as file:
            # As many bytes as there are: a read sets memory aside for all that it may give.
            data = file.read(min(os.fstat(file.fileno()).st_size, _MAX_BYTES) + 1)
    except FileNotFoundError as error:
        raise FrameError(f"{path} does not exist") from error
    except OSError as error:
        raise FrameError(f"{path} may not be read: {(error.strerror or '').lower()}") from error
    try:
        with warnings.catch_warnings(), stage("decode"):
            warnings.simplefilter("ignore")
            return _decode(data, str(path), bits, shrinking)
    except FrameError:
        raise
    except Image.DecompressionBombError as error:
        raise FrameError(f"{path} declares more than {MAX_SIDE} x {MAX_SIDE} pixels") from error
    except UnidentifiedImageError as error:
        raise FrameError(f"{path} cannot be decoded: {why_no_picture(data)}") from error
    except Exception as error:  # decoders raise many kinds on damaged data
        reason = f"{error}" or type(error).__name__
        if reason.startswith("decoder error"):  # which one, libtiff alone knows
            reason = "it is cut short or damaged"
        raise FrameError(f"{path} cannot be decoded: {reason}") from error


def is_grey(path: Path) -> bool:
    """Whether an image file's header declares a grey picture.

    Raises:
        FrameError: the header cannot be read, so that ``decode_image`` refuses the file.
    """
    header = _header(path)
    if header is None:
        return bool(decode_image(path).shape[2] == 1)
    return header[0] in _GREY_MODES


def declared_size(path: Path) -> tuple[int, int] | None:
    """The sides in pixels, in no order, that an image file's header declares; None without one."""
    header = _header(path)
    return None if header is None else header[1]


def _header(path: Path) -> tuple[str, tuple[int, int]] | None:
    """Pillow's mode of an image file and its sides; None if its header cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = Image.open(path, formats=_FORMATS)
            except UnidentifiedImageError:  # a TIFF with 0 as white, perhaps
                data, _ = tiff.prepared(path.read_bytes())
                image = Image.open(io.BytesIO(data), formats=_FORMATS)
            with image:
                return _mode(image), image.size
    except Exception:
        return None


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
    # Channel by channel: a product of matrices of whole numbers takes twice as long.
    luma = np.full(frame.shape[:-1], 500, np.uint32)
    for channel, weight in enumerate((299, 587, 114)):
        luma += np.multiply(frame[..., channel], weight, dtype=np.uint32)
    luma //= 1000
    return luma.astype(frame.dtype)[..., None]


def _decode(data: bytes, name: str, bits: int | None, shrinking: Shrinking | None) -> Picture:
    """Decode the bytes of a file; raises many kinds of exceptions."""
    if len(data) > _MAX_BYTES:
        raise FrameError(f"{name} is larger than {_MAX_BYTES >> 20} MiB")
    white_is_zero, said, full = False, None, None
    if data.startswith(TIFF_SIGNATURES):
        data, white_is_zero = tiff.prepared(data)
    if data.startswith(PNG_SIGNATURE):
        said = png.read(data)
    if data.startswith(gif.SIGNATURES):
        gif.check(data)

    # Opened from memory: of a file by its path Pillow maps some kinds, by other rules.
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        check_size(image.height, image.width, name)
        if image.format in ("JPEG", "MPO"):
            frame = _jpeg(image, data, shrinking)
            if frame.shape[0] < image.height:
                full = image.height, image.width
        else:
            pages = getattr(image, "n_frames", 1)
            if pages > 1:
                raise FrameError(
                    f"{name} has {pages} pages, and a file is one frame: save each page as a file"
                )
            tiff.check_parts(image, data)
            _check_bmp(image, data)
            _check_pnm(image, data)
            if said is not None:
                _check_png(image, data, said)
            frame = _pixels(image, data, bits, said.significant if said else None)
        orientation = image.getexif().get(_ORIENTATION, 1)
    if white_is_zero:
        frame = 255 - frame
    turn = _UPRIGHT.get(orientation)
    if turn is None:
        return Picture(frame, full)
    if full and orientation >= _SIDEWAYS:
        full = full[::-1]
    return Picture(np.ascontiguousarray(turn(frame)), full)


def _jpeg(image: Image.Image, data: bytes, shrinking: Shrinking | None) -> NDArray[np.uint8]:
    """The pixels of a JPEG by libjpeg-turbo, which says what Pillow conceals: that it made some up.

    Raises:
        ValueError: libjpeg warned of the data.
    """
    if image.mode in ("L", "RGB"):
        divisor, grey = 1, image.mode == "L"
        if shrinking:
            divisor = shrinking.divisor(image.height, image.width)
            grey = grey or (shrinking.grey and divisor > 1)
        least = {"min_height": image.height // divisor, "min_width": image.width // divisor}
        return np.asarray(decode_jpeg(data, "GRAY" if grey else "RGB", **least))
    if "adobe" not in image.info:
        raise ValueError("it is CMYK without Adobe's mark, so whether 0 is ink is unknown")
    inks = 255 - np.asarray(decode_jpeg(data, "CMYK"))
    return np.asarray(Image.frombytes("CMYK", image.size, inks.tobytes()).convert("RGB"))


def _check_bmp(image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse an uncompressed BMP that lacks bytes of its rows, which Pillow may not miss."""
    if image.format != "BMP" or image.tile[0].codec_name != "raw":
        return
    arguments: Any = image.tile[0].args
    row_bytes = int(arguments[1])
    if image.tile[0].offset + row_bytes * image.height > len(data):
        raise ValueError("it is cut short")


def _check_png(image: Image.Image, data: bytes, said: png.Said) -> None:
    """Refuse a PNG that lacks rows or colours, which Pillow would make up."""
    if image.mode == "P" and int(image.getextrema()[1]) >= said.colours:  # type: ignore[arg-type]
        raise ValueError("it is damaged: its pixels name colours that its palette lacks")
    # Rows that are missing are left black, so a last row that is not was there.
    last = image.crop((0, image.height - 1, *image.size))
    if said.interlaced or last.getbbox(alpha_only=False) is None:
        png.check_rows(data)


def _check_pnm(image: ImageFile.ImageFile, data: bytes) -> None:
    """Refuse a PNM file in which another picture follows, as its format allows."""
    if image.format != "PPM" or data[1:2] not in (b"4", b"5", b"6"):
        return
    tile = image.tile[0]
    arguments: Any = tile.args
    deep = image.mode == "I" or (tile.codec_name == "ppm" and arguments[1] > 255)
    bits = 1 if image.mode == "1" else 8 * len(image.getbands()) * (1 + deep)
    end = tile.offset + -(-image.width * bits // 8) * image.height
    if data[end:].lstrip()[:1] == b"P":
        raise ValueError("another picture follows in it: save each as a file")


def _mode(image: Image.Image) -> str:
    """Pillow's mode; it calls a PGM file of 16 bits, alone among the formats, one of 32."""
    return "I;16" if image.mode == "I" and image.format == "PPM" else image.mode


def _pixels(
    image: ImageFile.ImageFile, data: bytes, bits: int | None, significant: int | None
) -> NDArray[np.uint8]:
    """The pixels of an opened image in 8 bits, uint8 [H, W, C]."""
    mode = _mode(image)
    if mode.startswith("I;16"):
        declared = _declared_bits(image)
        return _eight_bits(np.asarray(image).astype(np.uint16), declared, bits, significant)
    planes = tiff.deep_planes(image, data)
    if bits is not None and (planes is not None or ";16" in f"{image.tile}"):
        raise ValueError(f"it has 16-bit colours, and {bits} bits are for grey pictures")
    if planes is not None:
        return planes
    if mode in _GREY_MODES:
        return np.asarray(image.convert("L"))[:, :, None]
    if mode in _RGB_MODES:
        return np.asarray(image.convert("RGB"))
    raise ValueError(f"it has pixels of mode {mode}: save it with 8 or 16 bits a channel")


def _declared_bits(image: ImageFile.ImageFile) -> int | None:
    """How many bits of a deep grey picture its file says that it uses; None for all 16."""
    if image.format == "PPM":  # Pillow scales the file's own white to that of 16 bits
        return None if image.tile[0].codec_name == "raw" else 16
    depth = getattr(image, "tag_v2", {}).get(tiff.BITS, (16,))[0]
    return None if depth == 16 else int(depth)


def _eight_bits(
    values: NDArray[np.uint16], declared: int | None, bits: int | None, significant: int | None
) -> NDArray[np.uint8]:
    """The high byte of grey values [H, W], of 16 bits or of those that are used, as [H, W, 1].

    Raises:
        ValueError: a value is above the bits that are used, or a PNG file declares fewer of them
            than 16 and its values are not scaled to 16, as PNG has it.
    """
    used = declared or bits or 16
    if used < 16 and int(values.max()) >> used:
        raise ValueError(f"it has the value {values.max()}, and {used} bits hold less")
    if bits is None and significant is not None and significant < 16:
        left = 16 - significant
        low = values & ((1 << left) - 1)
        # An encoder fills the low bits with zeros, or repeats the high ones: 0xABC becomes 0xABCA.
        repeated = np.abs(low.astype(int) - (values.astype(int) >> (16 - left))) <= 1
        if low.any() and not repeated.all():
            raise ValueError(
                f"it declares {significant} significant bits and has values that are not scaled to "
                f"16: train with --bits {significant} if they lie in the low bits"
            )
    return (values >> (used - 8)).astype(np.uint8)[:, :, None]


def frame_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT as width and height, pixels; raises UsageError for anything else."""
    sizes = text.lower().split("x")
    if len(sizes) != 2 or not all(re.fullmatch("[0-9]{1,9}", size) for size in sizes):
        raise UsageError(f"a frame size is WIDTHxHEIGHT, as 640x480, and {text} is something else")
    if not all(0 < int(size) <= MAX_SIDE for size in sizes):
        raise UsageError(f"a frame has 1x1 to {MAX_SIDE}x{MAX_SIDE} pixels, and not {text}")
    width, height = map(int, sizes)
    return width, height
