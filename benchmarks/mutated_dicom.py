"""Sound DICOM files, uncompressed and RLE, and what dcm2pnm makes of damaged ones."""

from __future__ import annotations

import functools
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from adae_edge.decoding.dicom import decode_dicom
from adae_edge.errors import FrameError

Frame = NDArray[Any]
_HEIGHT, _WIDTH = 45, 62
_SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
}
_TOLERANCE = 2  # grey levels
_PEER_S = 20
_Y, _X = np.mgrid[:_HEIGHT, :_WIDTH]
_WAVE = ((_X * 37 + _Y * 23) % 4096).astype(np.uint16)
_WINDOW = {"WindowCenter": 1800, "WindowWidth": 3000, "BitsStored": 12}


def write_sound(folder: Path) -> list[Path]:
    """Write sound DICOM files of 62 x 45 pixels in 32 forms, in order of name."""
    for name, pixels, attributes in _forms():
        for kind, syntax in _SYNTAXES.items():
            _write(folder / f"{name}-{kind}.dcm", pixels, syntax, attributes)
        data = pydicom.dcmread(folder / f"{name}-explicit.dcm")
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(folder / f"{name}-rle.dcm")
    return sorted(folder.iterdir())


def _forms() -> Iterator[tuple[str, Frame, dict[str, Any]]]:
    """Names, stored values and attributes of the sound files."""
    signed = (_WAVE.astype(np.int16) - 2048).astype(np.int16)
    colours = np.stack([_X * 4 % 256, _Y * 5 % 256, (_X + _Y) * 2 % 256], axis=-1).astype(np.uint8)
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [4096, -1024, 12])
    item.add_new("LUTData", "US", list(range(4096)))
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    yield "window", _WAVE, _WINDOW
    yield "inverted", _WAVE, {**_WINDOW, "PhotometricInterpretation": "MONOCHROME1"}
    yield "signed", signed, {"WindowCenter": 0, "WindowWidth": 4000, "BitsStored": 12}
    yield "rescaled", _WAVE, {**_WINDOW, **rescale}
    yield "bytes", (_WAVE >> 4).astype(np.uint8), {}
    yield "lut", _WAVE, {"BitsStored": 12, "VOILUTSequence": [item], **rescale}
    yield "rgb", colours, {"PhotometricInterpretation": "RGB"}
    yield "cine", np.stack([_WAVE, _WAVE // 2, _WAVE // 3]), {**_WINDOW, "NumberOfFrames": 3}


def _write(path: Path, pixels: Frame, syntax: Any, attributes: dict[str, Any]) -> None:
    data: Any = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.7"
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "1", "1.2.3", "1.2.3.4"
    data.Rows, data.Columns = _HEIGHT, _WIDTH
    data.SamplesPerPixel = 3 if pixels.dtype == np.uint8 and pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = pixels.itemsize * 8
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    swapped = pixels if syntax.is_little_endian else pixels.byteswap()
    data.PixelData = swapped.tobytes()
    data["PixelData"].VR = "OW"
    little, implicit = syntax.is_little_endian, syntax.is_implicit_VR
    data.save_as(path, implicit_vr=implicit, little_endian=little, enforce_file_format=True)


def mended(data: bytes) -> bytes:
    """The bytes as they are: nothing in DICOM is summed up."""
    return data


def decode(path: Path) -> Sequence[Frame]:
    """The frames of a file as they are scored; one of several that is refused is empty."""
    frames = [frame for _, frame in decode_dicom(path)]
    sound = [frame for frame in frames if not isinstance(frame, FrameError)]
    if not sound:
        raise FrameError("; ".join(map(str, frames)))
    return [np.zeros((0, 0)) if isinstance(frame, FrameError) else frame for frame in frames]


def judge(path: Path, frames: Sequence[Frame]) -> tuple[str, str]:
    """Whether dcm2pnm makes the same of each frame, by the same window or LUT.

    Where it does not read the file, the frames of a sound one say whether the damage is elsewhere.
    """
    verdict = "no peer", "dcm2pnm does not read it"
    if any(_are_same(frames, sound) for sound in _sound()):
        verdict = "equal", "the sound file"
    for number, frame in enumerate(frames):
        if not frame.size:
            continue
        peer = _by_dcmtk(path, number)
        if peer is None:
            continue
        if peer.shape != frame.shape:
            return "differs", "dcm2pnm, in its size"
        if np.abs(frame.astype(int) - peer).max() > _TOLERANCE:
            return "differs", "dcm2pnm"
        verdict = "equal", "dcm2pnm"
    return verdict


@functools.cache
def _sound() -> list[Sequence[Frame]]:
    """The frames of the sound files, which dcm2pnm reads."""
    with tempfile.TemporaryDirectory() as folder:
        return [decode(path) for path in write_sound(Path(folder))]


def _are_same(frames: Sequence[Frame], others: Sequence[Frame]) -> bool:
    """Whether all frames that are there are the other ones."""
    pairs = zip(frames, others, strict=False)
    return all(not frame.size or np.array_equal(frame, other) for frame, other in pairs)


def _by_dcmtk(path: Path, number: int) -> Frame | None:
    """A frame by dcm2pnm, uint8 [H, W, C]; None where it writes none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    options = ["+Wl", "1"] if header.get("VOILUTSequence") else ["+Wi", "1"]
    if "VOILUTSequence" not in header and "WindowWidth" not in header:
        options = []
    out = path.with_suffix(".pnm")
    out.unlink(missing_ok=True)
    command = ["dcm2pnm", *options, "+F", str(number + 1), str(path), str(out)]
    ran = subprocess.run(  # noqa: S603
        command, capture_output=True, check=False, timeout=_PEER_S
    )
    if ran.returncode or not out.exists():
        return None
    with Image.open(out) as image:
        picture = np.asarray(image)
    return picture if picture.ndim == 3 else picture[:, :, None]
