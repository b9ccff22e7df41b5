"""What becomes of the frames of a stream under a load: their turns, times and stages."""

from __future__ import annotations

import math
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adae_edge.benchmarks.gpus import Gpu
from adae_edge.benchmarks.load import MIN_RUNS, OVERTIME, Load, due_by
from adae_edge.benchmarks.power import Energy
from adae_edge.benchmarks.watch import Conditions, Watch
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.stopwatch import STAGES

LOOK_S = 0.1


@dataclass
class Course:
    """What becomes of the frames of a stream, as source and sinks see it.

    The first frame is apart: it finds everything cold. The others are counted from when it is done.

    Attributes:
        rate: frames that are due in a second; None for closed loop.
        seconds: how long.
        least: frames that are measured, however long they take.
        gpus: that compute.
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
    gpus: Sequence[Gpu] = ()
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
        while waits and not self._idle.wait(LOOK_S):
            if stopped():
                return None
        now = time.monotonic()
        warm = self.first_s is not None if self.live else self._given and self._idle.is_set()
        if warm and self._began is None:
            with self._lock:
                self._began, self._watch = now, Watch(gpus=self.gpus)
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
            time.sleep(min(early, LOOK_S))
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

    def ran_out(self) -> None:
        """Take note that the source has ended: what it does not have was never due."""
        with self._lock:
            given = self._given - 1  # without the first one
            waiting = enumerate(self.load.queue, 1)
            self.load.queue = array("q", [min(queue, given - done) for done, queue in waiting])
        self.finish()

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
        frames = self._done if self.live else self._given - 1  # a live one's may be left out
        if self._began is None or frames < self.least:
            return False
        if self.rate is None or self.live:
            self.over = now - self._began >= self.seconds
        else:
            given, late = self._given - 1, OVERTIME * self._most / self.rate
            if now - self._began > late:
                self.load.given_up = max(0, self._most - given)
            self.over = given >= self._most or self.load.given_up > 0
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
        if self._watch is not None and now - self._looked > LOOK_S and not self._ended:
            self._watch.look()
            self._looked = now
