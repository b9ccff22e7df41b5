"""Where time goes: the stages from a source to the sinks, timed while somebody listens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

# In the order in which a frame passes them.
STAGES = ("grab", "decode", "convert", "inference", "sink")

_told: Callable[[str, float], object] | None = None
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


def stage(name: str) -> AbstractContextManager[None]:
    """Time the block as a stage, one of ``STAGES``; costs next to nothing while nobody listens.

    Stages do not lie within each other.
    """
    return _NOTHING if _told is None else _Stage(name, _told)


@contextlib.contextmanager
def listening(told: Callable[[str, float], object]) -> Iterator[None]:
    """Call a function with each stage that ends within the block.

    Args:
        told: called with its name and its seconds, in the thread that it was in.
    """
    global _told
    _told = told
    try:
        yield
    finally:
        _told = None


class _Stage(AbstractContextManager[None]):
    """A stage that is timed."""

    __slots__ = ("_name", "_started", "_told")

    def __init__(self, name: str, told: Callable[[str, float], object]) -> None:
        self._name, self._told = name, told

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._told(self._name, time.perf_counter() - self._started)
