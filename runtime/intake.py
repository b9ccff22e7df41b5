"""What was captured and waits for the model: the bounded queue between sources and scoring."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from adae_edge.runtime.batching import MOST_FRAMES, room_for
from adae_edge.runtime.frame import Frame

# What the lane of a source that drops nothing holds, before its capture has to wait.
_MOST_BYTES = 2**26
# A camera that was silent for this long is no company to wait for.
_SILENT_S = 1.0


class Item(NamedTuple):
    """What came, and the place of the source that it came from.

    ``what`` is a frame, an event, or what somebody else laid between the frames.
    """

    source: int
    what: Any


@dataclass(eq=False)
class Lane:
    """What waits of one capture thread, in order.

    Attributes:
        live: whether a frame that waits is replaced by a newer one; otherwise the capture waits.
    """

    live: bool
    items: deque[Item] = field(default_factory=deque)
    frames: int = 0
    held_bytes: int = 0
    open: bool = True
    last_s: float = -_SILENT_S

    @property
    def full(self) -> bool:
        """Whether the capture has to wait; what only tells something counts as a frame."""
        return len(self.items) >= 2 * MOST_FRAMES or self.held_bytes >= _MOST_BYTES


class Intake:
    """Takes from several capture threads, and gives to one thread that scores.

    A live lane holds one frame at most: the newest. Events are never dropped. A lane's own order is
    kept; the lane that waited longest comes first.
    """

    def __init__(self, max_latency: float) -> None:
        """
        Args:
            max_latency: seconds that a frame may wait for others to be scored with; 0 has each
                scored alone.
        """
        self._max_latency = max_latency
        self._lanes: list[Lane] = []
        self._ready: deque[Lane] = deque()  # those with items, each once
        self._closed = False
        lock = threading.Lock()
        self._come, self._room = threading.Condition(lock), threading.Condition(lock)
        self._needed = 0  # items that the scoring thread waits for; 0: it does not wait

    def lane(self, live: bool) -> Lane:
        """A lane for one more capture thread; ``end`` says that nothing more comes."""
        self._lanes.append(lane := Lane(live))
        return lane

    def put(self, lane: Lane, source: int, what: Any) -> bool:
        """Lay a frame or an event into a lane; waits where the lane is full and drops nothing.

        Returns:
            False where nobody takes any more.
        """
        with self._come:
            while lane.full and not lane.live and not self._closed:
                self._room.wait()
            if self._closed:
                return False
            if not lane.items:
                self._ready.append(lane)
            if isinstance(what, Frame):
                if lane.live and lane.frames:
                    what = _newer(lane, what)
                lane.frames += 1
                lane.held_bytes += what.held_bytes
                lane.last_s = time.monotonic()
            lane.items.append(Item(source, what))
            self._call(1)
        return True

    def end(self, lane: Lane) -> None:
        """Say that nothing more comes in a lane; what waits in it is still taken."""
        with self._come:
            lane.open = False
            self._call(self._needed)

    def close(self) -> None:
        """Let go of capture threads that wait for room: nothing is taken any more."""
        with self._come:
            self._closed = True
            self._room.notify_all()

    def take(self) -> list[Item]:
        """Wait for what is to be scored next.

        Returns:
            Frames that are scored in one run, and what came between them, in order; [] at the end.
        """
        with self._come:
            while not self._ready:
                if not any(lane.open for lane in self._lanes):
                    return []
                self._wait(1)
            batch = _Batch(alone=not self._max_latency)
            self._fill(batch)
            last = time.monotonic() + self._max_latency
            while company := self._company(batch):
                left = last - time.monotonic()
                if left <= 0:
                    break
                self._wait(company, left)
                self._fill(batch)
            return batch.items

    def _wait(self, needed: int, seconds: float | None = None) -> None:
        """Sleep until so many items came, a lane ended, or the time is over."""
        self._needed = needed
        self._come.wait(seconds)
        self._needed = 0

    def _call(self, came: int) -> None:
        """Wake the scoring thread if it has what it waits for."""
        if self._needed:
            self._needed = max(0, self._needed - came)
            if not self._needed:
                self._come.notify()

    def _fill(self, batch: _Batch) -> None:
        """Move into a batch what waits, up to a frame that does not fit in."""
        while self._ready:
            lane = self._ready[0]
            item = lane.items[0]
            if isinstance(item.what, Frame):
                if not batch.fits(item.what):
                    break
                lane.frames -= 1
                lane.held_bytes -= item.what.held_bytes
            batch.add(lane, item)
            lane.items.popleft()
            self._ready.popleft()
            if lane.items:
                self._ready.append(lane)
        self._room.notify_all()

    def _company(self, batch: _Batch) -> int:
        """How many more frames a batch may expect soon."""
        if not batch.frames or self._ready:
            return 0
        soon = time.monotonic() - _SILENT_S
        expected = 0
        for lane in self._lanes:
            if lane.open and not lane.live:
                return batch.room
            if lane.open and lane not in batch.lanes and lane.last_s > soon:
                expected += 1
        return min(batch.room, expected)


@dataclass
class _Batch:
    """What is taken at once: frames of one shape, and what came between them."""

    alone: bool
    items: list[Item] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many more frames of its shape fit in."""
        return (1 if self.alone else room_for(self.frames[0])) - len(self.frames)

    def fits(self, frame: Frame) -> bool:
        """Whether this frame may be scored together with those that are there."""
        if not self.frames:
            return True
        first = self.frames[0].pixels
        alike = frame.pixels.shape == first.shape and frame.pixels.dtype == first.dtype
        return alike and self.room > 0

    def add(self, lane: Lane, item: Item) -> None:
        """Append one item."""
        self.items.append(item)
        if isinstance(item.what, Frame):
            self.frames.append(item.what)
            self.lanes.append(lane)


def _newer(lane: Lane, frame: Frame) -> Frame:
    """The frame in place of the one that waits, which is taken out and counted as skipped."""
    for place, (_, old) in enumerate(lane.items):
        if isinstance(old, Frame):
            del lane.items[place]
            lane.frames -= 1
            lane.held_bytes -= old.held_bytes
            return replace(frame, skipped=frame.skipped + old.skipped + 1)
    return frame
