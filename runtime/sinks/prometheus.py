"""Metrics of every source for a Prometheus server, which asks for them over HTTP.

Nothing is sent by itself. The source's name is the only label, so that no frame makes a new series.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
import socket
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from adae_edge.errors import SinkError, UsageError
from adae_edge.extras import needs
from adae_edge.runtime.frame import Event, Scored
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Place, Sink
from adae_edge.runtime.threads import start

with needs("Metrics for Prometheus", "prometheus"):
    from prometheus_client import CollectorRegistry, MetricsHandler, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector

_PLACE = re.compile(r"(?:(?P<address>[0-9.]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>[0-9]{1,5})")
_LOOPBACK = "127.0.0.1"
_PATIENCE_S = 5.0  # for a scraper that says or reads nothing
_MOST_SCRAPERS = 8  # at a time
_LABEL = "source"
_COUNTERS = {
    "frames": "Frames that were scored",
    "anomalous_frames": "Scored frames above the threshold",
    "uncalibrated_frames": "Scored frames without a verdict: the calibration does not hold there",
    "skipped_frames": "Frames of a live source that were left out for newer ones",
    "failed_frames": "Frames that could not be decoded or scored",
    "missed_frames": "Frames that were lost on the way from the source",
    "stalls": "Times that the source fell silent",
    "losses": "Times that the source went away",
    "alarms": "Alarms that began",
    "drifts": "Times that scores or light drifted from those of the calibration",
    "events": "Events of every kind",
}
_GAUGES = {
    "up": "1 while the source gives frames, 0 while it is connecting, stalled or lost",
    "last_frame_timestamp_seconds": "When the newest scored frame was captured or decoded",
    "score": "The newest frame's score",
    "threshold": "The score above which a frame is anomalous",
    "alarm_active": "1 during an alarm, 0 otherwise; absent where nobody watches for one",
    "drift_psi": "Population stability index of the last scores against the calibration's; "
    "absent where nobody watches, or while too few are known",
    "light_drift_psi": "The same of how light the frames are; absent where the model does not know",
}
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_HISTOGRAMS = {
    "score_threshold_ratio": (
        "Scores in thresholds, so that frames beyond 1 are anomalous",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0),
    ),
    "age_seconds": ("Seconds from a frame's time until its score was known", _SECONDS),
    "latency_seconds": ("Seconds that scoring a frame took", (0.0001, 0.0002, 0.0005, *_SECONDS)),
}
_COUNTED = {"stalled": "stalls", "lost": "losses", "alarm": "alarms", "drift": "drifts"}
_COUNTED_FRAMES = {"failure": "failed_frames", "gap": "missed_frames"}
_UP = {"connecting": 0.0, "live": 1.0, "stalled": 0.0, "lost": 0.0}
_log = logging.getLogger(__name__)


@dataclass
class _Histogram:
    """How many values lie at or below each bound and above the one before, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def take(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound, and how many values do not exceed it."""
        total, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class _Series:
    """The numbers of one source."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.histograms = {name: _Histogram(bounds) for name, (_, bounds) in _HISTOGRAMS.items()}


class _Numbers(Collector):
    """The numbers of every source, as Prometheus has them when it asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, _Series] = {}

    def take(self, scored: Scored) -> None:
        """Count a result."""
        with self._lock:
            series = self._sources.setdefault(scored.name, _Series())
            series.counts["frames"] += 1
            series.counts["anomalous_frames"] += scored.verdict == "anomalous"
            series.counts["uncalibrated_frames"] += scored.verdict == "uncalibrated"
            series.counts["skipped_frames"] += scored.frame.skipped
            gauges = series.gauges
            gauges["up"], gauges["score"], gauges["threshold"] = 1.0, scored.score, scored.threshold
            gauges["last_frame_timestamp_seconds"] = scored.frame.time
            for name, value in (
                ("alarm_active", scored.alarm),
                ("drift_psi", scored.drift),
                ("light_drift_psi", scored.light_drift),
            ):
                if value is None:
                    gauges.pop(name, None)
                else:
                    gauges[name] = float(value)
            if scored.threshold > 0 and scored.calibrated:
                series.histograms["score_threshold_ratio"].take(scored.score / scored.threshold)
            series.histograms["age_seconds"].take(scored.age)
            series.histograms["latency_seconds"].take(scored.latency)

    def tell(self, event: Event) -> None:
        """Count an event; one that is about a sink or the model has that for its source."""
        with self._lock:
            series = self._sources.setdefault(event.opened or event.source, _Series())
            series.counts["events"] += 1
            if not event.over and event.kind in _COUNTED:
                series.counts[_COUNTED[event.kind]] += 1
            if event.kind in _COUNTED_FRAMES:
                series.counts[_COUNTED_FRAMES[event.kind]] += event.frames
            if event.kind in _UP:
                series.gauges["up"] = _UP[event.kind]

    def collect(self) -> Iterator[Metric]:
        """Every metric with the numbers of now."""
        with self._lock:
            metrics = list(self._collect())
        yield from metrics

    def _collect(self) -> Iterator[Metric]:
        for name, about in _COUNTERS.items():
            counter = CounterMetricFamily(f"adae_edge_{name}", about, labels=[_LABEL])
            for source, series in self._sources.items():
                counter.add_metric([source], series.counts[name])
            yield counter
        for name, about in _GAUGES.items():
            gauge = GaugeMetricFamily(f"adae_edge_{name}", about, labels=[_LABEL])
            for source, series in self._sources.items():
                if name in series.gauges:
                    gauge.add_metric([source], series.gauges[name])
            yield gauge
        for name, (about, _) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"adae_edge_{name}", about, labels=[_LABEL])
            for source, series in self._sources.items():
                histogram = series.histograms[name]
                family.add_metric([source], histogram.buckets(), histogram.sum)
            yield family


class _Server(ThreadingHTTPServer):
    """Answers a few scrapers at a time, each in a thread, and closes further ones at once."""

    request_queue_size = _MOST_SCRAPERS

    def __init__(self, address: str, port: int, registry: CollectorRegistry) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._free = threading.BoundedSemaphore(_MOST_SCRAPERS)
        handler = MetricsHandler.factory(registry)
        handler.timeout = _PATIENCE_S  # type: ignore[attr-defined]
        super().__init__((address, port), handler)

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which is a question to the network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if there are not too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread left
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for another one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a scraper go that went away."""
        _log.debug("a scraper at %s got no answer", client_address, exc_info=True)


class Prometheus(Sink):
    """Metrics at ``http://ADDRESS:PORT/metrics``.

    A scraper that reads nothing costs nothing: the numbers are counted whether or not somebody
    asks, and whoever says or reads nothing for 5 seconds is let go.

    Attributes:
        port: at which it listens.
    """

    keeps_rows = False

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: ADDRESS:PORT, as 127.0.0.1:9188 or [::1]:9188; a port alone is that of
                127.0.0.1. Port 0 is one that is free.
            keeping: nothing is kept here.

        Raises:
            UsageError: it is no such place.
            SinkError: the port is taken, or the address is none of this machine.
        """
        address, port = _place(place)
        self._numbers = _Numbers()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self._numbers)
        ProcessCollector(registry=registry)
        try:
            self._server: _Server | None = _Server(address, port, registry)
        except OSError as error:
            why = error.strerror
            raise SinkError(f"cannot listen at {address}, port {port}: {why}") from error
        self.port = self._server.server_port
        self._thread = start("prometheus", self._server.serve_forever, 0.1)

    @classmethod
    def check(cls, place: str) -> None:
        """Say that it is no address and port."""
        _place(place)

    @classmethod
    def where(cls, place: str) -> Place:
        """The port: most addresses that share one get in each other's way."""
        address, port = _place(place)
        return Place(f"port {port}", address)

    def write(self, scored: Scored) -> None:
        """Count one result."""
        self._numbers.take(scored)

    def event(self, event: Event) -> None:
        """Count one event."""
        self._numbers.tell(event)

    def close(self) -> None:
        """Listen no more; a second call does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()


def _place(place: str) -> tuple[str, int]:
    """Address and port."""
    found = _PLACE.fullmatch(place)
    if found is not None and int(found["port"]) <= 65535:
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address((found["address"] or _LOOPBACK).strip("[]"))
            return str(address), int(found["port"])
    raise UsageError(f"prometheus takes ADDRESS:PORT, as 127.0.0.1:9188, and not {place}")


SINK = Prometheus
