"""Cameras by their number, read by OpenCV on every system."""

from __future__ import annotations

import re
import time

from adae_edge.errors import SourceError, UsageError, first_line
from adae_edge.runtime.sources.live import Capture, Captured, Live
from adae_edge.runtime.sources.opencv import cv2, rgb
from adae_edge.runtime.sources.source import Wanted


class Camera(Live):
    """A camera by its number; it is opened again when it was plugged out and in."""

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
        if not re.fullmatch("[0-9]{1,9}", place):
            raise UsageError(f"there is no camera {place}: give its number, as in camera:0")
        number = int(place)
        first = Numbered(number)
        try:
            first.open()
        except SourceError as error:
            raise SourceError(
                f"there is no camera {place}, or another program is using it"
            ) from error
        finally:
            first.close()
        super().__init__(f"camera:{place}", lambda: Numbered(number))


class Numbered(Capture):
    """A camera as OpenCV opens it."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._capture = cv2.VideoCapture()

    def open(self) -> None:
        """Open it; raises SourceError where that fails."""
        try:
            opened = self._capture.open(self._number)
        except cv2.error:  # a number beyond every camera's
            opened = False
        if not opened:
            raise SourceError("is not there, or another program is using it")

    def read(self) -> Captured:
        """The next frame.

        Raises:
            SourceError: the camera gives none.
            FrameError: the frame is too large.
        """
        try:
            if not self._capture.grab():
                raise SourceError("gives no more frames: is it still connected?")
            arrived = time.time()
            decoded, pixels = self._capture.retrieve()
        except cv2.error as error:
            raise SourceError(f"cannot be read: {first_line(error)}") from error
        if not decoded:
            raise SourceError("gives no more frames: is it still connected?")
        return Captured(rgb(pixels), arrived)

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()


SOURCE = Camera
