"""How SIGINT and SIGTERM stop a command: the first one asks, the second one ends it at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The user or the system asked the process to stop.

    No decoder's ``except Exception`` may swallow it. Python itself may: an exception raised in the
    middle of an import, or in a callback, can get lost or turn into another one. ``asked``
    remembers that the signal came.
    """

    asked = False


_stop: Callable[[], None] | None = None


def listen() -> None:
    """Take over both signals: the first one raises Stopped, or calls what ``gently`` was given."""
    for number in SIGNALS:
        signal.signal(number, _on_signal)


@contextlib.contextmanager
def gently() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Within, the first signal calls a function in place of raising Stopped where the program is.

    Yields:
        Takes that function; until it is called, a signal raises Stopped as elsewhere.
    """
    global _stop

    def call(stop: Callable[[], None]) -> None:
        global _stop
        _stop = stop

    try:
        yield call
    finally:
        _stop = None


def _on_signal(number: int, frame: FrameType | None) -> None:
    Stopped.asked = True
    for other in SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    if _stop is None:
        raise Stopped
    _stop()
