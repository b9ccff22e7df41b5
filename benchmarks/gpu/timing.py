"""Times of calls, each of the whole way from frames in the computer's memory to scores in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

WARM_UP_S = 0.3
MIN_CALLS = 20


def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the times of calls, ms, made for so many seconds after a warm-up; none is left out."""
    for _ in range(3):
        call()
    until = time.perf_counter() + min(WARM_UP_S, seconds)
    while time.perf_counter() < until:
        call()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < MIN_CALLS:
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def case(call: Callable[[], object], batch: int, seconds: float) -> dict[str, Any]:
    """Time calls that take a batch each: percentiles in ms, and frames a second."""
    ms = np.array(timed(call, seconds))
    percentiles = np.percentile(ms, [0, 50, 90, 99, 99.9, 100])
    names = ("min", "p50", "p90", "p99", "p999", "max")
    figures: dict[str, Any] = {
        name: round(float(value), 4) for name, value in zip(names, percentiles, strict=True)
    }
    return figures | {"n": len(ms), "frames_per_s": round(batch * len(ms) / float(ms.sum()) * 1e3)}
