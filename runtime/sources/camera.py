"""Cameras, read by OpenCV."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.opencv import cv2, rgb
from adae_edge.runtime.sources.source import Source, Wanted

SILENCE_S = 10.0
_LOOK_S = 0.1  # how often a waiting consumer looks whether it was stopped
_log = logging.getLogger(__name__)


class Newest(Source):
    """A capture that is read in a thread of its own: always its newest frame, and none twice.

    Frame numbers count every captured frame.
    """

    live = True

    def __init__(self, capture: Any, name: str, silence_s: float = SILENCE_S) -> None:
        """
        Args:
            capture: an opened cv2.VideoCapture.
            name: of the source, for frames and messages.
            silence_s: seconds without a frame after which the source counts as gone.
        """
        self._capture = capture
        self._name = name
        self._silence_s = silence_s
        self._fresh = threading.Condition()
        self._frame: Frame | None = None
        self._over = False
        self._reason = "is it still connected?"

    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames until the consumer stops.

        Raises:
            SourceError: the camera gave no frame, or none for ``silence_s`` seconds.
        """
        thread = threading.Thread(target=self._read, name=self._name, daemon=True)
        thread.start()
        try:
            while (frame := self._next()) is not None:
                yield frame
        finally:
            self._over = True
            thread.join(timeout=2)

    def _next(self) -> Frame | None:
        """Wait for a frame that was not given yet; None once the consumer has stopped."""
        until = time.monotonic() + self._silence_s
        while not self._stopping:
            left = until - time.monotonic()
            with self._fresh:
                self._fresh.wait_for(
                    lambda: self._frame is not None or self._over, max(0.0, min(left, _LOOK_S))
                )
                frame, self._frame = self._frame, None
                over = self._over
            if frame is not None:
                return frame
            if over:
                raise SourceError(f"{self._name} gives no more frames: {self._reason}")
            if left <= 0:
                raise SourceError(f"{self._name} gave no frame for {self._silence_s:g} seconds")
        return None

    def _read(self) -> None:
        """Read the capture to its end, keeping the newest frame."""
        number = 0
        try:
            while not self._over:
                captured, pixels = self._capture.read()
                if not captured:
                    break
                frame = Frame(self._name, number, time.time(), rgb(pixels))
                number += 1
                with self._fresh:
                    self._frame = frame
                    self._fresh.notify()
        except (FrameError, cv2.error) as error:
            self._reason = str(error).splitlines()[0]
        finally:
            _log.info("%s: the capture ended after %d frames", self._name, number)
            with self._fresh:
                self._over = True
                self._fresh.notify()
            self._capture.release()


class Camera(Newest):
    """A camera by its number."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: the camera's number.
            wanted: the frames that the model takes.

        Raises:
            UsageError: it is no number, or other frames are wanted.
            SourceError: there is no such camera, or it is in use.
        """
        wanted.check_pictures(f"camera:{place}")
        if not place.isdecimal():
            raise UsageError(f"there is no camera {place}: give its number, as in camera:0")
        try:
            capture = cv2.VideoCapture(int(place))
        except cv2.error:  # a number beyond every camera's
            capture = cv2.VideoCapture()
        if not capture.isOpened():
            raise SourceError(f"there is no camera {place}, or another program is using it")
        super().__init__(capture, f"camera:{place}")

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()


SOURCE = Camera
