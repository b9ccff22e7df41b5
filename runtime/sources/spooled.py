"""What is common to pictures and volumes that are given from a spool of received instances."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from adae_edge.decoding.instances import Origin, dataset_of
from adae_edge.decoding.kinds import Member
from adae_edge.decoding.workers import Workers
from adae_edge.errors import FrameError, NoPicture
from adae_edge.runtime.dicom.received import JOURNALS, Received, hash_of
from adae_edge.runtime.dicom.series import Growing, Journals, Part
from adae_edge.runtime.frame import Event, Frame, SeriesEnd
from adae_edge.runtime.sources.ends import series_event
from adae_edge.runtime.sources.ledger import Account, Ledger
from adae_edge.runtime.sources.source import Wanted, failure

Item = Frame | Event


class Spooled(ABC):
    """Gives the frames of instances and of series, until every sink keeps their results.

    Attributes:
        ledger: what is given and not kept.
        goes_on: called while there is work, and says whether to go on.
        left_out: how many instances hold no frames, by what they are called.
    """

    def __init__(self, name: str, spool: Received, wanted: Wanted, workers: Workers) -> None:
        """
        Args:
            name: of the source.
            spool: where instances come.
            wanted: the frames that the model takes.
            workers: decode.
        """
        assert wanted.receiving is not None
        self.name, self.spool, self.wanted, self.workers = name, spool, wanted, workers
        self.ledger, self.left_out = Ledger(), Counter[str]()
        self.journals = Journals(spool.folder / JOURNALS)
        self.goes_on: Callable[[], bool] = lambda: True
        self._is_starting = True
        self._quiet_s = wanted.receiving.quiet
        self._path = re.compile(f"{re.escape(str(spool.folder))}/[a-z]+/([0-9a-f]+-[0-9a-f]+)")

    def items(self) -> Iterator[Item]:
        """The frames of what came since the last call, and the ends of series."""
        # what an earlier process was killed over, without what came behind it
        for series in self._broken_off():
            waiting = self.spool.waiting()
            yield from self.take([name for name in waiting if name in series.old])
            yield from self.give(series)

        # what came
        looked, lists = time.monotonic(), self.spool.commitments()
        yield from self.take(self.spool.waiting())
        self._is_starting = False
        if not self.goes_on():
            return

        # what is complete by now
        for path in lists:
            self.journals.commit(frozenset(path.read_text().split()))
            path.unlink()
        for series in [*self.journals.series.values()]:
            while series.kept and (sign := self._sign(series, looked)) and self.goes_on():
                yield from self.end(series, sign)

    @abstractmethod
    def take(self, names: list[str]) -> Iterator[Item]:
        """Take up instances, and give what can be given at once."""

    @abstractmethod
    def end(self, series: Growing, sign: str) -> Iterator[Item]:
        """What is given where a sign says that a series is complete; it may turn out to be none."""

    @abstractmethod
    def give(self, series: Growing) -> Iterator[Item]:
        """The present revision of a series up to its event."""

    def _sign(self, series: Growing, looked: float) -> str:
        """By what a series is complete; what came since the look is not taken up yet."""
        return series.sign(self._quiet_s + time.monotonic() - looked)

    def _broken_off(self) -> list[Growing]:
        """Series whose present revision was begun by an earlier process, and has no end."""
        return [one for one in self.journals.series.values() if not (one.kept or one.given)]

    def claimed(self, name: str) -> Path | None:
        """Take up a new instance; None where all its results are kept."""
        path, series = self.spool.claim(name), self.journals.of.get(name)
        if path is not None and series is not None and series.kept and name in series.old:
            if self._is_starting:  # an earlier process was killed before it settled this
                self.spool.settle(name)
                return None
            self.journals.renew(name)  # it was deleted, and came again
        return path

    def place(self, name: str) -> str:
        """What an instance is called in results."""
        return f"{self.name}/{name.partition('-')[2]}"

    def place_of(self, series: Growing) -> str:
        """What the present revision of a series is called in results."""
        return self.place_as(series, series.revision)

    def place_as(self, series: Growing, revision: int) -> str:
        """What a revision of a series is called in results."""
        return f"{self.name}/{series.uid}" + (f"/{revision}" if revision > 1 else "")

    def shown(self, error: Exception) -> str:
        """What is wrong, with the names of instances for people."""
        return self._path.sub(lambda found: self.place(found[1]), str(error))

    def dataset(self, place: Path | Member) -> Any:
        """The attributes of an instance, wherever it lies by now."""
        return dataset_of(self.spool.find(Path(str(place)).name))

    def account(self, settled: Callable[[], None], *places: str) -> Account:
        """An account for the results of these places."""
        account = Account(settled)
        for place in places:
            self.ledger.join(place, account)
        return account

    def through(self, items: Iterator[Item], account: Account) -> Iterator[Item]:
        """Items, each of which is counted where it will be a result; the account is ended."""
        for item in items:
            if not self.goes_on() and isinstance(item, Event):
                return  # what decodes was ended, and all is taken up anew at the next start
            if isinstance(item, Frame) or item.kind in ("failure", "series"):
                self.ledger.give(account)
            yield item
        if self.goes_on():
            self.ledger.end(account)

    def refused(self, name: str, error: FrameError) -> Iterator[Item]:
        """The failure of an instance of no series, or nothing where it is no picture."""
        account = self.account(partial(self.spool.settle, name), self.place(name))
        items: list[Item] = []
        if isinstance(error, NoPicture):
            self.left_out["without a picture"] += 1
        else:
            items.append(failure(self.place(name), self.shown(error)))
        yield from self.through(iter(items), account)

    def noted(self, name: str, outcome: str) -> Iterator[Event]:
        """A note where the same instance came before with other bytes, and what comes of it."""
        if self.spool.others(name):
            detail = f"{self.place(name)} is an instance that came before with other bytes"
            yield Event(self.name, time.time(), "note", f"{detail}: {outcome}")

    def check(self, name: str, origin: Origin) -> None:
        """Raise FrameError if an instance is another one than its sender named."""
        if hash_of(origin.id.partition("/")[0]) != name.partition("-")[0]:
            raise FrameError(f"{self.place(name)} holds another instance than its sender named")

    def event(self, series: Growing) -> Event:
        """The end of the present revision."""
        rule = (self.wanted.object or "nonzero") if self.wanted.kind == "modality" else ""
        about = series.complete, series.revision, series.frames, rule
        return series_event(self.place_of(series), SeriesEnd(series.uid, *about))

    def settled(self, series: Growing) -> None:
        """Let go of a revision all of whose results are kept."""
        self.journals.keep(series)
        for name in series.old:
            self.spool.settle(name)


def part_of(origin: Origin, frames: int) -> Part:
    """What an instance is of its series, by one of its frames and their number."""
    return Part(frames, origin.enhanced, origin.declared, origin.acquisition)
