"""Sound videos of many codecs and containers, and what ffmpeg makes of damaged ones."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import AdaeEdgeError, FrameError
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video

Frame = NDArray[Any]

FRAMES, WIDTH, HEIGHT = 40, 96, 80
_X264 = ("libx264", "-g", "12")
# A codec's name for ffmpeg and its options, by the clip's file name.
CLIPS = {
    "h264.mp4": _X264,
    "h264_b.mkv": ("libx264", "-g", "20", "-bf", "3"),
    "h264_slices.mp4": (*_X264, "-x264-params", "slices=4:cabac=0"),
    "h264_open.ts": ("libx264", "-x264-params", "open-gop=1:keyint=12:bframes=3"),
    "h264.avi": (*_X264, "-bf", "0"),
    "h264_10_bits.mp4": (*_X264, "-pix_fmt", "yuv420p10le"),
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
    "ffv1.mkv": ("ffv1", "-level", "3", "-slicecrc", "1", "-g", "5", "-pix_fmt", "yuv420p"),
    "theora.ogv": ("libtheora", "-g", "12", "-q:v", "6"),
    "prores.mov": ("prores_ks", "-pix_fmt", "yuv422p10le"),
}
_DEEP = ("h264_10_bits.mp4", "prores.mov")  # whose luma ffmpeg would round in another way
_PEER_S = 20


def ffmpeg(*arguments: object, content: bytes | None = None, check: bool = True) -> bytes:
    """What ffmpeg writes to its standard output, on one thread and without a word.

    Raises:
        AdaeEdgeError: it is not installed.
        CalledProcessError: it failed, where that is checked.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AdaeEdgeError("there is no ffmpeg: apt-get install ffmpeg")
    command = [program, "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-threads", "1"]
    if content is not None:
        command.remove("-nostdin")
    command += [str(argument) for argument in arguments]
    ran = subprocess.run(  # noqa: S603
        command, input=content, capture_output=True, check=check, timeout=_PEER_S
    )
    return ran.stdout


@functools.cache
def clip(name: str) -> bytes:
    """The bytes of a clip of 40 moving, noisy frames of 96 x 80, one of ``CLIPS``."""
    codec, *options = CLIPS[name]
    if "-pix_fmt" not in options:
        options += ["-pix_fmt", "yuv420p"]
    size = f"{WIDTH}x{HEIGHT}"
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", 25, "-i", "-")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        ffmpeg(*raw, "-c:v", codec, *options, "-threads", "1", path, content=_pictures())
        return path.read_bytes()


def _pictures() -> bytes:
    """Forty frames of a coarse pattern with some noise, over which a light field moves."""
    random = np.random.default_rng(5)
    fields = random.integers(20, 200, (10, 12, 3)).repeat(8, axis=0).repeat(8, axis=1)
    frames = fields + random.normal(0, 6, (FRAMES, HEIGHT, WIDTH, 3))
    for number, frame in enumerate(frames):
        frame[20:50, number : number + 25] += (60, 40, -20)
    return frames.clip(0, 255).astype(np.uint8).tobytes()


def write_sound(folder: Path) -> list[Path]:
    """Write sound videos in 21 forms, in order of name."""
    for name in CLIPS.keys() - _DEEP:
        (folder / name).write_bytes(clip(name))
    return sorted(folder.iterdir())


def mended(data: bytes) -> bytes:
    """The bytes as they are: what is damaged in a video shows."""
    return data


def decode(path: Path) -> Sequence[Frame]:
    """The frames of a video that are scored, or the refusal if there is none."""
    items = list(Video(str(path), Wanted()))
    frames = [item.pixels for item in items if not isinstance(item, Event)]
    if not frames:
        raise FrameError("; ".join(item.detail for item in items if isinstance(item, Event)))
    return frames


def judge(path: Path, frames: Sequence[Frame]) -> tuple[str, str]:
    """Whether ffmpeg shows all of these frames, in this order, by their luma."""
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        return "no peer", "ffmpeg gives frames of one size"
    ((height, width),) = sizes
    luma = ffmpeg(
        *("-noautorotate", "-i", path, "-map", "0:v:0", "-vf", "extractplanes=y"),
        *("-vsync", "passthrough", "-f", "rawvideo", "-"),
        check=False,
    )
    if not luma or len(luma) % (height * width):
        return "no peer", "ffmpeg does not read it"
    shown = np.frombuffer(luma, np.uint8).reshape(-1, height, width)
    number = 0
    for frame in frames:
        while number < len(shown) and not _is_close(frame, shown[number]):
            number += 1
        if number == len(shown):
            return "differs", "ffmpeg"
    return "equal", "ffmpeg"


def _is_close(frame: Frame, luma: Frame) -> bool:
    """Whether a frame has this luma, of the full or of the limited range, but for a pixel in 100.

    Where a colour is cut off at 0 or 255, nothing is known of it.
    """
    ours = frame @ np.array([0.299, 0.587, 0.114])
    known = (frame.min(axis=2) > 0) & (frame.max(axis=2) < 255)
    wide = (luma.astype(float) - 16) * 255 / 219
    for theirs in (wide, luma):
        if (np.abs(ours - theirs)[known] > 3).mean() < 0.01 or not known.any():
            return True
    return False
