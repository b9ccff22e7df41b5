"""Results on their way to another program: they wait in a spool until it has acknowledged them.

write  ->  spool on disk  ->  one thread that sends, in order
"""

from __future__ import annotations

import json
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from adae_edge.errors import SinkError, first_line
from adae_edge.runtime.flapping import Flapping
from adae_edge.runtime.frame import OF_FRAMES, Event, Scored
from adae_edge.runtime.sinks.rows import event_row_of, row_of
from adae_edge.runtime.sinks.sink import ANOMALOUS, BOXES, ROWS, Keeping, Sink
from adae_edge.runtime.spool import Message, Spool
from adae_edge.runtime.threads import start

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_DRAIN_S = 10.0  # how long the end of a stream waits for a server that takes results
_CLOSE_S = 2.0  # how long it waits for one that says nothing


class Remote(ABC):
    """A program that takes results, reached over the network by one thread.

    Attributes:
        batch: how many messages are sent at once.
    """

    batch: int

    @abstractmethod
    def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order, and return when all are acknowledged.

        Args:
            messages: ``batch`` at most. Rows are JSON objects, and events begin with "event".

        Raises:
            SinkError: they are not acknowledged. They are sent again, and so may arrive twice.
        """

    @abstractmethod
    def close(self) -> None:
        """Take leave; a second call does nothing."""


class Sender(Sink):
    """A sink whose messages wait in a spool, from which a thread sends them.

    No network is waited for. A server that cannot be reached is told once, and tried again after
    pauses that grow to half a minute. One that comes and goes is told ever more rarely.
    """

    def __init__(
        self, remote: Remote, spool: Spool, news: list[str], keeping: Keeping = ROWS
    ) -> None:
        """
        Args:
            remote: where messages go; closed by this sink.
            spool: where they wait; closed by this sink.
            news: to which the spool adds sentences.
            keeping: whether messages outlive a power failure at once, and each is put in once.
        """
        self._remote, self._spool, self._news, self._keeping = remote, spool, news, keeping
        self._error = ""  # why nothing is sent now
        self._flapping = Flapping()
        self._lacked = 0  # results that the spool dropped and that were told
        self._more, self._closing = threading.Event(), threading.Event()
        if not keeping.resume:
            spool.forget_keys()
        self._thread = start("sender", self._run)

    @property
    def waiting(self) -> int:
        """How many messages wait in the spool."""
        return len(self._spool)

    @property
    def lacks(self) -> int:
        """How many messages the spool dropped."""
        return self._spool.dropped

    def flush(self) -> None:
        """Have the messages outlive a power failure."""
        self._spool.sync()

    def news(self) -> list[str]:
        """What became of the server and of the spool since the last call, in sentences."""
        news = [self._news.pop(0) for _ in range(len(self._news))]  # others may append meanwhile
        if self._spool.dropped > self._lacked == 0:
            news.append(f"{self.name}: its spool is full or damaged, and results are dropped")
        self._lacked = self._spool.dropped
        return news

    def drain(self) -> None:
        """Wait until everything is acknowledged, as long as the server takes it."""
        deadline = time.monotonic() + _DRAIN_S
        while len(self._spool) and not self._error and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self) -> None:
        """Stop sending; what waits is sent when the same sink is opened again."""
        self._closing.set()
        self._more.set()
        self._thread.join(_CLOSE_S)
        self._spool.close()

    def _put(self, payloads: Sequence[bytes], keys: Sequence[str], durable: bool) -> None:
        """Put messages in, all or none; a resumed run puts in each that has a key once."""
        keys = [key.encode(errors="backslashreplace").decode() for key in keys]
        self._spool.put(payloads, durable, keys if self._keeping.resume else ())
        self._more.set()

    def _run(self) -> None:
        """Send what waits until the sink is closed."""
        pause = _FIRST_PAUSE_S
        try:
            while not self._closing.is_set():
                try:
                    self._send_some()
                    pause = _FIRST_PAUSE_S
                except Exception as error:  # whatever it is, results wait and are sent again
                    self._fail(error)
                    self._closing.wait(pause * random.uniform(0.5, 1))  # noqa: S311
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
        finally:
            self._remote.close()

    def _send_some(self) -> None:
        """Send the first messages, or wait for one."""
        self._more.clear()
        messages = self._spool.peek(self._remote.batch)
        if not messages:
            self._more.wait(self._idle())
            return
        self._send(messages)
        self._spool.acknowledge(messages[-1].id)
        if self._error:
            self._error = ""
            if self._flapping.works():
                self._news.append(f"{self.name} takes results again")

    def _send(self, messages: Sequence[Message]) -> None:
        """Send messages; raises SinkError where they are to be sent again."""
        self._remote.send([message.payload for message in messages])

    def _idle(self) -> float | None:
        """Do what is to be done while nothing waits; seconds until the next time, or None."""
        return None

    def _fail(self, error: Exception) -> None:
        if not self._closing.is_set() and self._flapping.fails():
            why = (
                str(error) if isinstance(error, SinkError) else f"{self.name}: {first_line(error)}"
            )
            more = self._flapping.more
            self._news.append(f"{why}; results wait in {self._spool.path}{more}")
        self._error = str(error) or type(error).__name__


class Queued(Sender):
    """A sink that sends rows, which have ``id`` and ``spool`` beside their fields."""

    wants, shows = frozenset({BOXES}), ANOMALOUS

    def write(self, scored: Scored) -> None:
        """Put one row into the spool; a resumed run puts each frame's once."""
        frame = scored.frame
        self._put_row(row_of(scored), f"{frame.id} {frame.source}")

    def event(self, event: Event) -> None:
        """Put one row of an event into the spool."""
        key = f"{event.kind} {event.source} {event.detail}" if event.kind in OF_FRAMES else ""
        self._put_row(event_row_of(event), key)

    def _put_row(self, row: dict[str, Any], key: str) -> None:
        self._put([json.dumps(row).encode()], [key] if key else [], self._keeping.fsync)

    def _send(self, messages: Sequence[Message]) -> None:
        self._remote.send([self._marked(message) for message in messages])

    def _marked(self, message: Message) -> bytes:
        """A row with what tells it from others, should it come twice."""
        mark = f', "id": {message.id}, "spool": "{self._spool.name}"}}'
        return message.payload[:-1] + mark.encode()
