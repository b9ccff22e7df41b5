"""HTTP cameras: MJPEG, and every other stream that says itself what it is."""

from types import MappingProxyType

from adae_edge.runtime.sources.network import Network

# No format that names other files or URLs.
_FORMATS = "mpjpeg,mjpeg,mpegts,matroska,flv,ogg,nut,h264,hevc,mov"


class Http(Network):
    """A stream over HTTP."""

    scheme = "http"
    options = MappingProxyType({"protocol_whitelist": "http,tcp", "format_whitelist": _FORMATS})


SOURCE = Http
