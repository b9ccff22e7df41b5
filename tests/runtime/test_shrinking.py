"""Frames that are shrunk while they are decoded, beside the same frames at full size."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adae_edge.contract import Form, Region
from adae_edge.decoding.images import to_channels
from adae_edge.decoding.rules import is_covered, rules_of
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import FrameError
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.registry import open_for, open_source
from adae_edge.runtime.sources.source import Wanted
from tests.support import clips
from tests.support.clips import FRAMES, ffmpeg, write
from tests.support.models import a_contract

SIDE = 8
SHRINKING = Shrinking(SIDE)


def read(path, shrinking=SHRINKING):
    with open_source(str(path), Wanted(shrinking=shrinking)) as source:
        items = list(source)
    return [item for item in items if not isinstance(item, Event)], [
        item for item in items if isinstance(item, Event)
    ]


def means(pixels, height, width):
    """The means of pixels [H, W, C] over equal areas."""

    def weights(count, length):
        start = np.arange(count)[:, None] * length / count
        pixel = np.arange(length)
        overlap = np.minimum(start + length / count, pixel + 1) - np.maximum(start, pixel)
        return overlap.clip(0) * count / length

    rows, columns = weights(height, pixels.shape[0]), weights(width, pixels.shape[1])
    return np.einsum("ih,jw,hwc->ijc", rows, columns, pixels.astype(float), optimize=True)


def seen(frame):
    """What a network of this side sees of a frame."""
    return means(frame.pixels, SIDE, SIDE)


def soft(height, width, channels=3):
    """A picture with large structures and a little noise, as a camera's."""
    random = np.random.default_rng(0)
    coarse = random.integers(30, 226, (6, 8, channels), np.uint8)
    images = [Image.fromarray(coarse[..., c]).resize((width, height)) for c in range(channels)]
    picture = np.stack([np.asarray(image, float) for image in images], axis=2)
    return (picture + random.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8).squeeze()


def save_jpeg(path, pixels, **how):
    Image.fromarray(pixels).save(path, quality=92, **how)
    return path


# 96 x 80 pixels each.
@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264_10_bits.mp4", "hevc.mkv", "vp9.webm", "mjpeg.avi"]
)
def test_a_video_is_shrunk_to_twice_the_side_by_means_over_areas(name, tmp_path):
    path = write(tmp_path, name)

    shrunk, events = read(path)
    whole, events_before = read(path, None)

    assert len(shrunk) == len(whole) == FRAMES
    assert [event.detail for event in events] == [event.detail for event in events_before]
    assert {frame.pixels.shape for frame in shrunk} == {(2 * SIDE, 2 * SIDE, 3)}
    assert {frame.size for frame in shrunk} == {frame.size for frame in whole} == {(80, 96)}
    assert {frame.decoding for frame in shrunk} == {"video 2, shrunk 2"}
    assert {frame.full for frame in whole} == {None}
    for one, other in zip(shrunk, whole, strict=True):
        assert (one.id, one.video_time) == (other.id, other.video_time)
        difference = seen(one) - seen(other)
        assert abs(difference).max() < 7  # loud colours at edges, clipped after the mean or before
        assert difference.std() < 1.5
        assert abs(difference.mean()) < 0.25


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_shrunk_and_turned(degrees, tmp_path):
    path = tmp_path / "turned.mp4"
    ffmpeg(
        "-i", write(tmp_path, "h264.mp4"), "-metadata:s:v", f"rotate={degrees}", "-c", "copy", path
    )

    shrunk, _ = read(path)
    whole, _ = read(path, None)

    for one, other in zip(shrunk, whole, strict=True):
        assert one.size == other.size == ((96, 80) if degrees != 180 else (80, 96))
        assert abs(seen(one) - seen(other)).max() < 7


@pytest.mark.parametrize("size", [(97, 81), (33, 20), (200, 12), (15, 9)])
def test_an_axis_that_is_small_stays_as_it_is(size, tmp_path):
    path = tmp_path / "odd.mkv"
    width, height = size
    source = f"testsrc2=size={width + 1}x{height + 1}:rate=25,format=rgb24,crop={width}:{height}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", 2, "-c:v", "libx264rgb", path)

    frames, _ = read(path)

    assert {frame.size for frame in frames} == {(height, width)}
    assert {frame.pixels.shape for frame in frames} == {(min(height, 16), min(width, 16), 3)}
    assert {frame.full is None for frame in frames} == {max(size) <= 16}


def test_damage_is_told_of_a_shrunk_video_as_of_a_whole_one(tmp_path):
    path = write(tmp_path, "h264.mp4")
    clips.damage(path, 12)

    shrunk, events = read(path)
    whole, events_before = read(path, None)

    assert events
    assert [event.detail for event in events] == [event.detail for event in events_before]
    assert [frame.id for frame in shrunk] == [frame.id for frame in whole]


@pytest.mark.parametrize(
    "how", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "left"), [((360, 640), (45, 80)), ((216, 384), (54, 96))])
def test_a_jpeg_is_shrunk_by_libjpeg(size, left, channels, how, tmp_path):
    path = save_jpeg(tmp_path / "a.jpg", soft(*size, channels), **how)

    [shrunk], _ = read(path)
    [whole], _ = read(path, None)

    assert (shrunk.pixels.shape, shrunk.size) == ((*left, channels), size)
    assert (whole.pixels.shape, whole.full) == ((*size, channels), None)
    assert (shrunk.decoding, whole.decoding) == ("pictures 1, shrunk 2", "pictures 1")
    assert abs(seen(shrunk) - seen(whole)).max() < 1


def test_a_shrunk_jpeg_is_decoded_without_its_colours_for_a_grey_model(tmp_path):
    path = save_jpeg(tmp_path / "a.jpg", soft(360, 640))
    small = save_jpeg(tmp_path / "small.jpg", soft(36, 64))

    [shrunk], _ = read(path, Shrinking(SIDE, grey=True))
    [whole], _ = read(path, None)
    [stays], _ = read(small, Shrinking(SIDE, grey=True))

    assert (shrunk.pixels.shape, shrunk.size) == ((45, 80, 1), (360, 640))
    assert (stays.pixels.shape, stays.full) == ((36, 64, 3), None)
    luma = to_channels(whole.pixels, 1)
    assert abs(means(shrunk.pixels, SIDE, SIDE) - means(luma, SIDE, SIDE)).max() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_shrunk_jpeg_is_made_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save_jpeg(tmp_path / "a.jpg", soft(360, 640), exif=exif)

    [shrunk], _ = read(path)
    [whole], _ = read(path, None)

    assert shrunk.full == whole.size == ((360, 640) if orientation < 5 else (640, 360))
    assert abs(seen(shrunk) - seen(whole)).max() < 1


def test_files_that_cannot_be_shrunk_alike_stay_whole(tmp_path):
    save_jpeg(tmp_path / "no_divisor.jpg", soft(361, 641))
    save_jpeg(tmp_path / "small.jpg", soft(72, 640))
    Image.fromarray(soft(360, 640)).convert("CMYK").save(tmp_path / "inks.jpg")
    Image.fromarray(soft(360, 640)).save(tmp_path / "other.png")

    shrunk, events = read(tmp_path)
    whole, _ = read(tmp_path, None)

    assert (len(shrunk), events) == (4, [])
    for one, other in zip(shrunk, whole, strict=True):
        assert one.full is None
        assert one.decoding == other.decoding
        assert np.array_equal(one.pixels, other.pixels)


def test_a_jpeg_that_lost_data_is_refused_under_shrinking_too(tmp_path):
    content = io.BytesIO()
    Image.fromarray(soft(360, 640)).save(content, "JPEG")
    data = bytearray(content.getvalue())
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    middle = len(data) // 2
    data[middle : middle + 40] = b"\x00\xff" * 20
    (tmp_path / "damaged.jpg").write_bytes(data)
    save_jpeg(tmp_path / "wide.jpg", np.zeros((8, 8193), np.uint8))

    frames, events = read(tmp_path)
    _, events_before = read(tmp_path, None)

    assert (frames, len(events)) == ([], 3)
    assert [event.detail for event in events] == [event.detail for event in events_before]


def test_padded_frames_keep_their_shape_to_a_part_of_a_pixel():
    for height, width in ((360, 640), (431, 768), (1080, 1919), (500, 499), (3000, 37)):
        small = Shrinking(32, pad=True).size(height, width)
        assert 64 <= max(small) <= 128
        assert abs(min(small) - min(height, width) * max(small) / max(height, width)) < 0.15
        assert Shrinking(32, pad=True).size(width, height) == small[::-1]
    assert Shrinking(32, pad=True).size(64, 20) == (64, 20)


@pytest.mark.parametrize(
    "change",
    [
        {"region": Region(0, 0, 40, 40)},
        {"form": Form(size=(360, 640))},
        {"form": Form(anomaly_map="frame")},
        {"kind": "modality"},
        {"score": "local"},
        {"score": "density"},
    ],
    ids=str,
)
def test_models_that_need_whole_frames_get_them(change, tmp_path):
    assert Shrinking.by(a_contract()) == Shrinking(32, grey=True)
    contract = replace(a_contract(channels=3), **change)
    assert Shrinking.by(contract) is None


def test_a_source_for_a_model_shrinks_unless_it_is_to_be_exact(tmp_path):
    path = save_jpeg(tmp_path / "a.jpg", soft(1080, 1920))

    [shrunk] = open_for(a_contract(channels=3), str(path))
    [whole] = open_for(a_contract(channels=3), str(path), exact=True)

    assert (shrunk.pixels.shape, shrunk.size) == ((270, 480, 3), (1080, 1920))
    assert (whole.pixels.shape, whole.full) == ((1080, 1920, 3), None)
    for frame in (shrunk, whole):  # a threshold holds for both, however it was chosen
        for kept in (rules_of("image"), rules_of("image", shrunk=True)):
            assert is_covered(frame.decoding, kept)
        assert not is_covered(frame.decoding, "pictures 0, shrunk 2")


def test_a_shrunk_frame_of_a_video_that_turns_by_an_odd_angle_is_refused(tmp_path):
    from adae_edge.runtime.sources.turning import turned

    with pytest.raises(FrameError, match="multiple of 90"):
        turned(np.zeros((16, 16, 3), np.uint8), [46341, 46341, 0, -46341, 46341])
