"""Threads: one that starts or says why not, and several that work ahead of one that takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from adae_edge.errors import DeviceError

_TOGETHER = 4  # items that a thread takes at once, so that it is not woken for each
Item = TypeVar("Item")
Result = TypeVar("Result")


def start(name: str, work: Callable[..., object], *arguments: object) -> threading.Thread:
    """Start a thread, which a process that is ended at once does not wait for.

    Raises:
        DeviceError: the system has no thread left for this process.
    """
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise DeviceError("the system gives this process no more threads") from error
    return thread


def in_order(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Iterator[Result]:
    """The results of some work on each item, in the order of the items.

    Threads are enough where the work lets go of Python's lock, as decoders of pictures do.

    Args:
        work: called in several threads at once; what it raises is raised here.
        items: taken only a few ahead of the results.
        jobs: how many threads work; with 1 it is this one, and nothing is done ahead.
    """
    if jobs == 1:
        yield from map(work, items)
        return

    def do(chunk: Sequence[Item]) -> list[Result]:
        return [work(item) for item in chunk]

    left, waiting = iter(items), deque[Future[list[Result]]]()
    threads = ThreadPoolExecutor(jobs, "decode")
    try:
        while chunk := list(islice(left, _TOGETHER)):
            waiting.append(threads.submit(do, chunk))
            if len(waiting) > 2 * jobs:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
