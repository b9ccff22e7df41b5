"""What building and running engines share: TensorRT's module by its flavour, and its log."""

from __future__ import annotations

import importlib
from typing import Any

from adae_edge.errors import AdaeEdgeError, MissingExtra, first_line

# Where each flavour of ``enginefile.FLAVOURS`` may be found, its bindings alone too, and the extra
# that brings it.
MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
EXTRAS = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def load_flavour(flavour: str, what: str) -> Any:
    """Import TensorRT in this flavour, by whichever of its names is installed.

    Args:
        flavour: one of ``MODULES``.
        what: what needs it; begins the sentence where it is not installed.

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
                raise _unloadable(flavour, error) from error
        # A library that is missing is an ImportError, and a broken one may be anything.
        except Exception as error:
            raise _unloadable(flavour, error) from error
    raise MissingExtra(what, EXTRAS[flavour])


def _unloadable(flavour: str, error: Exception) -> AdaeEdgeError:
    return AdaeEdgeError(f"{flavour} is installed and cannot be loaded: {first_line(error)}")


def log_of(trt: Any) -> Any:
    """A TensorRT logger that prints nothing, and keeps the errors in its list ``errors``."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    return Log()
