"""Image and DICOM files, one by one or in folders."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from adae_edge.decoding.images import decode_image
from adae_edge.decoding.kinds import IMAGE_SUFFIXES, is_dicom
from adae_edge.decoding.rules import DICOM, PICTURES
from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.source import Source, Wanted, failure

_log = logging.getLogger(__name__)


class Files(Source):
    """Image and DICOM files, each frame once, in order of path."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of a file, or of a folder with images and DICOM files at any depth.
            wanted: the frames that the model takes; its window is for DICOM files.

        Raises:
            UsageError: there is no such path, or other frames are wanted.
            SourceError: the folder holds no such files.
        """
        wanted.check_pictures(place)
        self._window = wanted.window
        path = Path(place)
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file())
            self._paths = sorted(file for file in files if _is_scorable(file))
        elif path.is_file():
            self._paths = [path]
        else:
            raise UsageError(f"there is no source {place}: give a file, a folder or camera:0")
        _log.info("%d files in %s", len(self._paths), place)
        if not self._paths:
            raise SourceError(f"there are no images and no DICOM files in {place}")

    def __iter__(self) -> Iterator[Frame | Event]:
        """Each frame of each file, or the failure of a file that cannot be decoded."""
        for path in self._paths:
            try:
                yield from self._frames(path)
            except FrameError as error:
                yield failure(str(path), error)

    def _frames(self, path: Path) -> Iterator[Frame]:
        if not is_dicom(path):
            yield Frame(str(path), 0, time.time(), decode_image(path), decoding=PICTURES)
            return
        from adae_edge.decoding.dicom import decode_dicom

        for uid, pixels in decode_dicom(path, self._window):
            yield Frame(str(path), uid, time.time(), pixels, decoding=DICOM)


def _is_scorable(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)


SOURCE = Files
