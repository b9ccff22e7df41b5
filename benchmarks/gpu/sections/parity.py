"""Scores of the GPU beside those of the CPU, of the same file by the same runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.frames import frame_size, mnist_frames
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.runtime import Scorer

# Largest relative difference of a score that is expected.
ALLOWED = {"fp32": 1e-4, "fp16": 2e-2}

Frames = NDArray[np.uint8]
Scores = NDArray[np.float32]


def measure(settings: Settings, results: Results) -> None:
    """Compare the scores of every model file."""
    for name, path in settings.model_files().items():
        results.attempt(name, _compared, path, settings)


def _compared(path: Path, settings: Settings) -> dict[str, Any]:
    reference, tried = Scorer(path, "cpu"), Scorer(path, settings.device)
    sets = _frames(reference, settings)

    # The same frames on both devices
    threshold = reference.threshold
    worst = {}
    changed = 0
    for name, frames in sets.items():
        expected, scores = reference.score(frames), tried.score(frames)
        worst[name] = _difference(scores, expected)
        changed += int(((scores > threshold) != (expected > threshold)).sum())

    # The same frames in other batches and in another order
    frames = sets["noise"]
    together = tried.score(frames)
    parts = [tried.score(frames[begin : begin + 7]) for begin in range(0, len(frames), 7)]
    worst["batches of 7"] = _difference(np.concatenate(parts), together)
    order = np.random.default_rng(1).permutation(len(frames))
    worst["shuffled"] = _difference(tried.score(frames[order]), together[order])

    most = max(worst.values())
    return {
        "backend": tried.backend.name,
        "precision": reference.form.precision,
        "worst_relative": most,
        "within": most < ALLOWED[reference.form.precision],
        "decisions_changed": changed,
        "by_set": {name: float(f"{value:.3g}") for name, value in worst.items()},
    }


def _frames(scorer: Scorer, settings: Settings) -> dict[str, Frames]:
    """Prepare noise and extreme frames, and other sizes where the model takes any."""
    channels = scorer.contract.channels
    size = frame_size(scorer)
    noise = random_frames(64 if max(size) <= 64 else 8, size, channels)
    hot = np.zeros_like(noise[:1])
    hot[0, size[1] // 2, size[0] // 2] = 255
    sets = {
        "noise": noise,
        "black": np.zeros_like(noise[:2]),
        "white": np.full_like(noise[:2], 255),
        "one hot pixel": hot,
    }
    if scorer.form.size is None:
        sets["640x480"] = random_frames(3, (640, 480), channels)
        sets["1920x1080"] = random_frames(1, (1920, 1080), channels)
        sets["17x33"] = random_frames(5, (17, 33), channels)
        sets["1x1"] = random_frames(2, (1, 1), channels)
        if channels == 1 and settings.mnist is not None:
            sets["digits"] = mnist_frames(settings.mnist, 1000)
    return sets


def _difference(scores: Scores, expected: Scores) -> float:
    """Largest difference of scores, relative to the largest score."""
    return float(np.abs(scores - expected).max() / max(float(np.abs(expected).max()), 1e-6))
