"""What every sink of results is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adae_edge.errors import without_password
from adae_edge.runtime.frame import Event, Scored

if TYPE_CHECKING:
    from typing import Self

PIXELS, MAP, BOXES = "pixels", "map", "boxes"
ALL, ANOMALOUS, HIGHEST = "all", "anomalous", "highest"


@dataclass(frozen=True)
class Keeping:
    """How sinks keep rows.

    Attributes:
        fsync: each row is on the disk before the next one; otherwise about once a second.
        rotate: a file of rows is put aside before it grows beyond this many bytes; None for never.
        resume: the file is to go on where it ended, so half a row at its end is dropped.
        with_patient: JSON Lines name the patient of a DICOM slice.
    """

    fsync: bool = False
    rotate: int | None = None
    resume: bool = False
    with_patient: bool = False


ROWS = Keeping()


class Kept(NamedTuple):
    """A row that a sink holds: of a frame, or of an event where ``event`` is its kind."""

    source: str
    frame: int | str = 0
    model: str = ""
    threshold: float = 0.0
    event: str = ""
    detail: str = ""


class Place(NamedTuple):
    """Where a sink writes, the same for every spelling of it, and in which manner it does so.

    Two sinks in one place are one, or get in each other's way where their manners differ.
    """

    key: str
    manner: str = ""


class Sink(ABC):
    """Keeps results, or tells somebody; a context manager.

    Attributes:
        wants: what ``write`` reads beside the score: ``PIXELS`` of the frame, and where the model
            has them the anomaly ``MAP`` and the ``BOXES`` of its regions. What no sink wants is not
            computed, and a sink that does not want pixels gets frames without them, so that it may
            hold results back.
        shows: of which frames it reads that: ``ALL``, ``ANOMALOUS`` ones, or the ``HIGHEST`` one
            of each DICOM series so far; of the others it may be missing.
        collects: whether it makes something of a whole DICOM series at the event of its end.
        name: as it was opened on the command line; otherwise what it is called to people.
        keeps_rows: whether ``Keeping`` matters to it.
        reads_back: whether ``kept`` gives its rows.
        puts_aside: whether it puts a file of rows aside that becomes too large.
    """

    collects = False
    wants: frozenset[str] = frozenset()
    shows = ALL
    name = "a sink"
    keeps_rows = True
    reads_back = False
    puts_aside = False

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with a place, as far as that is told without writing anything there.

        Raises:
            UsageError: an option is wrong, or there is no such folder or server's name.
        """

    @classmethod
    def where(cls, place: str) -> Place:
        """What tells its place from others; of a file the same through links.

        Raises:
            UsageError: as ``check``.
        """
        try:
            status = Path(place).stat()
        except (OSError, ValueError):  # not there yet, or no name for a file: opening it will tell
            return Place(os.path.realpath(place))
        return Place(f"{status.st_dev}:{status.st_ino}")

    @classmethod
    def pictures(cls, place: str) -> Path | None:
        """The folder in which it puts pictures that a source might take for its own, or None."""
        return None

    @property
    def waiting(self) -> int:
        """How many results it has on disk that are not where they have to go."""
        return 0

    @property
    def lacks(self) -> int:
        """How many results it dropped after it had taken them."""
        return 0

    @classmethod
    def called(cls, spec: str) -> str:
        """Its name for people, which follows from that on the command line and holds no secret."""
        return without_password(spec)

    @abstractmethod
    def write(self, scored: Scored) -> None:
        """Keep one result.

        Raises:
            SinkError: it cannot be kept, and nothing of it is; it may be written again, as long as
                the sink is open.
            BrokenPipeError: the reader of a pipe has enough, which is no failure.
        """

    def event(self, event: Event) -> None:
        """Take note of what happened between two results; does nothing unless a sink says more.

        Raises:
            As ``write``.
        """

    def ended(self, opened: str) -> None:
        """Let go of what is held for a source that gives no more frames.

        Args:
            opened: its name, as in ``Scored``.

        Raises:
            SinkError: what it was given before cannot be kept.
        """

    def flush(self) -> None:
        """Keep now what was held back; called when no results come, and about once a second.

        Raises:
            SinkError: it cannot be kept now, and is held back until the next call.
        """

    def news(self) -> Sequence[str]:
        """Sentences on what became of it since the last call; called as often as ``flush``."""
        return ()

    def drain(self) -> None:
        """Wait some seconds at most until nothing waits; called at the end of a stream."""

    def kept(self) -> Iterator[Kept] | None:
        """The rows that are kept already, or None where they cannot be read again.

        Raises:
            SinkError: they cannot be read.
        """
        return None

    def close(self) -> None:
        """Finish; what was written is kept afterwards. A second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
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
