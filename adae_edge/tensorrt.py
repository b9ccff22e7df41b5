"""What building and running engines share: TensorRT's module by its flavour, its log, and this machine's GPU."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from adae_edge.errors import AdaeEdgeError, MissingExtra, printable

# Where each flavour of ``enginefile.FLAVOURS`` may be found, its bindings alone too, and the extra
# that brings it.
MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


def load_flavour(flavour: str, what: str) -> Any:
    """TensorRT's module, for ``what``, which begins the sentence where it is not installed.

    Raises:
        MissingExtra: it is not installed.
        AdaeEdgeError: it is installed and cannot be loaded, mostly because its libraries are not
            there.
    """
    for name in MODULES[flavour]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in MODULES[flavour]:
                raise _unloadable(flavour, error) from None
        except (
            Exception
        ) as error:  # a library that is missing is an ImportError, a broken one may be anything
            raise _unloadable(flavour, error) from None
    raise MissingExtra(what, EXTRAS[flavour])


def _unloadable(flavour: str, error: Exception) -> AdaeEdgeError:
    return AdaeEdgeError(f"{flavour} is installed and cannot be loaded: {first_line(str(error))}")


def log_of(trt: Any) -> Any:
    """A TensorRT logger that keeps the errors, as its list ``errors``, in place of printing them."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Log()


def first_line(text: str) -> str:
    """The first line of a message of TensorRT's, safe to print."""
    return printable((text.strip().splitlines() or ["it does not say why"])[0][:200])


def gpu() -> tuple[str, str] | None:
    """Name and compute capability ("8.7") of the first visible GPU, by its driver; None where there is none."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, major, minor, name = (
        ctypes.c_int(),
        ctypes.c_int(),
        ctypes.c_int(),
        ctypes.create_string_buffer(100),
    )
    failed = (
        cuda.cuInit(0)
        or cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(name, len(name), device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    return (
        None
        if failed
        else (printable(name.value.decode(errors="replace")), f"{major.value}.{minor.value}")
    )
