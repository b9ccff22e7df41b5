"""DICOM pictures beside those of an independent decoder, dcm2pnm, and what is refused by name."""

import subprocess

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    RTDoseStorage,
    SegmentationStorage,
)

from adae_edge.contract import Window
from adae_edge.decoding.dicom import decode_dicom, decode_one, read_header
from adae_edge.decoding.dicom_file import open_dicom
from adae_edge.errors import FrameError, NoPicture
from tests.support.peers import peer
from tests.support.slices import write_slice

Y, X = np.mgrid[:48, :64]
WAVE = ((X * 37 + Y * 23) % 4096).astype(np.uint16)
SIGNED = (WAVE.astype(np.int16) - 2048).astype(np.int16)
COLOURS = np.stack([X * 4 % 256, Y * 5 % 256, (X + Y) * 2 % 256], axis=-1).astype(np.uint8)
RESCALED = {"RescaleSlope": 1, "RescaleIntercept": -1024}
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def lut(first, kind, entries=4096, bits=12, data=None):
    item = Dataset()
    item.add_new("LUTDescriptor", kind, [entries, first, bits])
    table = range(entries) if data is None else data
    item.add_new("LUTData", "US", [int(value) for value in table])
    return item


def by_dcmtk(path, *options):
    """The first frame by dcm2pnm, with 8 bits."""
    out = path.with_suffix(".pnm")
    command = [peer("dcm2pnm"), "--quiet", *options, str(path), str(out)]
    subprocess.run(command, check=True, capture_output=True)
    picture = np.asarray(Image.open(out))
    return picture if picture.ndim == 3 else picture[:, :, None]


def check(path, *options, tolerance=1):
    ((_, frame),) = decode_dicom(path)
    expected = by_dcmtk(path, *options)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).max() <= tolerance
    assert frame.std() > 5


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("pixels", "attributes", "item"),
    [
        (WAVE, RESCALED, lut(-1024, "SS")),
        (WAVE, RESCALED, lut(65536 - 1024, "US")),
        (SIGNED, {}, lut(-2048, "SS")),
        (SIGNED, {}, lut(65536 - 2048, "US")),
        (WAVE, {"RescaleSlope": 2, "RescaleIntercept": -3000}, lut(-2000, "SS")),
        (WAVE, {}, lut(500, "US", 3000)),
        (WAVE, {}, lut(0, "US", 4096, 16, np.arange(4096)[::-1] * 16)),
    ],
)
def test_a_voi_lut_is_signed_as_the_values_are(syntax, pixels, attributes, item, tmp_path):
    more = {"VOILUTSequence": [item], "BitsStored": 12} | attributes
    check(write_slice(tmp_path / "a.dcm", pixels, syntax, **more), "+Wl", "1")


@pytest.mark.parametrize(
    ("pixels", "first"), [(WAVE, 0), (WAVE, 300), (SIGNED, -2048), (SIGNED, 65536 - 2048)]
)
def test_a_modality_lut_is_signed_as_the_stored_values_are(pixels, first, tmp_path):
    item = lut(first, "SS" if first < 0 else "US", 4096, 12, np.arange(4096)[::-1])
    item.ModalityLUTType = "US"
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    path = write_slice(tmp_path / "a.dcm", pixels, ModalityLUTSequence=[item], **window)
    check(path, "+Wi", "1")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, -2, 0.25])
def test_windows_are_those_of_dcmtk(photometric, function, slope, tmp_path):
    attributes = {
        "PhotometricInterpretation": photometric,
        "RescaleSlope": slope,
        "RescaleIntercept": 10,
        "WindowCenter": 2000 * slope,
        "WindowWidth": 1500 * abs(slope),
        "VOILUTFunction": function,
    }
    path = write_slice(tmp_path / "a.dcm", WAVE, BitsStored=12, **attributes)
    # dcmtk 3.6.7 takes LINEAR_EXACT for LINEAR, and puts the ends of a SIGMOID a little elsewhere.
    check(path, "+Wi", "1", tolerance=1 if function == "LINEAR" else 2)


@pytest.mark.parametrize("syntax", [*SYNTAXES, RLELossless])
@pytest.mark.parametrize("planes", [0, 1])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colours_are_those_of_dcmtk(syntax, planes, photometric, tmp_path):
    native = syntax if syntax != RLELossless else ExplicitVRLittleEndian
    pixels = COLOURS if planes == 0 else np.ascontiguousarray(COLOURS.transpose(2, 0, 1))
    size = {"Rows": 48, "Columns": 64, "SamplesPerPixel": 3, "PlanarConfiguration": planes}
    attributes = size | {"PhotometricInterpretation": photometric}
    path = write_slice(tmp_path / "a.dcm", pixels, native, **attributes)
    if syntax == RLELossless:
        data = pydicom.dcmread(path)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(path)
    check(path, tolerance=2)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("first", [0, 10])
def test_palettes_are_those_of_dcmtk(syntax, bits, first, tmp_path):
    indices = ((X * 3 + Y * 7) % 200).astype(np.uint8)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for number, name in enumerate(("Red", "Green", "Blue")):
        table = (np.arange(150) * (number + 2) * 31 + number * 40) % 256
        data = (table * 256 + table if bits == 16 else table).astype(f"{order}u2")
        if bits == 8:  # two entries in a word
            data = table.astype(np.uint8).view(np.uint16).astype(f"{order}u2")
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [150, first, bits]
        attributes[f"{name}PaletteColorLookupTableData"] = data.tobytes()
    check(write_slice(tmp_path / "a.dcm", indices, syntax, **attributes))


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"WindowCenter": "NaN", "WindowWidth": 9}, "WindowCenter is nan"),
        ({"WindowCenter": 9, "WindowWidth": "NaN"}, "WindowWidth is nan"),
        ({"WindowCenter": "inf", "WindowWidth": 9}, "WindowCenter is inf"),
        ({"WindowCenter": 9, "WindowWidth": "1e999"}, "WindowWidth is inf"),
        ({"WindowCenter": 9, "WindowWidth": -400}, "-400 wide"),
        ({"WindowCenter": 9, "WindowWidth": 0.5}, "0.5 wide"),
        ({"WindowCenter": 9, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, "0 wide"),
        ({"WindowCenter": 90000, "WindowWidth": 400}, "lies outside of its values"),
        ({"WindowCenter": -5000, "WindowWidth": 400}, "lies outside of its values"),
        ({"RescaleSlope": "NaN", "RescaleIntercept": 0}, "RescaleSlope is nan"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope of 0"),
        ({"RescaleSlope": 1, "RescaleIntercept": "-inf"}, "RescaleIntercept is -inf"),
        ({"VOILUTSequence": [lut(0, "US", 4096, 12, [7] * 4096)]}, "every value to the same"),
        ({"VOILUTSequence": [lut(5000, "US")]}, "outside of its values"),
        ({"ModalityLUTSequence": [lut(60000, "US")]}, "outside of its values"),
    ],
)
def test_a_number_that_would_make_a_black_picture_is_refused_by_name(attributes, says, tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 4000, "BitsStored": 12}
    mode = pydicom.config.settings
    before = mode.reading_validation_mode, mode.writing_validation_mode
    mode.reading_validation_mode = mode.writing_validation_mode = pydicom.config.IGNORE
    try:
        path = write_slice(tmp_path / "a.dcm", WAVE, **window | attributes)
    finally:
        mode.reading_validation_mode, mode.writing_validation_mode = before
    with pytest.raises(FrameError, match=says):
        list(decode_dicom(path))


def test_a_number_that_is_none_damages_the_header_and_not_the_pixels(tmp_path):
    path = write_slice(tmp_path / "a.dcm", WAVE, WindowCenter=2000, WindowWidth=4321)
    path.write_bytes(path.read_bytes().replace(b"4321", b"wide"))
    with pytest.raises(FrameError, match="its header is damaged"):
        list(decode_dicom(path))
    assert open_dicom(path).values(0).shape == WAVE.shape


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [("HighBit", 15, "highest bit"), ("BitsStored", 17, "bits stored"), ("BitsStored", 0, "bits")],
)
def test_bits_that_lie_elsewhere_are_refused_by_name(attribute, value, says, tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 4000}
    path = write_slice(tmp_path / "a.dcm", WAVE, BitsStored=12, **window)
    data = pydicom.dcmread(path)
    setattr(data, attribute, value)
    data.save_as(path)
    with pytest.raises(FrameError, match=says):
        list(decode_dicom(path))


def counted(path):
    """Names and frames as scoring has them, checked against those of training."""
    scored = list(decode_dicom(path, Window(2000, 4000)))
    assert read_header(path).frames == len(scored)
    for number, (_, frame) in enumerate(scored):
        assert np.array_equal(decode_one(path, number, Window(2000, 4000)), frame)
    return scored


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("declared", [None, 3])
def test_frames_are_counted_alike_declared_or_not(syntax, declared, tmp_path):
    pixels = np.stack([WAVE, WAVE // 2, WAVE // 4])
    path = write_slice(tmp_path / "a.dcm", pixels, syntax, NumberOfFrames=3, BitsStored=12)
    if declared is None:
        data = pydicom.dcmread(path)
        del data.NumberOfFrames
        data.save_as(path)
    scored = counted(path)
    assert [name.rpartition("/")[2] for name, _ in scored] == ["1", "2", "3"]
    assert len({frame.mean() for _, frame in scored}) == 3


@pytest.mark.parametrize("size", [(8, 8), (9, 5)])
@pytest.mark.parametrize("frames", [1, 3])
def test_frames_of_one_bit(size, frames, tmp_path):
    rows, columns = size
    bits = np.random.default_rng(frames).integers(0, 2, (frames, rows, columns), np.uint8)
    packed = np.packbits(bits.ravel(), bitorder="little")
    packed = np.append(packed, np.zeros(len(packed) % 2, np.uint8))
    attributes = {"Rows": rows, "Columns": columns, "BitsAllocated": 1, "BitsStored": 1}
    path = write_slice(tmp_path / "a.dcm", packed[None, None], NumberOfFrames=frames, **attributes)
    scored = [frame for _, frame in decode_dicom(path)]
    assert np.array_equal(np.stack(scored)[..., 0], bits * 255)
    assert read_header(path).frames == frames


@pytest.mark.parametrize("declared", [1, 2, 5])
def test_a_file_with_another_number_of_frames_than_it_declares_is_refused(declared, tmp_path):
    pixels = np.stack([WAVE, WAVE // 2, WAVE // 4])
    path = write_slice(tmp_path / "a.dcm", pixels, NumberOfFrames=3, BitsStored=12)
    data = pydicom.dcmread(path)
    data.NumberOfFrames = declared
    data.save_as(path)
    for read in (read_header, lambda path: list(decode_dicom(path))):
        with pytest.raises(FrameError, match=f"3 whole frames, and it declares {declared}"):
            read(path)


def test_each_frame_has_its_own_rescale_and_window(tmp_path):
    path = write_slice(tmp_path / "a.dcm", np.stack([WAVE] * 3), NumberOfFrames=3, BitsStored=12)
    data = pydicom.dcmread(path)
    groups = []
    for slope in (1, 2, -1):
        values, shown, group = Dataset(), Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = slope, 0
        shown.WindowCenter, shown.WindowWidth = 1500 * slope, 2000
        group.PixelValueTransformationSequence, group.FrameVOILUTSequence = [values], [shown]
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = groups
    data.save_as(path)
    first, second, third = (frame.astype(float) for _, frame in decode_dicom(path))
    assert np.abs(first + third - 255).max() <= 2
    assert second.std() > first.std()
    data.PerFrameFunctionalGroupsSequence = groups[:2]
    data.save_as(path)
    with pytest.raises(FrameError, match="3 frames, and describes 2"):
        list(decode_dicom(path))


def test_one_bad_frame_costs_one_frame(tmp_path):
    path = write_slice(tmp_path / "a.dcm", np.stack([WAVE] * 5), NumberOfFrames=5, BitsStored=12)
    data = pydicom.dcmread(path)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path)
    content = bytearray(path.read_bytes())
    frame = content.find(b"\xfe\xff\x00\xe0", content.find(b"\xe0\x7f\x10\x00") + 60)
    content[frame + 8 : frame + 12] = bytes([99, 0, 0, 0])  # 99 segments
    path.write_bytes(content)
    kinds = [isinstance(frame, FrameError) for _, frame in decode_dicom(path, Window(2000, 4000))]
    assert sum(kinds) == 1
    assert len(kinds) == 5


@pytest.mark.parametrize(
    "kind",
    [
        BasicTextSRStorage,
        EncapsulatedPDFStorage,
        GrayscaleSoftcopyPresentationStateStorage,
        MediaStorageDirectoryStorage,
        RTDoseStorage,
        SegmentationStorage,
    ],
)
@pytest.mark.parametrize("with_pixels", [True, False])
def test_what_is_no_picture_by_its_class_is_told_from_a_damaged_one(kind, with_pixels, tmp_path):
    window = {"WindowCenter": 2000, "WindowWidth": 4000, "BitsStored": 12}
    path = write_slice(tmp_path / "a.dcm", WAVE, **window)
    data = pydicom.dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    if not with_pixels:
        del data.PixelData, data.Rows
    data.save_as(path)
    for read in (read_header, lambda path: list(decode_dicom(path))):
        with pytest.raises(NoPicture, match=f"of the kind {kind.name}"):
            read(path)


def test_a_picture_without_its_pixels_is_a_failure(tmp_path):
    path = write_slice(tmp_path / "a.dcm", WAVE, WindowCenter=2000, WindowWidth=4000)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(FrameError) as refused:
        list(decode_dicom(path))
    assert not isinstance(refused.value, NoPicture)
