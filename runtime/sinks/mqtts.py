"""MQTT over TLS."""

from adae_edge.runtime.sinks.mqtt import Mqtt


class Mqtts(Mqtt):
    """A broker at mqtts://."""

    scheme, port = "mqtts", 8883


SINK = Mqtts
