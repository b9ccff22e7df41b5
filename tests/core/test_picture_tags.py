"""What a picture's own tags say of its values, compared with decoders of others."""

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from adae_edge.decoding.images import declared_size, decode_image, is_grey
from adae_edge.errors import FrameError
from tests.support.peers import peer

NOISE = np.random.default_rng(0)
GREY = NOISE.integers(0, 256, (20, 31), np.uint8)
COLOUR = NOISE.integers(0, 256, (20, 31, 3), np.uint8)
DEEP = NOISE.integers(0, 65536, (20, 31), np.uint16)
SMOOTH = Image.fromarray(COLOUR[:6, :6]).resize((96, 80), Image.Resampling.BICUBIC)
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def saved(image, kind="JPEG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def decoded(tmp_path):
    def decode(data, bits=None):
        path = tmp_path / "frame"
        path.write_bytes(data)
        return decode_image(path, bits)

    return decode


@pytest.fixture
def refusal(decoded):
    def sentence(data, bits=None):
        with pytest.raises(FrameError) as refused:
            decoded(data, bits)
        assert str(refused.value).isprintable()
        return str(refused.value)

    return sentence


def tiff(values, white_is_zero=False, **options):
    out = io.BytesIO()
    grey = "miniswhite" if white_is_zero else "minisblack"
    photometric = "rgb" if 3 in (values.shape[0], values.shape[-1]) else grey
    tifffile.imwrite(out, values, photometric=photometric, metadata=None, **options)
    return out.getvalue()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("values", [GREY, DEEP])
def test_white_is_zero_at_every_depth(decoded, order, compression, bigtiff, values):
    if order == ">" and bigtiff:
        pytest.skip("Pillow does not know big-endian BigTIFF, which is refused by name below")
    expected = values if values is GREY else (values >> 8).astype(np.uint8)
    options = {"byteorder": order, "compression": compression, "bigtiff": bigtiff}
    assert np.array_equal(decoded(tiff(values, **options))[..., 0], expected)
    inverted = tiff(np.iinfo(values.dtype).max - values, white_is_zero=True, **options)
    assert np.array_equal(decoded(inverted)[..., 0], expected)


def test_white_is_zero_with_one_bit_and_without_compression(decoded):
    bits = GREY > 127
    frame = decoded(tiff(~bits, white_is_zero=True))
    assert np.array_equal(frame[..., 0], np.where(bits, 255, 0))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("values", [GREY, DEEP, COLOUR])
def test_a_tiff_is_turned_as_it_says(decoded, orientation, compression, values):
    tags = [(274, "H", 1, orientation, True)]
    frame = decoded(tiff(values, compression=compression, extratags=tags))
    kept = (values >> 8 if values is DEEP else values).reshape(20, 31, -1)
    assert np.array_equal(frame, UPRIGHT[orientation](kept))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_exif_says(decoded, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    upright = decoded(saved(SMOOTH, kind, **options))
    turned = decoded(saved(SMOOTH, kind, exif=exif, **options))
    assert np.array_equal(turned, UPRIGHT[orientation](upright))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("deep", [False, True])
def test_planes_of_a_tiff(decoded, planar, compression, deep):
    values = COLOUR.astype(np.uint16) * 256 + 77 if deep else COLOUR
    stored = values if planar == "contig" else values.transpose(2, 0, 1)
    frame = decoded(tiff(stored, planarconfig=planar, compression=compression))
    assert np.array_equal(frame, COLOUR)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (GREY.astype(np.int8), "signed"),
        (DEEP.astype(np.int16), "signed"),
        (COLOUR.astype(np.int8), "signed"),
        (GREY.astype(np.float32), "floating-point"),
        (GREY.astype(np.float16), "floating-point"),
        (GREY.astype(np.float64), "floating-point"),
        (GREY.astype(np.uint32), "32 bits"),
        (GREY.astype(np.complex64), "complex"),
    ],
)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_numbers_without_a_black_and_a_white_are_refused_by_name(
    refusal, values, words, white_is_zero
):
    sentence = refusal(tiff(values, white_is_zero))
    assert words in sentence
    assert "8 or 16 bits" in sentence


def test_a_preview_a_mask_and_a_fax_are_refused_by_name(refusal):
    assert "preview" in refusal(tiff(GREY, subfiletype=1))
    assert "mask" in refusal(saved(Image.fromarray(GREY > 9), "TIFF", tiffinfo={254: 4}))
    assert "not read" in refusal(tiff(GREY, bigtiff=True, byteorder=">"))
    assert "fax" in refusal(saved(Image.fromarray(GREY > 9), "TIFF", compression="group4"))


def test_twelve_bits_that_a_tiff_declares(decoded):
    values = DEEP[:, :30] >> 4
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    entries = [(256, 30), (257, 20), (258, 12), (259, 1), (262, 1), (273, 200), (277, 1)]
    entries += [(278, 20), (279, packed.size)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = (head + body).ljust(200, b"\0") + packed.tobytes()
    assert np.array_equal(decoded(data)[..., 0], values >> 4)
    assert np.array_equal(decoded(data, bits=12)[..., 0], values >> 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_camera_s_values_in_the_low_bits(decoded, refusal, kind, bits):
    values = DEEP >> (16 - bits)
    data = saved(Image.fromarray(values), kind)
    assert np.array_equal(decoded(data, bits)[..., 0], DEEP >> 8)
    assert np.array_equal(decoded(data)[..., 0], values >> 8)
    if bits < 16:
        assert f"{bits} bits hold less" in refusal(saved(Image.fromarray(DEEP), kind), bits)


def test_a_camera_s_bits_are_not_for_other_depths(decoded, refusal):
    assert np.array_equal(decoded(saved(SMOOTH, "PNG"), 12), decoded(saved(SMOOTH, "PNG")))
    scaled = b"P5 31 20 4095\n" + (DEEP >> 4).astype(">u2").tobytes()
    assert np.array_equal(decoded(scaled, 12), decoded(scaled))
    assert np.abs(decoded(scaled)[..., 0].astype(int) - (DEEP >> 8)).max() <= 1
    assert "for grey" in refusal(tiff(COLOUR.astype(np.uint16)), 12)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values, significant):
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
        + chunk(b"sBIT", bytes([significant]))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("significant", [10, 12, 14])
def test_significant_bits_of_a_png_are_its_high_ones(decoded, refusal, significant):
    values = DEEP >> (16 - significant)
    left = 16 - significant
    expected = DEEP >> 8
    linear = np.rint(values * (65535 / (2**significant - 1))).astype(np.uint16)
    for scaled in (values << left, values << left | values >> (significant - left), linear):
        difference = decoded(png(scaled, significant))[..., 0].astype(int) - expected
        assert np.abs(difference).max() <= (scaled is linear)
    assert f"--bits {significant}" in refusal(png(values, significant))
    assert np.array_equal(decoded(png(values, significant), significant)[..., 0], expected)


def with_content(data, name, content):
    """A PNG file whose chunks of one name have become a single one, or none, with its checksum."""
    at, out, done = 8, data[:8], content is None
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] != name:
            out += data[at:end]
        elif not done:
            out, done = out + chunk(name, content), True
        at = end
    return out


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_rows_that_a_png_lacks_are_not_black(decoded, refusal, rows):
    black = Image.fromarray(np.zeros((20, 31), np.uint8))
    few = zlib.compress(bytes(32 * rows))
    for image in (Image.fromarray(GREY), Image.fromarray(COLOUR), black):
        whole = saved(image, "PNG")
        decoded(whole)
        assert "cannot be decoded" in refusal(with_content(whole, b"IDAT", few))


def test_a_black_png_is_whole_whatever_its_depth_and_its_passes(decoded, refusal):
    for depth, colour in ((1, 0), (2, 3), (4, 0), (8, 6), (16, 2), (16, 4)):
        for interlaced in (0, 1):
            size = struct.pack(">IIBBBBB", 31, 20, depth, colour, 0, 0, interlaced)
            bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
            passes = [(31, 20)]
            if interlaced:  # as https://www.w3.org/TR/png/#8Interlace draws them
                passes = [(4, 3), (4, 3), (8, 2), (8, 5), (16, 5), (15, 10), (31, 10)]
            pixels = bytes(sum((1 + -(-width * bits // 8)) * height for width, height in passes))
            for content, right in ((pixels, True), (pixels[:-1], False)):
                data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"PLTE", bytes(12))
                data += chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
                if right:
                    assert not decoded(data).any()
                else:
                    assert "cannot be decoded" in refusal(data)


@pytest.mark.parametrize("palette", [None, b"", bytes(3 * 3)])
def test_colours_that_a_palette_lacks_are_not_black(decoded, refusal, palette):
    whole = saved(Image.fromarray(COLOUR).quantize(16), "PNG")
    decoded(whole)
    assert "palette" in refusal(with_content(whole, b"PLTE", palette))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_second_picture_in_a_pnm_file_is_not_passed_over(decoded, refusal, mode):
    one = saved(Image.new(mode, (9, 5)), "PPM")
    decoded(one + b"\n")
    assert "another picture" in refusal(one + one)
    assert "another picture" in refusal(one + b"\n" + one)


@pytest.mark.parametrize("head", [b"P6 1 1 1000\n\3\xe8\1\xf4\0\0", b"P5 2 1 100\n\1\2"])
def test_a_second_picture_whose_white_is_its_own_is_not_passed_over(decoded, refusal, head):
    decoded(head)
    assert "another picture" in refusal(head + head)


def test_a_wrong_checksum_of_a_png_is_noticed(refusal):
    data = bytearray(saved(Image.fromarray(GREY), "PNG", compress_level=0))
    at = data.index(b"IDAT") + 60
    data[at] ^= 1
    assert "checksum" in refusal(bytes(data))


def test_a_wrong_checksum_of_a_deflated_tiff_is_noticed(refusal):
    data = bytearray(tiff(GREY, compression="zlib", compressionargs={"level": 0}))
    data[data.index(GREY[4].tobytes()) + 3] ^= 1
    assert "incorrect data check" in refusal(bytes(data))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_that_lost_data_is_reported(decoded, refusal, mode, options):
    data = saved(SMOOTH.convert(mode), **options)
    decoded(data)
    start = data.index(b"\xff\xda") + 14
    for at in range(start, len(data) - 2, (len(data) - start) // 23):
        assert "cannot be decoded" in refusal(data[:at])
        if not options.get("progressive"):  # whose last scans may be missing
            assert "cannot be decoded" in refusal(data[:at] + b"\xff\xd9")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_decoded_as_by_djpeg_which_says_the_same_of_damage(decoded, tmp_path, options):
    djpeg = peer("djpeg")
    data = saved(SMOOTH, quality=90, **options)
    path = tmp_path / "j.jpg"
    for at in (0, *range(200, len(data), len(data) // 60)):
        flipped = bytes(data[:at]) + bytes([data[at] ^ (0x21 if at else 0)]) + data[at + 1 :]
        path.write_bytes(flipped)
        ran = subprocess.run([djpeg, "-pnm", path], capture_output=True, check=False)
        if ran.returncode:
            with pytest.raises(FrameError):
                decode_image(path)
        else:
            expected = np.asarray(Image.open(io.BytesIO(ran.stdout)))
            assert np.array_equal(decode_image(path), expected)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_a_jpeg_is_decoded_as_by_pillow(decoded, mode):
    data = saved(SMOOTH.convert(mode), quality=80)
    expected = Image.open(io.BytesIO(data)).convert("L" if mode == "L" else "RGB")
    assert np.array_equal(decoded(data).squeeze(), np.asarray(expected))


def test_inks_without_adobe_s_mark_are_refused_by_name(refusal):
    data = saved(SMOOTH.convert("CMYK"))
    at = data.index(b"\xff\xee")
    assert "CMYK" in refusal(data[:at] + data[at + 16 :])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_damage_in_a_jpeg_within_a_tiff_is_reported(decoded, refusal, mode):
    data = saved(SMOOTH.convert(mode), "TIFF", compression="jpeg")
    frame = decoded(data)
    assert np.abs(frame.squeeze().astype(int) - np.asarray(SMOOTH.convert(mode))).mean() < 9
    damaged = bytearray(data)
    middle = len(data) // 2
    damaged[middle : middle + 40] = bytes(40)
    assert "cannot be decoded" in refusal(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(SMOOTH, "JPEG2000"), "JPEG 2000"),
        (b"\0\0\0\x20ftypisom" + bytes(40), "a video"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF"),
        (b"\0\0\0\x20ftypheic" + bytes(40), "HEIC"),
        (b"\x1aE\xdf\xa3" + bytes(40), "a video"),
        (b"RIFF\0\0\0\0AVI LIST" + bytes(40), "a video"),
        ((b"G" + bytes(187)) * 4, "a video"),
        (b"8BPS" + bytes(40), "Photoshop"),
        (b"%PDF-1.7" + bytes(40), "PDF"),
    ],
)
def test_a_kind_that_is_not_read_is_called_that(refusal, data, words):
    sentence = refusal(data)
    assert words in sentence
    assert "damaged" not in sentence


@pytest.mark.parametrize(
    ("marker", "bits", "words"),
    [(0xC1, 12, "12 bits"), (0xF7, 8, "JPEG-LS")],
)
def test_a_jpeg_of_another_process_is_called_that(refusal, marker, bits, words):
    data = bytearray(saved(SMOOTH))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    assert words in refusal(bytes(data))


def test_a_bmp_that_lacks_a_byte_and_a_png_of_another_compression_are_refused(decoded, refusal):
    data = saved(SMOOTH, "BMP")
    decoded(data)
    assert "cut short" in refusal(data[:-1])
    data = bytearray(saved(SMOOTH, "PNG"))
    data[26] = 8
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert "compression" in refusal(bytes(data))


@pytest.mark.parametrize("damage", ["label", "cut", "screen"])
def test_a_gif_that_is_not_whole_is_refused(decoded, refusal, damage):
    data = bytearray(saved(SMOOTH.quantize(16), "GIF"))
    decoded(bytes(data))
    if damage == "label":
        data[-1] = 0x11
    if damage == "cut":
        del data[-1]
    if damage == "screen":
        data[6] -= 4
    assert {"label": "unknown", "cut": "cut short", "screen": "outside"}[damage] in refusal(
        bytes(data)
    )


def test_premultiplied_and_unused_channels_are_dropped(decoded, tmp_path):
    with_extra = np.dstack([GREY, GREY])
    for extra in ("unspecified", "unassalpha"):
        out = io.BytesIO()
        tifffile.imwrite(
            out,
            with_extra,
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=[extra],
            metadata=None,
        )
        assert np.array_equal(decoded(out.getvalue())[..., 0], GREY)
        assert is_grey(tmp_path / "frame")


def test_libjpeg_s_version_is_one_that_tells_of_damage():
    """The decoder behind decode_image refuses what it would have to make up."""
    data = saved(SMOOTH)
    with pytest.raises(ValueError, match="Premature end"):
        simplejpeg.decode_jpeg(data[:-200], "RGB")


def tags_of(values, white_is_zero, order, letter, changed=None):
    """A TIFF file written out by hand, with tags of one type; None leaves a tag out."""
    code, size = {"H": 3, "I": 4}[letter], values.dtype.itemsize * 8
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = {256: values.shape[1], 257: values.shape[0], 258: size, 259: 1}
    entries |= {262: 0 if white_is_zero else 1, 273: 250, 277: 1, 278: values.shape[0]}
    entries |= {279: len(data)} | (changed or {})
    entries = {tag: value for tag, value in entries.items() if value is not None}
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    counted = {tag: v if isinstance(v, tuple) else (1, v) for tag, v in sorted(entries.items())}
    body = b"".join(
        struct.pack(f"{order}HHI{letter}", tag, code, *value).ljust(12, b"\0")
        for tag, value in counted.items()
    )
    return (head + body).ljust(250, b"\0") + data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("letter", ["H", "I"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tag_of_either_type_says_whether_0_is_white(
    decoded, tmp_path, order, letter, white_is_zero
):
    for values in (GREY, DEEP):
        shown = np.iinfo(values.dtype).max - values if white_is_zero else values
        frame = decoded(tags_of(shown, white_is_zero, order, letter))
        assert np.array_equal(frame[..., 0], GREY if values is GREY else DEEP >> 8)
        assert is_grey(tmp_path / "frame")
        assert sorted(declared_size(tmp_path / "frame")) == [20, 31]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({262: None}, "black or white"),
        ({284: 0}, "planes"),
        ({279: 300}, "not as long"),
        ({279: 2000}, "not as long"),
        ({278: 3}, "not as many"),
        ({258: 5}, "5 bits"),
        ({262: (7000, 1)}, "length"),
    ],
)
def test_tags_that_do_not_go_with_the_picture_are_refused(refusal, tags, words):
    assert words in refusal(tags_of(GREY, False, "<", "I", tags))
