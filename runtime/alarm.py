"""An alarm for each source: it begins where anomalous frames accumulate, and ends with hysteresis.

One anomalous frame may be a fly on the lens, and one normal frame between anomalous ones is no end.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adae_edge.errors import UsageError
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.watcher import Watcher

_RULE = re.compile(r"([0-9]{1,4})/([0-9]{1,4})")


@dataclass
class _Watched:
    """What is known of a source.

    Attributes:
        last: whether each of the last frames is anomalous.
        count: how many of them are.
        on: whether there is an alarm.
        frames: how many frames it has lasted.
        anomalous: how many of them were, and those before by which it began.
        worst: the result with the highest score of it.
    """

    last: deque[bool]
    count: int = 0
    on: bool = False
    frames: int = 0
    anomalous: int = 0
    worst: Scored | None = None


class Alarm(Watcher):
    """Begins where at least K of a source's last N frames are anomalous; "K/N" is its rule.

    It ends where fewer than half of K are, so that a rate near K/N does not end and begin it at
    every frame. Frames that could not be scored, or got no verdict, do not count.
    """

    def __init__(self, rule: str) -> None:
        """
        Args:
            rule: "K/N", whole numbers, 1 <= K <= N <= 9999.

        Raises:
            UsageError: it is no such rule.
        """
        found = _RULE.fullmatch(rule)
        self._least, self._of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= self._least <= self._of:
            raise UsageError(
                f"--alarm takes K/N, as 3/10 for 3 of the last 10 frames, and not {rule}"
            )
        self._sources: dict[str, _Watched] = {}

    def watch(self, scored: Scored) -> tuple[Scored, Sequence[Event]]:
        """Count a result; an event of the kind "alarm" where the alarm of its source changes."""
        source = self._sources.setdefault(scored.opened, _Watched(deque(maxlen=self._of)))
        if scored.verdict == "uncalibrated":
            return replace(scored, alarm=source.on), []
        anomalous = scored.verdict == "anomalous"
        if len(source.last) == self._of:
            source.count -= source.last[0]
        source.last.append(anomalous)
        source.count += anomalous

        events = []
        if source.on:
            _take(source, scored, anomalous)
            if 2 * source.count < self._least:
                source.on = False
                events.append(_event(scored, _end(source), source.anomalous, over=True))
        elif anomalous and source.count >= self._least:
            source.on, source.worst = True, scored
            source.frames, source.anomalous = 1, source.count
            events.append(_event(scored, _beginning(source, scored), source.count))
        return replace(scored, alarm=source.on), events


def _take(source: _Watched, scored: Scored, anomalous: bool) -> None:
    """Count a result of an alarm that is on."""
    source.frames += 1
    source.anomalous += anomalous
    if source.worst is None or scored.score > source.worst.score:
        source.worst = scored


def _beginning(source: _Watched, scored: Scored) -> str:
    return (
        f"raises an alarm: {_share(source)}; {_which(scored)} has the score {scored.score:.4f}, "
        f"above {scored.threshold:.4f}"
    )


def _end(source: _Watched) -> str:
    assert source.worst is not None
    lasted = "1 frame" if source.frames == 1 else f"{source.frames} frames"
    return (
        f"has no alarm any more: {_share(source)}; it lasted {lasted}, and the highest score was "
        f"{source.worst.score:.4f}, of {_which(source.worst)}"
    )


def _share(source: _Watched) -> str:
    are = "is" if source.count == 1 else "are"
    return f"{source.count} of its last {len(source.last)} frames {are} anomalous"


def _which(scored: Scored) -> str:
    """The frame: its number where the source is named already."""
    frame = scored.frame
    return f"frame {frame.id}" if frame.source == scored.name else frame.place


def _event(scored: Scored, what: str, frames: int, over: bool = False) -> Event:
    detail = f"{scored.name} {what}"
    time = scored.frame.time
    return Event(scored.name, time, "alarm", detail, frames, over, scored.opened)
