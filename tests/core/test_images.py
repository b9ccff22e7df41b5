"""Decoding pictures: every kind by a fixed rule, and what is damaged or hostile is refused."""

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from adae_edge.decoding.images import decode_image, is_grey, to_channels
from adae_edge.errors import FrameError
from adae_edge.interface import check_size

NOISE = np.random.default_rng(0)
GREY = NOISE.integers(0, 256, (20, 30), np.uint8)
COLOUR = NOISE.integers(0, 256, (20, 30, 3), np.uint8)
DEEP = NOISE.integers(0, 65536, (20, 30), np.uint16)
# A photograph's smoothness, for formats that lose some of it.
SMOOTH = np.stack(np.meshgrid(np.linspace(0, 255, 48), np.linspace(0, 200, 40), [90]), -1)[
    :, :, 0
].astype(np.uint8)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(tmp_path, data, name="frame.png"):
    path = tmp_path / name
    path.write_bytes(data)
    frame = decode_image(path)
    assert frame.dtype == np.uint8
    return frame


def refusal(path):
    """The sentence that refuses a file."""
    with pytest.raises(FrameError) as refused:
        decode_image(path)
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    assert len(sentence) < len(str(path)) + 150
    return sentence.removeprefix(str(path)).strip()


def png(width, height, depth=8, colour=2, body=b""):
    """A PNG file written out by hand, so that its header can claim anything."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_grey_and_colour_come_as_they_are(tmp_path, kind):
    assert np.array_equal(decoded(tmp_path, encoded(Image.fromarray(GREY), kind)), GREY[:, :, None])
    assert np.array_equal(decoded(tmp_path, encoded(Image.fromarray(COLOUR), kind)), COLOUR)


def test_lossless_webp(tmp_path):
    assert np.array_equal(
        decoded(tmp_path, encoded(Image.fromarray(COLOUR), "WEBP", lossless=True)), COLOUR
    )


def test_jpeg_in_grey_and_colour(tmp_path):
    frame = decoded(tmp_path, encoded(Image.fromarray(SMOOTH), "JPEG", quality=95, subsampling=0))
    assert frame.shape == (40, 48, 3)
    assert np.abs(frame.astype(int) - SMOOTH).max() <= 6
    frame = decoded(tmp_path, encoded(Image.fromarray(SMOOTH[:, :, 0]), "JPEG", quality=95))
    assert frame.shape == (40, 48, 1)
    assert np.abs(frame[:, :, 0].astype(int) - SMOOTH[:, :, 0]).max() <= 6


def test_alpha_is_dropped_and_not_blended(tmp_path):
    with_alpha = Image.fromarray(np.dstack([COLOUR, GREY]))
    assert np.array_equal(decoded(tmp_path, encoded(with_alpha, "PNG")), COLOUR)
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(255 - GREY)])
    assert np.array_equal(decoded(tmp_path, encoded(grey_alpha, "PNG")), GREY[:, :, None])
    assert np.array_equal(
        decoded(tmp_path, encoded(Image.fromarray(GREY), "PNG", transparency=7)), GREY[:, :, None]
    )


@pytest.mark.parametrize(
    "options", [{}, {"transparency": 3}, {"transparency": bytes(range(0, 256, 16))}]
)
def test_a_palette_gives_its_colours(tmp_path, options):
    palette = NOISE.integers(0, 256, (16, 3), np.uint8)
    image = Image.fromarray(GREY % 16)
    image.putpalette(palette.tobytes())
    assert np.array_equal(decoded(tmp_path, encoded(image, "PNG", **options)), palette[GREY % 16])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_becomes_black_and_white(tmp_path, kind):
    bits = GREY > 127
    frame = decoded(tmp_path, encoded(Image.fromarray(bits), kind))
    assert np.array_equal(frame, np.where(bits, 255, 0)[:, :, None])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_high_byte(tmp_path, kind):
    assert np.array_equal(
        decoded(tmp_path, encoded(Image.fromarray(DEEP), kind)), (DEEP >> 8)[:, :, None]
    )


def test_sixteen_bits_of_big_endian_tiff_and_of_colour_png(tmp_path):
    big_endian = encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF")
    assert big_endian[:2] == b"MM"
    assert np.array_equal(decoded(tmp_path, big_endian), (DEEP >> 8)[:, :, None])
    deep = NOISE.integers(0, 65536, (5, 4, 3), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    assert np.array_equal(decoded(tmp_path, png(4, 5, depth=16, body=rows)), deep >> 8)


def test_scaling_does_not_depend_on_content(tmp_path):
    dark = np.zeros((8, 8), np.uint8)
    dark[3, 4] = 1
    assert np.array_equal(
        decoded(tmp_path, encoded(Image.fromarray(dark), "PNG")), dark[:, :, None]
    )
    deep = dark.astype(np.uint16) * 256
    assert np.array_equal(
        decoded(tmp_path, encoded(Image.fromarray(deep), "PNG")), dark[:, :, None]
    )
    assert decoded(tmp_path, encoded(Image.fromarray(deep // 256 * 255), "PNG")).max() == 0


def test_cmyk_jpeg_comes_as_rgb(tmp_path):
    data = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    frame = decoded(tmp_path, data)
    assert frame.shape == (40, 48, 3)
    assert np.abs(frame.astype(int) - SMOOTH).max() <= 12


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.swapaxes(0, 1)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for stored, kept in ((COLOUR, COLOUR), (DEEP, (DEEP >> 8)[:, :, None])):
        frame = decoded(tmp_path, encoded(Image.fromarray(stored), "PNG", exif=exif))
        assert np.array_equal(frame, upright(kept))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x00\x01nonsense", b"Exif\0\0nonsense"]
)
def test_damaged_exif_is_no_reason_to_lose_a_frame(tmp_path, exif):
    assert (
        decoded(tmp_path, encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif)).shape == SMOOTH.shape
    )


@pytest.mark.parametrize(
    ("kind", "suffix"), [("TIFF", "tif"), ("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")]
)
def test_several_pages_are_refused(tmp_path, kind, suffix):
    path = tmp_path / f"pages.{suffix}"
    Image.fromarray(COLOUR).save(
        path, kind, save_all=True, append_images=[Image.fromarray(255 - COLOUR)]
    )
    assert "2 pages" in refusal(path)


def test_a_camera_file_with_a_preview_is_one_frame(tmp_path):
    path = tmp_path / "camera.jpg"
    preview = Image.fromarray(SMOOTH[::2, ::2])
    Image.fromarray(SMOOTH).save(path, "MPO", save_all=True, append_images=[preview], quality=95)
    with Image.open(path) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert decode_image(path).shape == SMOOTH.shape


def test_empty_missing_and_no_image(tmp_path):
    path = tmp_path / "frame.png"
    assert "does not exist" in refusal(path)
    path.touch()
    assert "it is empty" in refusal(path)
    path.write_bytes(b"these are not the pixels you are looking for")
    assert "it is no image" in refusal(path)
    assert "directory" in refusal(tmp_path)


def test_a_name_that_is_not_utf8_is_named_too(tmp_path):
    path = tmp_path / "caf\udce9.png"
    path.write_bytes(b"no image")
    with pytest.raises(FrameError, match="caf\udce9"):
        decode_image(path)
    path.write_bytes(encoded(Image.fromarray(COLOUR), "PNG"))
    assert np.array_equal(decode_image(path), COLOUR)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("part", [0.001, 0.01, 0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(tmp_path, kind, part):
    data = encoded(Image.fromarray(COLOUR), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * part) + 1])
    refusal(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damage_in_the_middle_never_raises_anything_else(tmp_path, kind):
    data = encoded(Image.fromarray(COLOUR), kind)
    path = tmp_path / "damaged"
    refused = 0
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            frame = decode_image(path)
            assert frame.dtype == np.uint8
            assert frame.ndim == 3
        except FrameError:
            refused += 1
    assert refused > 3


def test_a_header_that_declares_a_huge_picture(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(60000, 60000))
    started = time.process_time()
    assert "more than 8192 x 8192" in refusal(path)
    for width, height in ((10000, 10000), (8193, 1), (1, 100_000)):
        path.write_bytes(png(width, height))
        assert f"{width} x {height} pixels" in refusal(path)
    assert time.process_time() - started < 2


def test_a_huge_picture_takes_no_memory(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png(60000, 60000, body=bytes(10**7)))
    script = """
import resource, sys
from pathlib import Path
from adae_edge.errors import FrameError
from adae_edge.decoding.images import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(Path(sys.argv[1]))
except FrameError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60
    )
    assert ran.stderr == ""
    assert int(ran.stdout) < 30_000  # KiB


def test_the_largest_frame_is_decoded(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (8192, 8192), 1).save(path)
    frame = decode_image(path)
    assert frame.shape == (8192, 8192, 1)
    assert frame.min() == 255


@pytest.mark.parametrize("pixels", [NOISE.random((9, 9), np.float32), GREY.astype(np.int32)])
def test_depths_without_a_fixed_rule_are_refused(tmp_path, pixels):
    path = tmp_path / "deep.tif"
    Image.fromarray(pixels).save(path)
    assert "8 or 16 bits" in refusal(path)


def test_postscript_under_an_images_name_is_not_run(tmp_path):
    path = tmp_path / "frame.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "it is no image" in refusal(path)


def test_a_picture_that_a_decoder_warns_of_is_decoded_in_silence(tmp_path, recwarn):
    image = Image.fromarray(GREY % 16)
    image.putpalette(bytes(range(48)))
    decoded(tmp_path, encoded(image, "PNG", transparency=bytes(16)))
    assert not recwarn


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "BMP"])
def test_the_header_says_grey_exactly_where_the_frame_is(tmp_path, kind):
    path = tmp_path / "frame"
    pictures = [(GREY, True), (GREY > 9, True), (COLOUR, False)] + [(DEEP, True)] * (kind != "BMP")
    for pixels, grey in pictures:
        Image.fromarray(pixels).save(path, kind)
        assert is_grey(path) is grey
        assert (decode_image(path).shape[2] == 1) is grey
    path.write_bytes(b"no image")
    with pytest.raises(FrameError, match="no image"):
        is_grey(path)


def test_grey_becomes_colour_by_repeating():
    frame = GREY[:, :, None]
    assert np.array_equal(to_channels(frame, 3), np.dstack([GREY, GREY, GREY]))
    assert to_channels(frame, 1) is frame
    assert to_channels(COLOUR, 3) is COLOUR


def test_colour_becomes_grey_by_luma_rounded_half_up():
    colours = NOISE.integers(0, 256, (20_000, 3), np.uint8)
    colours[:3] = [[255, 255, 255], [0, 0, 0], [0, 0, 250]]  # the last one's luma is 28.5
    grey = to_channels(colours, 1)
    assert grey.dtype == np.uint8
    expected = [(299 * r + 587 * g + 114 * b + 500) // 1000 for r, g, b in colours.tolist()]
    assert grey.ravel().tolist() == expected
    assert expected[:3] == [255, 0, 29]
    assert np.array_equal(to_channels(to_channels(GREY[..., None], 3), 1), GREY[..., None])


def test_luma_is_pillows_within_one():
    ours = to_channels(COLOUR, 1)[:, :, 0].astype(int)
    assert np.abs(ours - np.asarray(Image.fromarray(COLOUR).convert("L"))).max() <= 1


def test_several_frames_are_converted_at_once():
    frames = np.stack([COLOUR, 255 - COLOUR])
    assert np.array_equal(
        to_channels(frames, 1), np.stack([to_channels(frame, 1) for frame in frames])
    )


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (8193, 1), (1, 8193), (-1, 4)])
def test_sizes_beyond_the_limits(size):
    with pytest.raises(FrameError, match="this one is"):
        check_size(*size, "this one")


def test_sizes_at_the_limits():
    check_size(1, 1, "this one")
    check_size(8192, 8192, "this one")
