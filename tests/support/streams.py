"""Sources and sinks for tests of the stream, which wait where a test wants it."""

import threading

import numpy as np

from adae_edge.runtime import Frame, Sink, Source


class Kept(Sink):
    """A sink that keeps everything in memory."""

    def __init__(self, *wants, shows="all"):
        self.wants, self.shows = frozenset(wants), shows
        self.results, self.events, self.closed = [], [], 0
        self.done = []  # of each source that ended: its name, and how many results there were

    def write(self, scored):
        self.results.append(scored)

    def event(self, event):
        self.events.append(event)

    def ended(self, opened):
        self.done.append((opened, len(self.results)))

    def close(self):
        self.closed += 1


class Listed(Source):
    """A source that plays a list, and calls what can be called in it."""

    def __init__(self, *items):
        self.items, self.closed = items, 0

    def __iter__(self):
        for item in self.items:
            if callable(item):
                item()
            else:
                yield item

    def close(self):
        self.closed += 1


def without_stalls(kinds):
    """Kinds of events without the stalls that a busy machine makes, and without what ends each."""
    told = zip(kinds, ["", *kinds], strict=False)
    return [kind for kind, before in told if kind != "stalled" and (kind, before) != STALL_ENDS]


STALL_ENDS = "live", "stalled"


def frame(number, value=120, shape=(4, 5, 1)):
    return Frame("camera:0", number, float(number), np.full(shape, value, np.uint8))


class Steps(Source):
    """A source that waits before each frame until a test lets it go on."""

    def __init__(self, *items, live=False):
        self.items, self.live, self.name = items, live, "camera:0"
        self._steps = threading.Semaphore(0)

    def __iter__(self):
        for item in self.items:
            self._steps.acquire()
            if self._stopping:
                return
            yield item

    def go_on(self, steps=1):
        self._steps.release(steps)

    def stop(self):
        super().stop()
        self.go_on()


class Counted(Kept):
    """A sink that calls something after some results."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def write(self, scored):
        super().write(scored)
        if call := self.calls.get(len(self.results)):
            call()
