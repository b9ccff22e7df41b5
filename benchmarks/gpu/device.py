"""Time on the GPU alone, by its own clock."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch


def device_ms(call: Callable[[], object], repeats: int = 50) -> float:
    """Return the median time of a call's work on the GPU, ms."""
    for _ in range(5):
        call()
    pairs = []
    for _ in range(repeats):
        begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        call()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return float(statistics.median(begin.elapsed_time(end) for begin, end in pairs))
