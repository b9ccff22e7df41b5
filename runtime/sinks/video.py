"""Annotated videos, one for each source: H.264 in MP4, which browsers play.

A file is written in fragments of two seconds, each whole: what a killed process leaves can be
played, too. At the end it becomes an ordinary MP4.
"""

from __future__ import annotations

import contextlib
import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from adae_edge.decoding.rules import VIDEO
from adae_edge.errors import FrameError, SinkError, UsageError
from adae_edge.extras import needs
from adae_edge.runtime.drawing import Picture, annotated
from adae_edge.runtime.frame import Scored
from adae_edge.runtime.query import bytes_of, minutes, options_of
from adae_edge.runtime.ring import Ring, free, locked, stem_of
from adae_edge.runtime.sinks.sink import BOXES, MAP, PIXELS, ROWS, Keeping, Place, Sink

with needs("Writing a video", "camera"):
    import av
    from av.video.frame import PictureType
    from av.video.stream import VideoStream

_ERRORS = (av.FFmpegError, OSError, ValueError)
_CODEC, _SUFFIX = "libx264", ".mp4"
# Each picture is encoded at once, by one thread: the others score.
_ENCODER = {"preset": "veryfast", "tune": "zerolatency", "crf": "26"}
_MUXER = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}
_TICKS = 90_000  # in a second
_FRAGMENT_S = 2.0
_MINUTES_S = 600.0
_PARTS = 8  # files that a ring has at least
_PICTURE_S = 0.25  # for which the picture of a file is shown
# A jump in a source's times, as when a camera was away, becomes a step of one frame.
_JUMP_S, _STEP_S = 10.0, 0.04


class Video(Sink):
    """Writes every frame of each source into a video, with its score, map and boxes.

    The first file has the name that was given. Every other one has the time and the source behind
    it: of another source, of frames of another size, of the next part, or where such a file is
    there. With a limit all have, and the oldest are removed. No other run may have the same name.
    """

    wants = frozenset({PIXELS, MAP, BOXES})
    keeps_rows = False

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: path of the file, and options as in "FILE.mp4?limit=2GB&minutes=10".
            keeping: of rows, which are none here.

        Raises:
            UsageError: an option is wrong, the file has another suffix, there is no such folder, or
                this PyAV cannot write H.264.
            SinkError: the folder cannot be read, or another run has these videos.
        """
        self._path, options = _path_and_options(place)
        self._limit = options.get("limit")
        self._part_s = options.get("minutes", _MINUTES_S if self._limit else float("inf"))
        self._files: dict[str, _File] = {}
        if _CODEC not in av.codecs_available:
            raise UsageError(
                "this build of PyAV cannot write H.264: pip install --force-reinstall av"
            )
        self._places = {self._path.parent: self._path.suffix}
        self._beginning = f"{self._path.stem}_"
        self._lock_file = self._path.with_name(f".{self._path.name}.lock")
        self._ring = None
        try:
            self._lock: int | None = locked(self._lock_file)
            if self._limit is not None:
                self._ring = Ring(self._places, self._limit, self._beginning)
        except BlockingIOError as error:
            raise SinkError(
                f"another run writes its videos to {self._path}: give each a name of its own"
            ) from error
        except OSError as error:
            raise SinkError(f"cannot write {self._path}: {error.strerror}") from error

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the options, the suffix or the folder."""
        _path_and_options(place)

    @classmethod
    def where(cls, place: str) -> Place:
        """As of a file, with the options behind it."""
        name, _, query = place.partition("?")
        return super().where(name)._replace(manner=query)

    def write(self, scored: Scored) -> None:
        """Draw a frame and append it to its source's file."""
        source = scored.opened or scored.frame.source
        try:
            picture = annotated(scored)
        except FrameError as error:
            raise SinkError(f"{scored.frame.place} cannot be shown: {error}") from error
        file = self._files.get(source)
        try:
            if file is not None and (file.size != picture.shape or self._is_full(file)):
                self._end(source)
                file = None
            if file is None:
                file = self._files[source] = _File(self._next(source, scored), picture)
            file.put(picture, scored)
            self._make_room()
        except _ERRORS as error:
            with contextlib.suppress(KeyError, *_ERRORS):
                self._give_up(source)
            raise self._failed("write", error) from error

    def ended(self, opened: str) -> None:
        """End the source's file."""
        if opened in self._files:
            try:
                self._end(opened)
            except _ERRORS as error:
                raise self._failed("end", error) from error

    def close(self) -> None:
        """End every file; a second call does nothing.

        Raises:
            SinkError: a file cannot be ended; what was written of it can be played.
        """
        failed = None
        for source in list(self._files):
            try:
                self._end(source)
            except _ERRORS as error:
                failed = error
        lock, self._lock = self._lock, None
        if lock is not None:
            self._lock_file.unlink(missing_ok=True)
            os.close(lock)
        if failed is not None:
            raise self._failed("end", failed) from failed

    def _failed(self, what: str, error: Exception) -> SinkError:
        why = getattr(error, "strerror", None) or error
        return SinkError(f"cannot {what} a video beside {self._path}: {why}")

    def _is_full(self, file: _File) -> bool:
        """Whether the next part begins."""
        parts = max(_PARTS, 2 * len(self._files))  # what is open takes half of it at most
        too_large = self._limit is not None and file.bytes > self._limit / parts
        return bool(too_large or file.seconds >= self._part_s)

    def _next(self, source: str, scored: Scored) -> Path:
        """Where the next file goes; nothing that is there is replaced."""
        if self._ring is None and not self._path.exists():
            return self._path
        named = "/".join(Path(source).parts[-2:])
        stem = free(self._places, self._beginning + stem_of(scored, named))
        return self._path.with_name(stem + self._path.suffix)

    def _give_up(self, source: str) -> None:
        """End a file that cannot be written on, and remove it if it holds no whole fragment."""
        file = self._files[source]
        if file.seconds < _FRAGMENT_S:
            file.path.unlink(missing_ok=True)
        self._end(source)

    def _end(self, source: str) -> None:
        file = self._files.pop(source)
        try:
            file.close()
        finally:
            size = file.bytes
            if self._ring is not None and size:
                self._ring.add(file.path.stem, size)
                self._make_room()
        if self._limit is not None and size > self._limit:
            why = f"a part of {size} bytes is above the limit of {self._limit}"
            raise OSError(errno.EFBIG, why)

    def _make_room(self) -> None:
        """Remove the oldest parts, so that these and the open ones are within the limit."""
        if self._ring is not None:
            self._ring.make_room(sum(open.bytes for open in self._files.values()))


class _File:
    """A video that is being written.

    Attributes:
        path: of the file.
        size: of its pictures, [H, W, 3].
        seconds: how long it is.
    """

    def __init__(self, path: Path, picture: Picture) -> None:
        self.path, self.size, self.seconds = path, picture.shape, 0.0
        self._last: float | None = None
        self._key_s = float("-inf")
        self._container = av.open(f"file:{path}", "w", format="mp4", options=_MUXER)
        stream = self._container.add_stream(_CODEC, rate=30, options=_ENCODER)
        assert isinstance(stream, VideoStream)
        self._stream = stream
        self._stream.height, self._stream.width = picture.shape[:2]
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._stream.thread_count = 1

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def put(self, picture: Picture, scored: Scored) -> None:
        """Append a picture at its time."""
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        self.seconds += self._step(scored)
        frame.pts, frame.time_base = round(self.seconds * _TICKS), Fraction(1, _TICKS)
        if self.seconds - self._key_s >= _FRAGMENT_S:
            self._key_s, frame.pict_type = self.seconds, PictureType.I
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Make an ordinary MP4 of it."""
        try:
            self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()

    def _step(self, scored: Scored) -> float:
        """Seconds since the picture before; those of files have none, and are shown for a while."""
        frame, before = scored.frame, self._last
        self._last = frame.time if frame.video_time is None else frame.video_time
        if before is None:
            return 0.0
        if frame.decoding and not frame.decoding.startswith(VIDEO):
            return _PICTURE_S
        step = self._last - before
        return step if 1e-3 <= step <= _JUMP_S else _STEP_S


def _path_and_options(place: str) -> tuple[Path, dict[str, Any]]:
    """The file's path, whose folder is there, and the options."""
    name, _, query = place.partition("?")
    options = options_of(f"video:{place}", query, {"limit": bytes_of, "minutes": minutes})
    path = Path(name)
    if path.suffix.lower() != _SUFFIX:
        raise UsageError(f"a video is written as MP4: give video:{path.stem}{_SUFFIX}")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
    return path, options


SINK = Video
