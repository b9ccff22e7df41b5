"""Sound pictures of every kind that is read, and what other decoders make of damaged ones.

The peers are djpeg (libjpeg-turbo-progs), OpenCV, tifffile and, where none of them reads a file,
ffmpeg.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adae_edge.decoding.images import decode_image

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

Frame = NDArray[Any]
_TOLERANCES = {".webp": 2, ".tif": 2, ".jpg": 4}  # grey levels; of JPEG, for inks by OpenCV alone
_PEER_S = 20


def write_sound(folder: Path) -> list[Path]:
    """Write sound pictures of 61 x 45 pixels in 36 forms, in order of name."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (6, 8, 3), np.uint8)
    colour = Image.fromarray(small).resize((61, 45), Image.Resampling.BICUBIC)
    grain = random.integers(-6, 7, (45, 61, 3))
    colour = Image.fromarray((np.asarray(colour).astype(int) + grain).clip(0, 255).astype(np.uint8))
    for name, data in _encoded(colour):
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


def _encoded(colour: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The names and the bytes of the sound files."""
    grey, bits = colour.convert("L"), colour.convert("L").point(lambda value: value > 120, "1")
    palette, inks = colour.quantize(32), colour.convert("CMYK")
    alpha = colour.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    yield "jpeg-colour.jpg", saved(colour, "JPEG", quality=85)
    yield "jpeg-full.jpg", saved(colour, "JPEG", quality=95, subsampling=0)
    yield "jpeg-grey.jpg", saved(grey, "JPEG")
    yield "jpeg-inks.jpg", saved(inks, "JPEG")
    yield "jpeg-progressive.jpg", saved(colour, "JPEG", progressive=True)
    yield "jpeg-restarts.jpg", saved(colour, "JPEG", restart_marker_rows=1)
    yield "jpeg-turned.jpg", saved(colour, "JPEG", exif=turned)
    yield "png-alpha.png", saved(alpha, "PNG")
    yield "png-bits.png", saved(bits, "PNG")
    yield "png-colour.png", saved(colour, "PNG")
    yield "png-deep.png", saved(deep, "PNG")
    yield "png-grey.png", saved(grey, "PNG")
    yield "png-palette.png", saved(palette, "PNG", transparency=3)
    yield "png-significant.png", _png_with_sbit(deep)
    yield "png-turned.png", saved(grey, "PNG", exif=turned)
    yield "bmp-bits.bmp", saved(bits, "BMP")
    yield "bmp-colour.bmp", saved(colour, "BMP")
    yield "bmp-grey.bmp", saved(grey, "BMP")
    yield "bmp-palette.bmp", saved(palette, "BMP")
    yield "gif-palette.gif", saved(palette, "GIF")
    yield "gif-grey.gif", saved(grey, "GIF")
    yield "pnm-bits.pbm", saved(bits, "PPM")
    yield "pnm-colour.ppm", saved(colour, "PPM")
    yield "pnm-deep.pgm", saved(deep, "PPM")
    yield "pnm-grey.pgm", saved(grey, "PPM")
    yield "tiff-colour.tif", saved(colour, "TIFF")
    yield "tiff-deep.tif", saved(deep, "TIFF")
    yield "tiff-deflate.tif", saved(colour, "TIFF", compression="tiff_adobe_deflate")
    yield "tiff-grey.tif", saved(grey, "TIFF")
    yield "tiff-jpeg.tif", saved(colour, "TIFF", compression="jpeg")
    yield "tiff-lzw.tif", saved(colour, "TIFF", compression="tiff_lzw")
    yield "tiff-packbits.tif", saved(grey, "TIFF", compression="packbits")
    yield "tiff-palette.tif", saved(palette, "TIFF")
    yield "tiff-turned.tif", saved(grey, "TIFF", exif=turned)
    yield "webp-lossless.webp", saved(colour, "WEBP", lossless=True)
    yield "webp-lossy.webp", saved(colour, "WEBP", quality=80)


def _png_with_sbit(deep: Image.Image) -> bytes:
    """A PNG of 16 bits that says that 12 of them are significant."""
    out = io.BytesIO()
    values = np.asarray(deep)
    Image.fromarray(values >> 4 << 4 | values >> 12).save(out, "PNG")  # 12 bits, scaled to 16
    data = out.getvalue()
    return mended(data[:33] + struct.pack(">I4sBI", 1, b"sBIT", 12, 0) + data[33:])


def mended(data: bytes) -> bytes:
    """A damaged PNG with the checksums of its chunks, as far as they can be told apart."""
    changed, at = bytearray(data), 8
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        changed[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(changed)


def decode(path: Path) -> Sequence[Frame]:
    """The one frame of a picture, as it is scored."""
    return [decode_image(path)]


def judge(path: Path, frames: Sequence[Frame]) -> tuple[str, str]:
    """Whether a decoder that complains of nothing makes the same of the file, turned or not."""
    data = path.read_bytes()
    warned, pictures = _peers(path, data)
    if warned:
        return "differs", f"djpeg: {warned}"
    if not pictures:
        return "no peer", "no other decoder reads it"
    tolerance = _TOLERANCES.get(path.suffix, 0)
    if "djpeg" in pictures:
        pictures, tolerance = {"djpeg": pictures["djpeg"]}, 0
    for name, picture in pictures.items():
        tolerance = max(tolerance, int(name == "ffmpeg"))  # it rounds 16 bits
        if any(_is_close(frames[0], turned, tolerance) for turned in _turned(picture)):
            return "equal", name
    return "differs", ", ".join(pictures)


def _peers(path: Path, data: bytes) -> tuple[str, dict[str, Frame]]:
    """What djpeg complains of, and the pictures of all decoders that read the file."""
    pictures: dict[str, Frame] = {}
    if data.startswith(b"\xff\xd8"):
        ran = subprocess.run(  # noqa: S603
            ["djpeg", "-pnm", str(path)],  # noqa: S607
            capture_output=True,
            timeout=_PEER_S,
            check=False,
        )
        complaint = ran.stderr.decode(errors="replace").strip().splitlines()
        if ran.returncode == 0:
            pictures["djpeg"] = _rgb(np.asarray(Image.open(io.BytesIO(ran.stdout))))
        elif complaint and "color conversion" not in complaint[0]:  # djpeg writes no inks
            return complaint[0], {}
    if data[:2] in (b"II", b"MM"):
        with contextlib.suppress(Exception):
            pictures["tifffile"] = _by_tifffile(path)
    with contextlib.suppress(Exception):
        pictures["OpenCV"] = _by_opencv(data)
    if not pictures:
        with contextlib.suppress(Exception):
            pictures["ffmpeg"] = _by_ffmpeg(path)
    return "", pictures


def _by_opencv(data: bytes) -> Frame:
    import cv2

    flags = cv2.IMREAD_UNCHANGED
    decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded.ndim == 3:
        decoded = decoded[:, :, [2, 1, 0]]
    return _rgb(decoded)


def _by_ffmpeg(path: Path) -> Frame:
    """The first frame, of a file of whose size its own header tells."""
    with Image.open(path) as image:
        width, height = image.size
    wanted = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    ran = subprocess.run(  # noqa: S603
        ["ffmpeg", "-v", "error", "-i", str(path), *wanted],  # noqa: S607
        capture_output=True,
        timeout=_PEER_S,
        check=True,
    )
    return np.frombuffer(ran.stdout, np.uint8).reshape(height, width, 3)


def _by_tifffile(path: Path) -> Frame:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        decoded = page.asarray()
        if page.photometric == 3:
            decoded = np.moveaxis(page.colormap[:, decoded] >> 8, 0, -1).astype(np.uint8)
        if page.planarconfig == 2 and decoded.ndim == 3:
            decoded = np.moveaxis(decoded, 0, -1)
        decoded = _rgb(decoded)
        return 255 - decoded if page.photometric == 0 else decoded


def _rgb(decoded: Frame) -> Frame:
    """Any depth and channels -> uint8 [H, W, 3]; grey is repeated, alpha is dropped."""
    if decoded.dtype == bool:
        decoded = decoded.astype(np.uint8) * 255
    if decoded.dtype == np.uint16:
        decoded = (decoded >> 8).astype(np.uint8)
    if decoded.dtype != np.uint8:
        raise ValueError("another depth")
    decoded = decoded.reshape(*decoded.shape[:2], -1)
    if decoded.shape[2] < 3:
        decoded = decoded[:, :, :1].repeat(3, axis=2)
    return decoded[:, :, :3]


def _turned(picture: Frame) -> Iterator[Frame]:
    """The eight orientations of a picture."""
    for mirrored in (picture, picture[:, ::-1]):
        for turns in range(4):
            yield np.rot90(mirrored, turns)


def _is_close(frame: Frame, picture: Frame, tolerance: int) -> bool:
    ours = _rgb(frame)
    if ours.shape != picture.shape:
        return False
    return int(np.abs(ours.astype(int) - picture.astype(int)).max(initial=0)) <= tolerance
