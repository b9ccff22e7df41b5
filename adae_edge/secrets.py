"""Values that stand outside of a name: environment variables, and systemd's credentials."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote

from adae_edge.errors import UsageError, hide, is_secret_word, without_password

_PLACE = re.compile(r"\$\{([^}]*)\}?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"credential:([A-Za-z0-9_][A-Za-z0-9_.-]*)")


def filled_in(spec: str) -> str:
    """The name of a source or a sink with its ``${NAME}`` and ``${credential:NAME}`` replaced.

    A variable is put in as it is. A credential is percent-encoded where it stands in a URL. From
    then on ``without_password`` hides credentials, and variables whose name tells that they are
    secret, as TOKEN does.

    Args:
        spec: for example "rtsp://viewer:${credential:gate}@10.0.0.5/stream".

    Raises:
        UsageError: what it names is not set, is empty, cannot be read, or has several lines; or it
            has a letter that no path has.
    """

    def value(place: re.Match[str]) -> str:
        name = place[1]
        if not place[0].endswith("}"):
            raise UsageError(f"{spec} has a ${{ that is not closed")
        if credential := _CREDENTIAL.fullmatch(name):
            secret = _credential(credential[1], spec)
            in_url = re.search(r"://\S*$", spec[: place.start()])
            encoded = quote(secret, safe="") if in_url else secret
            hide(secret, encoded)
            return encoded
        if not _VARIABLE.fullmatch(name):
            known = "${NAME} or ${credential:NAME}"
            raise UsageError(f"{spec} has {place[0]}, which is no {known}")
        text = os.environ.get(name, "")
        if not text:
            raise UsageError(f"{spec} needs the environment variable {name}, which is not set")
        if is_secret_word(name):
            hide(text)
        return text

    if "\0" in spec:
        raise UsageError(f"{spec} has a letter that no name has")
    return _PLACE.sub(value, spec)


def _credential(name: str, spec: str) -> str:
    """The text of one of systemd's credentials, without the line end of its file."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    needs = f"{without_password(spec)} needs the credential {name}"
    if not folder:
        raise UsageError(f"{needs}, and CREDENTIALS_DIRECTORY is not set: see LoadCredential=")
    try:
        secret = (Path(folder) / name).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except FileNotFoundError as error:
        raise UsageError(f"{needs}, which is not in {folder}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{needs}, which cannot be read in {folder}") from error
    if not secret.isprintable() or not secret:
        raise UsageError(f"{needs}, which is {'not one line of text' if secret else 'empty'}")
    return secret
