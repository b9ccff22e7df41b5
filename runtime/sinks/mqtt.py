"""Results to an MQTT broker, with quality of service 1, and a last will."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Sequence
from typing import Any

from adae_edge.errors import SinkError, UsageError
from adae_edge.extras import needs
from adae_edge.runtime.query import one_of
from adae_edge.runtime.sinks.queued import Queued, Remote
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Place
from adae_edge.runtime.sinks.target import Target, network_error

with needs("Sending to an MQTT broker", "mqtt"):
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

_CONNECT_S = 5.0
_ANSWER_S = 10.0  # without an acknowledgement
_KEEPALIVE_S = 20
_VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_TOPIC = "adae-edge"


def _topic(text: str) -> str:
    if not text or text.startswith("$") or re.search(r"[+#\x00]", text):
        raise ValueError("a topic without + and #, as plant/line1")
    return text


_OPTIONS = {
    "topic": _topic,
    "version": one_of(*_VERSIONS),
    "discovery": one_of("homeassistant"),
}


class Mqtt(Queued):
    """A broker at mqtt://: rows under TOPIC/frames and TOPIC/events, its state under TOPIC/status.

    The state is retained: "online", or "offline" after the end and, by the last will, after a
    crash.
    """

    scheme, port = "mqtt", 1883

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: "//[user:password@]host[:port]" and options behind a "?": ``topic``,
                ``version`` of MQTT, ``discovery``, and those of ``Target``.
            keeping: how rows are kept.

        Raises:
            UsageError: the URL or an option is wrong.
            SinkError: the spool cannot be opened.
        """
        target = self._target(place)
        topic = target.options.get("topic", _TOPIC)
        news: list[str] = []
        remote = Broker(target, topic, encrypted=self.scheme == "mqtts")
        spool = target.open_spool(news.append, topic)
        remote.client_id = f"adae-edge-{spool.name}"
        super().__init__(remote, spool, news, keeping)

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the URL, an option or the certificates."""
        target = cls._target(place)
        if cls.scheme == "mqtts":
            target.encryption()

    @classmethod
    def where(cls, place: str) -> Place:
        """The broker, its user and the topic."""
        target = cls._target(place)
        return target.where(target.options.get("topic", _TOPIC))

    @classmethod
    def _target(cls, place: str) -> Target:
        target = Target(f"{cls.scheme}:{place}", cls.port, _OPTIONS)
        if target.path.strip("/"):
            raise UsageError(f"{target.shown} has no path: give ?topic={target.path.strip('/')}")
        if cls.scheme == "mqtt":
            target.check_unencrypted()
        return target


class Broker(Remote):
    """A broker, reached by a client of paho that lives as long as its connection.

    A batch is published when the one before is acknowledged, so that at most one is in flight, and
    nothing overtakes what was lost with a connection.

    Attributes:
        client_id: what the broker knows this client by; no other one may have it.
    """

    batch = 20
    client_id = ""

    def __init__(self, target: Target, topic: str, encrypted: bool) -> None:
        """
        Args:
            target: where it is.
            topic: what topics begin with.
            encrypted: whether to speak TLS.

        Raises:
            UsageError: the authorities' file cannot be read.
        """
        self._target, self._topic = target, topic
        self._encryption = target.encryption() if encrypted else None
        self._client: paho.Client | None = None
        self._changed = threading.Condition()
        # What the thread of paho has heard since the connection was asked for:
        self._connected = False
        self._acknowledged: set[int] = set()
        self._refusal = ""

    def send(self, messages: Sequence[bytes]) -> None:
        """Publish messages, and wait for their acknowledgements."""
        try:
            client = self._client or self._connect()
            numbers = set()
            for message in messages:
                kind = "events" if message.startswith(b'{"event"') else "frames"
                told = client.publish(f"{self._topic}/{kind}", message, qos=1)
                numbers.add(told.mid)
            self._wait(numbers)
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Say that this client is offline, and disconnect."""
        if self._client is not None:
            with contextlib.suppress(SinkError, OSError, ValueError, RuntimeError):
                told = self._client.publish(self._status, "offline", qos=1, retain=True)
                self._wait({told.mid})
            self._let_go()

    @property
    def _status(self) -> str:
        return f"{self._topic}/status"

    def _connect(self) -> paho.Client:
        """A client that the broker has accepted, and whose presence is told."""
        protocol = _VERSIONS[self._target.options.get("version", "5")]
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            clean_session=None if protocol == MQTTProtocolVersion.MQTTv5 else True,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_S
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        if self._target.user:
            client.username_pw_set(self._target.user, self._target.password)
        if self._encryption is not None:
            client.tls_set_context(self._encryption)
        client.will_set(self._status, "offline", qos=1, retain=True)
        self._connected, self._refusal = False, ""
        self._acknowledged.clear()
        self._client = client
        try:
            client.connect(self._target.host, self._target.port, _KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise network_error(self._target.shown, error) from error
        client.loop_start()
        self._wait(None)
        numbers = {client.publish(self._status, "online", qos=1, retain=True).mid}
        if "discovery" in self._target.options:
            for topic, entity in _entities(self._topic).items():
                numbers.add(client.publish(topic, json.dumps(entity), qos=1, retain=True).mid)
        self._wait(numbers)
        return client

    def _wait(self, numbers: set[int] | None) -> None:
        """Wait until messages are acknowledged, or for None until the broker accepts the client.

        Raises:
            SinkError: it refuses, goes away, or says nothing for long.
        """
        with self._changed:
            deadline, missing = time.monotonic() + _ANSWER_S, -1
            while True:
                if self._refusal:
                    raise SinkError(f"{self._target.shown} {self._refusal}")
                left = len(numbers - self._acknowledged) if numbers else int(not self._connected)
                if not left:
                    self._acknowledged.clear()
                    return
                if left != missing:
                    deadline, missing = time.monotonic() + _ANSWER_S, left
                if time.monotonic() > deadline:
                    raise SinkError(f"{self._target.shown} does not answer")
                self._changed.wait(deadline - time.monotonic() + 0.01)

    def _let_go(self) -> None:
        """Forget the client, and with it whatever it holds in memory."""
        client, self._client = self._client, None
        if client is not None:
            client.on_disconnect = None
            with contextlib.suppress(OSError, ValueError):
                client.disconnect()
            client.loop_stop()

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: Any, *_: Any) -> None:
        with self._changed:
            if reason.is_failure:
                hint = ": give ?version=3.1.1" if "protocol version" in str(reason) else ""
                self._refusal = f"refuses the connection: {str(reason).lower()}{hint}"
            self._connected = not reason.is_failure
            self._changed.notify()

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: Any, *_: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._refusal = f"refuses a message: {str(reason).lower()}"
            self._acknowledged.add(mid)
            self._changed.notify()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, *_: Any) -> None:
        with self._changed:
            self._refusal = self._refusal or f"ended the connection: {str(reason).lower()}"
            self._changed.notify()


def _entities(topic: str) -> dict[str, dict[str, Any]]:
    """What Home Assistant is to show, by the topic at which it looks for it."""
    node = re.sub(r"[^A-Za-z0-9_-]", "_", topic)
    common = {
        "state_topic": f"{topic}/frames",
        "availability_topic": f"{topic}/status",
        "device": {"identifiers": [node], "name": topic, "manufacturer": "adae-edge"},
    }
    states = "{'anomalous': 'ON', 'normal': 'OFF'}"  # and None, which shows as unknown
    verdict = {
        "name": "Anomalous",
        "unique_id": f"{node}_anomalous",
        "device_class": "problem",
        "value_template": f"{{{{ {states}.get(value_json.verdict) }}}}",
    }
    score = {
        "name": "Score",
        "unique_id": f"{node}_score",
        "state_class": "measurement",
        "value_template": "{{ value_json.score }}",
    }
    return {
        f"homeassistant/binary_sensor/{node}/anomalous/config": common | verdict,
        f"homeassistant/sensor/{node}/score/config": common | score,
    }


SINK = Mqtt
