"""The streaming loop: frames from a source, through the scorer, to the sinks."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.folders import left_out_words
from adae_edge.decoding.rules import is_covered
from adae_edge.errors import FrameError, UsageError
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.boxes import boxes_of
from adae_edge.runtime.frame import Box, Event, Frame, Scored
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import BOXES, MAP, PIXELS, Sink
from adae_edge.runtime.sources.source import Source

_log = logging.getLogger(__name__)


@dataclass
class Metrics:
    """What a stream has come to; may be read at any time, also by another thread.

    Attributes:
        frames: how many were scored.
        anomalous: how many of these exceeded the threshold.
        events: how many frames the events of each kind were about, as in ``frame.KINDS``.
        latencies_s: seconds from decoded frame to score, of the last 10 000 frames.
    """

    frames: int = 0
    anomalous: int = 0
    events: Counter[str] = field(default_factory=Counter)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))

    @property
    def failures(self) -> int:
        """The number of frames that could not be decoded or scored."""
        return self.events["failure"]

    @property
    def latency_p50_ms(self) -> float | None:
        """The median in milliseconds from decoded frame to score; None before the first frame."""
        return float(np.median(self.latencies_s)) * 1e3 if self.latencies_s else None

    def line(self, backend: str, threshold: float) -> str:
        """The metrics in a line for the terminal."""
        failed = f", {self.failures} not scored" if self.failures else ""
        latency = f"; {self.latency_p50_ms:.2f} ms a frame at the median" if self.frames else ""
        anomalous = f"{self.anomalous} anomalous (above {threshold:.4f})"
        return f"{self.frames} frames scored, {anomalous}{failed}{latency}; {backend}"


class Stream:
    """Scores every frame of a source, and hands each result to every sink before the next frame.

    ``Stream(scorer, open_source("frames/"), [open_sink("scores.jsonl")]).run()``

    Attributes:
        source: where frames come from.
        threshold: a frame is anomalous if its score is greater.
        metrics: what it has come to so far.
        stopped: whether it was asked to stop.
    """

    def __init__(
        self,
        scorer: Scorer,
        source: Source | Iterable[Frame | Event],
        sinks: Iterable[Sink] = (),
        threshold: float | None = None,
    ) -> None:
        """
        Args:
            scorer: the model; it stays open.
            source: yields frames and events; an open one is closed at the end of ``run``.
            sinks: what results are handed to; they stay open, because they may serve others.
            threshold: in place of the model's own.

        Raises:
            UsageError: the threshold is no number, or a sink wants a map that the model lacks.
        """
        self.threshold = scorer.threshold if threshold is None else threshold
        if not math.isfinite(self.threshold):
            raise UsageError(
                f"a threshold is a number, and {self.threshold} is none to compare with"
            )
        self.source = source
        self.metrics = Metrics()
        self.stopped = False
        self._scorer = scorer
        self._sinks: list[Sink] = []
        self._with_map = self._with_boxes = False
        self._told_rules: set[str] = set()
        for sink in sinks:
            self.add(sink)

    def add(self, sink: Sink) -> None:
        """Hand results to one more sink.

        Raises:
            UsageError: the sink wants a map that the model lacks.
        """
        if MAP in sink.wants:
            if self._scorer.form.anomaly_map is None:
                raise UsageError("this model has no anomaly map: export it with --anomaly-map")
            self._with_map = True
        if BOXES in sink.wants and self._scorer.has_boxes:
            self._with_map = self._with_boxes = True
        self._sinks.append(sink)

    @property
    def summary(self) -> str:
        """What the stream has come to, in a line for the terminal."""
        line = self.metrics.line(self._scorer.backend.name, self.threshold)
        return f"{line}; {self.left_out}" if self.left_out else line

    @property
    def left_out(self) -> str:
        """How many files of the source's folder were no frames, in words; "" for none."""
        return left_out_words(self.source.left_out) if isinstance(self.source, Source) else ""

    @property
    def endless(self) -> bool:
        """Whether the source has no end of its own, so that being stopped is how it ends."""
        return isinstance(self.source, Source) and self.source.endless

    def stop(self) -> None:
        """Ask ``run`` to return after the frame in hand; for other threads and signal handlers."""
        self.stopped = True
        if isinstance(self.source, Source):
            self.source.stop()

    def run(self) -> Metrics:
        """Score until the source ends or ``stop`` is called.

        Returns:
            The metrics, which are complete at any time, also when an error breaks off the stream.

        Raises:
            SourceError: the source went away.
            SinkError: a result could not be kept.
            DeviceError: the device failed.
        """
        try:
            for item in self.source:
                if self.stopped:
                    break
                if isinstance(item, Event):
                    self._tell(item)
                else:
                    self._take(item)
        finally:
            if isinstance(self.source, Source):
                self.source.close()
            _log.info("%d frames scored, %d failures", self.metrics.frames, self.metrics.failures)
        return self.metrics

    def _take(self, frame: Frame) -> None:
        """Score a frame and hand the result to the sinks, or tell them why there is none."""
        started = time.perf_counter()
        try:
            score, anomaly_map = self._score(frame)
        except FrameError as error:
            detail = f"{frame.source} {frame.id}: {error}"
            self._tell(Event(frame.source, time.time(), "failure", detail))
            return
        self.metrics.latencies_s.append(time.perf_counter() - started)

        age = time.time() - frame.time
        wants, boxes = self._wants(frame), self._boxes(frame, anomaly_map)
        model = self._scorer.model
        scored = Scored(frame, score, self.threshold, age, wants, anomaly_map, boxes, model)
        self.metrics.frames += 1
        self.metrics.anomalous += scored.verdict == "anomalous"
        light = replace(scored, frame=frame.without_pixels())
        for sink in self._sinks:
            sink.write(scored if PIXELS in sink.wants else light)

    def _score(self, frame: Frame) -> tuple[float, NDArray[np.float32] | None]:
        """The score of one frame, and its map [S, S] or [H, W] if a sink wants it or its boxes."""
        arrays = batch_of(frame, self._scorer.contract.channels).arrays()
        if self._with_map:
            scores, maps = self._scorer.score_with_map(*arrays)
            anomaly_map = maps[0]
        else:
            scores, anomaly_map = self._scorer.score(*arrays), None
        if not np.isfinite(scores[0]):
            raise FrameError("the score is not a finite number")
        return float(scores[0]), anomaly_map

    def _wants(self, frame: Frame) -> str:
        """What ``Scored.wants`` is for a frame; told once for each rule."""
        rule = frame.decoding
        if is_covered(rule, self._scorer.contract.decoding):
            return ""
        if rule not in self._told_rules:
            self._told_rules.add(rule)
            detail = (
                f"{frame.source}: frames are decoded by the rule {rule}, under which this model "
                "was not calibrated: its threshold may be off until adae-edge calibrate"
            )
            self._tell(Event(frame.source, time.time(), "note", detail))
        return "calibrate"

    def _boxes(
        self, frame: Frame, anomaly_map: NDArray[np.float32] | None
    ) -> tuple[Box, ...] | None:
        """The boxes of the map's regions in the frame, if a sink wants them."""
        if anomaly_map is None or not self._with_boxes:
            return None
        return boxes_of(anomaly_map, self._scorer.contract, *frame.size)

    def _tell(self, event: Event) -> None:
        """Count an event and hand it to the sinks."""
        self.metrics.events[event.kind] += event.frames
        _log.info("%s: %s", event.kind, event.detail)
        for sink in self._sinks:
            sink.event(event)
