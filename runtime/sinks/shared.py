"""One sink behind several streams, each of which hands it results in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.sink import Kept, Sink


class Shared(Sink):
    """Has one thread at a time call a sink, which stays as it is."""

    def __init__(self, sink: Sink) -> None:
        """
        Args:
            sink: what is shared; whoever opened it closes it.
        """
        self._sink, self._turn = sink, threading.Lock()
        self.wants, self.shows, self.name = sink.wants, sink.shows, sink.name

    @property
    def waiting(self) -> int:
        """How many results wait, of all streams."""
        return self._sink.waiting

    @property
    def lacks(self) -> int:
        """How many results were dropped, of all streams."""
        return self._sink.lacks

    def write(self, scored: Scored) -> None:
        """Keep one result."""
        with self._turn:
            self._sink.write(scored)

    def event(self, event: Event) -> None:
        """Take note of an event."""
        with self._turn:
            self._sink.event(event)

    def ended(self, opened: str) -> None:
        """Let go of what is held for a source."""
        with self._turn:
            self._sink.ended(opened)

    def flush(self) -> None:
        """Keep now what was held back."""
        with self._turn:
            self._sink.flush()

    def news(self) -> Sequence[str]:
        """Sentences on what became of it, each of which one of the streams tells."""
        with self._turn:
            return self._sink.news()

    def drain(self) -> None:
        """Wait until nothing waits; others may hand on meanwhile."""
        self._sink.drain()

    def kept(self) -> Iterator[Kept] | None:
        """The rows that are kept already."""
        return self._sink.kept()
