"""Videos that ffmpeg writes, and what happens to such files."""

import functools
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np

from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video
from tests.support.peers import peer

# A codec's name for ffmpeg and its options, by the clip's file name.
X264 = ("libx264", "-g", "12")
KINDS = {
    "h264.mp4": X264,
    "h264_b.mkv": ("libx264", "-g", "20", "-bf", "3"),
    "h264_slices.mp4": (*X264, "-x264-params", "slices=4:cabac=0"),
    "h264_open.ts": ("libx264", "-x264-params", "open-gop=1:keyint=12:bframes=3"),
    "h264.avi": (*X264, "-bf", "0"),
    "h264_10_bits.mp4": (*X264, "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": ("libx265", "-g", "12", "-x265-params", "log-level=none"),
    "hevc.mkv": ("libx265", "-x265-params", "log-level=none:keyint=12:open-gop=1"),
    "mpeg4.mp4": ("mpeg4", "-g", "12", "-q:v", "4"),
    "mpeg4_b.avi": ("mpeg4", "-g", "12", "-bf", "2", "-q:v", "4"),
    "xvid.avi": ("libxvid", "-g", "12", "-q:v", "4"),
    "mjpeg.avi": ("mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"),
    "mjpeg.mkv": ("mjpeg", "-q:v", "4", "-pix_fmt", "yuvj422p"),
    "mpeg2.mpg": ("mpeg2video", "-g", "12", "-bf", "2", "-q:v", "4"),
    "mpeg2.ts": ("mpeg2video", "-g", "12", "-q:v", "4"),
    "vp8.webm": ("libvpx", "-g", "12", "-b:v", "400k"),
    "vp9.webm": ("libvpx-vp9", "-g", "12", "-b:v", "400k", "-cpu-used", "8"),
    "vp9.mp4": ("libvpx-vp9", "-g", "12", "-b:v", "400k", "-cpu-used", "8"),
    "av1.mp4": ("libaom-av1", "-g", "12", "-crf", "30", "-cpu-used", "8"),
    "av1.mkv": ("libaom-av1", "-g", "12", "-crf", "30", "-cpu-used", "8"),
    "ffv1.mkv": ("ffv1", "-level", "3", "-slicecrc", "1", "-g", "5"),
    "theora.ogv": ("libtheora", "-g", "12", "-q:v", "6"),
    "prores.mov": ("prores_ks",),
}
FRAMES = 40


def ffmpeg(*arguments, **options):
    """Run ffmpeg on one thread, silently."""
    quiet = [peer("ffmpeg"), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
    command = [*quiet, "-threads", "1", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, **options)


@functools.cache
def content(name):
    """The bytes of a clip of 40 moving, noisy frames of 96 x 80, one of ``KINDS``."""
    codec, *options = KINDS[name]
    if "-pix_fmt" not in options and codec not in ("prores_ks", "ffv1"):
        options += ["-pix_fmt", "yuv420p"]
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x80", "-framerate", "25", "-i", "-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        ffmpeg(*raw, "-c:v", codec, *options, "-threads", "1", path, input=_pictures())
        return path.read_bytes()


def _pictures():
    """Forty frames of a coarse pattern with some noise, over which a light field moves."""
    random = np.random.default_rng(5)
    fields = random.integers(20, 200, (10, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
    frames = fields + random.normal(0, 6, (FRAMES, 80, 96, 3))
    for number, frame in enumerate(frames):
        frame[20:50, number : number + 25] += (60, 40, -20)
    return frames.clip(0, 255).astype(np.uint8).tobytes()


def write(folder, name):
    """Write a clip, one of ``KINDS``, into a folder."""
    path = folder / name
    path.write_bytes(content(name))
    return path


def read(path):
    """The frames that a video gives, and the events between them."""
    items = list(Video(str(path), Wanted()))
    events = [item for item in items if isinstance(item, Event)]
    return [item for item in items if not isinstance(item, Event)], events


def damage(path, number, seed=0):
    """Change the bytes of one packet, in the order of the file, from its middle on."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        sizes = [(packet.pos, packet.size) for packet in packets]
    data = bytearray(path.read_bytes())
    start, size = sizes[number]
    half = size // 2
    noise = np.random.default_rng(seed).integers(0, 256, half, np.uint8).tobytes()
    data[start + size - half : start + size] = noise
    path.write_bytes(data)
