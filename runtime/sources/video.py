"""Video files, decoded by PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator

from adae_edge.decoding.rules import VIDEO, rule_of
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.av import Recording
from adae_edge.runtime.sources.source import Source, Wanted
from adae_edge.runtime.sources.trust import Missing


class Video(Source):
    """A video file: every frame once, in the order in which they are shown."""

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
        self._path = self._called = place
        self._done = wanted.done
        self._recording = Recording(place, wanted.shrinking)

    def __iter__(self) -> Iterator[Frame | Event]:
        """Every frame that is whole, and a failure in place of those that are not."""
        if self._recording.streams > 1:
            yield self._event(
                "note", f"has {self._recording.streams} video streams: the first is scored"
            )
        told = False
        try:
            for item in self._recording:
                if isinstance(item, Missing):
                    kind = "failure" if item.failed else "note"
                    yield self._event(kind, item.reason, item.frames)
                    continue
                if self._done(self._path, item.number):
                    continue
                if item.interlaced and not told:
                    told = True
                    yield self._event("note", "is interlaced: a frame's lines show two moments")
                yield Frame(
                    self._path,
                    item.number,
                    time.time(),
                    item.pixels,
                    video_time=item.seconds,
                    decoding=rule_of(VIDEO, shrunk=item.full is not None),
                    full=item.full,
                    whole=item.whole,
                )
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._recording.close()

    def _event(self, kind: str, what: str, frames: int = 1) -> Event:
        return Event(self._path, time.time(), kind, f"{self._called} {what}", frames)


SOURCE = Video
