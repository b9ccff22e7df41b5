"""The streaming loop: frames from a source, through the scorer, to the sinks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from adae_edge.errors import FrameError
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sinks.sink import Result, Sink, timestamp


@dataclass
class Summary:
    """What a stream came to; complete at any time, also when the stream is broken off.

    Attributes:
        frames: scored.
        anomalous: of these, how many exceeded the threshold.
        failures: frames that could not be decoded or scored.
        latencies_s: from decoded frame to score, of the last 10 000 frames.
    """

    frames: int = 0
    anomalous: int = 0
    failures: int = 0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))

    @property
    def latency_p50_ms(self) -> float | None:
        """Median milliseconds from decoded frame to score; None before the first frame."""
        return float(np.median(self.latencies_s)) * 1e3 if self.latencies_s else None

    def line(self, backend: str, threshold: float) -> str:
        """The summary in a line for the terminal."""
        failed = f", {self.failures} not scored" if self.failures else ""
        latency = f"; {self.latency_p50_ms:.2f} ms a frame at the median" if self.frames else ""
        anomalous = f"{self.anomalous} anomalous (above {threshold:.4f})"
        return f"{self.frames} frames scored, {anomalous}{failed}{latency}; {backend}"


def stream(
    scorer: Scorer,
    source: Iterable[Frame | FrameError],
    sinks: list[Sink],
    threshold: float,
    on_failure: Callable[[FrameError], None],
    summary: Summary,
) -> None:
    """Score every frame of a source, each result to every sink before the next frame is taken.

    Args:
        scorer: the model.
        source: yields frames, or the error of a frame that could not be decoded.
        sinks: keep the results.
        threshold: a frame is anomalous if its score is greater.
        on_failure: told of each frame that is skipped.
        summary: counts along.

    Raises:
        SourceError: the source went away.
        SinkError: a result could not be kept.
    """
    for frame in source:
        try:
            if isinstance(frame, FrameError):
                raise frame
            started = time.perf_counter()
            score = float(scorer.score(*frame.inputs(scorer.contract.channels))[0])
            summary.latencies_s.append(time.perf_counter() - started)
            if not np.isfinite(score):
                raise FrameError("the score is not a finite number")
        except FrameError as error:
            summary.failures += 1
            where = "" if isinstance(frame, FrameError) else f"{frame.source} {frame.id}: "
            on_failure(FrameError(f"{where}{error}"))
            continue
        verdict = "anomalous" if score > threshold else "normal"
        summary.frames += 1
        summary.anomalous += verdict == "anomalous"
        result = Result(
            frame.source, frame.id, timestamp(frame.time), float(f"{score:.9g}"), threshold, verdict
        )
        for sink in sinks:
            sink.write(result)
