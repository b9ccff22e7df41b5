"""Cameras and video files, through OpenCV: the one file that needs the [camera] extra."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError, MissingExtra, SourceError
from adae_edge.frames import check_size
from adae_edge.runtime.sources import Frame

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
try:
    import cv2
except ImportError:
    raise MissingExtra("Reading a camera or a video", "camera") from None

SILENCE_S = 10.0


class Video:
    """A video file: every frame once, in order."""

    live = False

    def __init__(self, path: Path) -> None:
        try:
            str(path).encode()
        except UnicodeEncodeError:  # OpenCV 5.0 crashes on such a name
            raise SourceError(f"{path} cannot be opened as a video: its name is not UTF-8, rename it") from None
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise SourceError(
                f"{path} cannot be opened as a video: it is damaged, or of a kind that OpenCV cannot decode"
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
                f"{self._path} declares {declared} frames and ended after {number}: it is cut short or damaged"
            )


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
                    self._fresh.wait_for(lambda: self._frame is not None or self._over, self._silence_s)
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


def rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """OpenCV's BGR or grey picture -> uint8 [H, W, C], RGB or grey.

    Raises:
        FrameError: the picture is too large.
    """
    check_size(pixels.shape[0], pixels.shape[1], "a frame")
    if pixels.ndim == 2:
        return pixels[:, :, None]
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
