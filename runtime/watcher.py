"""What looks at the scores of a stream as they come, beside the sinks that keep them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from adae_edge.contract import Calibration
from adae_edge.runtime.frame import Event, Scored


class Watcher(ABC):
    """Sees each result before the sinks do, and tells what it makes of several.

    Attributes:
        wants_light: whether it reads ``Scored.light``, which is not measured otherwise.
    """

    wants_light = False

    @abstractmethod
    def watch(self, scored: Scored) -> tuple[Scored, Sequence[Event]]:
        """Take note of a result.

        Returns:
            The result with what is now known of its source, and what is to be told behind it.
        """

    def recalibrate(self, calibration: Calibration) -> Sequence[Event]:
        """Go on with the calibration of a reloaded model; returns the events that follow."""
        return ()
