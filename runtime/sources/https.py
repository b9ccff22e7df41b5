"""HTTP cameras over TLS."""

from types import MappingProxyType

from adae_edge.runtime.sources.http import Http


class Https(Http):
    """A stream over HTTPS."""

    scheme = "https"
    options = MappingProxyType({**Http.options, "protocol_whitelist": "https,http,tls,tcp"})


SOURCE = Https
