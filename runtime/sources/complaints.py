"""What FFmpeg complains of, in words that can be shown; it knows no decoder."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

# Errors that are no fault of the file.
NO_FAULTS = {errno.EMFILE: "too many files are open", errno.ENFILE: "too many files are open"}
# What a camera that refuses RTSP's transport needs.
WAYS_OUT = {
    errno.EPROTONOSUPPORT: "it refuses this transport: end its URL in #udp for UDP, or in #tcp"
}
# Errors by name that leave the picture as it is: cameras write what they like into these segments.
_HARMLESS = ("unable to decode APP fields", "unable to decode COM")
# What H.264 tells of a frame that was left out, and FFmpeg takes for no error and conceals.
_GAP = "Frame num gap"


def complaints(said: Iterable[tuple[int, str, str]], most: int) -> list[str]:
    """The lines of a log up to a level, and those about frames that were left out."""
    lines = (text.strip() for level, _, text in said if level <= most or text.startswith(_GAP))
    return [line for line in lines if line and not line.startswith(_HARMLESS)]


def words_of(error: Any) -> str:
    """What FFmpeg printed about an error, or the error's own name."""
    text = error.log[2].strip() if error.log else error.strerror
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:200])
