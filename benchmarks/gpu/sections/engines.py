"""``adae-edge engine`` with the TensorRT that is installed, and its engines' scores and times."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.commands import adae_edge
from adae_edge.benchmarks.gpu.frames import frame_size
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.timing import case
from adae_edge.runtime import Scorer
from adae_edge.tensorrt import MODULES

NAMES = ("a1-32", "a1-32-fp16", "a3-640x480", "b3-32-fp16")
_LARGE_PIXELS = 64 * 64


def measure(settings: Settings, results: Results) -> None:
    """Build an engine of each model file, and compare it with the CPU."""
    if not settings.on_gpu:
        results.skip("engines", "an engine runs on a GPU alone")
        return
    modules = [name for names in MODULES.values() for name in names]
    if not any(map(importlib.util.find_spec, modules)):
        results.skip("engines", "no TensorRT is installed")
        return
    files = settings.model_files()
    for name in NAMES:
        if name not in files:
            results.skip(name, "there is no such model file")
            continue
        engine = settings.work / f"{name}.engine"
        build = ("engine", files[name], "--out", engine, "--batch", "1,1,1024")
        if results.attempt(f"{name} built", adae_edge, *build):
            _compare(name, files[name], engine, settings, results)


def _compare(name: str, path: Path, engine: Path, settings: Settings, results: Results) -> None:
    reference, tried = Scorer(path, "cpu"), Scorer(engine)
    width, height = frame_size(reference)
    for batch in (1, 256, 1024) if width * height < _LARGE_PIXELS else (1,):
        frames = random_frames(batch, (width, height), reference.contract.channels)

        def compared(frames: NDArray[np.uint8]) -> dict[str, Any]:
            figures = case(lambda: tried.score(frames), len(frames), settings.seconds)
            difference = np.abs(tried.score(frames) / reference.score(frames) - 1)
            return figures | {"worst_relative": float(difference.max())}

        results.attempt(f"{name} batch {batch}", compared, frames)
