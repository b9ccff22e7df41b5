"""RTSP cameras."""

from __future__ import annotations

from adae_edge.errors import UsageError
from adae_edge.runtime.sources.network import Network
from adae_edge.runtime.sources.source import Wanted


class Rtsp(Network):
    """An RTSP camera over TCP, or over UDP where the URL ends in "#udp"."""

    scheme = "rtsp"
    protocols = "rtsp,rtp,tcp,udp"

    def __init__(self, place: str, wanted: Wanted) -> None:
        """As ``Network``; raises UsageError for another word behind the "#", too."""
        place, _, transport = place.partition("#")
        if transport not in ("", "tcp", "udp"):
            raise UsageError(f"a camera's URL may end in #tcp or #udp, and not in #{transport}")
        transport = transport or "tcp"
        self.options = {
            "rtsp_transport": transport,
            "allowed_media_types": "video",
            "protocol_whitelist": self.protocols,
        }
        if transport == "tcp":
            # With a queue FFmpeg notices packets that the sender left out; TCP reorders none.
            self.options["reorder_queue_size"] = "2"
        super().__init__(place, wanted)


SOURCE = Rtsp
