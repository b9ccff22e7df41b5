"""A study or a series of an archive that speaks DIMSE: dicom://TITLE@HOST:PORT/STUDY[/SERIES]."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from adae_edge.errors import UsageError
from adae_edge.runtime.dicom.pull_request import Peer
from adae_edge.runtime.query import options_of
from adae_edge.runtime.sources.pulled import OPTIONS, Pulled
from adae_edge.runtime.sources.source import Wanted

_PORT = 104
_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: no backslash


class Dicom(Pulled):
    """Pulls by C-GET, or by C-MOVE to a receiver of its own."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//TITLE@host:port/STUDY[/SERIES]" and options behind a question mark.
            wanted: the frames that the model takes, and where the spool is.

        Raises:
            UsageError: the address or an option is wrong, or as ``Pulled``.
        """
        spec = f"dicom:{place}"
        try:
            parts = urlsplit(spec)
            host, port = parts.hostname or "", parts.port or _PORT
        except ValueError as error:
            raise UsageError(f"{spec} is no URL: {error}") from error
        title = unquote(parts.netloc.rpartition("@")[0])
        uids = parts.path.strip("/").split("/")
        if not host or not _TITLE.fullmatch(title) or len(uids) > 2 or parts.fragment:
            raise UsageError(f"{spec} is no series: give dicom://TITLE@HOST:PORT/STUDY[/SERIES]")
        options = options_of(spec, parts.query, OPTIONS | {"title": _title, "move": _listening})
        peer = Peer(title, host, port, options.get("title", "ADAE"), options.get("move"))
        name = f"dicom://{parts.netloc}"
        super().__init__(name, peer, uids, options, wanted)


def _title(text: str) -> str:
    if not _TITLE.fullmatch(unquote(text)):
        raise ValueError("an AE title of 1 to 16 letters")
    return unquote(text)


def _listening(text: str) -> tuple[str, int]:
    host, _, port = unquote(text).rpartition(":")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError("PORT or HOST:PORT, where this side receives")
    return host.strip("[]") or "127.0.0.1", int(port)


SOURCE = Dicom
