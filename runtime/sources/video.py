"""Video files, decoded by OpenCV."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from adae_edge.errors import SourceError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.opencv import cv2, rgb
from adae_edge.runtime.sources.source import Source, Wanted, failure

_log = logging.getLogger(__name__)


class Video(Source):
    """A video file: every frame once, in order."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of the file.
            wanted: the frames that the model takes.

        Raises:
            UsageError: other frames are wanted.
            SourceError: the file cannot be opened as a video.
        """
        wanted.check_pictures(place)
        try:
            place.encode()
        except UnicodeEncodeError as error:  # OpenCV 5.0 crashes on such a name
            raise SourceError(
                f"{place} cannot be opened as a video: its name is not UTF-8, rename it"
            ) from error
        self._path = place
        self._capture = cv2.VideoCapture(place)
        if not self._capture.isOpened():
            raise SourceError(
                f"{place} cannot be opened as a video: it is damaged, or of a kind that OpenCV "
                "cannot decode"
            )

    def __iter__(self) -> Iterator[Frame | Event]:
        """Every frame, and a failure at the end of a file that is cut short."""
        declared = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        _log.info("%s declares %d frames", self._path, declared)
        number = 0
        try:
            while True:
                captured, pixels = self._capture.read()
                if not captured:
                    break
                yield Frame(self._path, number, time.time(), rgb(pixels))
                number += 1
        finally:
            self.close()
        # Containers may count a frame or two too many, but not more.
        if number == 0 or number < declared - 2:
            yield failure(
                self._path,
                f"{self._path} declares {declared} frames and ended after {number}: it is cut "
                "short or damaged",
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()


SOURCE = Video
