"""What the device can do at most: bytes and operations a second, and how fast it answers."""

from __future__ import annotations

import time

import torch

from adae_edge.benchmarks.gpu.device import device_ms
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.timing import timed

_SIDE = 8192
_CPU_SIDE = 1024
_SYNCHRONISATIONS = 2000


def measure(settings: Settings, results: Results) -> None:
    """Measure bandwidths, products and the synchronisation."""
    if not settings.on_gpu:
        results.attempt("fp32_tflops", _cpu_tflops, settings.seconds)
        return
    results.attempt("copy_gb_per_s", _copy_gb_per_s)
    results.attempt("to_device_gb_per_s", _to_device_gb_per_s)
    results.attempt("fp32_tflops", _gpu_tflops, torch.float32, tf32=False)
    results.attempt("tf32_tflops", _gpu_tflops, torch.float32, tf32=True)
    results.attempt("fp16_tflops", _gpu_tflops, torch.float16, tf32=False)
    results.attempt("synchronize_us", _synchronize_us)


def _cpu_tflops(seconds: float) -> float:
    a = torch.rand(_CPU_SIDE, _CPU_SIDE)
    ms = min(timed(lambda: a @ a, seconds))
    return round(2 * _CPU_SIDE**3 / ms / 1e9, 4)


def _copy_gb_per_s() -> float:
    """Bytes read and written on the device."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return round(2 * source.nbytes / device_ms(lambda: target.copy_(source)) / 1e6)


def _to_device_gb_per_s() -> float:
    """Bytes copied from pinned memory to the device."""
    source = torch.empty(2**28, dtype=torch.uint8, pin_memory=True).random_()
    target = torch.empty_like(source, device="cuda")
    ms = device_ms(lambda: target.copy_(source, non_blocking=True))
    return round(source.nbytes / ms / 1e6, 1)


def _gpu_tflops(dtype: torch.dtype, tf32: bool) -> float:
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(_SIDE, _SIDE, dtype=dtype, device="cuda") for _ in range(2))
    return round(2 * _SIDE**3 / device_ms(lambda: a @ b, repeats=10) / 1e9, 1)


def _synchronize_us() -> float:
    """Time of waiting for a stream that has nothing to do."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    begun = time.perf_counter()
    for _ in range(_SYNCHRONISATIONS):
        stream.synchronize()
    return round((time.perf_counter() - begun) / _SYNCHRONISATIONS * 1e6, 2)
