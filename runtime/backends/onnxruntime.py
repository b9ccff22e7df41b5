"""ONNX Runtime: runs model files with the execution provider that was asked for, or not at all."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.devices import DEVICES
from adae_edge.errors import DeviceError, ModelFileError, UsageError, first_line, printable
from adae_edge.extras import needs
from adae_edge.gpu import ask_driver
from adae_edge.interface import Port, inputs_of, outputs_of
from adae_edge.machine import available_threads
from adae_edge.runtime.backends.backend import closed, ms_since

if TYPE_CHECKING:
    import onnxruntime

MAX_THREADS = 256
# What OpenVINO computes a float32 graph in. Left to itself it may choose bf16 where the CPU can.
OPENVINO_PRECISION = "f32"
# A batch is divided among the threads where each gets so many frames.
LEAST_SHARE = 8
# Operators that compute the resize and the network have one of these in their names.
PRODUCTS = ("Conv", "MatMul", "Gemm")
# Operators that a device is known to compute wrongly. OpenVINO adds up exponentials as they are,
# and where all of them are below the smallest float32 takes the logarithm of 0.
WRONG = {"openvino": {"ReduceLogSumExp"}}
# ONNX Runtime's names of a port's dtype.
_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}

_logger = logging.getLogger(__name__)


class OnnxRuntime:
    """ONNX Runtime with the execution provider that was asked for, or none.

    ONNX Runtime gives the CPU what a provider does not take, and on GPUs the arithmetic of shapes
    even where it would. So the provider must be loaded and have every product (``PRODUCTS``) of the
    graph; on which side the rest runs is not checked, because no number follows from it.

    Attributes:
        name: version and provider.
        max_batch: None, as any number of frames is taken.
    """

    def __init__(
        self,
        model: bytes,
        device: str,
        threads: int | None = None,
        contract: Contract | None = None,
    ) -> None:
        """Load a model file's graph on a device.

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
            DeviceError: the device cannot be used, leaves products to another one, or computes
                them wrongly.
        """
        if device not in DEVICES:
            *others, last = DEVICES
            raise UsageError(f"there is no device {device}: choose {', '.join(others)} or {last}")
        with needs("Scoring", DEVICES[device].extra):
            import onnxruntime
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"a run takes 1 to {MAX_THREADS} threads, and not {threads}")
        _check_provider(device)
        started = time.perf_counter()
        onnxruntime.set_default_logger_severity(4)
        # Where the caller had imported it before adae_edge, its events are all that can be stopped.
        onnxruntime.disable_telemetry_events()
        options = session_options(threads)
        session = _load(model, device, options)
        if contract is not None:
            _check_ports(session, contract)
        self._session: onnxruntime.InferenceSession | None = session
        self._inputs = [value.name for value in session.get_inputs()]
        self._options = onnxruntime.RunOptions()  # without them, each run makes its own
        self._shares: _Shares | None = None
        if device == "cpu" and not isinstance(session.get_inputs()[0].shape[0], int):
            self._shares = _Shares(model, options.intra_op_num_threads)
        self.name = f"onnxruntime {onnxruntime.__version__} {DEVICES[device].provider}"
        self.max_batch: int | None = None
        loaded = len(model), ms_since(started), options.intra_op_num_threads
        _logger.info("%s loaded %d bytes in %.0f ms, %d threads a run", self.name, *loaded)

    @property
    def session(self) -> onnxruntime.InferenceSession:
        """The session that runs the graph; raises UsageError once the backend is closed."""
        if self._session is None:
            raise closed()
        return self._session

    def __enter__(self) -> OnnxRuntime:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the session, after a run in another thread if there is one."""
        if self._session is not None:
            _logger.info("%s closed", self.name)
        self._session = self._shares = None

    def run(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str] = ("score",)
    ) -> list[NDArray[np.float32]]:
        """Run the graph once, as ``Backend.run``.

        Args:
            inputs: one C-contiguous array for each of the graph's inputs, in its order.
            outputs: the names of the outputs that are wanted.

        Raises:
            DeviceError: the device or the graph on it failed.
            UsageError: the backend is closed.
        """
        session, shares = self.session, self._shares
        feed = dict(zip(self._inputs, inputs, strict=True))
        values: list[NDArray[np.float32]] = []
        if shares is not None and len(inputs[0]) >= shares.least:
            try:
                values = shares.run(feed, outputs)
            except Exception as error:  # such as where the process gets no more threads
                _logger.warning("batches are not divided any more: %s", first_line(error))
                self._shares = None
        try:
            values = values or session.run(outputs, feed, self._options)
        except Exception as error:
            raise DeviceError(f"the graph cannot be run: {first_line(error)}") from error
        # OpenVINO has answered a run that failed inside of it with the scores of the run before.
        if len(values[0]) != len(inputs[0]):
            raise DeviceError(
                f"the graph gives {len(values[0])} scores for {len(inputs[0])} frames"
            )
        return values


class _Shares:
    """Runs large batches in as many parts as there are threads, each part on one thread.

    Within a run ONNX Runtime leaves transposed convolutions to one thread, whatever the batch is.
    The threads end once nothing refers to this any more.

    Attributes:
        least: frames of a batch that is worth it.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        self.least = LEAST_SHARE * threads if threads > 1 else sys.maxsize
        self._model, self._threads = model, threads
        self._lock = threading.Lock()
        self._opened: tuple[onnxruntime.InferenceSession, ThreadPoolExecutor] | None = None

    def run(
        self, feed: dict[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """The outputs for a batch, whose parts are put together again; raises what a run raises."""
        with self._lock:  # two callers may come with a first large batch
            if self._opened is None:
                session = _load(self._model, "cpu", session_options(1))
                self._opened = session, ThreadPoolExecutor(self._threads - 1, "share of a batch")
            session, pool = self._opened
        divided = [np.array_split(array, self._threads) for array in feed.values()]
        shares = [dict(zip(feed, arrays, strict=True)) for arrays in zip(*divided, strict=True)]
        others = pool.map(lambda share: session.run(outputs, share), shares[1:])
        runs = [session.run(outputs, shares[0]), *others]
        return [np.concatenate(column) for column in zip(*runs, strict=True)]


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """The session options of every run, also of the benchmarks' bare sessions."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Threads that wait for the next run in a loop would take time from those that decode.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def provider_options(device: str, threads: int) -> dict[str, str]:
    """The provider's options with which it computes in float32 and writes no file."""
    if device == "cuda":
        return {
            "use_tf32": "0",  # products would keep 10 bits of their factors
            # The exhaustive search starts anew with each number of frames: 0.4 s on an H100 where
            # batches of 10 and 6 take turns, and its choice for 4096 frames is 2.4 times slower.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
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


def _check_provider(device: str) -> None:
    """Refuse an onnxruntime that was built without the device's provider."""
    import onnxruntime

    provider, extra, package = DEVICES[device]
    if provider in onnxruntime.get_available_providers():
        return
    packages = dict.fromkeys(other.package for other in DEVICES.values())
    others = " ".join(other for other in packages if other != package)
    raise UsageError(
        f"this onnxruntime cannot run on {device}, which takes the package {package}, and only one "
        f"onnxruntime package can be installed at a time: pip uninstall {others}, then "
        f"pip install 'adae-edge[{extra}]'"
    )


def _load(
    model: bytes, device: str, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Load the graph with the device's provider and nothing in its place."""
    import onnxruntime

    provider, extra, _ = DEVICES[device]
    if device != "cpu":
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    printed = io.StringIO()  # onnxruntime prints what keeps CUDA from loading
    try:
        with contextlib.redirect_stdout(printed):
            if extra == "gpu":
                onnxruntime.preload_dlls()
            # Its fallback would run on the CPU what a provider fails to load, or to run later.
            session = onnxruntime.InferenceSession(
                model,
                options,
                providers=[(provider, provider_options(device, options.intra_op_num_threads))],
                enable_fallback=0,
            )
    except Exception as error:
        if device == "cpu":
            raise ModelFileError(f"the graph cannot be loaded: {first_line(error)}") from error
        raise _unusable(device, printed.getvalue() or str(error)) from error
    if session.get_providers()[0] != provider:
        raise _unusable(device, printed.getvalue())
    reason = _unfit(session, device) if device != "cpu" else ""
    if reason:
        raise _unusable(device, reason)
    return session


def _unusable(device: str, reason: str) -> DeviceError:
    """The error of a device that cannot be used; of a GPU what its driver says, before others."""
    if DEVICES[device].extra == "gpu":
        try:
            ask_driver()
        except DeviceError as error:
            reason = str(error)
    reason = first_line(reason or "ONNX Runtime does not say why")
    return DeviceError(f"{device} cannot be used, and nothing else is used in its place: {reason}")


def _check_ports(session: onnxruntime.InferenceSession, contract: Contract) -> None:
    """Refuse a graph whose ports, as ONNX Runtime sees them, are not the contract's."""
    inputs, outputs = inputs_of(contract), outputs_of(contract)
    taken = [(value.name, value.type, len(value.shape)) for value in session.get_inputs()]
    returned = [(value.name, value.type, len(value.shape)) for value in session.get_outputs()]
    fits = taken == [_as_seen(port) for port in inputs]
    if not fits or not all(_as_seen(port) in returned for port in outputs):
        raise ModelFileError(
            f"the graph does not take {' and '.join(map(str, inputs))} and return "
            f"{' and '.join(map(str, outputs))}"
        )


def _as_seen(port: Port) -> tuple[str, str, int]:
    """Name, type and number of axes, as ONNX Runtime says them."""
    return port.name, _TYPES[port.dtype], len(port.shape)


def _unfit(session: onnxruntime.InferenceSession, device: str) -> str:
    """Why this graph cannot be trusted to the loaded provider; "" if it can."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return "ONNX Runtime says from version 1.24 on what it runs where, and this one is older"
    taken: set[str] = set()
    left: set[str] = set()
    for part in session.get_provider_graph_assignment_info():
        operators = taken if part.ep_name == DEVICES[device].provider else left
        operators.update(printable(node.op_type) for node in part.get_nodes())
    products = sorted(name for name in left if any(word in name for word in PRODUCTS))
    if products or not taken:
        return f"ONNX Runtime would run {', '.join(products) or 'the whole graph'} elsewhere"
    wrong = sorted(taken & WRONG.get(device, set()))
    return f"it computes {', '.join(wrong)} wrongly, so export the model again" if wrong else ""
