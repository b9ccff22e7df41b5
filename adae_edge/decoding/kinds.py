"""What a file is, by its name and by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from adae_edge.decoding.dicom_bytes import HEAD, begins_as_dicom

NIFTI_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = frozenset(
    {
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Sound files of kinds that are not read: where their mark stands, and what they are called.
_OTHERS = (
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"II\xbc\x01", "a JPEG XR picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (4, b"moov", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI LIST", "a video"),
    (0, b"\0\0\1\xba", "a video"),
    (0, b"FLV\1", "a video"),
    (0, b"OggS", "a video"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "a video"),
    (0, b"8BPS", "a Photoshop picture"),
    (0, b"v/1\1", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance picture"),
    (0, b"SIMPLE  =", "a FITS picture"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "compressed by gzip"),
)
_TS_PACKET = 188  # bytes


class Member(NamedTuple):
    """A file in an archive."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


def is_nifti(path: Path) -> bool:
    """Whether a file is a NIfTI volume by its name."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM: by its name, or by how it begins."""
    if is_dicom_name(path.name):
        return True
    try:
        with path.open("rb") as file:
            return begins_as_dicom(file.read(HEAD))
    except OSError:
        return False


def is_dicom_name(name: str) -> bool:
    """Whether a file is DICOM by its name."""
    return name.lower().endswith((".dcm", ".dicom"))


def is_archive(path: Path) -> bool:
    """Whether a file is a ZIP archive by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\3\4", b"PK\5\6")
    except OSError:
        return False


def is_dicomdir(path: Path) -> bool:
    """Whether a file is the index of a CD by its name."""
    return path.name.upper() == "DICOMDIR"


def why_no_picture(data: bytes) -> str:
    """Why a file's bytes cannot be opened as a picture, to be said of the file."""
    if not data:
        return "it is empty"
    name = next((name for at, mark, name in _OTHERS if data.startswith(mark, at)), None)
    if data[:1] == data[_TS_PACKET : _TS_PACKET + 1] == data[2 * _TS_PACKET :][:1] == b"G":
        name = "a video"
    if name is not None:
        return f"it is {name}, and pictures are JPEG, PNG, TIFF, BMP, WebP, GIF or PNM"
    if data.startswith(TIFF_SIGNATURES):
        return "it is a TIFF of a kind that is not read, or a damaged one"
    return _why_no_jpeg(data) or "it is no image, or a damaged one"


def _why_no_jpeg(data: bytes) -> str:
    """Why a JPEG is of a process that is not read; "" if it is of another one, or no JPEG."""
    at = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xF7:
            return "it is a JPEG-LS picture: save it as PNG"
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits = data[at + 4]
            return "" if bits == 8 else f"it is a JPEG of {bits} bits: save it as 16-bit PNG"
        at += 2 + max(length, 2)
    return ""
