"""The name of a receiver, as dicom-scp://host:port/TITLE?hosts=10.0.0.0/8, and what it says."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote, urlsplit

from adae_edge.errors import UsageError
from adae_edge.runtime.dicom.messages import Settings
from adae_edge.runtime.query import Parser, bytes_of, minutes, options_of
from adae_edge.runtime.sources.source import Receiving

PORT = 11112
_LIMIT, _KEEP_S = 10 * 1000**3, 24 * 60 * 60.0
_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: no backslash
_UID = re.compile(r"[0-9.]{1,64}")


def settings_of(name: str, receiving: Receiving) -> Settings:
    """What the receiver is told, by the source's name and what goes with it.

    Raises:
        UsageError: the name or an option in it is wrong, or the certificates are not complete.
    """
    try:
        parts = urlsplit(name)
        host, port = parts.hostname or "127.0.0.1", parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{name} is no URL: {error}") from error
    title = unquote(parts.path.removeprefix("/"))
    if parts.netloc != name.removeprefix("dicom-scp://").split("/")[0] or not _TITLE.fullmatch(
        title
    ):
        raise UsageError(f"{name} has no AE title: give dicom-scp://HOST:PORT/TITLE")
    known = {
        "limit": bytes_of,
        "keep": minutes,
        "callers": _list_of(_TITLE, "AE titles of 1 to 16 letters, with commas between them"),
        "hosts": _networks,
        "classes": _list_of(_UID, "UIDs with commas between them"),
        "syntaxes": _list_of(_UID, "UIDs with commas between them"),
        "commit": _peers,
    }
    options = options_of(name, parts.query, known)
    files = receiving.cert, receiving.key, receiving.ca
    cert, key, ca = ("" if path is None else str(path) for path in files)
    if bool(cert) != bool(key) or (ca and not cert):
        raise UsageError("--tls-cert and --tls-key go together, and --tls-ca goes with them")
    return Settings(
        host,
        port,
        title,
        str(receiving.spool),
        options.pop("limit", _LIMIT),
        options.pop("keep", _KEEP_S),
        cert=cert,
        key=key,
        ca=ca,
        **options,
    )


def _list_of(pattern: re.Pattern[str], takes: str) -> Parser:
    """A parser of texts with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(unquote(part) for part in text.split(","))
        if not all(pattern.fullmatch(part) for part in parts):
            raise ValueError(takes)
        return parts

    return parse


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(part)) for part in text.split(","))
    except ValueError as error:
        raise ValueError("addresses or networks as 10.0.0.0/8, with commas between them") from error


def _peers(text: str) -> tuple[tuple[str, str, int], ...]:
    found = []
    for part in text.split(","):
        title, _, place = unquote(part).partition(":")
        host, _, port = place.rpartition(":")
        if not (_TITLE.fullmatch(title) and host and port.isdecimal() and int(port) < 2**16):
            raise ValueError("TITLE:HOST:PORT, with commas between them")
        found.append((title, host, int(port)))
    return tuple(found)
