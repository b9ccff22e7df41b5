"""Each anomalous frame as two files: a picture for people, and the frame itself.

DIR/review/TIME_SOURCE_FRAME.jpg    the frame beside itself with its map and boxes
DIR/frames/TIME_SOURCE_FRAME.png    its pixels, for calibrate and train
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from simplejpeg import encode_jpeg

from adae_edge.errors import AdaeEdgeError, FrameError, SinkError, UsageError
from adae_edge.formats.files import write_atomically
from adae_edge.formats.png import encode_png
from adae_edge.runtime.drawing import pair
from adae_edge.runtime.frame import Scored
from adae_edge.runtime.query import bytes_of, options_of
from adae_edge.runtime.ring import Ring, free, locked, stem_of
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, MAP, PIXELS, ROWS, Keeping, Place, Sink

LIMIT = 10**9
_QUALITY = 90
_LEFT = re.compile(r"\.\d{8}T\d{6}\.\d{3}Z_[A-Za-z0-9_-]+\.(jpg|png)\.\d+\.tmp")


class Pictures(Sink):
    """A folder of anomalous frames under a limit on the disk: the oldest go first.

    Every file is whole: it gets its name once it is on the disk.
    """

    wants, shows = frozenset({PIXELS, MAP, BOXES}), ANOMALOUS
    keeps_rows = False

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: the folder, which is made if it is not there, and options as in "DIR?limit=1GB".
            keeping: of rows, which are none here.

        Raises:
            UsageError: an option is wrong, or the folder cannot be there.
            SinkError: it cannot be written.
        """
        folder, self._limit = _folder_and_limit(place)
        self._review, self._frames = Path(folder, "review"), Path(folder, "frames")
        self._places = {self._review: ".jpg", self._frames: ".png"}
        try:
            for part in self._places:
                part.parent.mkdir(exist_ok=True)
                part.mkdir(exist_ok=True)
            self._ring = Ring(self._places, self._limit)
            self._lock: int | None = locked(self._review)
            for part in self._places:
                for left in filter(lambda path: _LEFT.fullmatch(path.name), part.iterdir()):
                    left.unlink(missing_ok=True)  # of a process that was killed
        except BlockingIOError as error:
            raise SinkError(
                f"another run saves its pictures in {folder}: give each a folder of its own"
            ) from error
        except OSError as error:
            raise SinkError(f"cannot write {folder}: {error.strerror}") from error

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the option or the folder."""
        _folder_and_limit(place)

    @classmethod
    def where(cls, place: str) -> Place:
        """As of a file, with the options behind it."""
        name, _, query = place.partition("?")
        return super().where(name)._replace(manner=query)

    @classmethod
    def pictures(cls, place: str) -> Path:
        """Its folder."""
        return Path(place.partition("?")[0])

    def write(self, scored: Scored) -> None:
        """Save an anomalous frame; a slice, which no picture can hold, for review alone."""
        if scored.verdict != "anomalous":
            return
        try:
            files = {self._review: encode_jpeg(pair(scored), _QUALITY, "RGB", "420")}
            if scored.frame.pixels.dtype == np.uint8:
                files[self._frames] = encode_png(scored.frame.picture())
        except FrameError as error:
            raise SinkError(f"{scored.frame.place} cannot be saved: {error}") from error
        source = "/".join(Path(scored.frame.source).parts[-2:])
        stem = free(self._places, stem_of(scored, source, scored.frame.id))
        size = sum(map(len, files.values()))
        if size > self._limit:
            raise SinkError(f"a picture of {size} bytes is above the limit of {self._limit}")
        try:
            self._ring.make_room(size)
            for folder, data in files.items():
                write_atomically(folder / f"{stem}{self._places[folder]}", data)
        except OSError as error:
            raise SinkError(f"cannot make room in {self._review}: {error.strerror}") from error
        except AdaeEdgeError as error:
            (self._review / f"{stem}.jpg").unlink(missing_ok=True)
            raise SinkError(str(error)) from error
        self._ring.add(stem, size)

    def close(self) -> None:
        """Leave the folder to others; a second call does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _folder_and_limit(place: str) -> tuple[Path, int]:
    """The folder, which is there or can be made, and its limit in bytes."""
    name, _, query = place.partition("?")
    options = options_of(f"pictures:{place}", query, {"limit": bytes_of})
    if not name:
        raise UsageError(f"pictures:{place} has no folder: give pictures:DIR")
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"cannot write {folder}: it is there, and no folder")
    if not folder.parent.is_dir():
        raise UsageError(f"cannot write {folder}: there is no folder {folder.parent}")
    return folder, options.get("limit", LIMIT)


SINK = Pictures
