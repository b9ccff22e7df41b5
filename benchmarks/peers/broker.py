"""A broker of MQTT, mosquitto, and a subscriber that misses nothing while either is away."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from adae_edge.benchmarks.peers.processes import Peer, free_port, program, start, wait_for_port

Received = dict[str, Any]
_WAIT_S = 300


class Broker:
    """A mosquitto that can be stopped, and begun again with all that it had.

    Attributes:
        port: where it listens on 127.0.0.1.
        peer: its process.
    """

    def __init__(self, folder: Path, lines: Sequence[str] = (), tls: Sequence[str] = ()) -> None:
        """
        Args:
            folder: for its configuration and its database.
            lines: further ones of the configuration.
            tls: what makes the listener an encrypted one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        listener = [f"listener {self.port} 127.0.0.1", *tls]
        keeping = ["persistence true", f"persistence_location {folder}/", "user root"]
        unlimited = ["max_queued_messages 0", "max_inflight_messages 0"]
        lines = lines or ["allow_anonymous true"]
        self._file.write_text("\n".join([*listener, *keeping, *unlimited, *lines, ""]))
        self.begin()

    def begin(self) -> None:
        """Start it, and wait until it listens."""
        self.peer: Peer = start([program("mosquitto"), "-c", self._file])
        wait_for_port(self.port, self.peer)

    def stop(self) -> None:
        """Have it keep what it has, and end."""
        self.peer.tell(signal.SIGTERM)
        self.peer.process.wait(_WAIT_S)


@contextmanager
def broker(folder: Path, lines: Sequence[str] = (), tls: Sequence[str] = ()) -> Iterator[Broker]:
    """A broker within the block; raises MissingPeer where there is no mosquitto."""
    one = Broker(folder, lines, tls)
    try:
        yield one
    finally:
        one.peer.thaw() if one.peer.process.poll() is None else None
        one.peer.kill()


class Subscriber:
    """Receives everything under a topic, in a session that the broker keeps.

    Attributes:
        received: what came, in order: each message's JSON object with its "topic".
        states: what came under "status".
    """

    def __init__(self, port: int, topic: str = "adae-edge") -> None:
        """
        Args:
            port: of the broker.
            topic: what topics begin with.
        """
        self.received: list[Received] = []
        self.states: list[str] = []
        self._topic = topic
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, f"test-{topic}", clean_session=False
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._subscribed.wait(_WAIT_S):
            raise RuntimeError("the broker takes no subscription")

    def _subscribe(self, client: Any, *_: Any) -> None:
        client.subscribe(f"{self._topic}/#", qos=1)

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        if message.topic.endswith("/status"):
            self.states.append(message.payload.decode())
        else:
            self.received.append({**json.loads(message.payload), "topic": message.topic})

    @property
    def frames(self) -> list[Received]:
        """The rows about frames, each once: what comes again with its spool and id is left out."""
        return [row for row in once(self.received) if "score" in row]

    def wait_for(self, condition: Callable[[], object], limit: float = _WAIT_S) -> None:
        """Wait until a condition holds, or time is up."""
        wait_until(condition, limit)

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def subscriber(port: int, topic: str = "adae-edge") -> Iterator[Subscriber]:
    """A subscriber within the block."""
    one = Subscriber(port, topic)
    try:
        yield one
    finally:
        one.close()


def once(received: Sequence[Received]) -> list[Received]:
    """What was received, without what came again with the same spool and id."""
    return list({(row["spool"], row["id"]): row for row in reversed(received)}.values())[::-1]


def wait_until(condition: Callable[[], object], limit: float = _WAIT_S) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not.
    """
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.02)
