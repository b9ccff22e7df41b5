"""Where a series of DICOM ends: the instances of frames, and the events of series."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from adae_edge.decoding.instances import Origin
from adae_edge.runtime.frame import Event, Instance, SeriesEnd


def instance_of(origin: Origin, dataset: Callable[[], Any]) -> Instance | None:
    """The instance of a frame; None where its file names no series by sound UIDs."""
    if not (origin.study and origin.series):
        return None
    uids = origin.study, origin.series, origin.sop_class, origin.sop_instance
    return Instance(*uids, origin.number, dataset)


def series_event(source: str, end: SeriesEnd) -> Event:
    """The event of a series all of whose frames were given."""
    detail = f"series {end.uid} is complete ({end.complete}): {end.slices} slices"
    if end.revision > 1:
        detail += f"; revision {end.revision} replaces revision {end.revision - 1}"
    return Event(source, time.time(), "series", detail, end.slices, series=end)


class Ends:
    """Counts the frames of each series, and tells its end where nothing more can come."""

    def __init__(self) -> None:
        self._frames: Counter[str] = Counter()

    def add(self, origin: Origin, frames: int = 1) -> None:
        """Count frames of the series that an instance names, if it does."""
        if origin.series:
            self._frames[origin.series] += frames

    def has(self, origin: Origin) -> bool:
        """Whether frames of the instance's series were counted since the last events."""
        return origin.series in self._frames

    def events(self, source: str, complete: str, rule: str = "") -> Iterator[Event]:
        """The end of each series that was counted, in the order in which they began."""
        frames, self._frames = self._frames, Counter()
        for uid, count in frames.items():
            yield series_event(source, SeriesEnd(uid, complete, 1, count, rule))
