"""What a stream has come to: counts, latencies and ages."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from adae_edge.runtime.frame import Scored

_KEPT = 10_000  # frames whose times are kept for the percentiles


@dataclass
class Metrics:
    """What a stream has come to; may be read at any time, also by another thread.

    Attributes:
        frames: how many were scored.
        anomalous: how many of these exceeded the threshold.
        uncalibrated: how many got no verdict, because the calibration does not hold for them.
        origin_unknown: how many were slices of volumes that do not say how they were acquired.
        skipped: how many frames of live sources were left out for newer ones.
        events: how many frames the events of each kind were about, as in ``frame.KINDS``.
        by_source: how many frames of each source were scored, by the source's name.
        drift: how far each source's scores are from those of the calibration, as in ``Scored``.
        latencies_s: seconds that scoring took, a frame's share of its batch; of the last 10 000.
        ages_s: seconds from a frame's time to its score, of the last 10 000.
    """

    frames: int = 0
    anomalous: int = 0
    uncalibrated: int = 0
    origin_unknown: int = 0
    skipped: int = 0
    events: Counter[str] = field(default_factory=Counter)
    by_source: Counter[str] = field(default_factory=Counter)
    drift: dict[str, float] = field(default_factory=dict)
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ages_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def take(self, scored: Scored) -> None:
        """Count a result, and how old its frame was."""
        verdict = scored.verdict
        self.frames += 1
        self.anomalous += verdict == "anomalous"
        self.uncalibrated += verdict == "uncalibrated"
        self.by_source[scored.opened] += 1
        self.ages_s.append(scored.age)

    @property
    def failures(self) -> int:
        """The number of frames that could not be decoded or scored."""
        return self.events["failure"]

    @property
    def latency_p50_ms(self) -> float | None:
        """The median in milliseconds of scoring a frame; None before the first frame."""
        return _percentile_ms(self.latencies_s, 50)

    @property
    def age_p50_ms(self) -> float | None:
        """The median in milliseconds from a frame's time to its score; None before the first."""
        return _percentile_ms(self.ages_s, 50)

    @property
    def age_p99_ms(self) -> float | None:
        """The age in milliseconds that 99 of 100 frames do not exceed; None before the first."""
        return _percentile_ms(self.ages_s, 99)

    @property
    def origin(self) -> str:
        """How many frames come from a scanner that is not known, in words; "" for none."""
        if not self.origin_unknown:
            return ""
        of = "they" if self.origin_unknown == self.frames else f"{self.origin_unknown} of them"
        return f"nothing is known of the scanner that {of} come from"

    @property
    def ages(self) -> str:
        """How old frames were when their score was known, in words; "" before the first frame."""
        if not self.ages_s:
            return ""
        return f"{self.age_p50_ms:.0f} ms old at the median, {self.age_p99_ms:.0f} ms at p99"

    def line(self, backend: str, threshold: float) -> str:
        """The metrics in a line for the terminal."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        failed = f", {self.failures} not scored" if self.failures else ""
        latency = f"; {self.latency_p50_ms:.2f} ms a frame at the median" if self.frames else ""
        verdicts = [f"{self.anomalous} anomalous (above {threshold:.4f})"]
        if self.uncalibrated:
            verdicts = verdicts[self.uncalibrated == self.frames :]
            verdicts.append(f"{self.uncalibrated} uncalibrated")
        said = ", ".join([f"{self.frames} frames scored", *verdicts])
        return f"{said}{skipped}{failed}{latency}; {backend}"


def _percentile_ms(seconds: Iterable[float], percent: float) -> float | None:
    """A percentile of times in milliseconds; None of none."""
    times = list(seconds)
    return float(np.percentile(times, percent)) * 1e3 if times else None
