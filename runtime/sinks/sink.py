"""What every sink of results is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from adae_edge.runtime.frame import Event, Scored

if TYPE_CHECKING:
    from typing import Self

PIXELS, MAP, BOXES = "pixels", "map", "boxes"


class Sink(ABC):
    """Keeps results, or tells somebody; a context manager.

    Attributes:
        wants: what ``write`` reads beside the score: ``PIXELS`` of the frame, the anomaly ``MAP``,
            or the ``BOXES`` of its regions where the model tells them. What no sink wants is not
            computed, and a sink that does not want pixels gets frames without them, so that it may
            hold results back.
        name: as it was opened on the command line; otherwise what it is called to people.
    """

    wants: frozenset[str] = frozenset()
    name = "a sink"

    @abstractmethod
    def write(self, scored: Scored) -> None:
        """Keep one result; raises SinkError where that fails."""

    def event(self, event: Event) -> None:
        """Take note of what happened between two results; does nothing unless a sink says more."""

    def close(self) -> None:
        """Finish; what was written is kept afterwards. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Listener(Sink):
    """A sink that keeps no results and hands every event to a function."""

    def __init__(self, told: Callable[[Event], object]) -> None:
        """
        Args:
            told: called with each event; what it raises ends the stream.
        """
        self._told = told

    def write(self, scored: Scored) -> None:
        """Keep nothing."""

    def event(self, event: Event) -> None:
        """Hand the event on."""
        self._told(event)
