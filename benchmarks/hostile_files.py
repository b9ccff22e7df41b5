"""Hostile DICOM files, archives and indices, each small, and each made to cost a great deal."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
)

_SIDE, _DECLARED, _MOST = 64, 20_000, 8192
_ZEROS = bytes(2**20)


def write_all(folder: Path) -> dict[str, Path]:
    """Write each hostile input into a folder of its own; what it is, and where it lies."""
    written = {}
    for number, (what, (name, write)) in enumerate(_INPUTS.items()):
        place = folder / f"{number:02}" / name
        place.parent.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom has doubts about them, too
            write(place)
        written[what] = place
    return written


def write_sound(path: Path, **attributes: Any) -> None:
    """Write a slice of 64 x 64 pixels that is decoded without a complaint."""
    _save(path, _slice(**attributes), ExplicitVRLittleEndian)


def _slice(**attributes: Any) -> Any:
    """A sound slice of 16-bit values, a data set."""
    data: Any = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, "1.2.826.0.1.3680043.8.498.15"
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "1", "1.2.3", "1.2.3.4"
    data.Rows = data.Columns = _SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.WindowCenter, data.WindowWidth = 2048, 4096
    data.PixelData = np.arange(_SIDE * _SIDE, dtype="<u2").tobytes()
    data["PixelData"].VR = "OW"
    for name, value in attributes.items():
        setattr(data, name, value)
    return data


def _save(path: Path, data: Any, syntax: UID) -> None:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def _deflated(path: Path) -> None:
    """1.5 GB of zeros as pixels, deflated to 1.5 MB."""
    frames = 11
    data = _slice(Rows=_MOST, Columns=_MOST, NumberOfFrames=frames)
    del data.PixelData
    _save(path, data, DeflatedExplicitVRLittleEndian)
    whole = pydicom.dcmread(path)
    plain = io.BytesIO()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.save_as(plain, enforce_file_format=True)
    length = pydicom.dcmread(io.BytesIO(plain.getvalue())).file_meta.FileMetaInformationGroupLength
    body = plain.getvalue()[144 + length :]
    meta = path.read_bytes()[: 144 + _group_length(path)]
    pixels = frames * _MOST * _MOST * 2
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, pixels)
    path.write_bytes(meta + _packed(body + head, pixels // len(_ZEROS)))


def _packed(head: bytes, count: int) -> bytes:
    """Some bytes and so many MB of zeros, deflated; blocks that say the same may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + count * block + packer.flush()


def _group_length(path: Path) -> int:
    return int(struct.unpack("<I", path.read_bytes()[140:144])[0])


def _compressed(syntax: UID, side: int, header: int) -> Callable[[Path], None]:
    """A codestream of 64 x 64 pixels that declares ``side``, under a header of ``header``."""
    coded = JPEGLSLossless if syntax == JPEGLSLossless else JPEG2000Lossless

    def write(path: Path) -> None:
        data = _slice()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.compress(coded, generate_instance_uid=False)
        stream = bytearray(next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1)))
        if coded == JPEGLSLossless:
            at = stream.index(b"\xff\xf7") + 5
            stream[at : at + 4] = struct.pack(">HH", side, side)
        else:
            at = stream.index(b"\xff\x51") + 6  # the width, the height, and those of a tile
            stream[at : at + 8] = struct.pack(">II", side, side)
            stream[at + 16 : at + 24] = struct.pack(">II", side, side)
        data.Rows = data.Columns = header
        data.PixelData = encapsulate([bytes(stream)])
        _save(path, data, syntax)

    return write


def _nested(path: Path) -> None:
    """A sequence within a sequence, 20 000 deep."""
    write_sound(path)
    depth, start = 20_000, path.read_bytes()
    begin = struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 2**32 - 1)
    begin += struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    at = start.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(start[:at] + begin * depth + ends * depth + start[at:])


def _run_lengths(path: Path, change: Callable[[bytearray, int], None], **attributes: Any) -> None:
    """A slice in run lengths, of which the bytes of the pixels are changed."""
    data = _slice()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.compress(RLELossless, generate_instance_uid=False)
    for name, value in attributes.items():
        setattr(data, name, value)
    _save(path, data, RLELossless)
    changed = bytearray(path.read_bytes())
    change(changed, changed.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 12)
    path.write_bytes(changed)


def _offsets(path: Path) -> None:
    """A table of offsets that lead behind the file."""

    def change(data: bytearray, at: int) -> None:
        count = 2
        data[at : at + 8] = struct.pack("<HHI", 0xFFFE, 0xE000, 4 * count)
        data[at + 8 : at + 8] = struct.pack("<II", 0, 2**31)

    _run_lengths(path, change, NumberOfFrames=2)


def _fragment(path: Path) -> None:
    """A fragment that is longer than the file."""

    def change(data: bytearray, at: int) -> None:
        first = at + 8 + struct.unpack_from("<I", data, at + 4)[0]
        struct.pack_into("<I", data, first + 4, 2**31)

    _run_lengths(path, change)


def _archive(names: list[str], count: int) -> Callable[[Path], None]:
    """An archive whose members of these names are all the same bytes: ``count`` MB of zeros."""

    def write(path: Path) -> None:
        packed, size = _packed(b"", count), count * len(_ZEROS)
        sizes = struct.pack("<III", zlib.crc32(_ZEROS * min(count, 1)), len(packed), size)
        first = names[0].encode()
        local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
        local += struct.pack("<HH", len(first), 0) + first + packed
        central = b""
        for name in map(str.encode, names):
            central += b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
            central += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
        counts = len(names), len(names), len(central), len(local), 0
        path.write_bytes(local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *counts))

    return write


def _dicomdir(names: list[str], circle: bool) -> Callable[[Path], None]:
    """A DICOMDIR whose record has this name, or which lead to themselves."""

    def write(path: Path) -> None:
        write_sound(path.with_name("SOUND"))
        record: Any = Dataset()
        record.OffsetOfTheNextDirectoryRecord = 0
        record.RecordInUseFlag, record.OffsetOfReferencedLowerLevelDirectoryEntity = 0xFFFF, 0
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", names
        data: Any = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = MediaStorageDirectoryStorage, "1.2.3"
        data.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 2**30
        data.DirectoryRecordSequence = [record]
        _save(path, data, ExplicitVRLittleEndian)
        at = pydicom.dcmread(path).DirectoryRecordSequence[0].seq_item_tell
        data.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = at
        record.OffsetOfTheNextDirectoryRecord = at if circle else 0
        _save(path, data, ExplicitVRLittleEndian)

    return write


_INPUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "deflated, 1.5 MB that inflate to 1.5 GB": ("m.dcm", _deflated),
    "JPEG 2000 that declares 20000 x 20000 under 64 x 64": (
        "m.dcm",
        _compressed(JPEG2000Lossless, _DECLARED, _SIDE),
    ),
    "HTJ2K that declares 20000 x 20000 under 64 x 64": (
        "m.dcm",
        _compressed(HTJ2KLossless, _DECLARED, _SIDE),
    ),
    "JPEG-LS that declares 20000 x 20000 under 64 x 64": (
        "m.dcm",
        _compressed(JPEGLSLossless, _DECLARED, _SIDE),
    ),
    "JPEG 2000 of 64 x 64 whose header agrees to 8192 x 8192": (
        "m.dcm",
        _compressed(JPEG2000Lossless, _MOST, _MOST),
    ),
    "JPEG-LS of 64 x 64 whose header agrees to 8192 x 8192": (
        "m.dcm",
        _compressed(JPEGLSLossless, _MOST, _MOST),
    ),
    "sequences in each other, 20 000 deep": ("m.dcm", _nested),
    "a billion frames declared": (
        "m.dcm",
        lambda path: write_sound(path, NumberOfFrames="1000000000"),
    ),
    "a table of offsets that lead behind the file": ("m.dcm", _offsets),
    "a fragment longer than the file": ("m.dcm", _fragment),
    "a UID of 4 KB with /": (
        "m.dcm",
        lambda path: write_sound(path, SOPInstanceUID="../" * 1365),
    ),
    "ZIP whose 20 000 members are the same 1 MB": (
        "m.zip",
        _archive([f"{number:05}.dcm" for number in range(20_000)], 1),
    ),
    "ZIP of 3 MB with a member of 3 GB": ("m.zip", _archive(["m.dcm"], 3000)),
    "ZIP with a member named ../m.dcm": ("m.zip", _archive(["../m.dcm"], 1)),
    "DICOMDIR that leads out of its folder": ("DICOMDIR", _dicomdir(["..", "SECRET"], False)),
    "DICOMDIR whose records lead in a circle": ("DICOMDIR", _dicomdir(["SOUND"], True)),
}
