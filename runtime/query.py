"""What follows the question mark of a source's or a sink's name, as in "pictures:DIR?limit=1GB"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from adae_edge.contract import MAX_SIDE
from adae_edge.errors import UsageError

Parser = Callable[[str], Any]


def options_of(spec: str, query: str, known: Mapping[str, Parser]) -> dict[str, Any]:
    """The options of a query, by name.

    Args:
        spec: the source or the sink as it was given, for messages.
        query: what follows its question mark; "" for no options.
        known: what each option is read by; it raises ValueError with the end of a sentence that
            begins "takes".

    Raises:
        UsageError: an option is unknown, is given twice, or has an impossible value.
    """
    found: dict[str, Any] = {}
    spec = re.split("[?#]", spec, maxsplit=1)[0]  # a mistyped option may have a password behind it
    for part in filter(None, query.split("&")):
        name, _, text = part.partition("=")
        if name not in known:
            raise UsageError(f"{spec} has the option {name}, and can have {', '.join(known)}")
        if name in found:
            raise UsageError(f"{spec} has the option {name} twice")
        try:
            found[name] = known[name](text)
        except ValueError as error:
            raise UsageError(f"{name} in {spec} takes {error}") from error
    return found


def size(text: str) -> tuple[int, int]:
    """Read width and height, as in "640x360"."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None or not all(0 < int(side) <= MAX_SIDE for side in match.groups()):
        raise ValueError(f"WIDTHxHEIGHT, each from 1 to {MAX_SIDE}")
    return int(match[1]), int(match[2])


def rate(text: str) -> float:
    """Read a number of frames a second."""
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) or not 0 < float(text) <= 1000:
        raise ValueError("frames a second, above 0 and up to 1000")
    return float(text)


def count(text: str) -> int:
    """Read a whole number."""
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise ValueError("a whole number")
    return int(text)


def bytes_of(text: str) -> int:
    """Read a size such as "100MB" in bytes."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})(kB|MB|GB|TB)", text)
    if match is None:
        raise ValueError("a size such as 100MB")
    return int(match[1]) * {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[match[2]]


def minutes(text: str) -> float:
    """Read a number of minutes in seconds."""
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) <= 0:
        raise ValueError("minutes, above 0")
    return float(text) * 60


def one_of(*choices: str) -> Parser:
    """The parser of an option that takes one of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(" or ".join(choices))
        return text

    return parse
