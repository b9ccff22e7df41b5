"""Sources that wait for time to pass: their states, the watchdog, and how they are opened again.

A reader opens the camera and reads it in a thread of its own, because both can hang for ever. The
thread that iterates over the source is the watchdog. A reader that says nothing for too long is
given up, and another one is started.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import AdaeEdgeError, FrameError, first_line
from adae_edge.runtime.frame import Event, Frame, Whole
from adae_edge.runtime.sources.source import Source

PATIENCE_S = 30.0  # without a frame, though something is heard: it is lost
SILENCE_S = 5.0  # without anything: it is lost
STALL_S = 2.0  # without a frame: it is stalled
_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before each attempt to open it again
_JITTER = 0.2  # part of a pause, so that many readers do not come back at once
_HANGING = 4  # given-up readers of a source that may hang at a time
_LIVED_S = 1.0  # a connection that lasted longer is opened again at once
_LOOK_S = 0.1  # how often the watchdog looks whether it was stopped
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captured:
    """A frame as a camera gave it.

    Attributes:
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB).
        time: when it was captured, in seconds since 1970, UTC.
        full: height and width before it was shrunk; None where it was not.
        decoding: the rule by which it was decoded, or "".
        video_time: its time in the camera's stream, in seconds; None where there is none.
        whole: the way to its pixels before it was shrunk, as in ``Frame``.
        old: whether it waited on the way, and newer ones follow at once.
    """

    pixels: NDArray[np.uint8]
    time: float
    full: tuple[int, int] | None = None
    decoding: str = ""
    video_time: float | None = None
    old: bool = False
    whole: Whole | None = None


@dataclass(frozen=True)
class Gap:
    """Frames that were lost on the way.

    Attributes:
        frames: how many, as far as that is known.
        reason: the end of a sentence that begins with the camera's name.
    """

    frames: int
    reason: str


class Capture(ABC):
    """What is opened and read in a reader's thread; made anew for each attempt.

    Attributes:
        opened: whether ``open`` has come back.
        heard: when the last sign came from the other side, by ``time.monotonic``; 0 before.
        patient: whether silence is no failure.
    """

    opened = False
    heard = 0.0
    patient = False

    @abstractmethod
    def open(self) -> None:
        """Open it; raises SourceError where that fails."""

    @abstractmethod
    def read(self) -> Captured | Gap | None:
        """Wait for the next frame; None at the end.

        Raises:
            SourceError: it went away.
            FrameError: this frame cannot be given.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it; called by the thread that read it."""

    def interrupt(self) -> None:  # noqa: B027
        """End a ``read`` that hangs, if there is a way; called by another thread."""


class Live(Source):
    """A camera that is opened again whenever it goes away: its newest frame, and none twice.

    Frame numbers count every captured frame and go on when it is opened again. Each change of its
    state is an event: connecting, live, stalled, lost.
    """

    live = True

    def __init__(
        self,
        name: str,
        make: Callable[[], Capture],
        silence_s: float = SILENCE_S,
        patience_s: float = PATIENCE_S,
        stall_s: float = STALL_S,
    ) -> None:
        """
        Args:
            name: of the source, for frames and messages; without a password.
            make: makes a capture that is not open yet.
            silence_s: seconds without a sign, once it was opened, after which the camera is lost.
            patience_s: seconds without a frame after which it is lost, whatever is heard.
            stall_s: seconds without a frame after which it is stalled.
        """
        self.name = name
        self._make = make
        self._silence_s, self._patience_s, self._stall_s = silence_s, patience_s, stall_s
        self._given_up: list[_Reader] = []
        self._number = self._skipped = 0  # the next frame's, as in ``_Reader``

    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames and events, until the consumer stops or has enough."""
        failures, told = 0, ""
        yield self._event("connecting", "is being opened")
        while not self._stopping:
            before, started = self._number, time.monotonic()
            if self._hangs():
                reason = f"is not opened again: {_HANGING} attempts hang"
            else:
                reason = yield from self._follow()
            if self._stopping:
                return
            gave = self._number > before
            if gave and time.monotonic() - started > _LIVED_S:
                failures = 0
            changed = gave or not told
            if changed or reason != told:
                yield self._event("lost", reason)
            told = reason
            pause = _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]
            failures += 1
            _log.info("%s is opened again after %.1f s", self.name, pause)
            self._sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311
            if changed and not self._stopping:
                yield self._event("connecting", "is being opened again")

    def _follow(self) -> Generator[Frame | Event, None, str]:
        """Open it once and give what comes; returns why nothing comes any more."""
        capture = self._make()
        capture.patient = self.triggered
        reader = _Reader(capture, self.name, self._number, self._skipped)
        state, seen = "connecting", time.monotonic()
        try:
            reader.start()
        except RuntimeError:  # it may have one again
            return "cannot be opened: the system gives this process no more threads"
        try:
            while not self._stopping:
                gaps, frame, over = reader.take(_LOOK_S)
                for gap in gaps:
                    yield self._event("gap", gap.reason, max(1, gap.frames))
                if frame is not None:
                    seen = time.monotonic()
                    if state != "live":
                        yield self._event("live", f"gives {_shape(frame)}")
                    state = "live"
                    yield frame
                elif over is not None:
                    return over
                if self.triggered and reader.capture.heard:
                    continue
                missed = time.monotonic() - seen
                silent = time.monotonic() - max(seen, reader.capture.heard)
                if silent > self._silence_s and reader.capture.opened:
                    reader.give_up(f"was silent for {self._silence_s:g} seconds")
                elif missed > self._patience_s:
                    reader.give_up(f"gave no frame for {self._patience_s:g} seconds")
                elif state == "live" and missed > self._stall_s:
                    state = "stalled"
                    yield self._event("stalled", f"gave no frame for {self._stall_s:g} seconds")
            return ""
        finally:
            reader.give_up("is not wanted any more")
            self._number, self._skipped = reader.number, reader.untaken
            self._given_up.append(reader)

    def _hangs(self) -> bool:
        """Whether as many given-up readers still hang as are allowed."""
        self._given_up = [reader for reader in self._given_up if reader.is_alive()]
        return len(self._given_up) >= _HANGING

    def _sleep(self, seconds: float) -> None:
        """Wait, but not once the source is stopped."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))

    def _event(self, kind: str, what: str, frames: int = 1) -> Event:
        return Event(self.name, time.time(), kind, f"{self.name} {what}", frames)


class _Reader(threading.Thread):
    """Opens and reads a capture, and keeps its newest frame until that is taken.

    Attributes:
        capture: what it reads.
        number: of the next frame.
    """

    def __init__(self, capture: Capture, name: str, number: int, skipped: int = 0) -> None:
        """
        Args:
            capture: is not open yet.
            name: of the source.
            number: of the first frame.
            skipped: how many frames were skipped just before it.
        """
        super().__init__(name=name, daemon=True)  # one that hangs must not keep the process alive
        self.number = number
        self.capture = capture
        self._come = threading.Condition()
        self._frame: Frame | None = None
        self._gaps: deque[Gap] = deque()
        self._skipped = skipped
        self._over: str | None = None  # nothing comes any more, and why

    @property
    def untaken(self) -> int:
        """How many frames have a number, and were neither taken nor skipped before one that was."""
        return self._skipped + (0 if self._frame is None else self._frame.skipped + 1)

    def take(self, seconds: float) -> tuple[list[Gap], Frame | None, str | None]:
        """Wait for what came since the last call.

        Returns:
            Gaps, the newest frame or None, and why nothing comes any more; None while it may.
        """
        with self._come:
            if self._frame is None and not self._gaps and self._over is None:
                self._come.wait(seconds)
            gaps, frame = list(self._gaps), self._frame
            self._gaps.clear()
            self._frame = None
            return gaps, frame, self._over

    def give_up(self, reason: str) -> None:
        """Let nothing come any more; what came is still to be taken, and the thread ends soon."""
        self._end(reason)
        with suppress(OSError):  # it has gone meanwhile
            self.capture.interrupt()
        self.join(_LOOK_S)

    def run(self) -> None:
        """Read to the end."""
        reason = "was closed by the other side"
        try:
            self.capture.open()
            self.capture.opened, self.capture.heard = True, time.monotonic()
            while self._over is None:
                try:
                    item = self.capture.read()
                except FrameError as error:
                    item = Gap(1, f"has a frame that is not scored: {error}")
                if item is None:
                    break
                self._put(item)
        except AdaeEdgeError as error:
            reason = str(error)
        except Exception as error:  # whatever a driver's library raises is told, and tried again
            # No traceback: it might hold the URL with its password.
            reason = f"cannot be read: {type(error).__name__}, {first_line(error)}"
        finally:
            with suppress(Exception):  # what fails here was told already, or is of no use
                self.capture.close()
            self._end(reason)

    def _end(self, reason: str) -> None:
        """Let nothing come any more; the first reason counts."""
        with self._come:
            if self._over is None:
                self._over = reason
            self._come.notify()

    def _put(self, item: Captured | Gap) -> None:
        with self._come:
            if self._over is not None:
                return
            if isinstance(item, Gap):
                self._gaps.append(item)
                self._come.notify()
                return
            self.number += 1
            if item.old:
                self._skipped += 1
                return
            if self._frame is not None:
                self._skipped += self._frame.skipped + 1
            self._frame = Frame(
                self.name,
                self.number - 1,
                item.time,
                item.pixels,
                video_time=item.video_time,
                decoding=item.decoding,
                full=item.full,
                skipped=self._skipped,
                whole=item.whole,
            )
            self._skipped = 0
            self._come.notify()


def _shape(frame: Frame) -> str:
    height, width = frame.size
    return f"frames of {width} x {height} pixels"
