"""Backends: what runs the graph. Chosen by name, and never replaced by another one in silence."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import AdaeEdgeError, MissingExtra, ModelFileError, UsageError, printable
from adae_edge.machine import available_threads

if TYPE_CHECKING:
    import onnxruntime

MAX_THREADS = 256
# The graph's inputs, of which an image model has the first alone.
INPUTS = ("frames", "mean", "std")
# And its outputs, of which the map is there where the contract says so.
OUTPUTS = ("score", "anomaly_map")
DEVICES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Backend(Protocol):
    """Runs the graph on one device."""

    name: str

    def run(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """The graph's inputs in order, C-contiguous -> some of its outputs by name."""
        ...


class OnnxRuntime:
    """ONNX Runtime with the execution provider that was asked for, or none.

    Beside CUDA, ONNX Runtime itself runs what it thinks better placed on the CPU, such as the
    arithmetic of shapes.

    Attributes:
        name: version and provider.
        session: the onnxruntime.InferenceSession that runs the graph.
    """

    def __init__(self, model: bytes, device: str, threads: int | None = None, kind: str = "image") -> None:
        """
        Args:
            model: the bytes of a checked model file.
            device: "cpu" or "cuda".
            threads: for one run of the graph; None for as many as this process may use.
            kind: of the frames, as in the contract.

        Raises:
            UsageError: no such device, this onnxruntime cannot run on it, or an absurd number of threads.
            MissingExtra: onnxruntime is not installed.
            ModelFileError: the graph cannot be loaded.
        """
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra("Scoring", "gpu" if device == "cuda" else "cpu") from None
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"a run takes 1 to {MAX_THREADS} threads, and not {threads}")
        provider = DEVICES.get(device)
        if provider is None:
            raise UsageError(f"there is no device {device}: choose {' or '.join(DEVICES)}")
        if provider not in onnxruntime.get_available_providers():
            raise UsageError(
                f"this onnxruntime cannot run on {device}: pip uninstall onnxruntime, then pip install 'adae-edge[gpu]'"
            )
        onnxruntime.set_default_logger_severity(4)
        printed = io.StringIO()  # onnxruntime prints what keeps CUDA from loading
        try:
            with contextlib.redirect_stdout(printed):
                if device == "cuda":
                    onnxruntime.preload_dlls()
                self.session = onnxruntime.InferenceSession(model, session_options(threads), providers=[provider])
        except Exception as error:
            if device == "cpu":
                raise ModelFileError(f"the graph cannot be loaded: {_first_line(error)}") from None
            printed.write(str(error))
        if device != "cpu" and (not hasattr(self, "session") or self.session.get_providers()[0] != provider):
            reason = _first_line(printed.getvalue() or "ONNX Runtime does not say why")
            raise AdaeEdgeError(f"{device} cannot be used, and nothing else is used in its place: {reason}")
        inputs = [(value.name, value.type, len(value.shape)) for value in self.session.get_inputs()]
        outputs = [(value.name, value.type, len(value.shape)) for value in self.session.get_outputs()]
        if kind == "image":
            wanted, described = [("frames", "tensor(uint8)", 4)], "frames uint8 [N, H, W, C]"
        else:
            wanted = [("frames", "tensor(float)", 4), ("mean", "tensor(float)", 1), ("std", "tensor(float)", 1)]
            described = "frames float32 [N, H, W, 1], mean and std float32 [N]"
        if inputs != wanted or ("score", "tensor(float)", 1) not in outputs:
            raise ModelFileError(f"the graph does not take {described} and return a score float32 [N]")
        self.name = f"onnxruntime {onnxruntime.__version__} {provider}"

    def run(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str] = OUTPUTS[:1]) -> list[NDArray[np.float32]]:
        """The graph's inputs in order, C-contiguous -> some of its outputs by name.

        Raises:
            AdaeEdgeError: the graph or the device failed.
        """
        try:
            values: list[NDArray[np.float32]] = self.session.run(outputs, dict(zip(INPUTS, inputs, strict=False)))
        except Exception as error:
            raise AdaeEdgeError(f"the graph cannot be run: {_first_line(error)}") from None
        return values


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """The session options of every run, also of the benchmarks' bare sessions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _first_line(error: Exception | str) -> str:
    """A message's first line, safe to print: a hostile file may have put names of its own into it."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
