"""Records normal frames from any source as PNG files, for training and calibration."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adae_edge.errors import SourceError, UsageError
from adae_edge.formats.files import check_writable, write_atomically
from adae_edge.formats.png import encode_png
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.opening import reads_from
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Source
from adae_edge.runtime.weeding import weeding_page

DEFAULT_FRAMES = 1000
DEFAULT_EVERY_S = 1.0
PAGE = "contact-sheet.html"
_SMALL = 16  # pixels of a side, by which odd frames are found
_log = logging.getLogger(__name__)


@dataclass
class Recorded:
    """What became of a recording.

    Attributes:
        folder: where the frames are.
        sizes: how many frames were written of each height and width.
        copies: how many frames were left out because they equal the one before.
        failures: how many could not be decoded.
    """

    folder: Path
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    copies: int = 0
    failures: int = 0

    @property
    def frames(self) -> int:
        """How many frames were written."""
        return self.sizes.total()

    @property
    def page(self) -> Path:
        """The contact sheet of all frames in the folder, the oddest first."""
        return self.folder / PAGE


def record(
    spec: str,
    folder: Path,
    frames: int = DEFAULT_FRAMES,
    every: float = DEFAULT_EVERY_S,
    told: Callable[[Event], object] = lambda event: None,
    started: Callable[[Source], object] = lambda source: None,
) -> Recorded:
    """Write frames of a source as PNG files, lossless and in full size, and a contact sheet.

    Files are numbered from where those of the folder end, and none is replaced. Of a camera or a
    video one frame is taken ``every`` so many seconds, because neighbours are nearly one frame; of
    pictures every one is. A frame that equals the one before is left out, as a frozen camera gives.

    Args:
        spec: of the source, as for ``open_source``.
        folder: where they go; it is made if it is not there.
        frames: how many are written at most.
        every: seconds from one frame to the next.
        told: called with each event of the source.
        started: called with the source before it is read, so that it can be stopped.

    Raises:
        UsageError: the folder cannot be made or lies in the source, or as ``open_source``.
        SourceError: no frame was recorded, or the source went away; what was written stays.
        WriteError: the disk is full, or the folder is read-only; as before.
    """
    check_writable(folder, folder=True)
    done = Recorded(folder)
    with open_source(spec) as source:
        if source.endless and reads_from([spec], folder):
            raise UsageError(f"{folder} is a part of {spec}: record into another folder")
        started(source)
        number = max((int(path.stem) for path in _recorded(folder)), default=0)
        before: NDArray[np.generic] | None = None
        try:
            for frame in _spaced(_decoded(source, done, told), every, source.live):
                if before is not None and np.array_equal(before, frame.pixels):
                    done.copies += 1
                    continue
                _make(folder)
                before, number = frame.pixels, number + 1
                write_atomically(folder / f"{number:06}.png", encode_png(frame.pixels))
                done.sizes[frame.size] += 1
                if done.frames == frames:
                    break
        finally:
            if done.frames:
                write_atomically(done.page, weeding_page(_oddest_first(_recorded(folder))))
    if not done.frames:
        raise SourceError(f"{source.name} gave no frame to record")
    return done


def _make(folder: Path) -> None:
    """Make a folder where there is none."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}") from error


def _decoded(source: Source, done: Recorded, told: Callable[[Event], object]) -> Iterator[Frame]:
    """The frames of a source; its events are told."""
    for item in source:
        if isinstance(item, Frame):
            yield item
        else:
            told(item)
            done.failures += item.frames * (item.kind == "failure")


def _spaced(frames: Iterator[Frame], every: float, live: bool) -> Iterator[Frame]:
    """The frames that lie at least so many seconds apart, and all that lie in no time."""
    last = -float("inf")
    for frame in frames:
        seconds = frame.time if live else frame.video_time
        if seconds is None or not last <= seconds < last + every:  # a clock may be set back
            last = last if seconds is None else seconds
            yield frame


def _recorded(folder: Path) -> list[Path]:
    """The frames of a folder that were recorded, in order."""
    return sorted(
        (path for path in folder.glob("*.png") if path.stem.isdecimal()),
        key=lambda path: int(path.stem),
    )


def _oddest_first(paths: list[Path]) -> list[Path]:
    """The pictures, those first whose small grey pixels lie farthest from the median picture's."""
    small = np.stack([_small(path) for path in paths])
    oddness = np.abs(small - np.median(small, axis=0)).mean(axis=(1, 2))
    return [paths[place] for place in np.argsort(-oddness, kind="stable")]


def _small(path: Path) -> NDArray[np.float32]:
    """A picture's grey values, float32 [16, 16]; all 0 where it is damaged."""
    try:
        with Image.open(path) as image:
            grey = image.convert("L").resize((_SMALL, _SMALL), Image.Resampling.BOX)
            return np.asarray(grey, np.float32)
    except OSError as error:
        _log.warning("%s cannot be read: %s", path, error)
        return np.zeros((_SMALL, _SMALL), np.float32)
