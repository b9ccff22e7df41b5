"""Several streams at once, each in a thread, under a service manager that wants to know of them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence

from adae_edge.errors import AdaeEdgeError, first_line
from adae_edge.runtime.notify import Notifier
from adae_edge.runtime.stream import Stream
from adae_edge.runtime.threads import start

_BEAT_S = 5.0  # between two signs of life, if the manager wants no more of them
_LOOK_S = 0.1  # how often it is looked whether all models were loaded again
_STOP, _RELOAD, _ENDED = "stop", "reload", "ended"


class Station:
    """Runs streams side by side until all have ended or ``stop`` is called.

    A stream that fails is told, and the others go on. Where it was to go on for ever, all are
    stopped, so that the service manager starts all of them again.
    """

    def __init__(self, streams: Sequence[Stream], told: Callable[[str], object]) -> None:
        """
        Args:
            streams: ready to run; they stay open.
            told: called with a sentence of each stream that fails or hangs, also by other threads.
        """
        self._streams = streams
        self._told = told
        self._calls: queue.SimpleQueue[str] = queue.SimpleQueue()  # a signal handler may put
        self._manager = Notifier(told)
        self._running = set(range(len(streams)))
        self._failed = self._stopped = False
        self._hanging: set[int] = set()
        self._reloads = 0
        self._reloading = False
        self._looked, self._frames = time.monotonic(), 0

    def stop(self) -> None:
        """Ask ``run`` to return after the batch in hand; for threads and signal handlers."""
        self._calls.put(_STOP)

    def reload(self) -> None:
        """Ask for every stream's model to be loaded again; for threads and signal handlers."""
        self._calls.put(_RELOAD)

    def run(self) -> bool:
        """Run all streams; the manager is told that they run, how fast, and that they move.

        Returns:
            Whether no stream failed, and, unless they were stopped, nothing was lost.
        """
        threads = [
            start(f"stream {place + 1}", self._run_one, place) for place in sorted(self._running)
        ]
        self._manager.tell(READY=1, STATUS=self._status())
        while self._running:
            try:
                call = self._calls.get(timeout=self._pause_s)
            except queue.Empty:
                call = ""
            if call == _STOP:
                self._stop_all()
            elif call == _RELOAD:
                self._reload_all()
            self._look_at_models()
            if not call:
                self._beat()
        for thread in threads:
            thread.join()
        self._manager.tell(STOPPING=1)
        whole = self._stopped or all(stream.complete for stream in self._streams)
        return whole and not self._failed

    @property
    def _pause_s(self) -> float:
        """Seconds until the next look."""
        if self._reloading:
            return _LOOK_S
        return min(_BEAT_S, (self._manager.watchdog_s or 4 * _BEAT_S) / 4)

    def _run_one(self, place: int) -> None:
        """Run a stream to its end, and tell of its failure."""
        stream = self._streams[place]
        try:
            stream.run()
        except Exception as error:  # also what nobody foresaw: the other streams go on
            why = str(error) if isinstance(error, AdaeEdgeError) else first_line(error)
            self._failed = True
            self._told(f"stream {place + 1} failed: {why}")
            if stream.endless:
                self._calls.put(_STOP)
        finally:
            self._running.discard(place)
            self._calls.put(_ENDED)

    def _stop_all(self) -> None:
        self._stopped = True
        self._manager.tell(STOPPING=1)
        for stream in self._streams:
            stream.stop()

    def _reload_all(self) -> None:
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._manager.tell(RELOADING=1, MONOTONIC_USEC=now)
        self._reloads += 1
        self._reloading = True
        for place in tuple(self._running):
            self._streams[place].reload()

    def _look_at_models(self) -> None:
        """Tell the manager when every stream has said what became of its model."""
        told = (self._streams[place].metrics.events["model"] for place in tuple(self._running))
        if self._reloading and min(told, default=self._reloads) >= self._reloads:
            self._reloading = False
            self._manager.tell(READY=1)

    def _beat(self) -> None:
        """Tell the manager the rates, and that the process is well if every loop moves."""
        news: dict[str, object] = {"STATUS": self._status()}
        most_s = self._manager.watchdog_s
        if most_s is not None:
            running = tuple(self._running)  # other threads take from it
            hanging = {at for at in running if self._streams[at].busy_s > most_s / 2}
            for place in hanging - self._hanging:
                self._told(f"stream {place + 1} hangs: it has not moved for {most_s / 2:g} s")
            self._hanging = hanging
            if not hanging:
                news["WATCHDOG"] = 1
        self._manager.tell(**news)

    def _status(self) -> str:
        """What the streams have come to, in words."""
        every = [stream.metrics for stream in self._streams]
        frames = sum(metrics.frames for metrics in every)
        now = time.monotonic()
        rate = (frames - self._frames) / max(now - self._looked, 1e-9)
        self._looked, self._frames = now, frames
        anomalous = sum(metrics.anomalous for metrics in every)
        uncalibrated = sum(metrics.uncalibrated for metrics in every)
        without = f"{uncalibrated} uncalibrated, " if uncalibrated else ""
        skipped = sum(metrics.skipped for metrics in every)
        return (
            f"{len(self._running)} of {len(every)} streams run, {rate:.1f} frames a second; "
            f"{frames} frames scored, {anomalous} anomalous, {without}{skipped} skipped"
        )
