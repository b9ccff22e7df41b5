"""Runs a measurement in a process of its own, so that no other one is in its memory or way."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from adae_edge.errors import AdaeEdgeError, DeviceError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A process that measures, and what it is asked: whether it is to end early.
Measuring = Callable[[Any, Callable[[], bool]], dict[str, Any]]


class Apart:
    """Measures in processes of their own, several at a time if asked."""

    def __init__(self) -> None:
        self.stopped = False
        self._running: list[BaseProcess] = []

    def stop(self) -> None:
        """Have what is measured now end early, and nothing be measured after; for signals."""
        self.stopped = True
        for process in self._running:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    def measure(self, measuring: Measuring, jobs: Sequence[Any]) -> list[dict[str, Any]]:
        """What ``measuring`` returns of each job, all jobs at a time, each in its own process.

        Args:
            measuring: a function of a module; called with a job and with what tells whether to
                end early.
            jobs: what can be sent to another process.

        Raises:
            AdaeEdgeError: what a process raised, with its exit code.
            DeviceError: a process ended without a word.
        """
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(len(jobs))
        receivers = []
        self._running = []
        with _held_signals():
            for job in jobs:
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(sender, ready, measuring, job))
                process.start()
                sender.close()
                receivers.append(receiver)
                self._running.append(process)
        try:
            return [
                _result(receiver, process)
                for receiver, process in zip(receivers, self._running, strict=True)
            ]
        except BaseException:
            for running in self._running:
                running.kill()
            raise
        finally:
            for running in self._running:
                running.join()
            self._running = []


class Ready:
    """What a job waits for before it begins to measure: that all others are ready, too."""

    barrier: threading.Barrier | None = None

    @classmethod
    def wait(cls) -> None:
        """Wait for the others; comes back at once where there are none."""
        if cls.barrier is not None:
            cls.barrier.wait()


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Keep signals back within, also from processes that start, until they can take them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _result(receiver: Connection, process: BaseProcess) -> dict[str, Any]:
    """What a process sends, or the error that it sends in its place."""
    try:
        result, exit_code = receiver.recv()
    except EOFError:
        process.join()
        raise DeviceError(
            f"the process that measured ended without a word, exit code {process.exitcode}"
        ) from None
    if exit_code:
        error = AdaeEdgeError(result)
        error.exit_code = exit_code
        raise error
    return dict(result)


def _run(sender: Connection, ready: threading.Barrier, measuring: Measuring, job: Any) -> None:
    """Measure in this process, and send the result or the sentence of an error."""
    asked, parent = threading.Event(), os.getppid()

    def stopped() -> bool:
        """Whether this process is asked to end early, or nobody waits for it any more."""
        return asked.is_set() or os.getppid() != parent

    for number in _SIGNALS:
        signal.signal(number, lambda number, frame: asked.set())
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    Ready.barrier = ready
    try:
        sender.send((measuring(job, stopped), 0))
    except AdaeEdgeError as error:
        ready.abort()
        sender.send((str(error), error.exit_code))
    except threading.BrokenBarrierError:
        sender.send(("another process failed", 1))
    except MemoryError:
        ready.abort()
        sender.send(("there is not enough memory for this", 1))
    except OSError as error:
        ready.abort()
        sender.send((f"{error.filename or 'a file'}: {error.strerror or error}", 1))
