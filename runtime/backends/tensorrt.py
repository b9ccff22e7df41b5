"""TensorRT: runs engine files, with CUDA for memory and recorded runs.

It needs neither ONNX Runtime nor PyTorch.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import (
    DeviceError,
    FrameError,
    MissingExtra,
    ModelFileError,
    UsageError,
    first_line,
)
from adae_edge.formats.enginefile import Engine
from adae_edge.gpu import first_gpu
from adae_edge.interface import Port, inputs_of, outputs_of
from adae_edge.runtime.backends.backend import closed, ms_since
from adae_edge.tensorrt import MODULES, load_flavour, log_of

# Sizes and batches that stay recorded, the latest ones; each keeps its frames' memory on both
# sides.
MAX_RECORDED = 8
REBUILD = "build it again on this machine, with adae-edge engine MODEL.onnx"

_logger = logging.getLogger(__name__)


class TensorRT:
    """The native backend: one engine on the GPU that it was built for.

    That is device 0 of CUDA_VISIBLE_DEVICES. The first run with each number and size of frames
    takes what it needs: pinned memory, memory on the GPU and a recording (a CUDA graph) of copying
    in, computing and copying out. Every further one copies the frames into the pinned memory and
    replays the recording; the arrays that it returns are all that it allocates. One run at a time:
    threads wait for each other.

    Attributes:
        name: flavour, version and GPU.
        max_batch: frames in one run at the most.
    """

    def __init__(self, engine: Engine) -> None:
        """Load an engine on this machine's GPU.

        Args:
            engine: a checked engine file. Its plan is executable code: it must come from someone
                trusted.

        Raises:
            MissingExtra, UsageError: TensorRT or cuda-bindings is not installed.
            ModelFileError: it was built by another flavour or version or for another GPU, or
                TensorRT refuses it, or it takes and returns something else than its contract says.
            DeviceError: there is no GPU, or its driver is missing or too old.
            AdaeEdgeError: TensorRT is installed and cannot be loaded.
        """
        # which software, which GPU
        trt = _tensorrt(engine)
        self._cuda = cuda = load_cuda()
        card = _matching_gpu(engine)
        self.name = f"{engine.flavour} {engine.version} on {card}"

        # the plan and its sizes
        started = time.perf_counter()
        self._trt = trt
        self._log = log_of(trt)
        self._runtime = trt.Runtime(self._log)
        plan = self._runtime.deserialize_cuda_engine(engine.plan)
        if plan is None:
            raise ModelFileError(f"TensorRT cannot load its plan, {_last(self._log)}: {REBUILD}")
        self._plan = plan
        self._inputs, self._outputs = inputs_of(engine.contract), outputs_of(engine.contract)
        self._smallest, self._largest = _checked_sizes(trt, plan, self._inputs, self._outputs)
        self.max_batch: int | None = self._largest[0]

        # what it holds on the GPU, given back also when the interpreter ends, where CUDA may be
        # gone before objects that nobody closed
        self._lock = threading.Lock()
        closing = contextlib.ExitStack()
        self._finalizer = weakref.finalize(self, closing.close)
        self._stream = _checked(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))
        closing.callback(cuda.cudaStreamDestroy, self._stream)
        # Runs come one after the other, so that all contexts share the memory of the largest one's
        # activations.
        self._scratch_bytes = plan.device_memory_size_v2
        self._scratch = _checked(cuda.cudaMalloc(max(1, self._scratch_bytes)))
        closing.callback(cuda.cudaFree, self._scratch)
        self._recorded: dict[Any, _Recording] = {}
        closing.callback(_close_all, self._recorded)
        loaded = len(engine.plan), ms_since(started)
        _logger.info("%s loaded a plan of %d bytes in %.0f ms", self.name, *loaded)

    def __enter__(self) -> TensorRT:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all memory back, after a run in another thread if there is one."""
        with self._lock:
            if self._finalizer.alive:
                _logger.info("%s closed", self.name)
            self._finalizer()

    def run(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str] = ("score",)
    ) -> list[NDArray[np.float32]]:
        """Run the engine once, as ``Backend.run``.

        Args:
            inputs: one C-contiguous array for each of the engine's inputs, in its order.
            outputs: the names of the outputs that are wanted.

        Raises:
            FrameError: as many frames, or frames of such a size, are outside of what the engine was
                built for.
            DeviceError: the GPU failed.
            UsageError: the backend is closed.
        """
        with self._lock:
            if not self._finalizer.alive:
                raise closed()
            key = (inputs[0].shape, tuple(outputs))
            recording = self._recorded.pop(key, None)
            if recording is None:
                self._check_shape(inputs[0].shape)
                if len(self._recorded) == MAX_RECORDED:
                    self._recorded.pop(next(iter(self._recorded))).close()
                recording = self._new_recording(inputs, outputs)
            self._recorded[key] = recording  # the last used is the last in order
            return recording.replay(inputs)

    def _new_recording(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str]) -> _Recording:
        started = time.perf_counter()
        recording = _Recording(self, inputs, outputs)
        count, height, width, _ = inputs[0].shape
        frames = f"{count} frames of {width} x {height} pixels"
        _logger.info("%s recorded runs of %s in %.0f ms", self.name, frames, ms_since(started))
        return recording

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse frames [N, H, W, C] that the engine was not built for."""
        low, high = self._smallest, self._largest
        if all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return
        raise FrameError(
            f"this engine takes {low[0]} to {high[0]} frames of {low[2]} x {low[1]} to {high[2]} "
            f"x {high[1]} pixels in a run, and this is {shape[0]} of {shape[2]} x {shape[1]}: "
            "build another one with adae-edge engine"
        )


class _Recording:
    """Everything that runs with frames of one number and size take.

    That is memory on both sides, an execution context, and a CUDA graph.
    """

    def __init__(
        self, backend: TensorRT, inputs: Sequence[NDArray[Any]], outputs: Sequence[str]
    ) -> None:
        self._cuda, self._stream, self._log = backend._cuda, backend._stream, backend._log
        self._closing = contextlib.ExitStack()
        try:
            # A context of its own, because a recording holds only while its context stays as it
            # was.
            self._context = _context(backend._trt, backend._plan)
            if self._context is None:
                raise DeviceError(f"TensorRT cannot prepare a run: {_last(self._log)}")
            self._context.set_device_memory(backend._scratch, backend._scratch_bytes)
            self._prepare_inputs(backend._inputs, inputs)
            self._prepare_outputs(backend._outputs, outputs, len(inputs[0]))
            # TensorRT does some of its work at the first run alone, which cannot be recorded
            self._enqueue()
            _checked(self._cuda.cudaStreamSynchronize(self._stream))
            self._graph = self._record()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the memory back."""
        self._closing.close()
        self._context = None

    def replay(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The outputs for frames of this number and size."""
        for pinned, array in zip(self._inputs, inputs, strict=True):
            np.copyto(pinned, array)
        _checked(self._cuda.cudaGraphLaunch(self._graph, self._stream))
        _checked(self._cuda.cudaStreamSynchronize(self._stream))
        return [pinned.copy() for pinned in self._outputs]

    def _prepare_inputs(self, ports: Sequence[Port], inputs: Sequence[NDArray[Any]]) -> None:
        """Tell the context the shapes of its inputs, and take memory for them."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copies_in: list[tuple[Any, ...]] = []
        self._inputs: list[NDArray[Any]] = []
        for port, array in zip(ports, inputs, strict=True):
            if not self._context.set_input_shape(port.name, array.shape):
                raise FrameError(
                    f"this engine takes no {port.name} {list(array.shape)}: {_last(self._log)}"
                )
            pinned, host, device = self._buffers(port, array.shape)
            self._inputs.append(pinned)
            self._copies_in.append((device, host, pinned.nbytes, kind))

    def _prepare_outputs(self, ports: Sequence[Port], wanted: Sequence[str], count: int) -> None:
        """Take memory for every output, because an engine writes all, and copy those wanted."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copies_out: list[tuple[Any, ...]] = []
        pinned_by_name: dict[str, NDArray[np.float32]] = {}
        for port in ports:
            shape = tuple(self._context.get_tensor_shape(port.name))
            if shape[:1] != (count,):
                raise DeviceError(f"the engine gives {port.name} {list(shape)} for {count} frames")
            pinned, host, device = self._buffers(port, shape)
            if port.name in wanted:
                pinned_by_name[port.name] = pinned
                self._copies_out.append((host, device, pinned.nbytes, kind))
        self._outputs = [pinned_by_name[name] for name in wanted]

    def _buffers(self, port: Port, shape: tuple[int, ...]) -> tuple[NDArray[Any], int, int]:
        """Take memory for one tensor, and tell the context where it is.

        Returns:
            An array in the pinned memory, and the addresses of that memory and of the GPU's.
        """
        count = int(np.prod(shape))
        size = count * np.dtype(port.dtype).itemsize
        host = _checked(self._cuda.cudaMallocHost(size))
        self._closing.callback(self._cuda.cudaFreeHost, host)
        device = _checked(self._cuda.cudaMalloc(size))
        self._closing.callback(self._cuda.cudaFree, device)
        self._context.set_tensor_address(port.name, device)
        memory = (ctypes.c_uint8 * size).from_address(host)
        return np.frombuffer(memoryview(memory), port.dtype, count).reshape(shape), host, device

    def _enqueue(self) -> None:
        """Put copying in, computing and copying out into the stream."""
        for copy in self._copies_in:
            _checked(self._cuda.cudaMemcpyAsync(*copy, self._stream))
        if not self._context.execute_async_v3(int(self._stream)):
            raise DeviceError(f"the engine cannot be run: {_last(self._log)}")
        for copy in self._copies_out:
            _checked(self._cuda.cudaMemcpyAsync(*copy, self._stream))

    def _record(self) -> Any:
        """Record a run, and return what ``cudaGraphLaunch`` replays."""
        cuda = self._cuda
        # Other threads may use CUDA meanwhile.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _checked(cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            self._enqueue()
        finally:
            ended = cuda.cudaStreamEndCapture(self._stream)
        graph = _checked(ended)
        try:
            recorded = _checked(cuda.cudaGraphInstantiate(graph, 0))
        finally:
            cuda.cudaGraphDestroy(graph)
        self._closing.callback(cuda.cudaGraphExecDestroy, recorded)
        return recorded


def _tensorrt(engine: Engine) -> Any:
    """Import the module that can run this engine: of its flavour, and of the same version."""
    built = f"it was built by {engine.flavour} {engine.version}"
    try:
        trt = load_flavour(engine.flavour, "This engine")
    except MissingExtra as error:
        for flavour in MODULES.keys() - {engine.flavour}:
            if any(map(importlib.util.find_spec, MODULES[flavour])):
                raise ModelFileError(
                    f"{built}, and this machine has {flavour} in its place: {REBUILD}"
                ) from error
        raise
    if trt.__version__ != engine.version:
        raise ModelFileError(f"{built}, and this machine has {trt.__version__}: {REBUILD}")
    return trt


def load_cuda() -> Any:
    """Import CUDA's runtime, and make sure that there is a GPU to run on.

    Raises:
        UsageError: cuda-bindings is not installed.
        DeviceError: there is no GPU, or its driver is missing or too old.
    """
    try:
        from cuda.bindings import runtime
    except ModuleNotFoundError as missing:
        raise UsageError(
            "an engine takes cuda-bindings, of the driver's major version of CUDA: "
            "pip install 'cuda-bindings==13.*', or 'cuda-bindings==12.*' on JetPack 6"
        ) from missing
    try:
        error, count = runtime.cudaGetDeviceCount()
        driver, built = runtime.cudaDriverGetVersion()[1], runtime.cudaRuntimeGetVersion()[1]
    except Exception as failed:  # a driver that is there in part
        raise DeviceError(
            f"an engine runs on an NVIDIA GPU, and CUDA cannot be used: {first_line(failed)}"
        ) from failed
    if not driver:
        raise DeviceError(
            "an engine runs on an NVIDIA GPU, and there is no NVIDIA driver on this machine"
        )
    if error == runtime.cudaError_t.cudaErrorInsufficientDriver:
        raise DeviceError(
            f"the NVIDIA driver knows CUDA {_version(driver)}, and cuda-bindings is for CUDA "
            f"{_version(built)}: "
            f"pip install 'cuda-bindings=={driver // 1000}.*'"
        )
    if error == runtime.cudaError_t.cudaErrorNoDevice or not _checked((error, count)):
        raise DeviceError("an engine runs on an NVIDIA GPU, and there is none on this machine")
    return runtime


def _matching_gpu(engine: Engine) -> str:
    """The name of the GPU, on which alone the engine runs."""
    name, capability = first_gpu() or ("a GPU that does not say its name,", "unknown")
    if capability not in engine.compute_capabilities or engine.gpu not in (None, name):
        built = f"{engine.gpu or 'GPUs'} of compute capability {engine.compute_capability}"
        raise ModelFileError(
            f"it was built for {built}, and this machine has {name} of compute capability "
            f"{capability}: {REBUILD}"
        )
    return name


def _checked_sizes(
    trt: Any, plan: Any, inputs: Sequence[Port], outputs: Sequence[Port]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The smallest and the largest frames [N, H, W, C] of a plan that has to have these ports."""
    types = {"uint8": trt.DataType.UINT8, "float32": trt.DataType.FLOAT}
    taken, given = trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT
    expected = {port.name: (taken, types[port.dtype]) for port in inputs}
    expected |= {port.name: (given, types[port.dtype]) for port in outputs}
    names = [plan.get_tensor_name(index) for index in range(plan.num_io_tensors)]
    tensors = {name: (plan.get_tensor_mode(name), plan.get_tensor_dtype(name)) for name in names}
    shape = tuple(plan.get_tensor_shape("frames")) if "frames" in tensors else ()
    if tensors != expected or len(shape) != 4:
        raise ModelFileError("its plan takes and returns something else than its contract says")
    if min(shape) > 0:  # nothing is left open, and there may be no profile
        return shape, shape
    smallest, _, largest = plan.get_tensor_profile_shape("frames", 0)
    return tuple(smallest), tuple(largest)


def _context(trt: Any, plan: Any) -> Any:
    """A context that is told where the activations go."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return plan.create_execution_context(strategy)
    # TensorRT-RTX would compile the kernels for a size in the background, and a recording would
    # keep those before.
    config = plan.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = (
        trt.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    config.set_execution_context_allocation_strategy(strategy)
    return plan.create_execution_context(config)


def _close_all(recorded: dict[Any, _Recording]) -> None:
    while recorded:
        recorded.popitem()[1].close()


def _last(log: Any) -> str:
    """TensorRT's last error."""
    return first_line(log.errors[-1] if log.errors else "")


def _checked(result: tuple[Any, ...]) -> Any:
    """The value of a call of CUDA's runtime, which returns an error before it."""
    error, *values = result
    if error:
        raise DeviceError(f"the GPU failed: {error.name}")
    return values[0] if values else None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
