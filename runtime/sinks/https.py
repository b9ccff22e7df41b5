"""Webhooks over TLS."""

from adae_edge.runtime.sinks.http import Http


class Https(Http):
    """A webhook at https://."""

    scheme, port = "https", 443


SINK = Https
