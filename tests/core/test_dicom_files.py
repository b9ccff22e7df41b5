"""Every file of pydicom and pydicom-data: a frame, a skip or a sentence; and dcmtk's pictures."""

import functools
import re
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from adae_edge.contract import Window
from adae_edge.decoding.dicom import decode_dicom
from adae_edge.decoding.dicom_file import open_dicom
from adae_edge.errors import FrameError, NoPicture
from tests.support.peers import peer

data_store = pytest.importorskip("data_store")
SETS = (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data")
WINDOW = Window(500, 1000)

# Words that come from Python, pydicom or a decoder.
FOREIGN = re.compile(
    r"attribute|object|force|plugin|unable|0x|\(0028|exception|traceback|None|errno|decoder \w+:",
    re.IGNORECASE,
)
# Pictures that are refused: what of the sentence, and why that is right.
REFUSED = {
    "JPEG-lossy.dcm": "lossy JPEG of 12 bits",  # no permissive decoder of these
    "JPGExtended.dcm": "lossy JPEG of 12 bits",
    "JPEG2000-embedded-sequence-delimiter.dcm": "damaged",  # broken on purpose
    "MR_truncated.dcm": "cut short",
    "chrJapMulti.dcm": "ends before its pixels",  # headers for tests of letters
    "chrJapMultiExplicitIR6.dcm": "ends before its pixels",
    "chrKoreanMulti.dcm": "ends before its pixels",
    "chrSQEncoding.dcm": "ends before its pixels",
    "chrSQEncoding1.dcm": "ends before its pixels",
    "UN_sequence.dcm": "ends before its pixels",
    "empty_charset_LEI.dcm": "ends before its pixels",
    "meta_missing_tsyntax.dcm": "has no Rows",
    "nested_priv_SQ.dcm": "has no Rows",
    "no_meta_group_length.dcm": "ends before its pixels",
    "priv_SQ.dcm": "ends before its pixels",
}
# Where dcmtk 3.6.7 gives no picture to compare with, and why.
NO_PEER = {
    "SC_rgb_32bit.dcm": "it reads no colours of 32 bits",
    "SC_rgb_32bit_2frame.dcm": "it reads no colours of 32 bits",
    "SC_rgb_expb_32bit.dcm": "it reads no colours of 32 bits",
    "SC_rgb_expb_32bit_2frame.dcm": "it reads no colours of 32 bits",
    "SC_rgb_jpeg.dcm": "it takes an element of implicit VR in an explicit file otherwise",
    "gdcm-US-ALOKA-16.dcm": "it reads no segmented palettes",
    "gdcm-US-ALOKA-16_big.dcm": "it reads no segmented palettes",
}


def files(folder):
    """The files of a set that are no code."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path.suffix not in {".py", ".pyc"}]


@functools.cache
def first(path):
    """The first frame of a file, or what refuses it, and the window that was given for it."""
    for window in (None, WINDOW):
        try:
            _, frame = next(decode_dicom(path, window))
        except FrameError as error:
            frame = error
        if window is not None or "--window" not in str(frame):
            break
    return frame, window


def fault(path):
    """What is wrong with how a file is read; "" for nothing."""
    found, _ = first(path)
    if isinstance(found, NoPicture):
        return "" if str(found).startswith(f"{path} holds no picture: it is of ") else str(found)
    if isinstance(found, FrameError):
        sentence = str(found).replace(str(path), "FILE").removeprefix("frame 1 of ")
        own = sentence.startswith("FILE cannot be decoded as DICOM: ")
        headers = "it is no DICOM file" in sentence or path.name.startswith("IM0000")
        known = REFUSED[path.name] in sentence if path.name in REFUSED else headers
        return "" if own and known and not FOREIGN.search(sentence) else sentence
    sound = found.dtype == np.uint8 and found.shape[2] in (1, 3) and path.name not in REFUSED
    return "" if sound else f"{found.dtype} {found.shape}"


@pytest.mark.parametrize("folder", SETS, ids=("pydicom", "pydicom-data"))
def test_each_file_is_a_frame_a_skip_or_a_sentence_of_our_own(folder, capfd):
    faults = {path.name: fault(path) for path in files(folder)}
    assert {name: what for name, what in faults.items() if what} == {}
    assert len(faults) > 60
    assert capfd.readouterr() == ("", "")


def by_dcmtk(path, window):
    """The program of dcmtk that reads a file, and the options that show it as we do."""
    file = open_dicom(path)
    attributes, syntax = file.attributes(0), file.header.file_meta.get("TransferSyntaxUID", "")
    options = ["--no-overlays"]
    if file.grey and window is None and attributes.get("VOILUTSequence"):
        options += ["+Wl", "1"]
    elif file.grey:
        own = [attributes.get(name) for name in ("WindowCenter", "WindowWidth")]
        shown = window or (None if own[1] is None else [float(np.ravel(one)[0]) for one in own])
        options += [] if shown is None else ["+Ww", str(shown[0]), str(shown[1])]
    jpeg = "1.2.840.10008.1.2.4."
    program = "dcml2pnm" if syntax in (f"{jpeg}80", f"{jpeg}81") else "dcmj2pnm"
    return program, options


def is_jpeg_2000(path):
    syntax = open_dicom(path).header.file_meta.get("TransferSyntaxUID", "")
    return "JPEG 2000" in getattr(syntax, "name", "")


def difference(path, out):
    """How far a first frame is from dcmtk's, in grey levels, or why there is nothing to compare."""
    frame, window = first(path)
    program, options = by_dcmtk(path, window)
    out.unlink(missing_ok=True)
    command = [peer(program), "--quiet", *options, str(path), str(out)]
    subprocess.run(command, check=False, capture_output=True)
    if not out.exists():
        return "" if path.name in NO_PEER else "dcmtk gives none"
    if path.name in NO_PEER:
        return "dcmtk reads it now: take it from the list"
    picture = np.asarray(Image.open(out))
    picture = picture if picture.ndim == 3 else picture[:, :, None]
    if picture.shape != frame.shape:
        return f"{picture.shape} {frame.shape}"
    # A conversion of YBR is rounded in another way.
    tolerance = 2 if path.name == "SC_ybr_full_uncompressed.dcm" else 1
    most = np.abs(picture.astype(int) - frame).max()
    return "" if most <= tolerance else f"{most} grey levels"


@pytest.mark.parametrize("folder", SETS, ids=("pydicom", "pydicom-data"))
def test_each_first_frame_is_dcmtks(folder, tmp_path):
    paths = [path for path in files(folder) if isinstance(first(path)[0], np.ndarray)]
    paths = [path for path in paths if not is_jpeg_2000(path)]  # dcmtk has no decoder of these
    faults = {path.name: difference(path, tmp_path / "frame.pnm") for path in paths}
    assert {name: what for name, what in faults.items() if what} == {}
    assert len(faults) > 40


@pytest.mark.parametrize("name", ["693", "MR2", "RG1", "RG3", "US1"])
def test_lossless_jpeg_2000_is_what_was_compressed(name):
    compressed, plain = (SETS[1] / f"{name}_{kind}.dcm" for kind in ("J2KR", "UNCR"))
    assert np.array_equal(first(compressed)[0], first(plain)[0])
