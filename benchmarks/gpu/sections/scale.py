"""Frames a second of several processes that share the device, each with a session of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.gpu.frames import frame_size
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.runtime import Scorer

MODEL = "a1-32"
BATCH = 256
PROCESSES = (1, 2, 4, 8)


def measure(settings: Settings, results: Results) -> None:
    """Score with 1 to 8 processes at once."""
    for count in PROCESSES if settings.on_gpu else PROCESSES[:2]:
        results.attempt(f"{count} processes", _together, count, settings)


def _together(count: int, settings: Settings) -> dict[str, Any]:
    """Start the processes, let them begin at the same time, and add up what they scored."""
    model = settings.models / f"{MODEL}.onnx"
    command = [sys.executable, "-m", __name__, str(model), settings.device]
    processes = [
        subprocess.Popen(  # noqa: S603
            [*command, str(5 * settings.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        rates = [_rate(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {"frames_per_s": round(sum(rates)), "each": [round(rate) for rate in rates]}


def _rate(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    with process.stdout as lines:
        line = lines.readline()
    if not line:
        raise RuntimeError("a process ended without a result")
    return float(line)


def _work(model: str, device: str, seconds: float) -> None:
    """Get ready, wait for the standard input's end, and score for so many seconds."""
    scorer = Scorer(Path(model), device)
    frames = random_frames(BATCH, frame_size(scorer), scorer.contract.channels)
    scorer.score(frames)
    print("ready", flush=True)
    sys.stdin.read()
    runs = 0
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        scorer.score(frames)
        runs += 1
    print(runs * len(frames) / (time.perf_counter() - begun), flush=True)


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], float(sys.argv[3]))
