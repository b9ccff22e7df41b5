"""Volumes from a spool: a series is scored when it is complete, and again where more comes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from adae_edge.decoding.plane_workers import PlaneWorkers
from adae_edge.decoding.planes import File, Plane
from adae_edge.decoding.scans import Scan
from adae_edge.decoding.series import Found, find_series, read_series
from adae_edge.decoding.volumes import Values
from adae_edge.errors import FrameError, NoPicture
from adae_edge.runtime.dicom.series import Growing
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.slices import scan_frames
from adae_edge.runtime.sources.source import failure
from adae_edge.runtime.sources.spooled import Item, Spooled, part_of

_MOST_FILES = 20_000  # of a series; no volume has as many slices


class SpooledVolumes(Spooled):
    """Gives the slices of a series when it is complete."""

    def take(self, names: list[str]) -> Iterator[Item]:
        """Take up instances, and find out of which series they are."""
        paths: dict[str, Path] = {}
        for name in names:
            path = self.claimed(name)
            if path is not None and name not in self.journals.of:
                paths[name] = path
        for name, found in zip(paths, self._planes(paths.values()), strict=True):
            if not self.goes_on():
                return
            try:
                self._add(name, found)
                yield from self.noted(name, "these take their place")
            except FrameError as error:
                yield from self.refused(name, error)

    def end(self, series: Growing, sign: str) -> Iterator[Item]:
        """Give a series if it is a volume; only a silent one may also turn out to be none."""
        found = self._find(list(series.parts), series, series.revision + 1)
        if not self.goes_on():
            return
        if sign != "quiet" and (found.refused or not found.series):
            series.tried.add((sign, len(series.parts)))
            return
        if found.series:
            self.journals.decide(series, sign)
        else:
            self.journals.refuse(series, sign)
        yield from self.give(series, found)

    def give(self, series: Growing, found: Found | None = None) -> Iterator[Item]:
        """The slices of a series, why parts of it are none, and its event."""
        series.given = True
        if found is None:
            found = self._find(series.newest, series, series.revision)
        places = {self.place_of(series), *(one.name for one in found.series)}
        account = self.account(partial(self.settled, series), *places)
        yield from self.through(self._items(series, found), account)

    def _add(self, name: str, planes: list[Plane] | FrameError) -> None:
        """Take note of an instance; raises FrameError where it is of no series."""
        if isinstance(planes, FrameError):
            raise planes
        origin = planes[0].origin
        self.check(name, origin)
        if not origin.series:
            raise FrameError(f"{self.place(name)} does not say of which series it is")
        self.journals.add(origin.series, name, part_of(origin, len(planes)))

    def _find(self, names: list[str], series: Growing, revision: int) -> Found:
        """The volumes of a series; what was deleted meanwhile is a reason that there is none."""
        newest = {name.partition("-")[0]: name for name in names}
        try:
            files = [self.spool.find(name) for name in newest.values()]
        except FrameError:
            why = f"more of series {series.uid} came after a part of it was deleted"
            return Found(refused=[FrameError(why)])
        if len(files) > _MOST_FILES:
            return Found(refused=[FrameError(f"series {series.uid} has {len(files)} instances")])
        return find_series(files, self._planes, name=self.place_as(series, revision))

    def _planes(self, files: Iterable[File]) -> Iterator[list[Plane] | FrameError]:
        """What the frames of files say of themselves; reading is moving."""
        for found in PlaneWorkers(self.workers).planes(files):
            self.goes_on()
            yield found

    def _values(self, wanted: Iterable[tuple[File, list[Plane]]]) -> Iterator[Values]:
        """The values of frames of files; reading is moving."""
        for values in PlaneWorkers(self.workers).values(wanted):
            self.goes_on()
            yield values

    def _items(self, series: Growing, found: Found) -> Iterator[Item]:
        place = self.place_of(series)
        for one in found.series:
            scan = Scan(one.name, partial(read_series, one, self._values), series=one)
            for item in scan_frames(scan, self.wanted, place, self.dataset, series.complete):
                if isinstance(item, Event):
                    item = failure(place, self.shown(FrameError(item.detail)))
                yield item
        for error in found.refused:
            if isinstance(error, NoPicture):
                detail = f"{self.shown(error)}: it is left out"
                yield Event(place, time.time(), "note", detail)
            else:
                yield failure(place, self.shown(error))
        if found.series:
            yield self.event(series)
