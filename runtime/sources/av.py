"""PyAV for sources: the frames of a video file, and what its demuxer and its decoder say of them.

The decoder conceals nothing that it notices (``err_detect``). After a damaged frame no other one is
taken until the next key frame, because it may rest on the damaged one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from adae_edge.contract import MAX_SIDE
from adae_edge.decoding.rules import VIDEO, rule_of
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import FrameError, SourceError, first_line
from adae_edge.extras import needs
from adae_edge.interface import check_size
from adae_edge.runtime.sources.clock import Clock
from adae_edge.runtime.sources.complaints import NO_FAULTS, WAYS_OUT, complaints, words_of
from adae_edge.runtime.sources.containers import CONTAINERS, STREAMED, STREAMS, UNTIMED
from adae_edge.runtime.sources.conversion import Conversion
from adae_edge.runtime.sources.live import SILENCE_S, Capture, Captured, Gap
from adae_edge.runtime.sources.pipe import Pipe, rest
from adae_edge.runtime.sources.trust import Missing, Shown, Trust, refusal
from adae_edge.stopwatch import stage

with needs("Reading a video", "camera"):
    import av
    import av.logging
    from av.stream import Disposition

# What FFmpeg prints is captured where it matters, and goes nowhere else.
av.logging.set_level(av.logging.WARNING)
av.logging.set_skip_repeated(False)
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False

# A decoder refuses what it could patch up. One thread, so that its words belong to one packet.
_DECODER = {
    "err_detect": "crccheck+bitstream+buffer+explode",
    "max_pixels": str(MAX_SIDE**2),
    "threads": "1",
}
_TIMES_S = 10.0, SILENCE_S  # to open, and to read
_DATA = {"format_whitelist": "data", "raw_packet_size": "65536"}
DEVICE = "v4l2"  # the form of a camera's driver

_Result = TypeVar("_Result")


class Recording:
    """An opened video file, or a stream that comes through a pipe.

    Attributes:
        streams: how many video streams it has; the first one is read.
    """

    def __init__(
        self, path: str, shrinking: Shrinking | None = None, pipe: Pipe | None = None
    ) -> None:
        """
        Args:
            path: of the file, or what to call the stream.
            shrinking: how far its frames are shrunk; None leaves them whole.
            pipe: where the stream comes from, in place of a file.

        Raises:
            SourceError: it is no video, or one that cannot be decoded.
        """
        self._container, self._said = _open(path, pipe)
        self._pipe = pipe
        videos = [
            stream
            for stream in self._container.streams.video
            if Disposition.attached_pic not in stream.disposition
        ]
        reason = refusal(self._container, videos, pipe is not None)
        if reason:
            self.close()
            raise SourceError(f"{path} {reason}")
        self.streams = len(videos)
        self._stream = videos[0]
        self._decoder = _careful(self._stream.codec_context)
        self._decoder.copy_opaque = True
        self._conversion = Conversion(shrinking)
        self._start: float | None = None

    def __iter__(self) -> Iterator[Shown | Missing]:
        """The frames in the order in which they are shown."""
        trust = Trust()
        trust.cut = self._said
        number, damaged, told = 0, 0, False
        for frame in self._decoded(trust):
            if trust.is_settled(frame):
                continue
            early = trust.lost_before(frame)
            number, damaged = number + early, damaged + early
            if not trust.covers(frame):
                number, damaged = number + 1, damaged + 1
                continue
            if damaged:
                yield trust.damaged(number, damaged)
                damaged, told = 0, True
            try:
                yield self._shown(number, frame)
            except (FrameError, av.FFmpegError, ValueError) as error:
                yield Missing(1, f"cannot give frame {number}: {first_line(error)}")
                told = True
            number += 1
        if damaged := damaged + trust.lost:
            yield trust.damaged(number + trust.lost, damaged)
        elif trust.cut and not told:
            yield Missing(
                1, f"ended after {number} frames, and is cut short or damaged: {trust.cut}"
            )
        elif not number:
            yield Missing(1, "gives no frame at all: it is cut short or damaged")
        if trust.early and number:
            reason = f"begins with {trust.early} frames that rest on what was cut away before them"
            yield Missing(trust.early, reason, failed=False)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._container.close()

    def _decoded(self, trust: Trust) -> Iterator[Any]:
        """Every frame that the decoder gives, told to ``trust`` packet by packet."""
        take, end = partial(next, self._container.demux(self._stream), None), 0
        for position in range(2**63):
            try:
                with stage("grab"):
                    packet, said = _listening(take)
            except av.FFmpegError as error:
                trust.cut = words_of(error)
                packet, said = None, []
            if packet is not None and packet.pos is not None:
                end = packet.pos + packet.size
            elif packet is None:
                said += rest(self._container.format.name, self._pipe, end)
            trust.cut = trust.cut or "".join(said[:1])
            frames = self._frames_of(packet, position, trust)
            yield from frames
            if packet is None:
                return

    def _frames_of(self, packet: Any | None, position: int, trust: Trust) -> list[Any]:
        """Decode one packet, or with None what the decoder still holds."""
        if packet is not None:
            packet.opaque = [position]  # of its own: PyAV knows it by its address
            trust.meet(position, packet)
        decode: Callable[[], list[Any]] = partial(self._decoder.decode, packet)
        try:
            with stage("decode"):
                frames, said = _listening(decode)
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            trust.damage(position, words_of(error))
            return []
        if packet is not None and packet.is_corrupt:
            said = [*said, "its packet is damaged"]
        trust.begun = trust.begun or bool(frames)
        patched = [frame for frame in frames if frame.is_corrupt]
        said += ["it is patched up" for _ in patched]
        if said:
            trust.damage(position, said[0])
        for frame in patched:
            if frame.opaque:
                trust.damage(frame.opaque[0], said[0])
        return frames

    def _shown(self, number: int, frame: Any) -> Shown:
        check_size(frame.height, frame.width, f"frame {number}")
        pixels, full = self._conversion.rgb(frame)
        seconds, whole = self._seconds(number, frame), self._conversion.whole(frame)
        return Shown(number, seconds, pixels, full, frame.interlaced_frame, whole)

    def _seconds(self, number: int, frame: Any) -> float | None:
        """Seconds from the container's start, as a player shows them."""
        pictures = self._container.format.name.endswith("_pipe")  # PyAV supposes 25 a second
        if frame.pts is None or frame.time is None or pictures:
            return None
        if self._start is None:
            self._start = (self._container.start_time or 0) / av.time_base
            rate = self._stream.average_rate
            if self._container.format.name == "avi" and rate:
                self._start = frame.time - float(number / rate)  # it counts from the first packet
        return float(frame.time) - self._start


class Reception(Capture):
    """A live stream. Nothing is given after a loss until the next key frame."""

    def __init__(
        self,
        place: Any,
        options: Mapping[str, str],
        shrinking: Shrinking | None = None,
        form: str | None = None,
        hide: Callable[[str], str] = str,
    ) -> None:
        """
        Args:
            place: a URL, a device, or a file object to read from.
            options: of FFmpeg.
            shrinking: how far frames are shrunk; None leaves them whole.
            form: FFmpeg's name of the format; None where the stream says it.
            hide: takes the password out of a message.
        """
        self._place, self._form, self._hide = place, form, hide
        self._options = dict(options)
        self._conversion = Conversion(shrinking)
        self._clock = Clock()
        self._container: Any = None
        self._ready: deque[Captured | Gap] = deque()
        self._whole = False  # whether a key frame came, and nothing was lost since
        self._lost, self._why = 0, ""

    def open(self) -> None:
        """Open it; raises SourceError with the reason."""
        # What came meanwhile is left out as too old, but each frame of a triggered camera counts.
        options = self._options if self.patient else {"fflags": "nobuffer", **self._options}
        try:
            self._container = self._opened(self._place, self._form, options)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise SourceError(f"cannot be opened: {self._reason(error)}") from None
        videos = self._container.streams.video
        if not videos or videos[0].codec_context is None:
            raise SourceError("cannot be opened: it sends no video that can be decoded")
        self._packets = self._container.demux(videos[0])
        self._decoder = _careful(videos[0].codec_context)
        self._timed = self._container.format.name not in UNTIMED

    def read(self) -> Captured | Gap | None:
        """The next frame or gap; None at the end, when what the decoder still holds is old."""
        while not self._ready:
            try:
                packet, said = _listening(lambda: next(self._packets, None), av.logging.WARNING)
            except (av.FFmpegError, OSError) as error:
                raise SourceError(f"went away: {self._reason(error)}") from None
            if packet is None or not (packet.size or self._form == DEVICE):
                return None
            self.heard = time.monotonic()
            if not packet.size:  # what a driver marked as damaged
                self._miss("the camera marked a frame as damaged")
            else:
                missed = [line for line in said if "missed" in line]
                self._decode(self._own(packet), self.heard, missed)
        return self._ready.popleft()

    def close(self) -> None:
        """Let go of the connection; a second call does nothing."""
        self._packets = None  # the last of them may lie in memory that goes away
        if self._container is not None:
            self._container.close()

    def pieces(self, url: str) -> Generator[bytes, None, None]:
        """The bytes behind a URL, as they come; raises SourceError where they fail to."""
        doing = "cannot be opened"
        try:
            with self._opened(url, "data", {**self._options, **_DATA}) as container:
                doing, self.heard = "went away", time.monotonic()
                yield from (bytes(packet) for packet in container.demux() if packet.size)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise SourceError(f"{doing}: {self._reason(error)}") from None

    def _opened(self, place: Any, form: str | None, options: dict[str, str]) -> Any:
        """What PyAV opens, and how long that and each read may take."""
        times: Any = _TIMES_S
        if self.patient:  # it may say nothing for long, but over a network it answers
            times = (_TIMES_S[0], None) if "://" in str(place) else None
        return av.open(place, format=form, options=options, timeout=times)

    def _own(self, packet: Any) -> Any:
        """The packet, copied where it lies in a driver's memory, which goes with the device.

        A frame that outlived its device would crash the process.
        """
        if self._form != DEVICE:
            return packet
        copy = av.Packet(bytes(packet))
        copy.pts, copy.time_base = packet.pts, packet.time_base
        copy.is_keyframe = packet.is_keyframe
        return copy

    def _miss(self, why: str) -> None:
        """Take note of a frame that was lost: nothing is given until the next key frame."""
        if self._whole:
            self._whole, self._why = False, why
        if self._why:
            self._lost += 1

    def _decode(self, packet: Any, arrived: float, missed: list[str]) -> None:
        """Decode one packet, and keep the frames that rest on nothing lost.

        Args:
            packet: as it came.
            arrived: when, by ``time.monotonic``, which nobody sets.
            missed: what FFmpeg said of packets before it.
        """
        try:
            with stage("decode"):
                frames, said = _listening(lambda: list(self._decoder.decode(packet)))
        except av.FFmpegError as error:
            frames, said = [], [words_of(error)]
        said = missed + said
        if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
            said.append("it is damaged")
        if said and self._whole:
            self._whole, self._why = False, said[0]
        if said and self._why and not frames:
            self._lost += 1
        for frame in frames:
            if not self._whole and frame.key_frame and not said:
                if self._lost:
                    reason = (
                        f"lost frames on the way, and scores go on with a key frame: {self._why}"
                    )
                    self._ready.append(Gap(self._lost, self._hide(reason)))
                self._whole, self._lost = True, 0
            if self._whole:
                self._ready.append(self._captured(frame, arrived))
            elif self._why:
                self._lost += 1

    def _captured(self, frame: Any, arrived: float) -> Captured:
        check_size(frame.height, frame.width, "a frame")
        seconds = float(frame.time) if self._timed and frame.time is not None else None
        pixels, full = self._conversion.rgb(frame)
        rule, whole = rule_of(VIDEO, shrunk=full is not None), self._conversion.whole(frame)
        day = time.time() - time.monotonic()  # a clock that is set moves this alone
        offset = self._container.start_time_realtime
        if self._form == DEVICE:  # a driver has the same clock
            offset = 0.0
        elif offset is not None:
            offset = offset / 1e6 - day
        moment = self._clock.moment(seconds, offset, arrived)
        return Captured(pixels, moment.time + day, full, rule, seconds, moment.old, whole)

    def _reason(self, error: Any) -> str:
        """Why FFmpeg gave up, in a few words without the URL."""
        if isinstance(error, av.ExitError):
            return "it does not answer"
        if way_out := WAYS_OUT.get(getattr(error, "errno", 0)):
            return way_out
        # FFmpeg's own sentence would name the address, and the log the URL.
        return self._hide(getattr(error, "strerror", None) or first_line(error))


def _open(path: str, pipe: Pipe | None) -> tuple[Any, str]:
    """Open a file or a pipe and nothing else: no protocol, and no other file that it names.

    Returns:
        The container, and what it complains of, or "".
    """
    place: Any = f"file:{path}" if pipe is None else pipe
    protocols, formats = ("file", CONTAINERS) if pipe is None else ("none", STREAMED)
    try:
        options = {"protocol_whitelist": protocols, "format_whitelist": formats}
        with av.logging.Capture() as said:
            container = av.open(place, options=options)
        named = (
            text.strip()
            for level, name, text in said
            if name == container.format.name and level <= av.logging.ERROR
        )
        return container, next(named, "")
    except (av.FFmpegError, ValueError, UnicodeError, OSError) as error:
        if pipe is None:
            empty = Path(path).is_file() and Path(path).stat().st_size == 0
            reason = NO_FAULTS.get(getattr(error, "errno", 0)) or "it is no video, or a damaged one"
        else:
            empty, reason = not pipe.received, f"it is no such stream; {STREAMS} are"
        sentence = f"{path} cannot be opened as a video: {'it is empty' if empty else reason}"
        # The cause would quote a URL with its password.
        raise SourceError(sentence) from (None if "://" in path else error)


def _careful(decoder: Any) -> Any:
    """The decoder, which from here on conceals nothing that it notices."""
    decoder.options = _DECODER
    decoder.thread_count = 1
    if decoder.name == "h264":
        av.logging.set_level(av.logging.DEBUG)  # at which it tells of frames that were left out
    return decoder


def _listening(
    work: Callable[[], _Result], most: int = av.logging.ERROR
) -> tuple[_Result, list[str]]:
    """Do some work, and hear what FFmpeg complains of meanwhile, up to a level."""
    with av.logging.Capture() as said:
        result = work()
    return result, complaints(said, most) if said else []
