"""Tells sources which of their results every sink keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.sink import Listener
from adae_edge.runtime.sources.source import Source


class Receipts(Listener):
    """The last of a stream's sinks, and the last one to be closed: it tells what the others keep.

    What one of them lacks is told to no source, which finds it again when it is opened anew.
    """

    def __init__(self, sources: Sequence[Source], all_keep: Callable[[], bool]) -> None:
        """
        Args:
            sources: those that answer for their frames.
            all_keep: whether no sink fails or holds results back now.
        """
        super().__init__(lambda event: None)
        self._sources, self._all_keep = sources, all_keep
        self._handed, self._flushed = Counter[str](), Counter[str]()

    def write(self, scored: Scored) -> None:
        """Count a result."""
        self._count(scored.frame.source)

    def event(self, event: Event) -> None:
        """Count a frame that has no result, and the end of a series."""
        if event.kind in ("failure", "series"):
            self._count(event.source)

    def flush(self) -> None:
        """Tell of what was handed over before the last call: by now it is on the disk.

        A sink that put its rows on the disk within the last second waits with the newer ones.
        """
        if self._all_keep():
            self._tell(self._flushed)
            self._handed, self._flushed = Counter(), self._handed

    def close(self) -> None:
        """Tell of the rest; a second call does nothing."""
        if self._all_keep():
            self._tell(self._flushed + self._handed)
        self._handed, self._flushed = Counter(), Counter()

    def _tell(self, results: Counter[str]) -> None:
        for source in self._sources if results else ():
            source.settle(results)

    def _count(self, source: str) -> None:
        if self._all_keep():
            self._handed[source] += 1
