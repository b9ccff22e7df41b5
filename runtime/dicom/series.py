"""The series of a spool: what came of each, and when it is complete.

Each series has a journal, a file of JSON lines that only grows, so that a killed process goes on
where it was: of which instances a revision consists, and whether its results are kept.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from adae_edge.errors import SourceError
from adae_edge.runtime.dicom.received import hash_of

_SUFFIX = ".jsonl"
_MOST_SERIES = 10_000
_FORGET_S = 600.0
_log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What an instance is of its series.

    Attributes:
        frames: how many it has.
        enhanced: whether it is a whole acquisition by its kind.
        declared: how many frames its acquisition has, as the scanner filled in; 0 for unknown.
        acquisition: which one of the series.
    """

    frames: int
    enhanced: bool = False
    declared: int = 0
    acquisition: str = ""


@dataclass
class Growing:
    """A series as far as it came.

    Attributes:
        uid: of the series.
        parts: what came, by name in the spool, in the order in which it did.
        revision: the last one; 0 before the first.
        complete: what decided that, one of ``frame.COMPLETE``.
        old: the names of the revision's parts, which are the first ones.
        kept: whether all its results are kept by every sink.
        committed: how many parts there were when a commitment named them all.
        tried: signs that turned out to be none, each for so many parts.
        given: whether this process has given the revision, or does so now.
        came_s: when the last part came, by ``time.monotonic``.
    """

    uid: str
    parts: dict[str, Part] = field(default_factory=dict)
    revision: int = 0
    complete: str = ""
    old: set[str] = field(default_factory=set)
    kept: bool = True
    committed: int = 0
    tried: set[tuple[str, int]] = field(default_factory=set)
    given: bool = False
    came_s: float = field(default_factory=time.monotonic)

    @property
    def newest(self) -> list[str]:
        """The names of the revision's parts; of an instance with several contents the last one."""
        return list({_instance(name): name for name in self.parts if name in self.old}.values())

    @property
    def frames(self) -> int:
        """How many frames the revision has."""
        return sum(self.parts[name].frames for name in self.newest)

    def sign(self, quiet_s: float) -> str:
        """By what the series is complete now with all that came; "" where it is not."""
        if len(self.parts) == len(self.old):
            return ""
        newest = {_instance(name): part for name, part in self.parts.items()}.values()
        signs = {
            "enhanced": all(part.enhanced for part in newest),
            "commitment": self.committed == len(self.parts),
            "declared": _all_declared(newest),
            "quiet": time.monotonic() - self.came_s >= quiet_s,
        }
        found = (word for word, seen in signs.items() if seen)
        return next((word for word in found if (word, len(self.parts)) not in self.tried), "")


class Journals:
    """All series of a spool, in memory and on the disk."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: of the journals, which is there when ``load`` is called.
        """
        self._folder, self._forget_s = folder, 0.0
        self.series: dict[str, Growing] = {}
        self.of: dict[str, Growing] = {}  # the series of each instance, by its name in the spool

    def load(self) -> None:
        """Read what an earlier process wrote; half a line at an end counts for nothing.

        Raises:
            SourceError: a journal cannot be read.
        """
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            series = Growing("")
            try:
                lines = path.read_bytes().splitlines()
            except OSError as error:
                raise SourceError(f"cannot read {path}: {error.strerror}") from error
            for line in lines:
                try:
                    _replay(series, json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue
            if hash_of(series.uid) == path.stem:
                self.series[series.uid] = series
                self.of.update(dict.fromkeys(series.parts, series))

    def add(self, uid: str, name: str, part: Part) -> Growing:
        """Take note of an instance of a series; of the same one once."""
        series = self.series.get(uid)
        if series is None:
            series = Growing(uid)
            self._write(series, {"series": uid})
            self.series[uid] = series
        if name not in series.parts:
            self._write(series, {"name": name, "part": part})
            series.parts[name], self.of[name] = part, series
            series.came_s = time.monotonic()
        return series

    def renew(self, name: str) -> None:
        """Forget an instance of a revision that was deleted, because it comes again."""
        series = self.of.pop(name)
        self._write(series, {"renewed": name})
        _replay(series, {"renewed": name})

    def commit(self, instances: frozenset[str]) -> None:
        """Take note of a commitment; it says of a series something where it names all that came.

        Args:
            instances: the hashes of their UIDs.
        """
        for series in self.series.values():
            waits = len(series.parts) > len(series.old)
            if waits and instances.issuperset(map(_instance, series.parts)):
                series.committed = len(series.parts)
                self._write(series, {"committed": series.committed})

    def decide(self, series: Growing, complete: str) -> None:
        """Begin the next revision with all that came, which outlives a power failure."""
        self._begin(series, series.revision + 1, complete)

    def refuse(self, series: Growing, complete: str) -> None:
        """As ``decide``, where nothing of the series could be given: it is no revision."""
        self._begin(series, series.revision, complete)

    def _begin(self, series: Growing, revision: int, complete: str) -> None:
        said = {"revision": revision, "complete": complete, "of": len(series.parts)}
        self._write(series, said, sync=True)
        _replay(series, said)

    def keep(self, series: Growing) -> None:
        """Take note that all results of the present revision are kept."""
        self._write(series, {"kept": series.revision}, sync=True)
        series.kept = True

    def forget(self, age_s: float) -> None:
        """Delete journals of series that are over, now and then.

        Their results are kept, and nothing was added for so long; or there are too many series, as
        a stranger could make them, and they are the oldest.
        """
        many = len(self.series) - _MOST_SERIES
        if time.monotonic() < self._forget_s and many < _MOST_SERIES / 10:
            return
        self._forget_s = time.monotonic() + _FORGET_S
        oldest = time.time() - age_s
        for series in sorted(self.series.values(), key=lambda one: one.came_s):
            path = self._path(series)
            if not series.kept or len(series.old) < len(series.parts):
                continue
            if many > 0 or not path.exists() or path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                del self.series[series.uid]
                for name in series.parts:
                    del self.of[name]
                many -= 1

    def _path(self, series: Growing) -> Path:
        return self._folder / f"{hash_of(series.uid)}{_SUFFIX}"

    def _write(self, series: Growing, said: dict[str, Any], sync: bool = False) -> None:
        """Append a line, with an end before it where a killed process left half a one.

        Where the disk takes none, the next start finds out anew what it said.
        """
        path = self._path(series)
        try:
            with path.open("ab", buffering=0) as file:
                file.write(b"\n" + json.dumps(said).encode() + b"\n")
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            _log.warning("cannot write %s: %s", path, error.strerror)


def _replay(series: Growing, said: dict[str, Any]) -> None:
    """Take note of what a line of a journal says."""
    if "series" in said:
        series.uid = str(said["series"])
    if "name" in said:
        series.parts.setdefault(said["name"], Part(*said["part"]))
    if "renewed" in said:
        series.parts.pop(said["renewed"], None)
        series.old.discard(said["renewed"])
    if "committed" in said:
        series.committed = said["committed"]
    if "revision" in said:
        series.revision, series.complete = said["revision"], said["complete"]
        series.old = set(list(series.parts)[: said["of"]])
        series.kept = series.given = False
    if "kept" in said:
        series.kept = True


def _all_declared(parts: Iterable[Part]) -> bool:
    """Whether each acquisition has as many frames as all its instances say."""
    frames, declared = Counter[str](), dict[str, set[int]]()
    for part in parts:
        frames[part.acquisition] += part.frames
        declared.setdefault(part.acquisition, set()).add(part.declared)
    return all(numbers == {frames[which]} for which, numbers in declared.items())


def _instance(name: str) -> str:
    """The hash of the UID in a name of the spool."""
    return name.partition("-")[0]
