"""Sources of frames: image files and folders, DICOM files, video files, a camera.

A source yields frames in order. A file that cannot be decoded is yielded as the FrameError that says
why, so that the others are still scored. Files give every frame; a camera gives the newest one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.frames import IMAGE_SUFFIXES, decode_image, is_dicom

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


@dataclass(frozen=True)
class Frame:
    """One frame and where it came from.

    Attributes:
        source: the file's path, or camera:N.
        id: number of the frame in its source from 0, or the SOP instance UID of a DICOM file.
        time: when it was captured or decoded, seconds since 1970, UTC.
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB); may be read-only.
    """

    source: str
    id: int | str
    time: float
    pixels: NDArray[np.uint8]


class Source(Protocol):
    """Yields frames; ``live`` says whether it waits for time to pass, as a camera does."""

    live: bool

    def __iter__(self) -> Iterator[Frame | FrameError]: ...


def open_source(spec: str, window: tuple[float, float] | None = None) -> Source:
    """Open a source by its name on the command line.

    Args:
        spec: a path of an image, a DICOM file, a video or a folder of images and DICOM files; or a
            camera, "camera:0" or "0".
        window: centre and width for DICOM files, in place of their own.

    Raises:
        UsageError: there is no such path, or it may not be read.
        SourceError: the camera or the video cannot be opened.
        MissingExtra: the package that this source needs is not installed.
    """
    if not spec:
        raise UsageError("the source is empty: give a file, a folder or camera:0")
    number = spec.removeprefix("camera:")
    if number.isdecimal():
        from adae_edge.runtime.capture import Camera

        return Camera(int(number))
    path = Path(spec)
    try:
        if path.is_dir():
            return Files(sorted(file for file in path.rglob("*") if file.is_file() and _scorable(file)), spec, window)
        if not path.is_file():
            raise UsageError(f"there is no source {spec}: give a file, a folder or camera:0")
    except OSError as error:
        raise UsageError(f"{spec} cannot be opened: {error.strerror}") from None
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from adae_edge.runtime.capture import Video

        return Video(path)
    return Files([path], spec, window)


class Files:
    """Image and DICOM files, each frame once, in order of path."""

    live = False

    def __init__(self, paths: list[Path], spec: str, window: tuple[float, float] | None = None) -> None:
        if not paths:
            raise SourceError(f"there are no images and no DICOM files in {spec}")
        self._paths = paths
        self._window = window

    def __iter__(self) -> Iterator[Frame | FrameError]:
        for path in self._paths:
            try:
                if is_dicom(path):
                    from adae_edge.dicom import Window, decode_dicom

                    window = Window(*self._window) if self._window else None
                    for uid, pixels in decode_dicom(path, window):
                        yield Frame(str(path), uid, time.time(), pixels)
                else:
                    yield Frame(str(path), 0, time.time(), decode_image(path))
            except FrameError as error:
                yield error


def _scorable(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)
