"""Calls under load: one after the other, or at the times at which they are due."""

from __future__ import annotations

import math
import re
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.batch import Batch
from adae_edge.benchmarks.apart import Ready
from adae_edge.benchmarks.figures import PERCENTILES, least_calls, percentile
from adae_edge.benchmarks.gpus import gpus
from adae_edge.benchmarks.power import Reading, meters
from adae_edge.benchmarks.record import peak_memory_mb
from adae_edge.benchmarks.watch import Watch
from adae_edge.contract import Contract
from adae_edge.errors import UsageError
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.threads import start

MIN_RUNS = 20
_LONGEST_S = 3600.0  # for which nothing is told, unless it was asked for
WARM_UP_S = 0.3
_ASK_S = 0.05  # asking after each call would cost more than its clock
_POOL_BYTES = 2**26  # of frames that take turns; more than most caches hold
_MOST_ARRAYS = 256
_FEWEST_ARRAYS = 2
OVERTIME = 5  # times as long as asked, after which what is due and not done is given up
_LOOK_S = 0.1
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_MOST = re.compile(r"max:(p\d+)\s*<\s*(\d{1,9}(?:\.\d{1,9})?)(ms|s)", re.ASCII)


@dataclass
class Load:
    """What calls took, in the order in which they ended.

    Attributes:
        times_s: seconds of each call; in open loop from its due time, so its waiting counts.
        ended_s: when each call ended, seconds of ``time.perf_counter``.
        waits_s: seconds that each call was due before it began; empty in closed loop.
        queue: how many calls were due and not done when each one began, itself included; empty in
            closed loop.
        wall_s: seconds from the first call's begin to the last one's end.
        given_up: calls that were due and never made, because the rate was too high by far.
    """

    times_s: array[float] = field(default_factory=lambda: array("d"))
    ended_s: array[float] = field(default_factory=lambda: array("d"))
    waits_s: array[float] = field(default_factory=lambda: array("d"))
    queue: array[int] = field(default_factory=lambda: array("q"))
    wall_s: float = 0.0
    given_up: int = 0

    @staticmethod
    def merged(loads: Sequence[Load]) -> Load:
        """The load of several that ran at the same time, in closed loop."""
        if len(loads) == 1:
            return loads[0]
        times, ended = (
            np.concatenate([np.array(values, np.float64) for values in columns])
            for columns in zip(*((load.times_s, load.ended_s) for load in loads), strict=True)
        )
        order = np.argsort(ended)
        return Load(
            array("d", times[order].tolist()),
            array("d", ended[order].tolist()),
            wall_s=max(load.wall_s for load in loads),
        )


@dataclass(frozen=True)
class Rate:
    """How many frames are due in a second, or the most that hold a latency.

    Attributes:
        frames_per_s: None for the most.
        percentile: of the latency that they hold, one of ``figures.PERCENTILES``.
        most_ms: the latency.
    """

    frames_per_s: float | None
    percentile: str = ""
    most_ms: float = 0.0

    @property
    def asked(self) -> dict[str, Any]:
        """What a row of a result tells of it before anything is measured."""
        return {"tried": []} if self.frames_per_s is None else {"rate": round(self.frames_per_s, 2)}

    @staticmethod
    def parse(text: str) -> Rate:
        """Read a rate such as "30" or "max:p99<20ms".

        Raises:
            UsageError: it is something else.
        """
        if number := _NUMBER.fullmatch(text.strip()):
            if not (rate := float(number[0])):
                raise UsageError("a rate is above 0: no frame is ever due at 0 a second")
            return Rate(rate)
        match = _MOST.fullmatch(text.strip())
        if match is None or match[1] not in PERCENTILES:
            raise UsageError(
                f"--rate takes frames a second, or the most that hold a latency as in "
                f"'max:p99<20ms', and {text} is something else"
            )
        most_ms = float(match[2]) * (1 if match[3] == "ms" else 1000)
        if not most_ms:
            raise UsageError("a latency that is to be held is above 0")
        return Rate(None, match[1], most_ms)

    def check_duration(self, batch: int, seconds: float | None) -> None:
        """Raise UsageError where the least number of runs takes over an hour that nobody asked."""
        takes_s = MIN_RUNS * batch / (self.frames_per_s or math.inf)
        if takes_s > max(_LONGEST_S, seconds or 0):
            raise UsageError(
                f"{MIN_RUNS} runs of {batch} frames at --rate {self.frames_per_s:g}, the least "
                f"for a figure, take {takes_s / 3600:,.1f} hours: give a higher rate"
            )


@dataclass(frozen=True)
class ModelJob:
    """A model alone under a load: what one process measures.

    Attributes:
        model: path of a model file or an engine.
        device, threads: as for ``Scorer``.
        size: width and height of the frames, pixels.
        batch: frames a call.
        seconds: how long.
        streams: how many scorers call at the same time, each in a thread of its own.
        rate: None for closed loop.
        gpu: whether it computes on a GPU, whose energy is asked for.
    """

    model: Path
    device: str | None
    threads: int | None
    size: tuple[int, int]
    batch: int
    seconds: float
    streams: int = 1
    rate: Rate | None = None
    gpu: bool = False


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
    call: Callable[[], object],
    seconds: float,
    stopped: Callable[[], bool] = lambda: False,
    least: int = MIN_RUNS,
) -> Load:
    """Call again and again, each time when the last call is done.

    Args:
        call: what is timed.
        seconds: how long.
        stopped: asked about 20 times a second whether to end early.
        least: calls that are made, however long they take.
    """
    load, clock = Load(), time.perf_counter
    keep_time, keep_end = load.times_s.append, load.ended_s.append
    began = ended = asked = clock()
    while ended - began < seconds or len(load.times_s) < least:
        started = clock()
        call()
        ended = clock()
        keep_time(ended - started)
        keep_end(ended)
        if ended - asked > _ASK_S:
            if stopped():
                break
            asked = ended
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
        seconds: how long calls become due, and at least 20 of them. All that are due are done,
            unless that takes five times as long.
        stopped: asked after each call whether to end early.
    """
    load = Load()
    calls = max(MIN_RUNS, math.ceil(rate * seconds))
    began = ended = time.perf_counter()
    for number in range(calls):
        due = began + number / rate
        if not _is_due(due, stopped):
            break
        started = time.perf_counter()
        load.waits_s.append(started - due)
        load.queue.append(due_by(started - began, rate, calls) - number)
        call()
        ended = time.perf_counter()
        load.times_s.append(ended - due)
        load.ended_s.append(ended)
        if stopped():
            break
        if number + 1 >= MIN_RUNS and ended - began > OVERTIME * calls / rate:
            load.given_up = calls - number - 1
            break
    load.wall_s = ended - began
    return load


def _is_due(due: float, stopped: Callable[[], bool]) -> bool:
    """Wait until a call is due; False where it is to end before."""
    while (early := due - time.perf_counter()) > 0:
        if stopped():
            return False
        time.sleep(min(early, _LOOK_S))
    return True


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


def measure_model(job: ModelJob, stopped: Callable[[], bool]) -> dict[str, Any]:
    """Put a model under a load.

    Returns:
        ``load``, ``conditions``, ``energy``, ``peak_memory_mb`` and ``rate``, frames a second that
        were due, or None; with a rate that was looked for ``tried``,
        each rate with its latency in ms, and ``held``, the highest that held it, or None.

    Raises:
        AdaeEdgeError: as ``Scorer`` and its ``score``.
    """
    calls = [_caller(job) for _ in range(job.streams)]
    for call in calls:
        warm_up(call)
    reading = Reading(meters(gpu=job.gpu)[0])
    Ready.wait()
    reading.begin()
    watch = Watch(gpus=gpus()[0] if job.gpu else ())
    found: dict[str, Any] = {"rate": None}
    if job.rate is None:
        load = Load.merged(_side_by_side(calls, job.seconds, stopped))
    elif job.rate.frames_per_s is not None:
        load = open_loop(calls[0], job.rate.frames_per_s / job.batch, job.seconds, stopped)
        found["rate"] = job.rate.frames_per_s
    else:
        load, found = _highest(calls[0], job, job.rate, stopped)
    found |= {"conditions": watch.end(), "energy": [] if "tried" in found else reading.end()}
    return {"load": load, "peak_memory_mb": peak_memory_mb(), **found}


def _caller(job: ModelJob) -> Callable[[], object]:
    """A call of a scorer of its own, with frames that take turns."""
    scorer = Scorer(job.model, job.device, job.threads)
    frames = Rotation(scorer.contract, job.size, job.batch)
    return lambda: scorer.score(*frames.turn())


def _side_by_side(
    calls: Sequence[Callable[[], object]], seconds: float, stopped: Callable[[], bool]
) -> list[Load]:
    """The loads of several callers in closed loop, each in a thread of its own."""
    if len(calls) == 1:
        return [closed(calls[0], seconds, stopped)]
    together = threading.Barrier(len(calls))
    loads: list[Load | BaseException] = []

    def run(call: Callable[[], object]) -> None:
        together.wait()
        try:
            loads.append(closed(call, seconds, stopped))
        except BaseException as error:
            loads.append(error)

    threads = [start("stream", run, call) for call in calls]
    for thread in threads:
        thread.join()
    for load in loads:
        if isinstance(load, BaseException):
            raise load
    return [load for load in loads if isinstance(load, Load)]


def _highest(
    call: Callable[[], object], job: ModelJob, rate: Rate, stopped: Callable[[], bool]
) -> tuple[Load, dict[str, Any]]:
    """The load at the highest rate that holds a latency; in closed loop if none does."""
    percent = PERCENTILES[rate.percentile]
    alone = closed(call, job.seconds, stopped, least_calls(percent))
    at: dict[float, Load] = {}
    tried: list[dict[str, float | None]] = []

    def holds(calls_per_s: float) -> bool:
        if stopped():
            return False
        seconds = max(job.seconds, least_calls(percent) / calls_per_s)
        load = at[calls_per_s] = open_loop(call, calls_per_s, seconds, stopped)
        latency = percentile(np.array(load.times_s) * 1e3, percent)
        tried.append({"frames_per_s": round(calls_per_s * job.batch, 2), "ms": latency})
        return latency is not None and latency < rate.most_ms and not load.given_up

    latency = percentile(np.array(alone.times_s) * 1e3, percent)
    best = None
    if latency is not None and latency < rate.most_ms:  # without any load
        best = highest_rate(holds, len(alone.times_s) / alone.wall_s)
    held = None if best is None else round(best * job.batch, 2)
    found = {"tried": tried, "held": held, "rate": held}
    return alone if best is None else at[best], found
