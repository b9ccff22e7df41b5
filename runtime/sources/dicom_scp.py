"""A DICOM storage provider: what modalities and archives send is scored as it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from adae_edge.decoding.workers import Workers
from adae_edge.errors import MissingExtra, SourceError, UsageError
from adae_edge.machine import available_threads
from adae_edge.runtime.dicom.messages import FAILED, LISTENING, NOTE
from adae_edge.runtime.dicom.process import Receiver
from adae_edge.runtime.dicom.received import Received
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.scp_name import settings_of
from adae_edge.runtime.sources.source import Source, Wanted
from adae_edge.runtime.sources.spooled import Spooled
from adae_edge.runtime.sources.spooled_pictures import SpooledPictures
from adae_edge.runtime.sources.spooled_volumes import SpooledVolumes

_LOOK_S = 0.5
_AGAIN_S = 60.0  # until the same sentence is told again
_MOST_TOLD = 1000


class DicomScp(Source):
    """Receives in a process of its own, and gives the frames of each instance once.

    An instance is in the spool until the sinks keep all its results, also where this process is
    killed meanwhile.
    """

    endless = True
    answers = True
    spools = True

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//host:port/TITLE" and options behind a question mark.
            wanted: the frames that the model takes, and how to receive.

        Raises:
            UsageError: the address or an option is wrong, no spool is given, or the model takes
                frames that nobody sends.
        """
        self.name = f"dicom-scp:{place}"
        if wanted.kind == "image":
            wanted.check_pictures(self.name)
        elif wanted.brain_mask is not None or wanted.object != "head":
            raise UsageError(
                f"{self.name} gives series, which show the skull and have no masks, and this model "
                "looks at the brain alone: train one with --object head"
            )
        else:
            wanted.check_series(self.name)
        if wanted.receiving is None:
            raise UsageError(f"{self.name} keeps what it receives in a spool: give --spool DIR")
        if find_spec("pynetdicom") is None:  # imported by the receiver's process alone
            raise MissingExtra("Receiving DICOM over the network", "pacs")
        self._workers = Workers(wanted.jobs or available_threads())
        self._settings = settings_of(self.name, wanted.receiving)
        kind = SpooledPictures if wanted.kind == "image" else SpooledVolumes
        spool = Received(wanted.receiving.spool)
        self._spooled: Spooled = kind(self.name, spool, wanted, self._workers)
        self._spooled.goes_on = self._goes_on
        self.left_out = self._spooled.left_out
        self._receiver: Receiver | None = None
        self._has_begun = False
        self._told: dict[str, float] = {}

    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames of what comes, and what is to be told of peers, until it is stopped."""
        self._receiver = receiver = Receiver(self._settings)
        while self._goes_on():
            for line in receiver.come(_LOOK_S):
                yield from self._heard(line)
            if receiver.ended:
                raise SourceError(f"{self.name}: the receiver has ended")
            if not receiver.begun:
                continue
            if not self._has_begun:
                self._has_begun = True
                self._spooled.journals.load()
            self._spooled.journals.forget(self._settings.keep_s)
            yield from self._spooled.items()

    def stop(self) -> None:
        """Ask the source to end soon, and end what decodes for it."""
        super().stop()
        self._workers.stop()

    def settle(self, results: Mapping[str, int]) -> None:
        """Let go of instances all of whose results are kept."""
        self._spooled.ledger.settle(results)

    def close(self) -> None:
        """End the receiver and what decodes; a second call does nothing."""
        self._workers.close()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()

    def _goes_on(self) -> bool:
        """Take note that it moves; whether it was not asked to end."""
        self.moved_s = time.monotonic()
        return not self._stopping

    def _heard(self, line: str) -> Iterator[Event]:
        """What is to be told of a line of the receiver."""
        kind, _, sentence = line.partition(" ")
        if kind == FAILED:
            raise SourceError(sentence)
        if kind == LISTENING:
            yield self._event("live", f"{self.name} takes instances")
        if kind == NOTE and self._is_news(sentence):
            yield self._event("note", f"{self.name}: {sentence}")

    def _is_news(self, sentence: str) -> bool:
        """Whether something was not told lately; strangers may cause many sentences."""
        now = time.monotonic()
        self._told = {text: when for text, when in self._told.items() if when > now - _AGAIN_S}
        if sentence in self._told or len(self._told) >= _MOST_TOLD:
            return False
        self._told[sentence] = now
        return True

    def _event(self, kind: str, detail: str) -> Event:
        return Event(self.name, time.time(), kind, detail)


SOURCE = DicomScp
