"""Pictures from a spool: each instance is scored at once; its series ends when it is complete.

Where a sink makes something of whole series, the instances of a series are let go of together,
after its end; otherwise each when its results are kept, for a series may go on for ever.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from adae_edge.decoding.instances import Origin
from adae_edge.decoding.rules import DICOM
from adae_edge.decoding.workers import Answer
from adae_edge.errors import FrameError, NoPicture
from adae_edge.runtime.dicom.series import Growing
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.ends import instance_of
from adae_edge.runtime.sources.source import failure
from adae_edge.runtime.sources.spooled import Item, Spooled, part_of


class SpooledPictures(Spooled):
    """Gives the frames of an instance at once."""

    def __init__(self, *arguments: Any) -> None:
        """Take what ``Spooled`` does."""
        super().__init__(*arguments)
        self._counting = threading.Lock()
        self._open = defaultdict[str, set[str]](set)  # places of a series that are not kept

    def take(self, names: list[str]) -> Iterator[Item]:
        """The frames of new instances; decoding is asked for ahead, so no process waits."""
        asked: deque[tuple[str, Answer]] = deque()
        for name in names:
            while asked and not self.workers.has_room:
                yield from self._take(*asked.popleft())
            if not self.goes_on():
                return
            if (path := self.claimed(name)) is not None:
                asked.append((name, self.workers.frames(path, self.wanted.window)))
        while asked:
            yield from self._take(*asked.popleft())

    def end(self, series: Growing, sign: str) -> Iterator[Item]:
        """The end of a series, all of whose instances were given."""
        self.journals.decide(series, sign)
        yield from self.give(series)

    def give(self, series: Growing) -> Iterator[Item]:
        """The end of a series, whose instances were given as they came.

        Those that were let go of before are given again, if a sink makes something of all.
        """
        series.given = True
        names = series.newest if self.wanted.collected else []
        again = [name for name in names if self.spool.is_done(name)]
        places = {self.place_of(series), *map(self.place, again)}
        account = self.account(partial(self._let_go, series, self.place_of(series)), *places)
        self._begin(series, self.place_of(series))
        items = chain(*map(self._again, again), [self.event(series)])
        yield from self.through(items, account)

    def _take(self, name: str, answer: Answer) -> Iterator[Item]:
        """The frames of an instance, and what is to be told of it."""
        yield from self.noted(name, "both are scored")
        account = self.account(partial(self._kept, name), self.place(name))
        yield from self.through(self._items(name, answer), account)

    def _items(self, name: str, answer: Answer) -> Iterator[Item]:
        """The frames of an instance whose results are not kept yet, and failures of others."""
        origins: list[Origin] = []
        try:
            for origin, item in self._frames(name, answer):
                origins.append(origin)
                if item is not None:
                    yield item
        except NoPicture:
            self.left_out["without a picture"] += 1
        except FrameError as error:
            yield failure(self.place(name), self.shown(error))
        if origins and origins[0].series and self.goes_on():
            part = part_of(origins[0], len(origins))
            self._begin(self.journals.add(origins[0].series, name, part), name)

    def _frames(self, name: str, answer: Answer) -> Iterator[tuple[Origin, Item | None]]:
        """The origin of each frame, and the frame unless its result is kept."""
        place, dataset = self.place(name), partial(self.dataset, Path(name))
        for origin, pixels in answer:
            self.check(name, origin)
            if isinstance(pixels, FrameError):
                yield origin, failure(place, self.shown(pixels))
            elif self.wanted.done(place, origin.id):
                yield origin, None
            else:
                instance = instance_of(origin, dataset)
                now = time.time()
                frame = Frame(place, origin.id, now, pixels, decoding=DICOM, instance=instance)
                yield origin, frame

    def _again(self, name: str) -> Iterator[Item]:
        """The frames of an instance that was let go of."""
        try:
            answer = self.workers.frames(self.spool.find(name), self.wanted.window)
            yield from (item for _, item in self._frames(name, answer) if item is not None)
        except FrameError as error:
            yield failure(self.place(name), self.shown(error))

    def _begin(self, series: Growing, what: str) -> None:
        """Take note that results of an instance of a series, or its event, are not kept yet."""
        with self._counting:
            self._open[series.uid].add(what)

    def _kept(self, name: str) -> None:
        """Let go of an instance whose results are kept, or of its series if it is the last."""
        series = self.journals.of.get(name)
        if series is None or not self.wanted.collected:
            self.spool.settle(name)
        if series is not None:
            self._let_go(series, name)

    def _let_go(self, series: Growing, what: str) -> None:
        """Let go of a series that has ended, unless others of its results are open."""
        with self._counting:
            self._open[series.uid].discard(what)
            is_last = not self._open[series.uid]
            if is_last:
                del self._open[series.uid]
        if is_last and series.given and not series.kept:
            self.settled(series)
