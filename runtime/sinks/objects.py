"""DICOM objects on their way to an archive.

a series  ->  objects  ->  spool on disk  ->  one thread that sends  ->  the archive
                                                   |     ^
                                     what it refuses     later, and later again
                                                   v     |
                                                a folder beside the spool
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from adae_edge.errors import SinkError, WriteError
from adae_edge.formats.files import write_atomically
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.query import Parser
from adae_edge.runtime.sinks.queued import Remote, Sender
from adae_edge.runtime.sinks.results import CAPTURE, MAPS, REPORT, Gathered, Reports, kinds_of
from adae_edge.runtime.sinks.sink import ALL, HIGHEST, MAP, PIXELS, ROWS, Keeping
from adae_edge.runtime.sinks.target import Target
from adae_edge.runtime.spool import Message

# Options of every such sink, beside those of ``Target``.
OPTIONS: Mapping[str, Parser] = {"results": kinds_of, "secret": str}
_LIMIT = 10**9
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
_MOST_WARNINGS = 3  # after which an archive is believed that it has kept an object
_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,6})\.dcm")


class Refused(SinkError):
    """An archive answers that it does not take this one object, or that it changed it.

    Others may be taken. ``kept`` says whether it has the object, with a warning.
    """

    kept = False


class Warned(Refused):
    """An archive has kept an object, and warns that it changed it."""

    kept = True


class Objects(Sender):
    """Sends objects in order, and those that are refused again later, so that none blocks others.

    An object that is refused lies in a folder beside the spool. All of the folder are tried again
    after a minute, then after pauses that grow to an hour, and when the sink is opened. One that is
    kept with a warning is let go at the third.

    A series is gathered in memory until its end, so that whoever gives its frames keeps them until
    then.
    """

    wants = frozenset({PIXELS, MAP})  # unless no object shows them
    shows = HIGHEST
    collects = True

    def __init__(
        self, remote: Remote, target: Target, about: str = "", keeping: Keeping = ROWS
    ) -> None:
        """
        Args:
            remote: where objects go, one at a time; it raises ``Refused`` where the fault may be
                that one's.
            target: its options say where the spool lies, and what it may take.
            about: what tells this target from others at the same URL, as an AE title.
            keeping: whether a resumed run puts in each object once.

        Raises:
            UsageError: the spool's folder is not there.
            SinkError: the spool cannot be opened.
        """
        target.options.setdefault("limit", _LIMIT)
        target.options.setdefault("full", "refuse")
        news: list[str] = []
        spool = target.open_spool(news.append, about)
        self._limit: int = target.options["limit"]
        self._refused = spool.path.with_suffix(".refused")
        self._pause_s, self._again_s = _FIRST_PAUSE_S, 0.0
        self._reasons: set[str] = set()  # that were told
        kinds = target.options.get("results", (REPORT, CAPTURE))
        self._with_maps = MAPS in kinds
        wanted = {PIXELS: CAPTURE in kinds, MAP: CAPTURE in kinds or self._with_maps}
        self.wants = frozenset(what for what, is_wanted in wanted.items() if is_wanted)
        self.shows = ALL if self._with_maps else HIGHEST
        self._series: dict[str, Gathered] = {}
        secret = target.options.get("secret")
        self._reports = Reports(kinds, secret, spool.path.with_suffix(".reports"))
        self._unreported = 0  # series
        super().__init__(remote, spool, news, keeping)

    @property
    def waiting(self) -> int:
        """How many objects the archive has not taken."""
        return len(self._spool) + len(self._files())

    @property
    def lacks(self) -> int:
        """How many objects were dropped or could not be made."""
        return super().lacks + self._unreported

    def write(self, scored: Scored) -> None:
        """Keep the result of a DICOM slice in mind; any other frame is left out."""
        if scored.frame.instance is not None:
            new = Gathered(self._with_maps)
            series = self._series.setdefault(scored.frame.instance.series, new)
            series.add(scored)

    def event(self, event: Event) -> None:
        """Make the objects of a series that has ended, and put them in.

        Raises:
            SpoolFull: there is no room for them.
            SinkError: they cannot be kept.
        """
        if event.series is None:
            return
        gathered = self._series.pop(event.series.uid, None)
        if gathered is None:  # each of its frames is a failure, of which an event was told
            return
        try:
            objects, missing = self._reports.of(gathered, event.series)
            if objects:
                self.put(objects)
        except SinkError:
            self._unreported += 1
            raise
        self._unreported += len(missing)
        for why in missing:
            self._news.append(f"{self.name}: series {event.series.uid}: {why}")

    def put(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Put objects in, all or none, so that they outlive a power failure.

        Args:
            objects: of each its SOP instance UID and its bytes, as a DICOM file.

        Raises:
            SpoolFull: there is no room for them.
            SinkError: they cannot be kept.
        """
        self._put([data for _, data in objects], [uid for uid, _ in objects], durable=True)

    def _send(self, messages: Sequence[Message]) -> None:
        """Send objects, and put aside those that are refused."""
        for message in messages:
            try:
                self._remote.send([message.payload])
            except Refused as error:
                self._put_aside(message.payload, error)

    def _idle(self) -> float | None:
        """Try what was refused again, if it is time; seconds until the next time."""
        files = self._files()
        if not files:
            self._pause_s = _FIRST_PAUSE_S
            self._reasons.clear()
            return None
        if time.monotonic() >= self._again_s:
            for path in files:
                self._try_again(path)
            self._again_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return max(0.0, self._again_s - time.monotonic())

    def _files(self) -> list[Path]:
        """What was refused, in the order in which it was."""
        found = {}
        with suppress(FileNotFoundError, NotADirectoryError):  # made with the first object
            for path in filter(lambda path: _NAME.fullmatch(path.name), self._refused.iterdir()):
                with suppress(FileNotFoundError):  # another thread has sent it
                    found[path] = path.stat().st_mtime_ns
        return sorted(found, key=found.__getitem__)

    def _put_aside(self, data: bytes, error: Refused) -> None:
        """Keep a refused object in the folder; raises SinkError where that has no room."""
        name = hashlib.sha256(data).hexdigest()[:32]
        try:
            self._refused.mkdir(mode=0o700, exist_ok=True)
            files = self._files()
            if sum(path.stat().st_size for path in files) + len(data) > self._limit:
                raise SinkError(f"{error}; {self._refused} is full")
            if not files:
                self._again_s = time.monotonic() + self._pause_s
            write_atomically(self._refused / f"{name}.1.dcm", data)
        except (OSError, WriteError) as why:
            raise SinkError(f"cannot write {self._refused}: {why}") from why
        self._tell(error, f"it lies in {self._refused} and is sent again later")

    def _try_again(self, path: Path) -> None:
        """Send what was refused; raises SinkError where the archive takes nothing at all."""
        matched = _NAME.fullmatch(path.name)
        assert matched
        digest, tries = matched[1], int(matched[2])
        try:
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest()[:32] != digest:
                raise SinkError(f"{path} is damaged: remove it")
            try:
                self._remote.send([data])
            except Refused as error:
                if not error.kept or tries + 1 < _MOST_WARNINGS:
                    path.rename(path.with_name(f"{digest}.{tries + 1}.dcm"))
                    return
                self._tell(error, "it is not sent again")
            path.unlink()
        except OSError as why:
            raise SinkError(f"cannot write {self._refused}: {why}") from why

    def _tell(self, error: Refused, what: str) -> None:
        """Tell a reason once, as long as something is refused."""
        sentence = f"{error}; {what}"
        if sentence not in self._reasons:
            self._reasons.add(sentence)
            self._news.append(sentence)
