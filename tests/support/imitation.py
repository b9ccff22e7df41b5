"""TensorRT and CUDA's runtime in Python: an engine scores the mean of a frame, without a GPU.

They have what the backend uses, and keep its rules: memory is given back once, what is recorded
runs only when it is launched, and a plan takes no other sizes than its profile's.
"""

import ctypes
from types import SimpleNamespace

import numpy as np

CAPABILITY = "9.9"
FAILED = SimpleNamespace(name="cudaErrorIllegalAddress")


class Cuda:
    """What ``cuda.bindings.runtime`` offers; every call returns an error first, 0 for none.

    Attributes:
        held: addresses of memory, streams and recordings that were not given back.
        failing: names of the calls that fail from now on.
    """

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1,
        cudaMemcpyDeviceToHost=2,
    )
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815

    def __init__(self):
        self.held = {}
        self.failing = set()
        self.launches = 0
        self._waiting = []
        self._recording = None
        self._calls = {
            "cudaMalloc": self._take,
            "cudaFree": self.held.pop,
            "cudaMallocHost": self._take,
            "cudaFreeHost": self.held.pop,
            "cudaMemcpyAsync": self._copy,
            "cudaStreamCreateWithFlags": lambda flags: self._take(1),
            "cudaStreamDestroy": self.held.pop,
            "cudaStreamSynchronize": self._synchronize,
            "cudaStreamBeginCapture": self._begin,
            "cudaStreamEndCapture": self._end,
            "cudaGraphInstantiate": lambda graph, flags: self._take(1, graph),
            "cudaGraphDestroy": lambda graph: None,
            "cudaGraphLaunch": self._launch,
            "cudaGraphExecDestroy": self.held.pop,
        }

    def __getattr__(self, name):
        call = self._calls[name]
        return lambda *arguments: (FAILED, None) if name in self.failing else (0, call(*arguments))

    def enqueue(self, work):
        """Keep work for the next synchronisation, or in the recording that is being made."""
        (self._waiting if self._recording is None else self._recording).append(work)

    def _take(self, size, content=None):
        memory = ctypes.create_string_buffer(size)
        self.held[ctypes.addressof(memory)] = (memory, content)
        return ctypes.addressof(memory)

    def _copy(self, target, source, size, kind, stream):
        self.enqueue(lambda: ctypes.memmove(target, source, size))

    def _synchronize(self, stream):
        assert self._recording is None, "a stream that is recorded cannot be waited for"
        while self._waiting:
            self._waiting.pop(0)()

    def _begin(self, stream, mode):
        self._recording = []

    def _end(self, stream):
        recorded, self._recording = self._recording, None
        return recorded

    def _launch(self, recorded, stream):
        self.launches += 1
        self._waiting += self.held[recorded][1]


class _Context:
    def __init__(self, cuda, outputs):
        self._cuda, self._outputs = cuda, outputs
        self._shape = None
        self._addresses = {}

    def set_device_memory(self, address, size):
        assert address in self._cuda.held

    def set_input_shape(self, name, shape):
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        return self._shape[: {"score": 1, "anomaly_map": 3}[name]]

    def set_tensor_address(self, name, address):
        self._addresses[name] = address

    def execute_async_v3(self, stream):
        assert self._addresses.keys() == {"frames", *self._outputs}
        self._cuda.enqueue(self._compute)
        return True

    def _compute(self):
        frames = self._at("frames", self._shape, np.uint8)
        self._at("score", self._shape[:1], np.float32)[:] = frames.mean((1, 2, 3))
        if "anomaly_map" in self._outputs:
            self._at("anomaly_map", self._shape[:3], np.float32)[:] = frames[..., 0]

    def _at(self, name, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)


def tensorrt(cuda, outputs=("score",), largest=(64, 64, 64, 1), version="0.0"):
    """A module that loads any plan as one that takes grey frames [N, H, W, 1] up to a size.

    Args:
        cuda: the Cuda that its contexts run on.
        outputs: of the plan.
        largest: frames that it takes; the smallest are [1, 8, 8, 1].
        version: of the module.
    """
    names = ("frames", *outputs)
    plan = SimpleNamespace(
        num_io_tensors=len(names),
        device_memory_size_v2=1024,
        get_tensor_name=lambda index: names[index],
        get_tensor_mode=lambda name: "input" if name == "frames" else "output",
        get_tensor_dtype=lambda name: "uint8" if name == "frames" else "float",
        get_tensor_shape=lambda name: (-1, -1, -1, 1) if name == "frames" else (-1,),
        get_tensor_profile_shape=lambda name, profile: ((1, 8, 8, 1), (1, 8, 8, 1), largest),
        create_execution_context=lambda strategy: _Context(cuda, outputs),
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: plan if data else None)
    return SimpleNamespace(
        __version__=version,
        ILogger=type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1}),
        Runtime=lambda log: runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        DataType=SimpleNamespace(UINT8="uint8", FLOAT="float"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=0),
    )
