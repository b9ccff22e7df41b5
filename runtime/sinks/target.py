"""Where results are sent over the network: its URL, and the spool that belongs to it."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adae_edge.errors import SinkError, SpoolInUse, UsageError, without_password
from adae_edge.runtime.hosts import is_loopback, one_name
from adae_edge.runtime.query import Parser, bytes_of, one_of, options_of
from adae_edge.runtime.sinks.sink import Place
from adae_edge.runtime.spool import Spool

# Options of every sink that sends.
_OPTIONS: Mapping[str, Parser] = {
    "spool": str,
    "limit": bytes_of,
    "full": one_of("oldest", "newest"),
    "ca": str,
}
_LIMIT = 100 * 1000**2
_MOST_SPOOLS = 64  # of streams that send to one target at the same time


class Target:
    """A server, and how to reach it.

    Attributes:
        shown: its URL up to the port, for messages.
        host, port: where it listens.
        user, password: "" for none.
        path: behind the host, with the query where that is the server's.
        options: by name.
    """

    def __init__(
        self, url: str, default_port: int, options: Mapping[str, Parser], own_query: bool = True
    ) -> None:
        """
        Args:
            url: "scheme://[user[:password]@]host[:port][/path]" and options. The user and the
                password are percent-encoded.
            default_port: of the scheme.
            options: what is read beside ``spool``, ``limit``, ``full`` and ``ca``.
            own_query: whether options follow the question mark; otherwise they follow the "#", and
                the query is the server's.

        Raises:
            UsageError: there is no host or no such port in it, an option is wrong, or there is no
                such folder for the spool.
        """
        hidden = without_password(url)
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or default_port
        except ValueError as error:
            raise UsageError(f"{hidden} is no URL: {error}") from error
        if parts.port == 0:
            raise UsageError(f"{hidden} is no URL: there is no port 0")
        if not self.host:
            raise UsageError(f"{hidden} has no host: give {parts.scheme}://HOST[:PORT]")
        if own_query and parts.fragment:
            raise UsageError(f"{hidden} has a # in it, which is %23 in a URL")
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.shown = f"{parts.scheme}://{host}:{self.port}"
        self.user, self.password = unquote(parts.username or ""), unquote(parts.password or "")
        self.path = parts.path
        self._identity = self.shown + parts.path
        query = parts.query if own_query else parts.fragment
        if not own_query and parts.query:
            self.path += f"?{parts.query}"
        self.options: dict[str, Any] = options_of(hidden, query, {**_OPTIONS, **options})
        spool = self.options.get("spool")
        if spool is not None and not Path(spool).is_dir():
            raise UsageError(f"{hidden} has no folder {spool} for its spool")

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine, so that nothing goes over a wire."""
        return is_loopback(self.host)

    def where(self, about: str = "") -> Place:
        """What tells it from other targets, for whom its users are several.

        Args:
            about: as for ``open_spool``.
        """
        scheme, _, _ = self.shown.partition(":")
        server = scheme, one_name(self.host), self.port, self.path.rstrip("/")
        user = self.user, self.password, self.options.get("token")
        manner = sorted(item for item in self.options.items() if item[0] not in ("token", "topic"))
        return Place(repr((server, user, about)), repr(manner))

    def encryption(self) -> ssl.SSLContext:
        """TLS that trusts the system's authorities, or those of the option ``ca``.

        Raises:
            UsageError: that file cannot be read, or holds no certificate.
        """
        authorities = self.options.get("ca")
        try:
            return ssl.create_default_context(cafile=authorities)
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise UsageError(f"cannot read certificates from {authorities}: {why}") from error

    def check_unencrypted(self) -> None:
        """Raise UsageError where certificates are named that nobody would look at."""
        if "ca" in self.options:
            raise UsageError(f"{self.shown} is not encrypted, and so has no option ca")

    def open_spool(self, told: Callable[[str], object], about: str = "") -> Spool:
        """Open the spool of this target, or a further one where another stream sends to it, too.

        Args:
            told: as for ``Spool``.
            about: what tells this target from others at the same URL, as a topic.

        Raises:
            SinkError: it cannot be opened.
        """
        folder = self._folder()
        digest = hashlib.sha256(f"{self._identity} {about}".encode()).hexdigest()[:8]
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.shown)
        limit, full = self.options.get("limit", _LIMIT), self.options.get("full", "oldest")
        for number in range(1, _MOST_SPOOLS + 1):
            suffix = "" if number == 1 else f"-{number}"
            try:
                return Spool(folder / f"{name}-{digest}{suffix}.spool", limit, full, told)
            except SpoolInUse:
                continue
        raise SinkError(f"{_MOST_SPOOLS} streams send to {self.shown} already")

    def _folder(self) -> Path:
        """Where spools lie: as asked, or where systemd or the desktop wants what programs keep."""
        if "spool" in self.options:
            return Path(self.options["spool"])
        if systemd := os.environ.get("STATE_DIRECTORY"):
            return Path(systemd.partition(":")[0])
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        folder = Path(home).expanduser() / "adae-edge"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"cannot make {folder}: {error.strerror}; give spool=DIR") from error
        return folder


def network_error(shown: str, error: BaseException) -> SinkError:
    """What went wrong on the way to a server, in a sentence."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return SinkError(f"{shown} has a certificate that is not trusted: {error.verify_message}")
    if isinstance(error, TimeoutError):
        return SinkError(f"{shown} does not answer")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return SinkError(f"cannot reach {shown}: {reason}")
