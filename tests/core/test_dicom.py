"""DICOM files: grey values by the standard's formulas, every syntax decoded, the rest refused."""

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from adae_edge.contract import Window
from adae_edge.decoding.dicom import decode_dicom
from adae_edge.errors import FrameError
from tests.support.shared import real
from tests.support.slices import write_slice

SHIPPED = Path(pydicom.__file__).parent / "data"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.fixture
def decoded(tmp_path):
    """Writes a file and decodes its only frame."""

    def decode(pixels, shown=None, **options):
        ((_, frame),) = decode_dicom(write_slice(tmp_path / "slice.dcm", pixels, **options), shown)
        return frame

    return decode


def refusal(path):
    """The sentence that refuses a file."""
    with pytest.raises(FrameError) as refused:
        list(decode_dicom(path))
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    return sentence


def window(values, center, width):
    """PS3.3 C.11.2.1.2.1, pixel by pixel as the standard writes it, onto 0 to 255."""
    shown = []
    for x in np.ravel(values).tolist():
        if x <= center - 0.5 - (width - 1) / 2:
            y = 0.0
        elif x > center - 0.5 + (width - 1) / 2:
            y = 255.0
        else:
            y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
        shown.append(y)
    return np.reshape(shown, (*np.shape(values), 1))


def lut(values, first=0, bits=16):
    """An item of a modality or VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values), first, bits])
    item.add_new("LUTData", "US", [int(value) for value in values])
    return item


def close(frame, expected):
    """Whether a frame is the expected values, rounded in either way where they lie between two."""
    return (
        frame.shape == np.shape(expected)
        and np.abs(frame - np.asarray(expected, float)).max() <= 0.5 + 1e-9
    )


@pytest.mark.parametrize(
    ("center", "width"), [(2048, 4096), (1000, 400), (40.5, 1.0), (128, 256), (-50, 300), (7, 2)]
)
def test_the_window_is_the_standards_linear_function(decoded, center, width):
    frame = decoded(RAMP, BitsStored=12, WindowCenter=center, WindowWidth=width)
    assert frame.dtype == np.uint8
    assert close(frame, window(RAMP, center, width))


def test_a_window_on_eight_bits_written_out(decoded):
    # c - 0.5 - (w - 1) / 2 = 10 is black, 14 is white: 10, 11, 12, 13, 14 are 0, 1/4, 1/2, 3/4, 1.
    frame = decoded(
        np.array([[0, 10, 11, 12], [13, 14, 15, 255]], np.uint8), WindowCenter=12.5, WindowWidth=5
    )
    assert frame.ravel().tolist() == [0, 0, 64, 128, 191, 255, 255, 255]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_every_function_agrees_with_pydicom(decoded, function):
    attributes = {
        "WindowCenter": 1500,
        "WindowWidth": 800,
        "BitsStored": 12,
        "VOILUTFunction": function,
    }
    frame = decoded(RAMP, **attributes)
    reference = Dataset()
    for name, value in (
        attributes | {"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
    ).items():
        setattr(reference, name, value)
    assert close(frame[:, :, 0], apply_windowing(RAMP, reference) / 4095 * 255)


def test_of_several_windows_the_first(decoded):
    frame = decoded(RAMP, BitsStored=12, WindowCenter=[1000, 3000], WindowWidth=[400, 100])
    assert close(frame, window(RAMP, 1000, 400))


def test_monochrome1_is_inverted_after_the_window(decoded):
    options = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 400}
    normal, inverted = (
        decoded(RAMP, **options),
        decoded(RAMP, PhotometricInterpretation="MONOCHROME1", **options),
    )
    assert close(inverted, 255 - window(RAMP, 1000, 400))
    # Inverted before the window, the value 1000 would lie above it.
    assert normal.ravel()[1100] > 128 > inverted.ravel()[1100] > 0


def test_a_ct_slice_in_hounsfield_units(decoded):
    hounsfield = np.linspace(-1024, 3071, 4096).reshape(64, 64)
    frame = decoded(
        RAMP,
        BitsStored=12,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=40,
        WindowWidth=400,
    )
    assert close(frame, window(hounsfield, 40, 400))


def test_signed_pixels(decoded):
    signed = (RAMP.astype(np.int16) - 2048) * 16
    frame = decoded(
        signed, RescaleSlope=0.5, RescaleIntercept=10, WindowCenter=-100, WindowWidth=9000
    )
    assert close(frame, window(signed * 0.5 + 10, -100, 9000))
    assert close(decoded(signed, Window(-100, 9000)), window(signed, -100, 9000))


def test_with_a_negative_slope_greater_values_stay_brighter(decoded):
    scaling = {"BitsStored": 12, "RescaleSlope": -2, "RescaleIntercept": 500}
    values = RAMP * -2.0 + 500
    assert close(
        decoded(RAMP, WindowCenter=-1000, WindowWidth=2000, **scaling), window(values, -1000, 2000)
    )
    # Eight bits need no window, and keep that direction.
    eight = RAMP.astype(np.uint8)
    assert np.array_equal(
        decoded(eight, RescaleSlope=-1, RescaleIntercept=0), 255 - eight[:, :, None]
    )


def test_without_a_window_eight_bits_are_taken_as_they_are(decoded):
    eight = RAMP.astype(np.uint8)
    assert np.array_equal(decoded(eight), eight[:, :, None])
    assert np.array_equal(decoded(np.minimum(eight, 9)), np.minimum(eight, 9)[:, :, None])


@pytest.mark.parametrize("nothing", [{}, {"WindowCenter": "", "WindowWidth": ""}])
def test_without_a_window_more_bits_are_refused_and_not_guessed(tmp_path, nothing):
    path = write_slice(tmp_path / "slice.dcm", RAMP, BitsStored=12, **nothing)
    assert "--window" in refusal(path)


def test_a_window_that_is_asked_for_replaces_the_files(decoded):
    options = {"BitsStored": 12, "RescaleSlope": 2, "RescaleIntercept": -500}
    expected = window(RAMP * 2.0 - 500, 1000, 800)
    assert close(decoded(RAMP, Window(1000, 800), **options), expected)
    assert close(
        decoded(RAMP, Window(1000, 800), WindowCenter=1, WindowWidth=2, **options), expected
    )
    assert close(
        decoded(RAMP, Window(1000, 800), VOILUTSequence=[lut([0, 1])], **options), expected
    )


def test_a_voi_lut_comes_before_a_window(decoded):
    table = (np.arange(4096) ** 2 // 4096 * 16).astype(int)
    frame = decoded(
        RAMP,
        BitsStored=12,
        VOILUTSequence=[lut(table), lut([0, 1])],
        WindowCenter=100,
        WindowWidth=10,
    )
    assert close(frame, (table / 65535 * 255).reshape(64, 64, 1))


def test_a_voi_lut_of_eight_bits_with_more_than_256_entries(decoded):
    table = np.arange(4096) // 16
    frame = decoded(RAMP, BitsStored=12, VOILUTSequence=[lut(table, bits=8)])
    assert np.array_equal(frame, (RAMP // 16)[:, :, None])


def test_values_beyond_a_lut_take_its_ends(decoded):
    scaled = {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1000}
    table = [5000, 20000, 40000, 65535]
    frame = decoded(RAMP, VOILUTSequence=[lut(table, first=-2)], **scaled).ravel()
    assert frame[[0, 998, 999, 1000, 1001, 4095]].tolist() == [19, 19, 78, 156, 255, 255]


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_modality_lut_and_then_the_window(decoded, syntax):
    table = np.arange(4096)[::-1] * 3
    frame = decoded(
        RAMP,
        syntax=syntax,
        BitsStored=12,
        ModalityLUTSequence=[lut(table)],
        WindowCenter=6000,
        WindowWidth=3000,
    )
    assert close(frame, window(table.reshape(64, 64), 6000, 3000))
    unwindowed = decoded(
        RAMP, syntax=syntax, BitsStored=12, ModalityLUTSequence=[lut(table // 64, bits=8)]
    )
    assert np.array_equal(unwindowed, (table // 64).reshape(64, 64, 1))


def test_a_lut_in_words_has_the_files_byte_order(decoded):
    table = np.arange(4096) * 16
    for syntax, order in ((ExplicitVRLittleEndian, "<u2"), (ExplicitVRBigEndian, ">u2")):
        words = lut(table)
        words.add_new("LUTData", "OW", table.astype(order).tobytes())
        frame = decoded(RAMP, syntax=syntax, BitsStored=12, VOILUTSequence=[words])
        assert close(frame, (table / 65535 * 255).reshape(64, 64, 1))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_byte_order_and_implicit_types_change_nothing(decoded, syntax):
    options = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 400}
    assert np.array_equal(decoded(RAMP, syntax=syntax, **options), decoded(RAMP, **options))


def test_frames_of_a_file_are_numbered(tmp_path):
    frames = np.stack([np.full((4, 5), value, np.uint8) for value in (1, 2, 3)])
    path = write_slice(tmp_path / "cine.dcm", frames, NumberOfFrames=3)
    found = list(decode_dicom(path))
    assert [uid for uid, _ in found] == [
        f"1.2.826.0.1.3680043.8.498.1/{number}" for number in (1, 2, 3)
    ]
    assert [int(frame.max()) for _, frame in found] == [1, 2, 3]
    assert all(frame.shape == (4, 5, 1) for _, frame in found)


def test_an_open_file_gives_the_frames_of_its_path(tmp_path):
    for name in ("MR_small.dcm", "MR_small_RLE.dcm", "examples_ybr_color.dcm"):
        path = SHIPPED / "test_files" / name
        for file in (path.open("rb"), io.BytesIO(path.read_bytes())):
            with file:
                pairs = zip(decode_dicom(path), decode_dicom(file), strict=True)
                for (uid, frame), (same_uid, same) in pairs:
                    assert uid == same_uid
                    assert np.array_equal(frame, same)


def test_an_open_file_is_called_by_its_name(tmp_path):
    path = tmp_path / "notes.dcm"
    path.write_bytes(b"none")
    with path.open("rb") as file, pytest.raises(FrameError, match=rf"^{path} "):
        list(decode_dicom(file))
    with pytest.raises(FrameError, match=r"^cd\.zip/notes\.dcm "):
        list(decode_dicom(io.BytesIO(b"none"), name="cd.zip/notes.dcm"))
    with pytest.raises(FrameError, match=r"^seen "):
        list(decode_dicom(path, name="seen"))


def test_a_single_frame_has_the_plain_uid(tmp_path):
    for count in (None, 1):
        pixels = np.zeros((1, 4, 5), np.uint8) if count else np.zeros((4, 5), np.uint8)
        ((uid, _),) = decode_dicom(write_slice(tmp_path / "one.dcm", pixels, NumberOfFrames=count))
        assert uid == "1.2.826.0.1.3680043.8.498.1"


def macro(name, **attributes):
    """An item of functional groups that holds one macro."""
    item = Dataset()
    for attribute, value in attributes.items():
        setattr(item, attribute, value)
    group = Dataset()
    setattr(group, name, [item])
    return group


def test_an_enhanced_file_has_a_window_per_frame(tmp_path):
    windows = [(1000, 400), (3000, 200)]
    path = write_slice(
        tmp_path / "enhanced.dcm",
        np.stack([RAMP, RAMP]),
        NumberOfFrames=2,
        BitsStored=12,
        SharedFunctionalGroupsSequence=[
            macro(
                "PixelValueTransformationSequence",
                RescaleSlope=2,
                RescaleIntercept=-100,
                RescaleType="US",
            )
        ],
        PerFrameFunctionalGroupsSequence=[
            macro("FrameVOILUTSequence", WindowCenter=center, WindowWidth=width)
            for center, width in windows
        ],
    )
    frames = [frame for _, frame in decode_dicom(path)]
    for frame, (center, width) in zip(frames, windows, strict=True):
        assert close(frame, window(RAMP * 2.0 - 100, center, width))


def test_the_rescaling_of_one_frame_is_not_that_of_the_next(tmp_path):
    path = write_slice(
        tmp_path / "enhanced.dcm",
        np.full((2, 2, 2), 100, np.uint8),
        NumberOfFrames=2,
        WindowCenter=128,
        WindowWidth=256,
        PerFrameFunctionalGroupsSequence=[
            macro("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=0)
            for slope in (1, 2)
        ],
    )
    assert [int(frame[0, 0, 0]) for _, frame in decode_dicom(path)] == [100, 200]


COLOURS = np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def test_rgb_in_either_order_of_planes(decoded):
    assert np.array_equal(decoded(COLOURS, PhotometricInterpretation="RGB"), COLOURS)
    planes = np.moveaxis(COLOURS, 2, 0).tobytes()
    frame = decoded(
        COLOURS, PhotometricInterpretation="RGB", PlanarConfiguration=1, PixelData=planes
    )
    assert np.array_equal(frame, COLOURS)


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_deep_colours_keep_their_high_byte(decoded, kind):
    shift = 8 * (np.dtype(kind).itemsize - 1)
    deep = (COLOURS.astype(kind) << shift) + 77
    assert np.array_equal(decoded(deep, PhotometricInterpretation="RGB"), COLOURS)


def test_a_palette_gives_its_colours(decoded):
    palette = np.random.default_rng(2).integers(0, 256, (3, 256), np.uint16)
    attributes = {}
    for name, channel in zip(("Red", "Green", "Blue"), palette, strict=True):
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{name}PaletteColorLookupTableData"] = (channel << 8).astype("<u2").tobytes()
    indices = RAMP.astype(np.uint8)
    frame = decoded(indices, PhotometricInterpretation="PALETTE COLOR", **attributes)
    assert np.array_equal(frame, palette.T[indices])


def test_pixels_that_share_colours_are_pairs_in_each_row(tmp_path):
    pixels = np.zeros((4, 5, 2), np.uint8)
    more = {"PhotometricInterpretation": "YBR_FULL_422", "SamplesPerPixel": 3}
    assert "its rows are odd" in refusal(write_slice(tmp_path / "slice.dcm", pixels, **more))


def test_ybr_comes_as_rgb(decoded):
    grey_then_red = np.array([[[100, 128, 128], [76, 85, 255]]], np.uint8)
    frame = decoded(grey_then_red, PhotometricInterpretation="YBR_FULL").astype(int)
    assert np.abs(frame - [[[100, 100, 100], [254, 0, 0]]]).max() <= 1


@pytest.mark.parametrize(
    ("syntax", "kind", "options"),
    [(JPEGBaseline8Bit, "JPEG", {"quality": 95}), (JPEG2000Lossless, "JPEG2000", {"no_jp2": True})],
)
def test_what_another_program_compressed(decoded, syntax, kind, options):
    pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    frame = decoded(pixels, syntax=syntax, PixelData=encapsulate([out.getvalue()]))
    assert np.abs(frame[:, :, 0].astype(int) - pixels).max() <= (2 if kind == "JPEG" else 0)


def test_run_length_encoding(tmp_path):
    path = write_slice(
        tmp_path / "slice.dcm", RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=400
    )
    ((_, plain),) = decode_dicom(path)
    data = pydicom.dcmread(path)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path)
    ((_, compressed),) = decode_dicom(path)
    assert np.array_equal(compressed, plain)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_expb.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_one_slice_in_every_lossless_syntax_is_one_frame(name):
    ((_, plain),) = decode_dicom(SHIPPED / "test_files" / "MR_small.dcm")
    ((_, same),) = decode_dicom(SHIPPED / "test_files" / name)
    assert np.array_equal(same, plain)
    assert plain.std() > 10


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", 30),
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", 30),
        ("SC_rgb_jls_lossy_line.dcm", 12),
        ("SC_rgb_rle_16bit.dcm", 1),
        ("SC_rgb_rle_32bit.dcm", 1),
        ("SC_rgb_jpeg_gdcm.dcm", 0),
    ],
)
def test_one_colour_picture_in_many_syntaxes_is_one_frame(name, tolerance):
    ((_, plain),) = decode_dicom(SHIPPED / "test_files" / "SC_rgb_rle.dcm")
    ((_, same),) = decode_dicom(SHIPPED / "test_files" / name)
    assert np.abs(same.astype(int) - plain).mean() <= tolerance


def test_jpeg2000_whose_sign_the_header_denies():
    ((_, frame),) = decode_dicom(SHIPPED / "test_files" / "J2K_pixelrep_mismatch.dcm")
    assert frame.shape == (512, 512, 1)
    assert frame.std() > 20


def test_a_real_series():
    paths = sorted(real("dicom/mr_t1").rglob("*.dcm"))
    assert "--window" in refusal(paths[0])
    frames = [frame for path in paths for _, frame in decode_dicom(path, Window(100, 200))]
    assert len(frames) == len(paths) > 10
    assert {frame.shape for frame in frames} == {(384, 274, 1)}
    for path, frame in zip(paths, frames, strict=True):
        data = pydicom.dcmread(path)
        assert (data.BitsStored, data.PixelRepresentation, "WindowCenter" in data) == (16, 1, False)
        assert close(frame, window(data.pixel_array, 100, 200))
    assert np.median([frame.std() for frame in frames]) > 10


def test_a_file_that_is_no_dicom(tmp_path):
    path = tmp_path / "notes.dcm"
    assert "no such file" in refusal(path)
    path.write_text("no preamble, no DICM")
    assert "it is no DICOM file" in refusal(path)
    path.write_bytes(bytes(128) + b"DICM")
    assert "ends before its pixels" in refusal(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.03, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, part):
    path = write_slice(
        tmp_path / "slice.dcm", RAMP, BitsStored=12, WindowCenter=1000, WindowWidth=400
    )
    data = path.read_bytes()
    path.write_bytes(data[: 133 + int((len(data) - 133) * part)])
    refusal(path)


def test_a_truncated_file_gives_the_frames_before_the_cut(tmp_path):
    pixels = np.arange(4 * 64 * 64, dtype=np.uint16).reshape(4, 64, 64)
    path = write_slice(tmp_path / "cine.dcm", pixels, NumberOfFrames=4)
    data = pydicom.dcmread(path)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path)
    whole = [frame for _, frame in decode_dicom(path, Window(8000, 16000))]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    found = [frame for _, frame in decode_dicom(path, Window(8000, 16000))]
    lost = [isinstance(frame, FrameError) for frame in found]
    assert lost == [False, False, True, True]
    assert all(np.array_equal(*pair) for pair in zip(found[:2], whole, strict=False))


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"Rows": 640, "Columns": 640}, "0 whole frames, and it declares 1"),
        ({"Rows": 60000, "Columns": 60000}, "8192"),
        ({"Rows": 0}, "0 pixels"),
        ({"Rows": None}, "Rows"),
        ({"NumberOfFrames": 5}, "1 whole frames, and it declares 5"),
        ({"NumberOfFrames": 2_000_000_000}, "1 to 10000"),
        ({"NumberOfFrames": -3}, "cannot be decoded"),
        ({"BitsAllocated": 64, "BitsStored": 64}, "cannot be decoded"),
        ({"SamplesPerPixel": 3}, "cannot be decoded"),
        ({"PhotometricInterpretation": "RGB"}, "cannot be decoded"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "its palette has no red"),
        ({"PhotometricInterpretation": "NONSENSE"}, "cannot be decoded"),
        ({"BitsStored": 8, "RescaleSlope": 0, "RescaleIntercept": 5}, "every value to the same"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "0 wide"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "CUBIC"),
        ({"VOILUTSequence": [Dataset()]}, "its header is damaged"),
        ({"WindowCenter": 5, "WindowWidth": 1e9}, "every value as the same grey"),
        (
            {"WindowCenter": 2, "WindowWidth": 9, "RescaleSlope": 1e-300, "RescaleIntercept": 0},
            "every value as the same grey",
        ),
        (
            {
                "WindowCenter": 5,
                "WindowWidth": 9,
                "PixelPaddingValue": 0,
                "PixelPaddingRangeLimit": 65535,
            },
            "every value as the same grey",
        ),
        ({"PixelData": b""}, "cannot be decoded"),
    ],
)
def test_lies_in_the_header_are_refused(tmp_path, lie, says):
    path = tmp_path / "slice.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what it writes here
        pixels = RAMP[None] if "NumberOfFrames" in lie else RAMP
        write_slice(path, pixels, **{"BitsStored": 12} | lie)
    assert says in refusal(path)


def test_32_bits_that_a_header_shows_as_one_grey_are_refused(tmp_path):
    pixels = RAMP.astype(np.uint32)
    path = write_slice(tmp_path / "slice.dcm", pixels, WindowCenter=0, WindowWidth=2**60)
    assert "every value as the same grey" in refusal(path)


def test_frames_of_an_ultrasound_volume_are_pictures(decoded):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    frame = decoded(pixels, SOPClassUID=pydicom.uid.EnhancedUSVolumeStorage)
    assert np.array_equal(frame[:, :, 0], pixels)


def test_a_sentence_does_not_repeat_a_long_value(tmp_path):
    path = tmp_path / "slice.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_slice(path, RAMP, PhotometricInterpretation="X" * 2000)
    assert len(refusal(path)) < len(str(path)) + 400


def test_a_lut_shorter_than_it_declares(tmp_path):
    short = lut(range(100))
    short.LUTDescriptor = [4096, 0, 16]
    path = write_slice(tmp_path / "slice.dcm", RAMP, BitsStored=12, VOILUTSequence=[short])
    assert "its VOI LUT is not as long as it declares" in refusal(path)


def test_a_file_without_pixels(tmp_path):
    path = write_slice(tmp_path / "slice.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    assert "ends before its pixels" in refusal(path)


@pytest.mark.parametrize(
    "name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
)
def test_damage_anywhere_never_raises_anything_else(tmp_path, name):
    data = (SHIPPED / "test_files" / name).read_bytes()
    path = tmp_path / "damaged.dcm"
    random = np.random.default_rng(3)
    sentences = []
    for _ in range(40):
        damaged = bytearray(data)
        for at in random.integers(132, len(data), 20):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            for _, frame in decode_dicom(path):
                assert frame.dtype == np.uint8
                assert frame.shape[2] in (1, 3)
        except FrameError as error:
            sentences.append(str(error))
    assert sentences
    assert all(sentence.isprintable() for sentence in sentences)


def test_the_callers_warnings_are_not_held_back(tmp_path):
    path = write_slice(tmp_path / "cine.dcm", np.zeros((3, 4, 5), np.uint8), NumberOfFrames=3)
    before = list(warnings.filters)
    frames = decode_dicom(path)
    next(frames)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)
    frames.close()
    assert warnings.filters == before
