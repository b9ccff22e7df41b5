"""Videos of many kinds: whole, trimmed, cut, damaged, turned, and what only looks like one."""

import gc
import shutil

import av
import numpy as np
import pytest

from adae_edge.errors import SourceError
from tests.support import clips
from tests.support.clips import FRAMES, KINDS, ffmpeg, read, write

TRIMMED = ["h264.mp4", "h264_b.mkv", "hevc.mp4", "mpeg4.mp4", "mpeg2.ts", "vp9.webm", "av1.mp4"]


def pixels(frames):
    return [frame.pixels for frame in frames]


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_video_gives_every_frame_with_its_time_and_says_nothing(name, tmp_path):
    frames, events = read(write(tmp_path, name))

    assert not events
    assert [frame.id for frame in frames] == list(range(FRAMES))
    times = [frame.video_time for frame in frames]
    assert times == pytest.approx([number / 25 for number in range(FRAMES)], abs=0.002)
    assert {frame.pixels.shape for frame in frames} == {(80, 96, 3)}


@pytest.mark.parametrize("name", TRIMMED)
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_trimmed_video_is_whole_whatever_its_container_counts(name, ending, tmp_path):
    path = write(tmp_path, name)
    trimmed = tmp_path / f"trimmed.{ending}"
    ffmpeg("-ss", "0.6", "-i", path, "-c", "copy", trimmed)
    again = tmp_path / "again.mkv"
    ffmpeg("-i", trimmed, "-vsync", "passthrough", "-c:v", "ffv1", again)

    frames, events = read(trimmed)

    assert not events
    assert 10 < len(frames) <= FRAMES
    same, _ = read(again)
    if name == "av1.mp4" and ending == "mp4":  # Debian's ffmpeg shows what the edit list hides
        same = same[-25:]
    assert len(frames) == len(same)
    for one, other in zip(frames, same, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 2  # other pixel formats


def test_frames_of_uneven_duration_have_the_times_at_which_they_are_shown(tmp_path):
    path = tmp_path / "uneven.mkv"
    shown = "if(lt(N,10),N/25,0.4+(N-10)*0.7)/TB"
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 20)
    options = ("-vf", f"settb=1/1000,setpts='{shown}'", "-enc_time_base", "1:1000")
    ffmpeg(*source, *options, "-vsync", "passthrough", "-c:v", "libx264", path)

    frames, events = read(path)

    assert not events
    expected = [number / 25 if number < 10 else 0.4 + (number - 10) * 0.7 for number in range(20)]
    assert [frame.video_time for frame in frames] == pytest.approx(expected, abs=0.002)


def test_a_stream_without_time_stamps_has_no_times(tmp_path):
    path = tmp_path / "raw.mp4"
    ffmpeg("-i", write(tmp_path, "h264.mp4"), "-c", "copy", "-f", "h264", path)

    frames, events = read(path)

    assert not events
    assert len(frames) == FRAMES
    assert {frame.video_time for frame in frames} == {None}


@pytest.mark.parametrize(
    "name",
    ["h264_b.mkv", "h264.avi", "mjpeg.avi", "vp9.webm", "ffv1.mkv", "av1.mkv"],
)
@pytest.mark.parametrize("part", [0.55, 0.7, 0.85])
def test_a_cut_video_gives_what_is_there_and_then_says_so(name, part, tmp_path):
    path = write(tmp_path, name)
    whole = {frame.video_time: frame.pixels for frame in read(path)[0]}
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    frames, events = read(path)

    assert [event.kind for event in events] == ["failure"]
    assert 0 < len(frames) < FRAMES
    for frame in frames:
        assert np.array_equal(frame.pixels, whole[frame.video_time])


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
def test_a_cut_mp4_whose_index_is_first_says_so(flags, tmp_path):
    path = tmp_path / "cut.mp4"
    ffmpeg("-i", write(tmp_path, "h264.mp4"), "-c", "copy", "-movflags", flags, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])

    frames, (event,) = read(path)

    assert event.kind == "failure"
    assert 0 < len(frames) < FRAMES


def test_a_cut_mp4_whose_index_was_last_is_refused_in_a_sentence(tmp_path):
    path = write(tmp_path, "h264.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"h264\.mp4 cannot be opened as a video: .* damaged"):
        read(path)


# What arithmetic coding makes of damage is often a picture that no decoder complains of, so that
# these are examples of what it does complain of.
NOTICED = [
    ("h264.mp4", 7, 0),
    ("h264.mp4", 17, 0),
    ("h264_b.mkv", 2, 0),
    ("h264_b.mkv", 17, 0),
    ("h264.avi", 2, 0),
    ("h264.avi", 7, 0),
    ("h264_10_bits.mp4", 17, 0),
    *(
        (name, number, seed)
        for name in KINDS
        if name.startswith(("h264_slices", "mpeg", "xvid", "mjpeg", "ffv1", "prores"))
        for number, seed in ((2, 0), (17, 1))
    ),
]


@pytest.mark.parametrize(("name", "number", "seed"), NOTICED)
def test_what_a_decoder_patched_up_or_may_rest_on_it_is_told_and_not_given(
    name, number, seed, tmp_path
):
    path = write(tmp_path, name)
    whole = {frame.video_time: frame for frame in read(path)[0]}
    clips.damage(path, number, seed)

    frames, events = read(path)

    assert {event.kind for event in events} == {"failure"}
    assert len(frames) > FRAMES // 4
    for frame in frames:
        assert np.array_equal(frame.pixels, whole[frame.video_time].pixels), frame.id
    if not name.endswith((".ts", ".mpg")):  # in which damage can swallow the mark of a frame
        assert len(frames) + sum(event.frames for event in events) == FRAMES, events
        assert [frame.id for frame in frames] == [whole[frame.video_time].id for frame in frames]


@pytest.mark.parametrize("name", ["h264.avi", "hevc.mp4", "hevc.mkv"])
@pytest.mark.parametrize("number", [5, 17])
def test_what_may_rest_on_a_frame_that_is_missing_is_told_and_not_given(name, number, tmp_path):
    whole, gap = write(tmp_path, name), tmp_path / f"gap-{name}"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:v", f"noise=drop=eq(n\\,{number})", gap)
    true = {picture.tobytes() for picture in pixels(read(whole)[0])}

    frames, events = read(gap)

    assert {event.kind for event in events} == {"failure"}
    assert len(frames) > FRAMES // 4
    assert {picture.tobytes() for picture in pixels(frames)} <= true


def test_what_rests_on_frames_that_a_capture_does_not_have_is_no_failure(tmp_path):
    path = write(tmp_path, "h264_open.ts")
    packets = path.stat().st_size // 188
    path.write_bytes(path.read_bytes()[188 * (packets // 3) :])

    frames, events = read(path)

    assert len(frames) > 10
    assert {event.kind for event in events} <= {"note"}


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_video_is_turned_as_it_says(degrees, tmp_path):
    path = tmp_path / "turned.mp4"
    plain = write(tmp_path, "h264.mp4")
    ffmpeg("-i", plain, "-metadata:s:v", f"rotate={degrees}", "-c", "copy", path)

    frames, _ = read(path)

    for turned, frame in zip(frames, read(plain)[0], strict=True):
        assert np.array_equal(turned.pixels, np.rot90(frame.pixels, degrees // 90))
    again = tmp_path / "again.mkv"
    ffmpeg("-i", path, "-c:v", "ffv1", "-pix_fmt", "bgr0", again)  # which turns it
    for turned, frame in zip(frames, read(again)[0], strict=True):
        assert np.abs(turned.pixels.astype(int) - frame.pixels).mean() < 12


def decoded_frames():
    """PyAV's frames that are alive, those of other tests among them."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), av.VideoFrame)]


def test_a_decoded_frame_is_let_go_of_without_the_garbage_collector(tmp_path):
    path = tmp_path / "key-frames.mp4"
    ffmpeg("-i", write(tmp_path, "h264.mp4"), "-c:v", "libx264", "-g", 1, path)
    gc.collect()
    before = decoded_frames()
    gc.disable()

    try:
        read(path)
        left = decoded_frames()
    finally:
        gc.enable()

    assert not [frame for frame in left if all(frame is not other for other in before)]


@pytest.mark.parametrize("size", [(97, 81), (33, 20)])
def test_a_video_of_an_odd_size(size, tmp_path):
    path = tmp_path / "odd.mkv"
    width, height = size
    source = f"testsrc2=size={width + 1}x{height + 1}:rate=25,format=rgb24,crop={width}:{height}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", 3, "-c:v", "libx264rgb", path)

    frames, _ = read(path)

    assert {frame.pixels.shape for frame in frames} == {(height, width, 3)}


# Kr and Kb of the matrix, and the lowest and highest luma of the range.
@pytest.mark.parametrize(
    ("matrix", "colours"),
    [("smpte170m", (0.299, 0.114)), ("bt709", (0.2126, 0.0722)), ("bt2020nc", (0.2627, 0.0593))],
)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_colours_are_those_of_the_standard(matrix, colours, full, bits, tmp_path):
    path = tmp_path / "colours.mkv"
    planes = np.random.default_rng(1).integers(30 << bits - 8, 220 << bits - 8, (3, 48, 64))
    layout = f"yuv444p{'' if bits == 8 else '10le'}"
    raw = ("-f", "rawvideo", "-pix_fmt", layout, "-s", "64x48", "-i", "-")
    told = ("-colorspace", matrix, "-color_range", "pc" if full else "tv")
    data = planes.astype("u1" if bits == 8 else "<u2").tobytes()
    ffmpeg(*raw, "-c:v", "libx264", "-qp", 0, *told, path, input=data)

    (frame,), _ = read(path)

    luma, blue, red = planes / 2 ** (bits - 8)
    offset, span, chroma = (0, 255, 255) if full else (16, 219, 224)
    luma, blue, red = (luma - offset) / span, (blue - 128) / chroma, (red - 128) / chroma
    kr, kb = colours
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    expected = np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)
    assert np.abs(frame.pixels - expected).max() <= 2


def test_halved_colours_are_interpolated_and_no_darker(tmp_path):
    path = tmp_path / "grey.mkv"
    luma = np.random.default_rng(2).integers(16, 236, (48, 64), np.uint8)
    data = luma.tobytes() + bytes([128]) * (48 * 64 // 2)
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "64x48", "-i", "-")
    ffmpeg(*raw, "-c:v", "ffv1", path, input=data)

    (frame,), _ = read(path)

    difference = frame.pixels - ((luma.astype(float) - 16) * 255 / 219)[:, :, None]
    assert np.abs(difference).max() <= 1
    assert abs(difference.mean()) < 0.1


def test_interlaced_frames_are_told_once_and_given(tmp_path):
    path = tmp_path / "interlaced.mp4"
    source = ("-f", "lavfi", "-i", "testsrc2=size=96x80:rate=25", "-frames:v", 10)
    ffmpeg(*source, "-c:v", "libx264", "-flags", "+ilme+ildct", path)

    frames, (event,) = read(path)

    assert len(frames) == 10
    assert event.kind == "note"
    assert "interlaced" in event.detail


def test_of_two_video_streams_the_first_is_given_and_told(tmp_path):
    path = tmp_path / "two.mkv"
    first, second = write(tmp_path, "h264.mp4"), write(tmp_path, "mpeg4.mp4")
    ffmpeg("-i", first, "-i", second, "-map", "0:v", "-map", "1:v", "-c", "copy", path)

    frames, (event,) = read(path)

    assert "2 video streams" in event.detail
    for one, other in zip(frames, read(first)[0], strict=True):
        assert np.array_equal(one.pixels, other.pixels)


@pytest.fixture
def impostors(tmp_path):
    """Files with a video's name that are none, and what is said of them."""
    sound = ("-f", "lavfi", "-i", "sine=duration=0.2")
    picture = ("-f", "lavfi", "-i", "testsrc2=size=64x48", "-frames:v", 1)
    ffmpeg(*sound, "-c:a", "aac", tmp_path / "sound.mp4")
    ffmpeg(*sound, "-f", "wav", tmp_path / "wav.mp4")
    said = {"sound.mp4": "sound alone", "wav.mp4": "sound alone"}
    for kind in ("png", "jpg", "bmp", "tiff", "webp"):
        ffmpeg(*picture, tmp_path / f"picture.{kind}")
        shutil.copy(tmp_path / f"picture.{kind}", tmp_path / f"{kind}.mp4")
        said[f"{kind}.mp4"] = "is a picture"
    cover = ("-map", 0, "-map", 1, "-c", "copy", "-disposition:v", "attached_pic")
    sources = ("-i", tmp_path / "sound.mp4", "-i", tmp_path / "picture.jpg")
    ffmpeg(*sources, *cover, tmp_path / "cover.mp4")
    said["cover.mp4"] = "sound alone"
    (tmp_path / "empty.mp4").write_bytes(b"")
    said["empty.mp4"] = "it is empty"
    (tmp_path / "text.mp4").write_text("hello")
    said["text.mp4"] = "no video"
    data = clips.content("h264.mp4").replace(b"avc1", b"xyzw")
    (tmp_path / "codec.mp4").write_bytes(data)
    data = clips.content("h264.avi").replace(b"H264", b"XYZW")
    (tmp_path / "codec.avi").write_bytes(data)
    said["codec.mp4"] = said["codec.avi"] = "no decoder"
    return [(tmp_path / name, sentence) for name, sentence in said.items()]


def test_what_is_no_video_is_called_what_it_is(impostors):
    for path, sentence in impostors:
        with pytest.raises(SourceError, match=f"{path.name} .*{sentence}"):
            read(path)


def test_a_list_of_other_files_is_not_followed(tmp_path):
    clip = write(tmp_path, "h264_open.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n"
    for name, text in (
        ("list.mp4", playlist),
        ("concat.mp4", f"ffconcat version 1.0\nfile {clip.name}\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(SourceError, match="cannot be opened as a video"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["co:lon %d.mp4", "cl\udce9p.mp4", "-i.mp4"])
def test_a_video_of_any_name(name, tmp_path):
    path = write(tmp_path, "h264.mp4").rename(tmp_path / name)

    frames, events = read(path)

    assert not events
    assert len(frames) == FRAMES
