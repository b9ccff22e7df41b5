"""What FFmpeg complains of, in words that can be shown; it knows no decoder."""

from __future__ import annotations

import errno
from typing import Any

# Errors that are no fault of the file.
NO_FAULTS = {errno.EMFILE: "too many files are open", errno.ENFILE: "too many files are open"}


def words_of(error: Any) -> str:
    """What FFmpeg printed about an error, or the error's own name."""
    text = error.log[2].strip() if error.log else error.strerror
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:200])
