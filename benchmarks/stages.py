"""The whole way of a frame, from a source to the sinks, as ``score`` goes it, split into stages."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adae_edge.benchmarks.apart import Ready
from adae_edge.benchmarks.figures import PERCENTILES, least_calls, percentile
from adae_edge.benchmarks.load import MIN_RUNS, Load, Rate, due_by, highest_rate
from adae_edge.benchmarks.power import Energy, Reading, meters
from adae_edge.benchmarks.record import peak_memory_mb
from adae_edge.benchmarks.watch import Conditions, Watch
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.runtime.frame import Event, Frame, Scored
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sinks.sink import Sink
from adae_edge.runtime.sources.source import Source
from adae_edge.runtime.stream import Stream
from adae_edge.runtime.threads import start
from adae_edge.stopwatch import STAGES, listening

LONGEST_S = 10.0  # unless the time is given
_AT_ONCE = 1e9  # frames a second: all are due at once
_LOOK_S = 0.1
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


@dataclass
class Course:
    """What becomes of the frames of a stream, as source and sinks see it.

    The first frame is apart: it finds everything cold. The others are counted from when it is done.

    Attributes:
        rate: frames that are due in a second; None for closed loop.
        seconds: how long.
        least: frames that are measured, however long they take.
        live: whether the source has a pace of its own.
        load: of the frames, from when they are due, or begin, to when all sinks have them.
        ages_s: seconds of each frame from there to when its score was known.
        first_s: seconds that the first frame took; None before it.
        in_stages: seconds that were spent in each stage.
        in_source_s: seconds of them that were spent in the thread of the source.
        size: width and height of the last frame as it came, pixels.
        conditions: what was seen meanwhile; None before the second frame.
        energy: that it took, the first frame included.
        over: whether it ended because its time was over.
    """

    rate: float | None
    seconds: float
    least: int = MIN_RUNS
    live: bool = False
    load: Load = field(default_factory=Load)
    ages_s: array[float] = field(default_factory=lambda: array("d"))
    first_s: float | None = None
    in_stages: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    in_source_s: float = 0.0
    size: tuple[int, int] = (0, 0)
    conditions: Conditions | None = None
    energy: list[Energy] = field(default_factory=list)
    over: bool = False
    _began: float | None = None
    _done: int = 0
    _given: int = 0
    _ended: bool = False
    _looked: float = 0.0
    _thread: int = 0
    _watch: Watch | None = None
    _starts: dict[tuple[str, int | str], tuple[int, float]] = field(default_factory=dict)
    _idle: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._idle.set()

    def turn(self, stopped: Callable[[], bool]) -> float | None:
        """Wait until the next frame is due; None where no more are wanted.

        Returns:
            When it was due, in closed loop now, by ``time.monotonic``.
        """
        # The first frame is alone, the second comes after it, and in closed loop so do all.
        waits = not self.live and (self._given < 2 or self.rate is None)
        while waits and not self._idle.wait(_LOOK_S):
            if stopped():
                return None
        now = time.monotonic()
        warm = self.first_s is not None if self.live else self._given and self._idle.is_set()
        if warm and self._began is None:
            with self._lock:
                self._began, self._watch = now, Watch()
                self.in_stages.clear()
        if stopped() or self._is_over(now):
            self.finish()
            return None
        if self.rate is None or self._began is None:
            return now
        due = self._began + (self._given - 1) / self.rate
        while (early := due - time.monotonic()) > 0:
            if stopped():
                return None
            time.sleep(min(early, _LOOK_S))
        return due

    def begin(self, frame: Frame, due: float) -> None:
        """Take note of a frame that goes on its way."""
        self._idle.clear()
        with self._lock:
            self._thread = threading.get_ident()
            self._starts[frame.source, frame.id] = self._given, due
            self._given += 1

    def done(self, scored: Scored) -> None:
        """Take note of a frame that is in all sinks."""
        now, frame = time.monotonic(), scored.frame
        with self._lock:
            number, due = self._starts.pop((frame.source, frame.id), (-1, now))
            if number < 0:
                return
            height, width = frame.size
            self.size = width, height
            if self.live:  # those before it were left out for it
                self._starts = {at: it for at, it in self._starts.items() if it[0] > number}
            if self.first_s is None:
                self.first_s = now - due
            elif self._began is not None:
                self._count(scored, now, due, self._began)
        self._idle.set()

    def failed(self) -> None:
        """Take note of a frame that is in no sink, because it could not be scored."""
        self._idle.set()

    def spent(self, name: str, seconds: float) -> None:
        """Count time to a stage."""
        with self._lock:
            self.in_stages[name] += seconds
            if threading.get_ident() == self._thread:
                self.in_source_s += seconds

    def finish(self) -> None:
        """Take note that nothing more is given."""
        if not self._ended and self._watch is not None:
            self.conditions = self._watch.end()
        self._ended = True

    def told(self) -> dict[str, Any]:
        """What is sent to another process: public attributes by their names, and ``stages_ms``."""
        names = ("rate", "load", "ages_s", "first_s", "size", "conditions", "energy")
        return {name: getattr(self, name) for name in names} | {"stages_ms": self.stages_ms()}

    def stages_ms(self) -> dict[str, float]:
        """What a frame spends in each stage at the mean, ms, and in none of them as "rest"."""
        frames = max(1, len(self.load.times_s))
        means = {name: self.in_stages[name] / frames * 1e3 for name in STAGES}
        rest = sum(self.load.times_s) / frames * 1e3 - sum(means.values())
        return {name: round(value, 5) for name, value in {**means, "rest": rest}.items()}

    def _is_over(self, now: float) -> bool:
        """Whether the time is over, and there are frames enough."""
        if self._began is None or self._given <= self.least:
            return False
        if self.rate is None or self.live:
            self.over = now - self._began >= self.seconds
        else:
            self.over = self._given - 1 >= self._most
        return self.over

    @property
    def _most(self) -> int:
        """How many frames become due in open loop."""
        if self._ended:
            return self._given - 1
        return max(self.least, math.ceil((self.rate or 0) * self.seconds))

    def _count(self, scored: Scored, now: float, due: float, began: float) -> None:
        """Add the figures of one frame."""
        frame = scored.frame
        self._done += 1
        self.load.times_s.append(now - due)
        self.load.ended_s.append(now)
        self.load.wall_s = now - began
        self.ages_s.append(frame.time - frame.epoch + scored.age - due)
        if self.rate is not None:
            self.load.queue.append(due_by(now - began, self.rate, self._most) - self._done)
        if self._watch is not None and now - self._looked > _LOOK_S and not self._ended:
            self._watch.look()
            self._looked = now


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
                self._course.finish()
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
    course = Course(rate, job.seconds or LONGEST_S, least)
    failures: list[str] = []

    def told(event: Event) -> None:
        if event.kind in ("failure", "lost"):
            failures.append(event.detail)

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
    return course, ended


@contextlib.contextmanager
def _ending(stream: Stream, course: Course, stopped: Callable[[], bool]) -> Iterator[None]:
    """Within, a stream ends when it is to, also where its source is silent."""
    over, latest = threading.Event(), time.monotonic() + course.seconds + _SILENCE_S

    def look() -> None:
        while not over.wait(_LOOK_S):
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
        return ms is not None and ms < rate.most_ms

    alone, ended = _run(job, None, stopped, least_calls(percent))
    ms, best = latency(alone), None
    if not ended and ms is None:
        ended = f"too few frames for {rate.percentile}: {least_calls(percent)} are needed"
    if not ended and ms is not None and ms < rate.most_ms:  # without any load
        most, _ = _run(job, _AT_ONCE, stopped)
        best = highest_rate(holds, len(most.load.times_s) / most.load.wall_s)
    found = {"tried": tried, "held": None if best is None else round(best, 2)}
    course, why = (alone, ended) if best is None else runs[best]
    return course, ended or why, found
