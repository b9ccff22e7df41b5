"""Where the time of a large batch goes: copying the frames in, allocating, or computing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.frames import frame_size
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.session import Bound
from adae_edge.benchmarks.gpu.timing import case
from adae_edge.runtime import Scorer

Frames = NDArray[np.uint8]

NAMES = ("a1-32", "b3-32")
PART = 1024
BATCHES = (PART, 4 * PART)
# Ways to compute the same. A CUDA graph allocates and launches nothing while it is replayed.
VARIANTS: dict[str, dict[str, str]] = {
    "computing": {},
    "computing, graph": {"enable_cuda_graph": "1"},
    "computing, heuristic search": {"cudnn_conv_algo_search": "HEURISTIC"},
    "computing, channels last": {"prefer_nhwc": "1"},
}


def measure(settings: Settings, results: Results) -> None:
    """Time a batch as a whole, in parts, and step by step."""
    files = settings.model_files()
    for name in NAMES:
        if name not in files:
            results.skip(name, "there is no such model file")
            continue
        for batch in BATCHES if settings.on_gpu else (64,):
            label = f"{name} batch {batch}"
            results.attempt(f"{label} in all", _in_all, files[name], batch, settings)
            _steps(label, files[name], batch, settings, results)


def _in_all(path: Path, batch: int, settings: Settings) -> dict[str, Any]:
    """Time ``Scorer`` with the whole batch, and with runs of a part each in its place."""
    scorer = Scorer(path, settings.device)
    frames = random_frames(batch, frame_size(scorer), scorer.contract.channels)

    def in_parts() -> None:
        for begin in range(0, batch, PART):
            scorer.score(frames[begin : begin + PART])

    whole = case(lambda: scorer.score(frames), batch, settings.seconds)
    return whole | {"p50_in_parts": case(in_parts, batch, settings.seconds)["p50"]}


def _steps(name: str, path: Path, batch: int, settings: Settings, results: Results) -> None:
    """Time each way to copy the frames in, and each way to compute their scores."""
    scorer = Scorer(path, settings.device)
    frames = random_frames(batch, frame_size(scorer), scorer.contract.channels)
    expected = scorer.score(frames)

    def copying(source: Frames) -> dict[str, Any]:
        bound = Bound(path, frames, settings.device)
        return case(lambda: bound.copy_in(source), batch, settings.seconds)

    def computing(options: dict[str, str]) -> dict[str, Any]:
        bound = Bound(path, frames, settings.device, **options)
        figures = case(bound.compute, batch, settings.seconds)
        same = np.allclose(bound.score(frames), expected, rtol=1e-3)
        return figures | {"same": bool(same)}

    results.attempt(f"{name}, copying in", copying, frames)
    if settings.on_gpu:
        pinned = torch.from_numpy(frames).pin_memory()
        results.attempt(f"{name}, copying in, pinned", copying, pinned.numpy())
    else:
        results.skip(f"{name}, copying in, pinned", "memory is pinned for a GPU")
    for label, options in VARIANTS.items():
        if options and not settings.on_gpu:
            results.skip(f"{name}, {label}", "it is an option of the CUDA provider")
        else:
            results.attempt(f"{name}, {label}", computing, options)
