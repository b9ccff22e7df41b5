"""A video on the standard input."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator

from adae_edge.errors import SourceError, UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.av import Recording
from adae_edge.runtime.sources.containers import STREAMS
from adae_edge.runtime.sources.pipe import Pipe
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video

NAME = "the standard input"
_HOW = f"pipe a video into it, as in ffmpeg -i VIDEO -f nut - | ...; {STREAMS} are read"


class StandardInput(Video):
    """A stream on the standard input: every frame once, in the order in which they are shown."""

    moved_s = math.inf

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "-", or "".
            wanted: the frames that the model takes.

        Raises:
            UsageError: the standard input is closed or a terminal, or other frames are wanted.
            SourceError: what comes there is no stream of pictures.
        """
        wanted.check_pictures(NAME)
        if place not in ("", "-"):
            raise UsageError(f"there is no source stdin:{place}: - is {NAME}")
        if sys.stdin is None:
            raise UsageError(f"{NAME} is closed: {_HOW}")
        if os.isatty(0):
            raise UsageError(f"{NAME} is a terminal: {_HOW}")
        self._path, self._called, self._done = "-", NAME, wanted.done
        self._pipe = Pipe(0)
        self._recording = Recording(NAME, wanted.shrinking, self._pipe)

    def __iter__(self) -> Iterator[Frame | Event]:
        """Every frame that is whole; what comes after ``stop`` is no failure.

        Raises:
            SourceError: it was read before.
        """
        if self._spent:
            raise SourceError(f"{NAME} can be read once, and here it is read again: give a file")
        self._spent = True
        for item in super().__iter__():
            if self._stopping:
                return
            yield item

    _spent = False

    def stop(self) -> None:
        """Ask the source to end soon, also while it waits for bytes."""
        super().stop()
        self._pipe.stop()


SOURCE = StandardInput
