"""The URL of a camera: its user and password as FFmpeg takes them, and never in a message."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from adae_edge.errors import UsageError, without_password

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[\w.-]+)(:[0-9]{1,5})?(?=[/?#]|$)")


class Address:
    """A URL with its user and password.

    Attributes:
        url: with the user and the password percent-encoded, as FFmpeg takes it.
        shown: without them.
    """

    def __init__(self, url: str) -> None:
        """
        Args:
            url: "scheme://[user[:password]@]host[:port][/path]". The password may hold any letter,
                percent-encoded or not.

        Raises:
            UsageError: there is no host in it.
        """
        self.shown = without_password(url)
        scheme, rest = url.partition(":")[0], url.partition("://")[2]
        user, host = _split(rest)
        if not _HOST.match(host):
            raise UsageError(f"{self.shown} has no host: give {scheme}://HOST[:PORT]/PATH")
        name, colon, password = user.partition(":")
        # A password that is percent-encoded already stays as it is.
        self._secrets = {part for part in (user, name, password, unquote(password)) if part}
        encoded = [quote(unquote(part), safe="") for part in (name, password)]
        self._secrets |= {part for part in encoded if part}
        login = f"{encoded[0]}{colon}{encoded[1]}@" if user else ""
        self.url = f"{scheme}://{login}{host}"

    def hide(self, text: str) -> str:
        """The text without the URL's user and password."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return without_password(text)


def _split(rest: str) -> tuple[str, str]:
    """What stands before and behind the "@" that ends the user and the password.

    A password should have its "/" and "@" encoded. Where it has not, the host tells which "@" it
    is: the last one before the first "/", or the next one behind which a host stands.
    """
    if "@" not in rest:
        return "", rest
    start = rest.rfind("@", 0, len(re.split("[/?#]", rest, maxsplit=1)[0]))
    places = [start, *(match.start() for match in re.finditer("@", rest) if match.start() > start)]
    for place in places:
        if place >= 0 and _HOST.match(rest[place + 1 :]):
            return rest[:place], rest[place + 1 :]
    return rest[: places[-1]], rest[places[-1] + 1 :]
