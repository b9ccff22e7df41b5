"""How SIGINT and SIGTERM stop a command, and SIGHUP has it load its model again.

The first of those that stop asks, the second one ends the command at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none


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
def gently() -> Iterator[Callable[..., None]]:
    """Have signals call functions within the block, in place of their usual effect.

    Yields:
        Takes what the first signal that stops calls, and what SIGHUP calls, if anything. Until it
        is called, signals do as elsewhere: Stopped is raised where the program is, and SIGHUP ends
        it.
    """
    global _stop
    before = signal.getsignal(_HANGUP) if _HANGUP else None

    def call(stop: Callable[[], None], reload: Callable[[], None] | None = None) -> None:
        global _stop
        _stop = stop
        if Stopped.asked:  # it was raised where it got lost
            raise Stopped
        if _HANGUP and reload is not None:
            signal.signal(_HANGUP, lambda number, frame: reload())

    try:
        with _ended_by_second():
            yield call
    finally:
        _stop = None
        if _HANGUP:
            signal.signal(_HANGUP, before or signal.SIG_DFL)


@contextlib.contextmanager
def _ended_by_second() -> Iterator[None]:
    """Within, a second signal ends the process also while the first one is not yet heard.

    Python calls a handler between two of its own instructions, and a run of a slow model is one.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_count, args=(read,), name="signals", daemon=True).start()
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.close(write)


def _count(read: int) -> None:
    """Read the numbers of signals as they come, and end the process at the second that stops."""
    came = 0
    while number := os.read(read, 1):
        came += number[0] in SIGNALS
        if came == 2:
            os._exit(128 + number[0])  # as a shell tells of a process that a signal ended
    os.close(read)


def _on_signal(number: int, frame: FrameType | None) -> None:
    Stopped.asked = True
    for other in SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    if _stop is None:
        raise Stopped
    _stop()
