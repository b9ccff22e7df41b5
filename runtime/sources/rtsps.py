"""RTSP cameras over TLS."""

from adae_edge.runtime.sources.rtsp import Rtsp


class Rtsps(Rtsp):
    """An RTSP camera whose connection is encrypted."""

    scheme = "rtsps"
    protocols = "rtsp,rtp,tcp,tls,udp"


SOURCE = Rtsps
