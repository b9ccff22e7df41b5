"""Video files, decoded by OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from adae_edge.errors import FrameError, SourceError
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.opencv import cv2, rgb


class Video:
    """A video file: every frame once, in order."""

    live = False

    def __init__(self, path: Path) -> None:
        try:
            str(path).encode()
        except UnicodeEncodeError:  # OpenCV 5.0 crashes on such a name
            raise SourceError(
                f"{path} cannot be opened as a video: its name is not UTF-8, rename it"
            ) from None
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(
                f"{path} cannot be opened as a video: it is damaged, or of a kind that OpenCV "
                "cannot decode"
            )

    def __iter__(self) -> Iterator[Frame | FrameError]:
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number = 0
        try:
            while True:
                captured, pixels = self._capture.read()
                if not captured:
                    break
                yield Frame(str(self._path), number, time.time(), rgb(pixels))
                number += 1
        finally:
            self._capture.release()
        # Containers may count a frame or two too many, but not more.
        if number == 0 or number < declared - 2:
            yield FrameError(
                f"{self._path} declares {declared} frames and ended after {number}: it is cut "
                "short or damaged"
            )
