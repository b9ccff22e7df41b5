"""DICOM files whose bytes lie: codestreams of another size, fragments, deflated bombs; padding."""

import io
import struct
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from adae_edge.contract import Window
from adae_edge.decoding import dicom_bytes
from adae_edge.decoding.dicom import decode_dicom
from adae_edge.decoding.dicom_file import open_dicom
from adae_edge.decoding.kinds import is_dicom
from adae_edge.errors import FrameError
from tests.support.slices import write_slice

GREYS = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))


def frames_of(path, window=None):
    return [frame for _, frame in decode_dicom(path, window)]


def refusal(path):
    with pytest.raises(FrameError) as refused:
        frames_of(path)
    return str(refused.value)


def jpeg_2000(pixels=GREYS):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG2000", no_jp2=True, irreversible=False)
    return out.getvalue()


def jpeg_ls(pixels=GREYS):
    import jpeg_ls as charls

    return bytes(charls.encode_array(pixels))


def jpeg(pixels=GREYS):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def with_sof(data, marker, **fields):
    """A JPEG or JPEG-LS whose frame header says something else."""
    at = data.find(bytes([0xFF, marker])) + 4
    bits, rows, columns, samples = struct.unpack_from(">BHHB", data, at)
    said = {"bits": bits, "rows": rows, "columns": columns, "samples": samples} | fields
    return data[:at] + struct.pack(">BHHB", *said.values()) + data[at + 6 :]


def with_siz(data, offset, kind, value):
    """A codestream of JPEG 2000 whose marker SIZ says something else."""
    changed = bytearray(data)
    struct.pack_into(kind, changed, data.find(b"\xff\x51") + offset, value)
    return bytes(changed)


WIDE = (6, ">I", 20000)  # Xsiz


@pytest.mark.parametrize(
    ("syntax", "codestream", "says"),
    [
        (JPEG2000Lossless, with_siz(jpeg_2000(), *WIDE), "64 rows, 20000 columns"),
        (HTJ2KLossless, with_siz(jpeg_2000(), *WIDE), "64 rows, 20000 columns"),
        (JPEG2000Lossless, with_siz(jpeg_2000(), 10, ">I", 20000), "20000 rows, 64 columns"),
        (JPEG2000Lossless, with_siz(jpeg_2000(), 22, ">I", 0), "no JPEG 2000, or damaged"),
        (JPEG2000Lossless, with_siz(jpeg_2000(), 22, ">I", 32), "lacks tiles that it declares"),
        (JPEG2000Lossless, with_siz(jpeg_2000(), 38, ">H", 3), "no JPEG 2000, or damaged"),
        (JPEG2000Lossless, with_siz(jpeg_2000(), 40, ">B", 37), "38 bits a sample, and its header"),
        (JPEG2000Lossless, jpeg_2000(GREYS[:32]), "32 rows, 64 columns"),
        (JPEG2000Lossless, jpeg(), "no JPEG 2000, or damaged"),
        (JPEGLSLossless, with_sof(jpeg_ls(), 0xF7, columns=20000), "64 rows, 20000 columns"),
        (JPEGLSLossless, with_sof(jpeg_ls(), 0xF7, rows=63), "63 rows, 64 columns"),
        (JPEGLSLossless, jpeg(), "its pixels are JPEG, and by its transfer syntax JPEG-LS"),
        (JPEGBaseline8Bit, with_sof(jpeg(), 0xC0, rows=20000), "20000 rows, 64 columns"),
        (JPEGBaseline8Bit, with_sof(jpeg(), 0xC0, bits=12), "lossy JPEG of 12 bits"),
        (JPEGBaseline8Bit, jpeg()[:-300] + b"\xff\xd9", "damaged"),
        (JPEGBaseline8Bit, b"\xff\xd8\xff\xd9", "no JPEG, or damaged"),
        (JPEGLosslessSV1, jpeg(), "its pixels are JPEG, and by its transfer syntax lossless JPEG"),
        (RLELossless, bytes(64), "one segment for each byte"),
        (MPEG2MPML, bytes(64), "MPEG2 Main Profile / Main Level, which is not read"),
    ],
)
def test_a_codestream_that_is_not_the_headers_picture_is_not_decoded(
    syntax, codestream, says, tmp_path
):
    pixels = encapsulate([codestream])
    path = write_slice(tmp_path / "a.dcm", GREYS, syntax, PixelData=pixels)
    assert says in refusal(path)


@pytest.mark.parametrize(
    ("syntax", "codestream"), [(JPEG2000Lossless, jpeg_2000()), (JPEGLSLossless, jpeg_ls())]
)
def test_a_sound_codestream_is_decoded(syntax, codestream, tmp_path):
    path = write_slice(tmp_path / "a.dcm", GREYS, syntax, PixelData=encapsulate([codestream]))
    assert np.array_equal(frames_of(path)[0][:, :, 0], GREYS)


CINE = np.stack([GREYS, GREYS[::-1], GREYS.T])


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        ("none", 1),
        ("none", 2),
        ("basic", 1),
        ("basic", 2),
        ("lies", 1),
        ("lies", 2),
        ("extended", 1),
    ],
)
def test_fragments_are_put_together_by_frames(fragments, table, tmp_path):
    parts = [jpeg_2000(frame) for frame in CINE]
    more = {"NumberOfFrames": 3}
    if table == "extended":
        found = encapsulate_extended(parts)
        names = ("PixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
        more |= dict(zip(names, found, strict=True))
    else:
        more["PixelData"] = encapsulate(parts, fragments, has_bot=table != "none")
    if table == "lies":
        content = bytearray(more["PixelData"])
        content[12:16] = (77).to_bytes(4, "little")  # where the second frame begins
        more["PixelData"] = bytes(content)
    path = write_slice(tmp_path / "a.dcm", CINE, JPEG2000Lossless, **more)
    assert np.array_equal(np.stack(frames_of(path))[..., 0], CINE)


@pytest.mark.parametrize("declared", [1, None])
@pytest.mark.parametrize(
    ("syntax", "code"), [(JPEG2000Lossless, jpeg_2000), (JPEGLSLossless, jpeg_ls)]
)
def test_frames_that_are_not_declared_are_not_lost(declared, syntax, code, tmp_path):
    pixels = encapsulate([code(frame) for frame in CINE])
    more = {"NumberOfFrames": declared, "PixelData": pixels}
    greys = GREYS[None] if declared else GREYS
    path = write_slice(tmp_path / "a.dcm", greys, syntax, **more)
    assert "its pixels are 3 whole frames, and it declares 1" in refusal(path)


def test_fragments_that_tell_no_frames_are_refused(tmp_path):
    pixels = encapsulate([b"ab" * 20] * 3, fragments_per_frame=2, has_bot=False)
    more = {"NumberOfFrames": 3, "PixelData": pixels}
    path = write_slice(tmp_path / "a.dcm", CINE, JPEG2000Lossless, **more)
    assert "3 frames in 6 fragments, and does not say which" in refusal(path)


def deflated(path, more=b""):
    """A slice of the deflated syntax, with something behind its elements."""
    plain = write_slice(path, GREYS).read_bytes()
    meta, _, data = plain.partition(b"\x08\0\x16\0")
    syntax = ExplicitVRLittleEndian.encode()
    longer = DeflatedExplicitVRLittleEndian.encode()
    meta = meta.replace(struct.pack("<H", 20) + syntax + b"\0", struct.pack("<H", 22) + longer)
    grown = int.from_bytes(meta[140:144], "little") + 2
    meta = meta[:140] + grown.to_bytes(4, "little") + meta[144:]
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = squeezer.compress(b"\x08\0\x16\0" + data + more) + squeezer.flush()
    path.write_bytes(meta + packed)
    return path


def test_a_deflated_file(tmp_path):
    path = deflated(tmp_path / "a.dcm")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert np.array_equal(frames_of(path)[0][:, :, 0], GREYS)
    assert np.array_equal(frames_of(io.BytesIO(path.read_bytes()))[0][:, :, 0], GREYS)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    assert "cut short" in refusal(path)
    start = 144 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[:start] + b"\7" + content[start + 1 :])  # a block of no known kind
    assert "deflated data are damaged" in refusal(path)


def test_a_deflated_file_that_inflates_without_end_is_refused(tmp_path, monkeypatch):
    assert dicom_bytes._INFLATED == 256_000_000
    monkeypatch.setattr(dicom_bytes, "_INFLATED", 3_000_000)
    path = deflated(tmp_path / "a.dcm", bytes(9_000_000))
    assert path.stat().st_size < 30_000
    assert "inflates to more than 3 MB" in refusal(path)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_file_without_preamble_and_meta_information(syntax, tmp_path):
    path = write_slice(tmp_path / "a.dcm", GREYS, syntax)
    whole, content = frames_of(path)[0], path.read_bytes()
    bare = tmp_path / "IM000001"
    first = b"\0\x08\0\x16" if syntax == ExplicitVRBigEndian else b"\x08\0\x16\0"
    bare.write_bytes(content[content.index(first) :])
    assert is_dicom(bare)
    assert np.array_equal(frames_of(bare)[0], whole)
    if syntax.is_little_endian:  # pydicom takes big-endian data behind meta information for damage
        bare.write_bytes(content[128:] if content[128:132] != b"DICM" else content[132:])
        assert np.array_equal(frames_of(bare)[0], whole)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8, np.int32])
def test_padding_is_black_whatever_the_window_is(photometric, kind, tmp_path):
    pixels = np.arange(100, 164).reshape(8, 8).astype(kind)
    low = np.iinfo(kind).min + 3
    pixels[0, :3], pixels[1, :2] = low, low + 5
    more = {"PhotometricInterpretation": photometric, "PixelPaddingValue": low}
    more |= {"WindowCenter": 50, "WindowWidth": 40}
    if kind == np.int32:
        more["PixelPaddingValue"] = pixels[0, 0] = pixels[0, 1] = pixels[0, 2] = -2000
    (frame,) = frames_of(write_slice(tmp_path / "a.dcm", pixels, **more))
    background = 0 if photometric == "MONOCHROME1" else 255
    assert (frame[0, :3] == 0).all()
    assert (frame[2:] == background).all()
    limit = more["PixelPaddingValue"] + 5
    path = write_slice(tmp_path / "a.dcm", pixels, **more, PixelPaddingRangeLimit=limit)
    values = open_dicom(path).values(0)
    expected = np.zeros((8, 8), bool)
    expected[0, :3] = True
    expected[1, :2] = kind != np.int32
    assert values.dtype == np.float32
    assert np.array_equal(np.isnan(values), expected)
    assert np.array_equal(values[~expected], pixels[~expected].astype(np.float32))


def test_bits_that_do_not_count_are_left_out(tmp_path):
    values = np.arange(-2048, 2048).reshape(64, 64).astype(np.int16)
    noisy = (values & 0xFFF) | np.int16(0x5000)
    more = {"BitsStored": 12, "WindowCenter": 0, "WindowWidth": 4096}
    clean = frames_of(write_slice(tmp_path / "a.dcm", values, **more))[0]
    assert np.array_equal(frames_of(write_slice(tmp_path / "b.dcm", noisy, **more))[0], clean)
    assert clean[0, 0] == 0
    assert clean[-1, -1] == 255


def test_a_table_is_not_kept_beyond_its_window(tmp_path):
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    frames = [
        frames_of(write_slice(tmp_path / f"{center}.dcm", pixels), Window(center, 100))[0]
        for center in range(100, 2000, 50)
    ]
    for center, frame in zip(range(100, 2000, 50), frames, strict=True):
        assert frame.ravel()[center] == 129
        assert frame.ravel()[center - 60] == 0
        assert frame.ravel()[center + 60] == 255


def test_values_are_in_modality_units(tmp_path):
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    more = {"RescaleSlope": 0.5, "RescaleIntercept": -1024, "WindowCenter": 5, "WindowWidth": 9}
    path = write_slice(tmp_path / "a.dcm", pixels, **more)
    assert np.array_equal(open_dicom(path).values(0), (pixels * 0.5 - 1024).astype(np.float32))
    colours = np.zeros((4, 5, 3), np.uint8)
    path = write_slice(tmp_path / "b.dcm", colours, PhotometricInterpretation="RGB")
    with pytest.raises(FrameError, match="it has colours, and no values"):
        open_dicom(path).values(0)


@pytest.mark.parametrize("photometric", ["MONOCHROM\n2", "\x1b[31mRGB"])
def test_a_sentence_that_quotes_the_file_can_be_printed(photometric, tmp_path):
    path = write_slice(tmp_path / "a.dcm", GREYS)
    content = path.read_bytes()
    assert content.count(b"MONOCHROME2 ") == 1
    path.write_bytes(content.replace(b"MONOCHROME2 ", photometric.encode().ljust(12)))
    sentence = refusal(path)
    assert "its colours are" in sentence
    assert sentence.isprintable()
