"""Backends: what runs the graph. Chosen by name, and never replaced by another one in silence."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.errors import AdaeEdgeError, ModelFileError, UsageError, printable
from adae_edge.extras import needs
from adae_edge.interface import Port, inputs_of, outputs_of
from adae_edge.machine import available_threads

if TYPE_CHECKING:
    import onnxruntime

MAX_THREADS = 256
# ONNX Runtime's execution provider for each device, and the extra that brings it.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "cpu"),
    "cuda": ("CUDAExecutionProvider", "gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "gpu"),
    "openvino": ("OpenVINOExecutionProvider", "openvino"),
}
DEVICES = tuple(PROVIDERS)
# They all are the one module onnxruntime, and overwrite each other's files.
PACKAGES = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
# What OpenVINO computes a float32 graph in. Left to itself it may choose bf16 where the CPU can.
OPENVINO_PRECISION = "f32"
# ONNX Runtime's names of a port's dtype.
_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
# Operators that compute the resize and the network have one of these in their names.
PRODUCTS = ("Conv", "MatMul", "Gemm")
# Operators that a device is known to compute wrongly. OpenVINO adds up exponentials as they are,
# and where all of them are below the smallest float32 takes the logarithm of 0.
WRONG = {"openvino": {"ReduceLogSumExp"}}


class Backend(Protocol):
    """Runs the graph on one device.

    Attributes:
        name: what runs it, for people.
        max_batch: frames in one run at the most; None where any number is taken.
    """

    name: str
    max_batch: int | None

    def run(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """The graph's inputs in order, C-contiguous -> some of its outputs by name."""
        ...


class OnnxRuntime:
    """ONNX Runtime with the execution provider that was asked for, or none.

    ONNX Runtime gives the CPU what a provider does not take, and on GPUs the arithmetic of shapes
    even where it would. So the provider must be loaded and have every product (``PRODUCTS``) of the
    graph; on which side the rest runs is not checked, because no number follows from it.

    Attributes:
        name: version and provider.
        session: the onnxruntime.InferenceSession that runs the graph.
    """

    def __init__(
        self,
        model: bytes,
        device: str,
        threads: int | None = None,
        contract: Contract | None = None,
    ) -> None:
        """
        Args:
            model: the bytes of a checked model file.
            device: one of ``DEVICES``. "tensorrt" builds an engine, which takes seconds to minutes,
                and keeps it in memory alone: while the graph loads if its sizes are fixed, else at
                the first frame and again for each size or batch beyond those before.
            threads: for one run of the graph; None for as many as this process may use.
            contract: of the model file, whose inputs and outputs the loaded graph must have; None
                for a graph that is known to be right.

        Raises:
            UsageError: no such device, this onnxruntime cannot run on it, or an absurd number of
                threads.
            MissingExtra: onnxruntime is not installed.
            ModelFileError: the graph cannot be loaded.
            AdaeEdgeError: the device cannot be used, leaves products to another one, or computes
                them wrongly.
        """
        if device not in PROVIDERS:
            raise UsageError(
                f"there is no device {device}: choose {', '.join(DEVICES[:-1])} or {DEVICES[-1]}"
            )
        provider, extra = PROVIDERS[device]
        with needs("Scoring", extra):
            import onnxruntime
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"a run takes 1 to {MAX_THREADS} threads, and not {threads}")
        if provider not in onnxruntime.get_available_providers():
            others = " ".join(package for name, package in PACKAGES.items() if name != extra)
            raise UsageError(
                f"this onnxruntime cannot run on {device}, which takes the package "
                f"{PACKAGES[extra]}, and only one "
                f"onnxruntime package can be installed at a time: pip uninstall {others}, then "
                f"pip install 'adae-edge[{extra}]'"
            )
        onnxruntime.set_default_logger_severity(4)
        options = session_options(threads)
        if device != "cpu":
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        printed = io.StringIO()  # onnxruntime prints what keeps CUDA from loading
        try:
            with contextlib.redirect_stdout(printed):
                if extra == "gpu":
                    onnxruntime.preload_dlls()
                # Its fallback would run on the CPU what a provider fails to load, or to run later.
                self.session = onnxruntime.InferenceSession(
                    model,
                    options,
                    providers=[(provider, provider_options(device, options.intra_op_num_threads))],
                    enable_fallback=0,
                )
        except Exception as error:
            if device == "cpu":
                raise ModelFileError(f"the graph cannot be loaded: {_first_line(error)}") from None
            printed.write(str(error))
        if device != "cpu":
            if not hasattr(self, "session") or self.session.get_providers()[0] != provider:
                reason = _first_line(printed.getvalue() or "ONNX Runtime does not say why")
            else:
                reason = _unfit(self.session, device, provider)
            if reason:
                raise AdaeEdgeError(
                    f"{device} cannot be used, and nothing else is used in its place: {reason}"
                )
        if contract is not None:
            _check_ports(self.session, contract)
        self._inputs = [value.name for value in self.session.get_inputs()]
        self.name = f"onnxruntime {onnxruntime.__version__} {provider}"
        self.max_batch: int | None = None

    def run(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str] = ("score",)
    ) -> list[NDArray[np.float32]]:
        """The graph's inputs in order, C-contiguous -> some of its outputs by name.

        Raises:
            AdaeEdgeError: the graph or the device failed.
        """
        try:
            values: list[NDArray[np.float32]] = self.session.run(
                outputs, dict(zip(self._inputs, inputs, strict=True))
            )
        except Exception as error:
            raise AdaeEdgeError(f"the graph cannot be run: {_first_line(error)}") from None
        # OpenVINO has answered a run that failed inside of it with the scores of the run before.
        if len(values[0]) != len(inputs[0]):
            raise AdaeEdgeError(
                f"the graph gives {len(values[0])} scores for {len(inputs[0])} frames"
            )
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


def provider_options(device: str, threads: int) -> dict[str, str]:
    """The provider's options with which a float32 graph gives float32's numbers, and which write no file."""
    if device == "cuda":
        return {"use_tf32": "0"}  # products would keep 10 bits of their factors
    if device == "tensorrt":
        # TensorRT has no option against TF32, but reads this variable of NVIDIA's when it builds an
        # engine.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        # All given, because options that are not given may come from the environment.
        return {
            "trt_fp16_enable": "0",
            "trt_bf16_enable": "0",
            "trt_int8_enable": "0",
            "trt_engine_cache_enable": "0",
            "trt_timing_cache_enable": "0",
            "trt_dump_subgraphs": "0",
            "trt_dump_ep_context_model": "0",
        }
    if device == "openvino":
        cpu = {
            "INFERENCE_PRECISION_HINT": OPENVINO_PRECISION,
            "INFERENCE_NUM_THREADS": str(threads),
            "NUM_STREAMS": "1",
            # Pinned threads of two processes would share one CPU and leave another idle.
            "ENABLE_CPU_PINNING": "NO",
        }
        return {"device_type": "CPU", "load_config": json.dumps({"CPU": cpu})}
    return {}


def _check_ports(session: onnxruntime.InferenceSession, contract: Contract) -> None:
    """Refuse a graph whose inputs and outputs, as ONNX Runtime sees them, are not the contract's."""
    inputs, outputs = inputs_of(contract), outputs_of(contract)
    taken = [(value.name, value.type, len(value.shape)) for value in session.get_inputs()]
    returned = [(value.name, value.type, len(value.shape)) for value in session.get_outputs()]
    if taken != [_as_seen(port) for port in inputs] or not all(
        _as_seen(port) in returned for port in outputs
    ):
        raise ModelFileError(
            f"the graph does not take {' and '.join(map(str, inputs))} and return "
            f"{' and '.join(map(str, outputs))}"
        )


def _as_seen(port: Port) -> tuple[str, str, int]:
    """Name, type and number of axes, as ONNX Runtime says them."""
    return port.name, _TYPES[port.dtype.name], len(port.shape)


def _unfit(session: onnxruntime.InferenceSession, device: str, provider: str) -> str:
    """Why this graph cannot be trusted to the loaded provider; "" if it can."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "ONNX Runtime says from version 1.24 on what it runs where, and this one is older"
    taken: set[str] = set()
    left: set[str] = set()
    for part in session.get_provider_graph_assignment_info():
        operators = taken if part.ep_name == provider else left
        operators.update(printable(node.op_type) for node in part.get_nodes())
    products = sorted(name for name in left if any(word in name for word in PRODUCTS))
    if products or not taken:
        return f"ONNX Runtime would run {', '.join(products) or 'the whole graph'} elsewhere"
    wrong = sorted(taken & WRONG.get(device, set()))
    return f"it computes {', '.join(wrong)} wrongly, so export the model again" if wrong else ""


def _first_line(error: Exception | str) -> str:
    """A message's first line, safe to print: a hostile file may have put names of its own into it."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
