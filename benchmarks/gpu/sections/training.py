"""Training on the GPU: updates a second, and ``train`` and ``export`` by their commands."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.commands import adae_edge
from adae_edge.benchmarks.gpu.frames import SIDE, mnist_frames
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Scorer
from adae_edge.train.recipes import RECIPES
from adae_edge.train.run import Run
from adae_edge.train.settings import NETWORKS

# Networks and the channels of their frames.
MEASURED = (("a", 1), ("b", 3))
EPOCHS = 2
RECIPE = RECIPES["default"]
_FRAMES = 20_000
_WARM_UP_UPDATES = 20
_LEAST_S = 0.5


def measure(settings: Settings, results: Results) -> None:
    """Time updates of the networks, then train and export as a user would."""
    for name, channels in MEASURED if settings.on_gpu else MEASURED[:1]:
        for batch in (64, 512) if settings.on_gpu else (64,):
            updates = Updates(name, channels, batch, settings.device)
            results.attempt(f"{name} batch {batch}", _timed, updates, settings.seconds)
    if settings.on_gpu:
        updates = Updates("a", 1, 64, "cpu")
        results.attempt("a batch 64 on the CPU", _timed, updates, settings.seconds)
        updates = Updates("a", 1, 64, "cuda", compiled=True)
        results.attempt("a batch 64 compiled", _timed, updates, settings.seconds)
    else:
        results.skip("a batch 64 compiled", "it is measured on a GPU alone")
    _by_commands(settings, results)


class Updates(NamedTuple):
    """Updates to time.

    Attributes:
        network: name of the networks.
        channels: of the frames.
        batch: frames in an update.
        device: a torch device.
        compiled: whether ``torch.compile`` makes the networks.
    """

    network: str
    channels: int
    batch: int
    device: str
    compiled: bool = False


def _timed(chosen: Updates, seconds: float) -> dict[str, Any]:
    """Time updates of the weights, with the frames on the device already as ``train`` has them."""
    # Networks and frames
    torch.manual_seed(0)
    preprocess = Preprocess(SIDE)
    network, channels, batch, device, compiled = chosen
    model = ADAE(preprocess, channels, NETWORKS[network]).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = Run(model.train(), RECIPE, compiled=compiled)
    frames = torch.randint(0, 256, (_FRAMES, channels, SIDE, SIDE), dtype=torch.uint8).to(device)
    order = torch.randint(_FRAMES, (4000, batch))

    def update(index: int) -> float:
        chosen = order[index % len(order)].to(device)
        x = preprocess.normalise(frames[chosen]).contiguous(memory_format=torch.channels_last)
        return float(run.update(x, progress=0.0)[2])

    # Warm-up, with compiling where it is asked for
    begun = time.perf_counter()
    for index in range(_WARM_UP_UPDATES):
        update(index)
    warm_up_s = time.perf_counter() - begun

    # The updates that are timed
    updates, loss = 0, 0.0
    begun = time.perf_counter()
    while time.perf_counter() - begun < max(_LEAST_S, 2 * seconds):
        loss = update(updates)
        updates += 1
    took = time.perf_counter() - begun
    return {
        "images_per_s": round(updates * batch / took),
        "ms_an_update": round(took / updates * 1e3, 3),
        "first_20_s": round(warm_up_s, 2),
        "loss": round(loss, 4),
    }


def _by_commands(settings: Settings, results: Results) -> None:
    folder = settings.work / "trained"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checkpoint, model = folder / "c.safetensors", folder / "c.onnx"
    data = f"mnist:{settings.mnist}" if settings.mnist and settings.on_gpu else "digits"
    if not results.attempt("train", _train, data, checkpoint, settings.device):
        return
    if not results.attempt("export", adae_edge, "export", checkpoint, "--out", model):
        return
    results.attempt("the trained model's scores", _scores, model, settings)


def _train(data: str, checkpoint: Path, device: str) -> dict[str, Any]:
    options = ["--anomalous", "0", "--epochs", str(EPOCHS), "--device", device]
    printed = adae_edge("train", data, *options, "--out", checkpoint)
    metrics = checkpoint.with_suffix(".metrics.jsonl").read_text().splitlines()
    last = json.loads(metrics[-1])
    images = last["updates"] * RECIPE.batch * last["epoch"]
    rate = round(images / last["seconds"])
    return printed | {"epochs_s": last["seconds"], "images_per_s": rate}


def _scores(model: Path, settings: Settings) -> dict[str, Any]:
    """Compare the trained model's scores of digits on the device with the CPU's."""
    if settings.mnist:
        frames = mnist_frames(settings.mnist, 10_000)
    else:
        frames = random_frames(1000, (SIDE, SIDE), 1)
    expected = Scorer(model, "cpu").score(frames)
    tried = Scorer(model, settings.device)
    scores = tried.score(frames)
    changed = (scores > tried.threshold) != (expected > tried.threshold)
    return {
        "worst_relative": float((np.abs(scores - expected) / expected).max()),
        "decisions_changed": int(changed.sum()),
    }
