"""Hands results to the sinks, in a thread of its own; a sink that fails stops no other one."""

from __future__ import annotations

import contextlib
import errno
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from adae_edge.errors import SinkError
from adae_edge.runtime.flapping import Flapping
from adae_edge.runtime.frame import Delivered, Ended, Event, Scored
from adae_edge.runtime.sinks.sink import PIXELS, Listener, Sink
from adae_edge.runtime.threads import start
from adae_edge.stopwatch import stage

# How many batches of results may wait for the sinks, before scoring waits, too.
_MOST_BATCHES = 4
# How often a sink that failed is tried again.
_AGAIN_S = 1.0
# How often sinks keep what they hold back, at least.
_FLUSH_S = 1.0


@dataclass
class _Outlet:
    """A sink and what it could not keep.

    Attributes:
        lacks: how many results the sink lacks, since it was added.
        missed: how many of them since it was last told that it keeps results.
        error: why it keeps nothing now; None where it does.
        late: why it holds results back; None where it does not.
        gone: whether it was a pipe whose reader has enough.
        flapping, holding: which of its failures are told, and which times of holding back.
    """

    sink: Sink
    lacks: int = 0
    missed: int = 0
    error: SinkError | None = None
    again_s: float = 0.0
    late: SinkError | None = None
    gone: bool = False
    flapping: Flapping = field(default_factory=Flapping)
    holding: Flapping = field(default_factory=Flapping)

    @property
    def keeps(self) -> bool:
        """Whether results are there for it to be kept."""
        return not (self.gone or isinstance(self.sink, Listener))

    def hand(self, item: Delivered) -> Event | None:
        """Hand something to the sink, or count it as missing.

        Returns:
            What is to be told of the sink, if it has just failed or is well again.
        """
        if self.gone:
            return None
        if self.error and time.monotonic() < self.again_s:
            self.miss(item)
            return None
        try:
            with stage("sink"):
                if isinstance(item, Event):
                    self.sink.event(item)
                elif isinstance(item, Ended):
                    self.sink.ended(item.opened)
                elif PIXELS in self.sink.wants or not item.frame.pixels.size:
                    self.sink.write(item)
                else:
                    self.sink.write(replace(item, frame=item.frame.without_pixels()))
        except BrokenPipeError:
            self.gone = True
            return None
        except SinkError as error:
            self.error = error
            # The end of a series that cannot be reported says nothing of the next frames.
            ends_series = isinstance(item, Event) and item.series is not None
            self.again_s = time.monotonic() + (0 if ends_series else _AGAIN_S)
            self.miss(item)
            tells = self.flapping.fails() or ends_series  # each of which is another one
            return self._event(f"{error}{self.flapping.more}") if tells else None
        if self.error is None or not isinstance(item, Scored):  # a result shows it
            return None
        self.error = None
        if not self.flapping.works():
            return None
        missed, self.missed = self.missed, 0
        return self._event(f"{self.sink.name} keeps results again; it lacks {missed}")

    def flush(self) -> list[Event]:
        """Have the sink keep what it holds back; what is to be told of it."""
        if self.gone:
            return []
        told = list(self.sink.news())
        try:
            self.sink.flush()
            if self.late is not None and self.holding.works():
                told.append(f"{self.sink.name} keeps what was held back")
            self.late = None
        except SinkError as error:
            if self.holding.fails():
                told.append(f"{error}; results are held back{self.holding.more}")
            self.late = error
        except BrokenPipeError:
            self.gone = True
        return [self._event(detail) for detail in told]

    def miss(self, item: Delivered) -> None:
        """Count a result that the sink lacks."""
        if isinstance(item, Scored):
            self.missed += 1
            self.lacks += 1

    def _event(self, detail: str) -> Event:
        return Event(self.sink.name, time.time(), "sink", detail)


class Delivery:
    """Every sink, and the results on their way to them."""

    def __init__(self, told: Callable[[Event], object]) -> None:
        """
        Args:
            told: called with every event before the sinks are.
        """
        self._outlets: list[_Outlet] = []
        self._told = told
        # Its put costs the loop a third of what that of a bounded queue does.
        self._waiting: queue.SimpleQueue[Sequence[Delivered] | None] = queue.SimpleQueue()
        # A None for each batch that may still wait; a semaphore costs the loop ten times as much.
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_MOST_BATCHES):
            self._room.put(None)
        self._error: BaseException | None = None

    def add(self, sink: Sink) -> None:
        """Hand what comes from here on to one more sink."""
        self._outlets.append(_Outlet(sink))

    @property
    def sinks(self) -> list[Sink]:
        """The sinks, in the order in which they were added."""
        return [outlet.sink for outlet in self._outlets]

    @property
    def all_keep(self) -> bool:
        """Whether no sink fails, or holds results back because it fails."""
        return not any(outlet.error or outlet.late for outlet in self._outlets if outlet.keeps)

    @property
    def lacking(self) -> list[str]:
        """How many results each sink lacks that could not keep all, in words."""
        return [
            f"{outlet.sink.name} lacks {outlet.lacks + outlet.sink.lacks}"
            for outlet in self._outlets
            if outlet.lacks + outlet.sink.lacks and outlet.keeps
        ]

    @property
    def waiting(self) -> list[str]:
        """How many results wait on disk for each sink that cannot hand them over, in words."""
        return [f"{sink.waiting} wait for {sink.name}" for sink in self.sinks if sink.waiting]

    def put(self, items: Sequence[Delivered]) -> None:
        """Hand results and events on, in order; waits while the sinks are far behind.

        Raises:
            SinkError: no sink keeps results any more.
            BaseException: what another sink than a failing one raised.
        """
        if self._error is None:
            self._room.get()
            self._waiting.put(items)
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def running(self, for_ever: bool) -> Iterator[None]:
        """Hand on within; at the end wait until everything was handed on.

        Args:
            for_ever: whether to go on where no sink keeps results, because one may do so again.

        Raises:
            SinkError, BaseException: as ``put``.
        """
        thread = start("sinks", self._run, for_ever)
        try:
            yield
        finally:
            self._waiting.put(None)
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, for_ever: bool) -> None:
        flushed = time.monotonic()
        while True:
            try:
                items = self._waiting.get(timeout=_FLUSH_S)
                self._room.put(None)
            except queue.Empty:
                items = ()
            left: deque[Delivered] = deque(items or ())
            try:
                if items is None:
                    for sink in self.sinks:
                        sink.drain()
                if items is None or time.monotonic() - flushed >= _FLUSH_S:
                    flushed = time.monotonic()
                    left.extend(event for outlet in self._outlets for event in outlet.flush())
                if self._error is None:
                    self._hand_all(left, for_ever)
            except BaseException as error:  # raised where results are put
                self._error = self._error or error
            if isinstance(self._error, SinkError):
                for item in left:
                    for outlet in self._outlets:
                        outlet.miss(item)
            if items is None:
                return

    def _hand_all(self, left: deque[Delivered], for_ever: bool) -> None:
        """Hand what is left to every sink, and what is to be told of one of them to the others."""
        while left:
            item = left.popleft()
            if isinstance(item, Event):
                self._told(item)
            events = [outlet.hand(item) for outlet in self._outlets]
            keeping = [outlet for outlet in self._outlets if outlet.keeps]
            if not keeping and any(outlet.gone for outlet in self._outlets):
                raise BrokenPipeError(errno.EPIPE, "the reader of the output has enough")
            if not for_ever and keeping and all(outlet.error for outlet in keeping):
                raise next(outlet.error for outlet in keeping if outlet.error)
            left.extendleft(event for event in reversed(events) if event)
