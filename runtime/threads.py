"""Threads: one that starts or says why not, and several that work ahead of one that takes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from adae_edge.errors import DeviceError

_TOGETHER = 4  # items that a thread takes at once, so that nobody is woken for each
_SLOW_S = 0.1  # after which those that are done are not held back by the others
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

    def do(chunk: Sequence[Item], done: deque[Result]) -> None:
        done.extend(map(work, chunk))  # one by one

    left, waiting = iter(items), deque[tuple[Future[None], deque[Result]]]()
    threads = ThreadPoolExecutor(jobs, "decode")
    try:
        while chunk := list(islice(left, _TOGETHER)):
            done = deque[Result]()
            waiting.append((threads.submit(do, chunk, done), done))
            if len(waiting) > 2 * jobs:
                yield from _each(*waiting.popleft())
        while waiting:
            yield from _each(*waiting.popleft())
    finally:
        threads.shutdown(cancel_futures=True)


def _each(future: Future[None], done: deque[Result]) -> Iterator[Result]:
    """The results of a chunk as it fills them in; raises what ended it."""
    while not future.done():
        wait([future], _SLOW_S)
        while done:
            yield done.popleft()
    yield from done
    future.result()
