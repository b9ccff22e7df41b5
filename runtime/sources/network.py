"""Cameras that are reached by a URL, received by PyAV."""

from __future__ import annotations

from collections.abc import Mapping

from adae_edge.runtime.sources.address import Address
from adae_edge.runtime.sources.av import Reception
from adae_edge.runtime.sources.containers import PROMPT
from adae_edge.runtime.sources.live import Live
from adae_edge.runtime.sources.source import Wanted


class Network(Live):
    """A camera by its URL; each kind of URL is a class with its ``scheme`` and ``options``.

    Attributes:
        scheme: what the URL begins with.
        options: what FFmpeg is told beside the URL.
        reception: how it is received.
    """

    scheme: str
    options: Mapping[str, str]
    reception = Reception

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: the URL behind its scheme and colon.
            wanted: the frames that the model takes.

        Raises:
            UsageError: there is no host in it, or other frames are wanted.
        """
        address = Address(f"{self.scheme}:{place}")
        wanted.check_pictures(address.shown)
        options = {**PROMPT, **self.options}
        super().__init__(
            address.shown,
            lambda: self.reception(address.url, options, wanted.shrinking, hide=address.hide),
        )
