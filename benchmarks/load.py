"""Calls under load: one after the other, or at the times at which they are due."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.contract import Contract

MIN_RUNS = 20
_POOL_BYTES = 2**26  # of frames that take turns; more than most caches hold
_MOST_ARRAYS = 256
_FEWEST_ARRAYS = 4
WARM_UP_S = 0.3


@dataclass
class Load:
    """What calls took.

    Attributes:
        times_s: seconds of each call; in open loop from its due time, so its waiting counts.
        waits_s: seconds that each call was due before it began; empty in closed loop.
        queue: how many calls were due and not done when each one began, itself included; empty in
            closed loop.
        wall_s: seconds from the first call's begin to the last one's end.
    """

    times_s: array[float] = field(default_factory=lambda: array("d"))
    waits_s: array[float] = field(default_factory=lambda: array("d"))
    queue: array[int] = field(default_factory=lambda: array("q"))
    wall_s: float = 0.0


class Rotation:
    """Frames that are not zeros, in several batches that take turns.

    One batch again and again would stay in the CPU's cache, where a camera's frames never are.
    """

    def __init__(self, contract: Contract, size: tuple[int, int], batch: int) -> None:
        """
        Args:
            contract: of the model that takes the frames.
            size: width and height, pixels.
            batch: frames a call.
        """
        width, height = size
        count = arrays_for(size, contract.channels, batch)
        random = np.random.default_rng(0)
        shape = (batch, height, width, contract.channels)
        self._arrays: list[list[NDArray[Any]]] = []
        for _ in range(count):
            pixels = random.integers(0, 256, shape, np.uint8)
            self._arrays.append(Batch.of_pictures(pixels, contract).arrays())
        self._next = 0

    def __len__(self) -> int:
        return len(self._arrays)

    def turn(self) -> Sequence[NDArray[Any]]:
        """The arrays of the next batch."""
        arrays = self._arrays[self._next]
        self._next = (self._next + 1) % len(self._arrays)
        return arrays


def arrays_for(size: tuple[int, int], channels: int, batch: int) -> int:
    """How many batches of such frames take turns."""
    fitting = _POOL_BYTES // (math.prod(size) * channels * batch)
    return min(_MOST_ARRAYS, max(_FEWEST_ARRAYS, fitting))


def warm_up(call: Callable[[], object]) -> None:
    """Call for a third of a second, at least once, before anything is measured."""
    until = time.perf_counter() + WARM_UP_S
    call()
    while time.perf_counter() < until:
        call()


def closed(
    call: Callable[[], object], seconds: float, stopped: Callable[[], bool] = lambda: False
) -> Load:
    """Call again and again, each time when the last call is done.

    Args:
        call: what is timed.
        seconds: how long, and at least 20 calls.
        stopped: asked between two calls whether to end early.
    """
    load = Load()
    began = ended = time.perf_counter()
    while (ended - began < seconds or len(load.times_s) < MIN_RUNS) and not stopped():
        started = time.perf_counter()
        call()
        ended = time.perf_counter()
        load.times_s.append(ended - started)
    load.wall_s = ended - began
    return load


def open_loop(
    call: Callable[[], object],
    rate: float,
    seconds: float,
    stopped: Callable[[], bool] = lambda: False,
) -> Load:
    """Call at due times, whether or not the last call is done; a late one counts its waiting.

    Args:
        call: what is timed.
        rate: calls that are due in a second.
        seconds: how long calls become due, and at least 20 of them; all that are due are done.
        stopped: asked between two calls whether to end early.
    """
    load = Load()
    calls = max(MIN_RUNS, math.ceil(rate * seconds))
    began = ended = time.monotonic()
    for number in range(calls):
        due = began + number / rate
        if stopped():
            break
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        started = time.monotonic()
        load.waits_s.append(started - due)
        load.queue.append(due_by(started - began, rate, calls) - number)
        call()
        ended = time.monotonic()
        load.times_s.append(ended - due)
    load.wall_s = ended - began
    return load


def due_by(seconds: float, rate: float, most: int) -> int:
    """How many calls are due so many seconds after the first one, of ``most`` in all."""
    return min(most, math.floor(seconds * rate + 1e-9) + 1)


def highest_rate(holds: Callable[[float], bool], capacity: float, steps: int = 7) -> float | None:
    """The highest rate that holds a condition, found by halving.

    Args:
        holds: tries a rate.
        capacity: calls a second that are done one after the other, which no rate can exceed.
        steps: how often the interval is halved; 7 leave less than 1 % of the capacity.

    Returns:
        A rate that held; None where none did.
    """
    low, high = 0.0, capacity
    for _ in range(steps):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low or None
