"""NVIDIA GPUs, as their driver tells of them: asked by ctypes, so that no package is needed."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from adae_edge.errors import DeviceError, printable

_COMPUTE_CAPABILITY_MAJOR = 75  # of CUdevice_attribute in cuda.h
_COMPUTE_CAPABILITY_MINOR = 76
_NO_DEVICE = 100  # of CUresult


class Gpu(NamedTuple):
    """A GPU by its name and its compute capability, as in "8.7"."""

    name: str
    compute_capability: str


class Driver(NamedTuple):
    """The newest CUDA that the driver knows, as in "12.6", and the GPUs that are visible."""

    cuda: str
    gpus: list[Gpu]


def ask_driver() -> Driver:
    """What the driver tells of itself and of its GPUs.

    Raises:
        DeviceError: there is no driver, or it cannot be used.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceError("there is no NVIDIA driver") from error
    version, count = ctypes.c_int(), ctypes.c_int()
    _check(cuda.cuInit(0))
    _check(cuda.cuDriverGetVersion(ctypes.byref(version)))
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)))
    gpus = [_gpu(cuda, index) for index in range(count.value)]
    return Driver(f"{version.value // 1000}.{version.value % 1000 // 10}", gpus)


def first_gpu() -> Gpu | None:
    """The first visible GPU; None where there is none that can be used."""
    try:
        gpus = ask_driver().gpus
    except DeviceError:
        return None
    return gpus[0] if gpus else None


def _gpu(cuda: Any, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    _check(cuda.cuDeviceGet(ctypes.byref(device), index))
    _check(cuda.cuDeviceGetName(name, len(name), device))
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device))
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device))
    return Gpu(printable(name.value.decode(errors="replace")), f"{major.value}.{minor.value}")


def _check(code: int) -> None:
    if code == _NO_DEVICE:
        raise DeviceError("the NVIDIA driver sees no GPU")
    if code:
        raise DeviceError(f"the NVIDIA driver cannot be used, CUDA error {code}")
