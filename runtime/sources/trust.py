"""Which frames of a video can be trusted, packet by packet; it knows no decoder."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.runtime.frame import Whole


class Shown(NamedTuple):
    """A frame that was decoded whole.

    Attributes:
        number: of the frame from 0, lost ones counted.
        seconds: from the start of the recording until it is shown; None where the file does not
            say.
        pixels: uint8 [H, W, 3], RGB, turned as the file says.
        full: height and width before it was shrunk; None where it was not.
        interlaced: whether its lines are of two moments.
        whole: the way to its pixels before it was shrunk, as in ``Frame``.
    """

    number: int
    seconds: float | None
    pixels: NDArray[np.uint8]
    full: tuple[int, int] | None
    interlaced: bool
    whole: Whole | None = None


class Missing(NamedTuple):
    """Frames that are not given.

    Attributes:
        frames: how many, 1 at least.
        reason: why, as the end of a sentence that begins with the file's name.
        failed: whether something is wrong with the file, or nobody could show these frames.
    """

    frames: int
    reason: str
    failed: bool = True


class Trust:
    """Which frames can be trusted, and why the others cannot.

    Positions are those of packets, which are in the order of decoding; frames are asked for in the
    order of showing.

    Attributes:
        cut: what the container said when it could not be read on, or "".
        begun: whether the decoder has given a frame.
    """

    def __init__(self) -> None:
        self.cut = ""
        self.begun = False
        self._reason = ""
        self._first: int | None = None  # position of the first damage since the last key frame
        self._last = 0
        self._waiting: dict[int, int] = {}  # when the packets without a frame so far are shown
        self._lost: set[int] = set()
        self._keys: set[int] = set()
        self._start: int | None = None  # when the first key frame is shown
        self._leading: set[int] = set()  # packets that are shown before it
        self._unshown: set[int] = set()  # those of them that cannot be decoded

    def meet(self, position: int, packet: Any) -> None:
        """Look at a packet before it is decoded."""
        time = packet.dts if packet.pts is None else packet.pts
        if packet.size and not packet.is_discard:
            self._waiting[position] = -1 if time is None else time
        if packet.is_keyframe:
            if not self._keys:
                self._start = time
            self._keys.add(position)
        elif not (self._keys or self.begun) or (
            None not in (time, self._start) and time < self._start
        ):
            self._leading.add(position)

    def damage(self, position: int, reason: str) -> None:
        """Note damage at a packet."""
        if position in self._leading:
            self._unshown.add(position)
            self._waiting.pop(position, None)
            return
        if self._first is None:
            self._first, self._reason = position, reason
        self._first, self._last = min(self._first, position), max(self._last, position)

    @property
    def early(self) -> int:
        """How many frames are shown before the first key frame, and rest on what is not there."""
        return len(self._unshown)

    def is_settled(self, frame: Any) -> bool:
        """Whether a frame is one of these, or was counted as lost."""
        position = _position(frame)
        return position in self._unshown or position in self._lost

    @property
    def lost(self) -> int:
        """How many frames are lost that ``lost_before`` did not count."""
        return 0 if self._first is None else len(self._waiting)

    def lost_before(self, frame: Any) -> int:
        """How many frames were to be shown before this one and never came, each counted once.

        In a sound stream such packets hold the second field of a frame, or what is never shown.
        """
        self._waiting.pop(_position(frame), None)
        if frame.pts is None:
            return 0
        passed = [position for position, time in self._waiting.items() if time < frame.pts]
        for position in passed:
            del self._waiting[position]
        if self._first is None:
            return 0
        self._lost.update(passed)
        return len(passed)

    def covers(self, frame: Any) -> bool:
        """Whether a frame is whole and rests on whole ones."""
        position = _position(frame)
        if self._first is None or 0 <= position < self._first:
            return True
        if position > self._last and (frame.key_frame or self._recovers(frame)):
            self._first = None
            return True
        return False

    def _recovers(self, frame: Any) -> bool:
        """Whether a frame is a recovery point of H.264, which rests on no other either."""
        return _position(frame) in self._keys and frame.pict_type.name == "I"

    def damaged(self, end: int, count: int) -> Missing:
        """The ``count`` frames before the frame ``end``."""
        first = end - count
        which = f"frame {first}" if count == 1 else f"frames {first} to {end - 1}"
        rest = "" if count == 1 else ", and the others may rest on it"
        return Missing(count, f"has damaged frames, and {which} not scored: {self._reason}{rest}")


def _position(frame: Any) -> int:
    """The position of the packet that gave a frame; -1 where it does not say so."""
    opaque = frame.opaque
    return int(opaque[0]) if opaque else -1


def refusal(container: Any, videos: list[Any], piped: bool) -> str:
    """Why what was opened is not read as a video, or ""."""
    name = container.format.name
    if (name.endswith("_pipe") or name == "image2") and not piped:
        return "is a picture and no video: give it the ending of a picture"
    if not videos:
        return "holds no video" + (", but sound alone" if container.streams.audio else "")
    if videos[0].codec_context is None:
        return "is a video for whose codec PyAV has no decoder: convert it, to H.264 for example"
    return ""
