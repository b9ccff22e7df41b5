"""What every source of frames is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from adae_edge.errors import FrameError
from adae_edge.runtime.frame import Frame


class Source(Protocol):
    """Yields frames; ``live`` says whether it waits for time to pass, as a camera does."""

    live: bool

    def __iter__(self) -> Iterator[Frame | FrameError]: ...
