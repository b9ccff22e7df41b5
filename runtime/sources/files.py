"""Image and DICOM files, one by one or in folders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from adae_edge.decoding.images import IMAGE_SUFFIXES, decode_image, is_dicom
from adae_edge.errors import FrameError, SourceError
from adae_edge.runtime.frame import Frame


class Files:
    """Image and DICOM files, each frame once, in order of path."""

    live = False

    def __init__(
        self, paths: list[Path], spec: str, window: tuple[float, float] | None = None
    ) -> None:
        if not paths:
            raise SourceError(f"there are no images and no DICOM files in {spec}")
        self._paths = paths
        self._window = window

    def __iter__(self) -> Iterator[Frame | FrameError]:
        for path in self._paths:
            try:
                if is_dicom(path):
                    from adae_edge.decoding.dicom import Window, decode_dicom

                    window = Window(*self._window) if self._window else None
                    for uid, pixels in decode_dicom(path, window):
                        yield Frame(str(path), uid, time.time(), pixels)
                else:
                    yield Frame(str(path), 0, time.time(), decode_image(path))
            except FrameError as error:
                yield error


def is_scorable(path: Path) -> bool:
    """Whether a file of a folder is scored: an image by its name, or a DICOM file by its first bytes or name."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)
