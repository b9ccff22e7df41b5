"""PyTorch from frames to scores: eager, compiled and as a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adae_edge.benchmarks.against.contenders import network
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.device import device_ms
from adae_edge.benchmarks.gpu.frames import SIDE
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.timing import case

# Networks and the channels of their frames.
MEASURED = (("a", 1), ("b", 3))
BATCHES = (1, 64, 256, 1024, 4096)
COMPILED_BATCHES = (1, 1024)

# Frames uint8 [N, H, W, C] on the device -> scores float32 [N] there.
ScoreOf = Callable[[Tensor], Tensor]
Scores = NDArray[np.float32]


def measure(settings: Settings, results: Results) -> None:
    """Time both networks in each way."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name, channels in MEASURED if settings.on_gpu else MEASURED[:1]:
        model = network(name, channels).to(settings.device).eval()

        def score_of(frames: Tensor, model: Any = model) -> Tensor:
            scores: Tensor = model.score_of(frames.permute(0, 3, 1, 2).float() / 127.5 - 1, "l2")
            return scores

        for batch in BATCHES if settings.on_gpu else BATCHES[:2]:
            frames = _host_frames(batch, channels, settings)
            _uncompiled(f"{name} batch {batch}", score_of, frames, settings, results)
        for batch in COMPILED_BATCHES:
            label = f"{name} batch {batch} compiled"
            if settings.on_gpu:
                _compiled(
                    label, score_of, _host_frames(batch, channels, settings), settings, results
                )
            else:
                results.skip(label, "it is measured on a GPU alone")


def _host_frames(batch: int, channels: int, settings: Settings) -> Tensor:
    frames = torch.from_numpy(random_frames(batch, (SIDE, SIDE), channels))
    return frames.pin_memory() if settings.on_gpu else frames


def _from_host(score_of: ScoreOf, frames: Tensor, device: str) -> Callable[[], Scores]:
    """Make a call that copies the frames in, computes, and copies the scores out."""

    @torch.inference_mode()
    def call() -> Scores:
        scores: Scores = score_of(frames.to(device, non_blocking=True)).cpu().numpy()
        return scores

    return call


def _uncompiled(
    name: str, score_of: ScoreOf, frames: Tensor, settings: Settings, results: Results
) -> None:
    eager = _from_host(score_of, frames, settings.device)
    results.attempt(f"{name} eager", case, eager, len(frames), settings.seconds)
    if settings.on_gpu:
        results.attempt(f"{name} graph", _graphed, score_of, frames, eager, settings.seconds)
    else:
        results.skip(f"{name} graph", "a CUDA graph takes a GPU")


def _compiled(
    name: str, score_of: ScoreOf, frames: Tensor, settings: Settings, results: Results
) -> None:
    compiled = torch.compile(score_of, dynamic=False, mode="reduce-overhead")
    call = _from_host(compiled, frames, settings.device)

    def timed() -> dict[str, Any]:
        begun = time.perf_counter()
        call()
        compiling_s = time.perf_counter() - begun
        figures = case(call, len(frames), settings.seconds)
        return figures | {"compiling_s": round(compiling_s, 1)}

    results.attempt(name, timed)


def _graphed(
    score_of: ScoreOf, frames: Tensor, eager: Callable[[], Scores], seconds: float
) -> dict[str, Any]:
    """Record copying in, computing and copying out, and time the replay."""
    there = torch.empty_like(frames, device="cuda")
    back = torch.empty(len(frames), pin_memory=True)

    def copy_compute_copy() -> None:
        there.copy_(frames, non_blocking=True)
        back.copy_(score_of(there), non_blocking=True)

    # Libraries prepare themselves in the first runs, which cannot be recorded
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            copy_compute_copy()
    torch.cuda.synchronize()

    whole, computing = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(whole):
        copy_compute_copy()
    with torch.inference_mode(), torch.cuda.graph(computing):
        score_of(there)

    def replay() -> Scores:
        whole.replay()
        torch.cuda.current_stream().synchronize()
        scores: Scores = back.numpy()
        return scores

    figures = case(replay, len(frames), seconds)
    same = np.allclose(replay(), eager(), rtol=1e-3)
    alone_ms = device_ms(computing.replay, repeats=200)
    return figures | {"same": bool(same), "device_ms": round(alone_ms, 4)}
