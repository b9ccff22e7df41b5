"""When the frames of a live stream were captured."""

from __future__ import annotations

from typing import NamedTuple

_AGREES_S = 10.0
_WINDOW_S = 30.0
_OLD_S = 1.0
_FASTER = 1.5


class Moment(NamedTuple):
    """When a frame was captured.

    Attributes:
        time: in seconds of the clock that ``Clock.moment`` was given.
        old: whether it waited on the way for over a second, and newer ones follow at once.
    """

    time: float
    old: bool


class Clock:
    """Tells when frames were captured, from the times in their stream and their arrival.

    A sender's clock counts where it is about right. Otherwise the smallest delay of the last half
    minute or so, between a frame's time in the stream and its arrival, is taken for none.
    """

    def __init__(self) -> None:
        self._stream = self._arrived = 0.0
        self._least: list[float] = []  # of the window that is over and of the one that is not
        self._window_ends = 0.0
        self._behind = False  # whether frames that waited come now, faster than they were captured

    def moment(self, stream: float | None, offset: float | None, arrived: float) -> Moment:
        """When a frame was captured.

        Args:
            stream: its time in the stream, in seconds; None where the stream has no times.
            offset: what makes of that the sender's time, as this clock would show it; None if
                unknown.
            arrived: when it came, in seconds of a clock that nobody sets.
        """
        if stream is None and not self._least:
            return Moment(arrived, old=False)
        if stream is None:  # a frame without a time among others: that of the one before
            stream = self._stream
        moved, passed = stream - self._stream, arrived - self._arrived
        least = self._least_delay(stream, arrived)
        self._stream, self._arrived = stream, arrived
        late = arrived - stream - least > _OLD_S
        if late and (moved > _FASTER * passed or passed - moved > _OLD_S):
            self._behind = True
        elif moved or not late:  # at the pace of time, the way has become longer
            self._behind = False
        old = late and self._behind
        if offset is not None and abs(least - offset) < _AGREES_S:
            return Moment(min(stream + offset, arrived), old)
        return Moment(stream + least, old)

    def _least_delay(self, stream: float, arrived: float) -> float:
        """The smallest of the delays from the stream's times to arrival, this one included."""
        delay = arrived - stream
        restarted = stream < self._stream or arrived < self._arrived
        if restarted or not self._least:
            self._least, self._window_ends = [delay], arrived + _WINDOW_S
        elif arrived > self._window_ends:
            self._least, self._window_ends = [self._least[-1], delay], arrived + _WINDOW_S
        else:
            self._least[-1] = min(self._least[-1], delay)
        return min(self._least)
