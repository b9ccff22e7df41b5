"""The whole way of a frame, from a source to the sinks, as ``score`` goes it, split into stages."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adae_edge.benchmarks.apart import Ready
from adae_edge.benchmarks.course import LOOK_S, Course
from adae_edge.benchmarks.figures import PERCENTILES, least_calls, percentile
from adae_edge.benchmarks.gpus import gpus
from adae_edge.benchmarks.load import MIN_RUNS, Rate, highest_rate
from adae_edge.benchmarks.power import Reading, meters
from adae_edge.benchmarks.record import peak_memory_mb
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sources.source import Source
from adae_edge.runtime.stream import Stream
from adae_edge.runtime.threads import start
from adae_edge.stopwatch import listening

LONGEST_S = 10.0  # unless the time is given
_AT_ONCE = 1e9  # frames a second: all are due at once
_SILENCE_S = 10.0  # that a camera may have beyond the time that is measured


@dataclass(frozen=True)
class StreamJob:
    """A stream under a load: what one process measures.

    Attributes:
        request: the stream, with one source.
        seconds: how long; None for as long as the source lasts, and 10 seconds at most.
        rate: None for closed loop: each frame begins when the one before it is in the sinks.
        gpu: whether it computes on a GPU, whose energy is asked for.
    """

    request: StreamRequest
    seconds: float | None
    rate: Rate | None = None
    gpu: bool = False


class Paced(Source):
    """A source whose frames are taken in their turn, and not as fast as they can be."""

    def __init__(self, source: Source, course: Course, stopped: Callable[[], bool]) -> None:
        """
        Args:
            source: an open one; a live one has a pace of its own.
            course: says whose turn it is.
            stopped: whether to end early.
        """
        self._source, self._course, self._asked = source, course, stopped
        self.live, self.name, self.triggered = source.live, source.name, source.triggered
        self._in_stages = 0.0

    @property
    def endless(self) -> bool:
        """As the source has it."""
        return self._source.endless

    @property
    def left_out(self) -> Mapping[str, int]:  # type: ignore[override]
        """As the source has it."""
        return self._source.left_out

    def __iter__(self) -> Iterator[Frame | Event]:
        """The frames of the source in their turns, and its events."""
        items = iter(self._source)
        while (due := self._course.turn(self._over)) is not None:
            began, told = time.monotonic(), self._course.in_source_s
            item = next(items, None)
            if item is None:
                self._course.ran_out()
                return
            if isinstance(item, Frame):
                if self.live:
                    due = item.time - item.epoch
                else:  # what a source does not tell apart is counted as grabbing
                    told = self._course.in_source_s - told
                    self._course.spent("grab", max(0.0, time.monotonic() - began - told))
                self._course.begin(item, due)
            yield item

    def stop(self) -> None:
        """Stop the source, too."""
        super().stop()
        self._source.stop()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _over(self) -> bool:
        return self._stopping or self._asked()


class _Arrival(Sink):
    """Comes last among the sinks: what it is handed, all others have."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def write(self, scored: Scored) -> None:
        """Take note of a frame that is done."""
        self._course.done(scored)

    def event(self, event: Event) -> None:
        """Take note of a frame that failed."""
        if event.kind == "failure":
            self._course.failed()


def measure_stream(job: StreamJob, stopped: Callable[[], bool]) -> dict[str, Any]:
    """Put a stream under a load.

    Returns:
        What ``Course.told`` has, and ``peak_memory_mb``; ``ended``, why it ended too early, or "";
        with a rate that was looked for ``tried``, each rate with its latency in ms, and ``held``,
        the highest that held it, or None.

    Raises:
        AdaeEdgeError: as ``open_stream``.
    """
    Ready.wait()
    found: dict[str, Any] = {}
    if job.rate is None or job.rate.frames_per_s is not None:
        course, ended = _run(job, job.rate.frames_per_s if job.rate else None, stopped)
    else:
        course, ended, found = _highest(job, job.rate, stopped)
    return {**course.told(), "ended": ended, "peak_memory_mb": peak_memory_mb(), **found}


def _run(
    job: StreamJob, rate: float | None, stopped: Callable[[], bool], least: int = MIN_RUNS
) -> tuple[Course, str]:
    """Run a stream once; what became of it, and why it ended too early, or ""."""
    course = Course(rate, job.seconds or LONGEST_S, least, gpus()[0] if job.gpu else ())
    failures: list[str] = []
    of_sinks: list[str] = []

    def told(event: Event) -> None:
        if event.kind in ("failure", "lost"):
            failures.append(event.detail)
        elif event.kind == "sink":
            of_sinks.append(event.detail)

    def paced(source: Source) -> Source:
        course.live = source.live
        if source.live and rate is not None:
            raise UsageError(f"{source.name} has a rate of its own: leave out --rate")
        return Paced(source, course, stopped)

    ended = ""
    with open_stream(job.request, told, around=paced) as stream, listening(course.spent):
        stream.add(_Arrival(course))
        reading = Reading(meters(gpu=job.gpu)[0] if not _is_looked_for(job) else [])
        reading.begin()
        try:
            with _ending(stream, course, stopped):
                stream.run()
        except AdaeEdgeError as error:
            ended = str(error)
        course.energy = reading.end()
        course.finish()
    frames = len(course.load.times_s)
    name = job.request.sources[0]
    if not ended and of_sinks:  # times of a sink that keeps nothing are of no use
        ended = of_sinks[0]
    if not ended and not stopped() and not course.over:
        if not frames:
            ended = f"{name} gave no two frames that could be scored"
            ended += f": {failures[0]}" if failures else ""
        elif frames < MIN_RUNS:
            ended = f"{name} ended after {frames + 1} frames, and {MIN_RUNS + 1} are needed"
        elif job.seconds is not None:
            ended = (
                f"{name} ended after {course.load.wall_s:.1f} s, and {job.seconds:g} were asked for"
            )
    if not ended and failures:
        ended = f"{len(failures)} frames of {name} could not be scored: {failures[0]}"
    return course, ended


@contextlib.contextmanager
def _ending(stream: Stream, course: Course, stopped: Callable[[], bool]) -> Iterator[None]:
    """Within, a stream ends when it is to, also where its source is silent."""
    over, latest = threading.Event(), time.monotonic() + course.seconds + _SILENCE_S

    def look() -> None:
        while not over.wait(LOOK_S):
            if stopped() or (course.live and time.monotonic() > latest):
                stream.stop()
                return

    thread = start("end", look)
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_looked_for(job: StreamJob) -> bool:
    """Whether the highest rate is looked for, so that there are many runs."""
    return job.rate is not None and job.rate.frames_per_s is None


def _highest(
    job: StreamJob, rate: Rate, stopped: Callable[[], bool]
) -> tuple[Course, str, dict[str, Any]]:
    """The run at the highest rate that holds a latency; in closed loop if none does."""
    percent = PERCENTILES[rate.percentile]
    tried: list[dict[str, float | None]] = []
    runs: dict[float, tuple[Course, str]] = {}

    def latency(course: Course) -> float | None:
        return percentile(np.array(course.load.times_s) * 1e3, percent)

    def holds(frames_per_s: float) -> bool:
        if stopped():
            return False
        runs[frames_per_s] = _run(job, frames_per_s, stopped, least_calls(percent))
        ms = latency(runs[frames_per_s][0])
        tried.append({"frames_per_s": round(frames_per_s, 2), "ms": ms})
        held = ms is not None and ms < rate.most_ms
        return held and not runs[frames_per_s][0].load.given_up

    alone, ended = _run(job, None, stopped, least_calls(percent))
    ms, best = latency(alone), None
    if not ended and ms is None and not stopped():
        ended = f"too few frames for {rate.percentile}: {least_calls(percent)} are needed"
    if not ended and ms is not None and ms < rate.most_ms:  # without any load
        most, _ = _run(job, _AT_ONCE, stopped)
        best = highest_rate(holds, len(most.load.times_s) / most.load.wall_s)
    found = {"tried": tried, "held": None if best is None else round(best, 2)}
    course, why = (alone, ended) if best is None else runs[best]
    return course, ended or why, found
