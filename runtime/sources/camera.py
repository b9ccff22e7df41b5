"""Cameras, read by OpenCV."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from adae_edge.errors import FrameError, SourceError
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.opencv import cv2, rgb

SILENCE_S = 10.0


class Camera:
    """A camera: always the newest frame, and none twice. Frame numbers count every captured frame."""

    live = True

    def __init__(self, index: int) -> None:
        try:
            capture = cv2.VideoCapture(index)
        except cv2.error:  # a number beyond every camera's
            capture = cv2.VideoCapture()
        if not capture.isOpened():
            raise SourceError(f"there is no camera {index}, or another program is using it")
        self._newest = Newest(capture, f"camera:{index}")

    def __iter__(self) -> Iterator[Frame | FrameError]:
        return iter(self._newest)


class Newest:
    """Reads a capture in a thread of its own and hands out its newest frame."""

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

    def __iter__(self) -> Iterator[Frame | FrameError]:
        """Frames until the consumer stops.

        Raises:
            SourceError: the camera gave no frame, or none for ``silence_s`` seconds.
        """
        thread = threading.Thread(target=self._read, name=self._name, daemon=True)
        thread.start()
        try:
            while True:
                with self._fresh:
                    self._fresh.wait_for(
                        lambda: self._frame is not None or self._over, self._silence_s
                    )
                    frame, self._frame = self._frame, None
                    over = self._over
                if frame is not None:
                    yield frame
                elif over:
                    raise SourceError(f"{self._name} gives no more frames: {self._reason}")
                else:
                    raise SourceError(f"{self._name} gave no frame for {self._silence_s:g} seconds")
        finally:
            self._over = True
            thread.join(timeout=2)

    def _read(self) -> None:
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
            with self._fresh:
                self._over = True
                self._fresh.notify()
            self._capture.release()
