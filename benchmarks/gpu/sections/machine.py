"""What the machine has: versions, clocks and power, and whether the CUDA provider loads."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import subprocess
from typing import Any

from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.machine import machine

PACKAGES = (
    "adae-edge",
    "torch",
    "triton",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnx",
    "numpy",
    "cuda-bindings",
    "nvidia-cudnn-cu13",
    "nvidia-cublas",
)
QUERY = (
    "name,driver_version,pstate,clocks.sm,clocks.max.sm,temperature.gpu,power.draw,power.limit,"
    "memory.total"
)


def measure(settings: Settings, results: Results) -> None:
    """Describe the machine."""
    results.add("machine", machine())
    results.add("packages", _versions())
    if settings.on_gpu:
        results.attempt("gpu", _gpu)
    results.attempt("onnxruntime", _onnxruntime, settings.on_gpu)


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _onnxruntime(on_gpu: bool) -> dict[str, Any]:
    """Ask ONNX Runtime, which may not even be imported where a library is missing."""
    from adae_edge.benchmarks.gpu import session

    answer: dict[str, Any] = {"providers": session.providers()}
    return answer | ({"cuda": session.load_cuda_provider()} if on_gpu else {})


def _gpu() -> dict[str, str]:
    """Ask the driver's own tool."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        raise FileNotFoundError("there is no nvidia-smi")
    done = subprocess.run(  # noqa: S603
        [smi, f"--query-gpu={QUERY}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    )
    values = done.stdout.splitlines()[0].split(", ")
    return dict(zip(QUERY.split(","), values, strict=True))
