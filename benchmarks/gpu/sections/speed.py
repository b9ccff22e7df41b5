"""How fast ``Scorer`` is on the GPU and on the CPU, and what bound memory and CUDA graphs gain."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.frames import frame_size
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.session import Bound
from adae_edge.benchmarks.gpu.timing import case
from adae_edge.runtime import Scorer

BATCHES = (1, 64, 256, 1024, 4096)
# Files that are measured with all batches, and those that are looked at from every side.
ALL_BATCHES = ("a1-32", "b3-32", "b3-32-fp16")
CLOSELY = ("a1-32", "b3-32")
_LARGE_PIXELS = 64 * 64
_ENERGY_S = 2.0


def measure(settings: Settings, results: Results) -> None:
    """Time every model file."""
    for name, path in settings.model_files().items():
        if not results.attempt(f"{name} start", _start, path, settings):
            continue
        _batches(name, path, settings, results)
        if name in CLOSELY:
            _beside_the_cpu(name, path, settings, results)
            _energy(name, path, settings, results)
            _bound(name, path, settings, results)


def _start(path: Path, settings: Settings) -> dict[str, float]:
    """Time loading and the first score."""
    begun = time.perf_counter()
    scorer = Scorer(path, settings.device)
    loaded = time.perf_counter()
    scorer.score(random_frames(1, frame_size(scorer), scorer.contract.channels))
    scored = time.perf_counter()
    return {
        "load_ms": round((loaded - begun) * 1e3, 1),
        "first_ms": round((scored - loaded) * 1e3, 1),
    }


def _batches(name: str, path: Path, settings: Settings, results: Results) -> None:
    scorer = Scorer(path, settings.device)
    width, height = frame_size(scorer)
    batches: tuple[int, ...] = (1, 64)
    if width * height > _LARGE_PIXELS:
        batches = (1, 16)
    elif name in ALL_BATCHES and settings.on_gpu:
        batches = BATCHES
    for batch in batches:
        _scored(f"{name} batch {batch}", scorer, batch, (width, height), settings, results)
    if scorer.form.size is None:
        _scored(f"{name} 640x480", scorer, 1, (640, 480), settings, results)


def _scored(
    name: str,
    scorer: Scorer,
    batch: int,
    size: tuple[int, int],
    settings: Settings,
    results: Results,
) -> None:
    frames = random_frames(batch, size, scorer.contract.channels)
    results.attempt(name, case, lambda: scorer.score(frames), batch, settings.seconds)


def _beside_the_cpu(name: str, path: Path, settings: Settings, results: Results) -> None:
    scorer = Scorer(path, "cpu")
    for batch in (1, 256):
        label = f"{name} batch {batch} on the CPU"
        _scored(label, scorer, batch, frame_size(scorer), settings, results)


def _bound(name: str, path: Path, settings: Settings, results: Results) -> None:
    """Time frames and scores that have their place on the device, and the same as a CUDA graph."""
    for batch in (1, 1024) if settings.on_gpu else (1,):
        label = f"{name} batch {batch} bound"
        results.attempt(label, _bound_case, path, batch, settings)
        if settings.on_gpu:
            graph = {"enable_cuda_graph": "1"}
            results.attempt(f"{label}, graph", _bound_case, path, batch, settings, **graph)
        else:
            results.skip(f"{label}, graph", "a CUDA graph takes a GPU")


def _bound_case(path: Path, batch: int, settings: Settings, **options: str) -> dict[str, Any]:
    scorer = Scorer(path, settings.device)
    frames = random_frames(batch, frame_size(scorer), scorer.contract.channels)
    bound = Bound(path, frames, settings.device, **options)
    result = case(lambda: bound.score(frames), batch, settings.seconds)
    same = np.allclose(bound.score(frames), scorer.score(frames), rtol=1e-4)
    return result | {"same": bool(same)}


def _energy(name: str, path: Path, settings: Settings, results: Results) -> None:
    label = f"{name} energy"
    if not settings.on_gpu:
        results.skip(label, "the meter is the GPU's")
    elif importlib.util.find_spec("pynvml") is None:
        results.skip(label, "pynvml is not installed")
    else:
        scorer = Scorer(path, settings.device)
        frames = random_frames(256, frame_size(scorer), scorer.contract.channels)
        results.attempt(label, _measured_energy, lambda: scorer.score(frames), len(frames))


def _measured_energy(call: Callable[[], object], batch: int) -> dict[str, float]:
    """Measure the GPU's power at rest and at work, and its energy for a frame, by its own meter."""
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)

    def joules(work: Callable[[], object]) -> tuple[float, float, int]:
        calls = 0
        begun, before = time.perf_counter(), pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
        while time.perf_counter() - begun < _ENERGY_S:
            work()
            calls += 1
        used = pynvml.nvmlDeviceGetTotalEnergyConsumption(card) - before
        return used / 1e3, time.perf_counter() - begun, calls

    rest_j, rest_s, _ = joules(lambda: time.sleep(0.05))
    work_j, work_s, calls = joules(call)
    return {
        "watts_at_rest": round(rest_j / rest_s, 1),
        "watts": round(work_j / work_s, 1),
        "mj_a_frame": round(work_j / (calls * batch) * 1e3, 4),
    }
