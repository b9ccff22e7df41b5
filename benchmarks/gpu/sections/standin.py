"""The engines' backend on a real GPU without TensorRT: a copy stands in for the plan.

What ``runtime/backends/tensorrt.py`` does by itself is done for real. It finds the GPU, takes
pinned memory and memory on the device, records copying in, the plan's work and copying out as a
CUDA graph, replays it, keeps the last recordings, and gives everything back. The stand-in's score
of a frame is four bytes of the batch as float32: the first four for the first frame, and so on.
"""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.timing import case
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats import modelfile
from adae_edge.formats.enginefile import Engine
from adae_edge.gpu import first_gpu
from adae_edge.runtime.backends.tensorrt import TensorRT, load_cuda

MODEL = "a1-any"
# More than the backend keeps recorded, so that some are recorded again.
BATCHES = (1, 2, 7, 64, 256, 1024, 3, 5, 11, 13, 4096)
ROUNDS = 3
THREADS = 4
RUNS_IN_A_THREAD = 200
OPENED = 4
REPLAYS = ((32, 32, 1), (640, 480, 1), (1920, 1080, 1), (32, 32, 1024))

Frames = NDArray[np.uint8]


def measure(settings: Settings, results: Results) -> None:
    """Check scores, threads, closing and memory, and time the replay."""
    if not settings.on_gpu:
        results.skip("backend", "an engine runs on a GPU alone")
        return
    engine = _engine(settings)
    with mock.patch.dict(sys.modules, {"tensorrt": _stand_in(load_cuda())}):
        with TensorRT(engine) as backend:
            results.add("backend", backend.name)
            results.attempt("scores", _scores, backend)
            results.attempt("threads", _threads, backend)
            for width, height, batch in REPLAYS:
                frames = _frames(batch, width, height)
                name = f"replay {width}x{height} batch {batch}"
                results.attempt(name, _replay, backend, frames, settings.seconds)
        results.attempt("closed", _closed, backend)
        results.attempt("memory", _memory, engine)


def _engine(settings: Settings) -> Engine:
    """Describe an engine for this GPU with a model file's contract, whose plan says nothing."""
    contract = modelfile.read(settings.models / f"{MODEL}.onnx").contract
    name, capability = first_gpu() or (None, "unknown")
    version = _stand_in(None).__version__
    return Engine(contract, "tensorrt", version, name, capability, "0" * 64, {}, b"no plan")


def _scores(backend: TensorRT) -> dict[str, int]:
    """Compare the scores of many batches, twice of each recording at least."""
    runs = wrong = 0
    for _ in range(ROUNDS):
        for batch in BATCHES:
            runs += 1
            wrong += not _is_right(backend, _frames(batch))
    return _all_right(runs, wrong)


def _threads(backend: TensorRT) -> dict[str, int]:
    """Score in several threads at once, each with a batch of its own size."""
    wrong: list[int] = []

    def work(batch: int) -> None:
        for _ in range(RUNS_IN_A_THREAD):
            if not _is_right(backend, _frames(batch)):
                wrong.append(batch)

    threads = [threading.Thread(target=work, args=(1 + index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _all_right(THREADS * RUNS_IN_A_THREAD, len(wrong))


def _replay(backend: TensorRT, frames: Frames, seconds: float) -> dict[str, Any]:
    """Time runs of a batch that is recorded already."""
    return case(lambda: backend.run([frames]), len(frames), seconds)


def _closed(backend: TensorRT) -> str:
    """Return what a closed backend says to a run."""
    try:
        backend.run([_frames(1)])
    except AdaeEdgeError as error:
        return str(error)
    raise RuntimeError("a closed backend still runs")


def _memory(engine: Engine) -> dict[str, Any]:
    """Open, use and close the backend several times.

    A leak grows each time; what CUDA keeps for itself does not.
    """
    cuda = load_cuda()
    before = _free_bytes(cuda)
    kept = []
    for _ in range(OPENED):
        with TensorRT(engine) as backend:
            _scores(backend)
        kept.append(before - _free_bytes(cuda))
    return {"bytes_kept_after_close": kept, "grows": kept[-1] > kept[0]}


def _free_bytes(cuda: Any) -> int:
    error, free, _ = cuda.cudaMemGetInfo()
    if error:
        raise RuntimeError(f"CUDA does not say what is free: {error}")
    return int(free)


def _all_right(runs: int, wrong: int) -> dict[str, int]:
    if wrong:
        raise RuntimeError(f"{wrong} of {runs} runs gave other scores")
    return {"runs": runs, "wrong": wrong}


def _is_right(backend: TensorRT, frames: Frames) -> bool:
    (scores,) = backend.run([frames])
    return bool(np.array_equal(scores, frames.reshape(-1)[: 4 * len(frames)].view(np.float32)))


def _frames(batch: int, width: int = 32, height: int = 32) -> Frames:
    """Random frames, uint8 [batch, height, width, 1], whose bytes are finite float32 numbers."""
    count = batch * height * width
    values = np.random.default_rng(batch).random((count + 3) // 4, np.float32)
    return values.view(np.uint8)[:count].reshape(batch, height, width, 1)


def _stand_in(cuda: Any) -> SimpleNamespace:
    """Make a module that has what the backend uses of TensorRT's."""
    plan = _Plan(cuda)
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda data: plan)
    return SimpleNamespace(
        __version__="0.0",
        ILogger=_Logger,
        Runtime=lambda log: runtime,
        TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
        DataType=SimpleNamespace(UINT8="uint8", FLOAT="float"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=0),
    )


class _Logger:
    INTERNAL_ERROR, ERROR = range(2)


class _Plan:
    """An engine of TensorRT's that takes grey frames of any size and returns a score for each."""

    num_io_tensors = 2
    device_memory_size_v2 = 1

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def get_tensor_name(self, index: int) -> str:
        return ("frames", "score")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "frames" else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return "uint8" if name == "frames" else "float"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, -1, -1, 1) if name == "frames" else (-1,)

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple[tuple[int, ...], ...]:
        return ((1, 8, 8, 1), (1, 32, 32, 1), (4096, 1080, 1920, 1))

    def create_execution_context(self, strategy: Any) -> _Context:
        return _Context(self._cuda)


class _Context:
    """An execution context whose work is a copy from the frames to the scores."""

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._batch = 0
        self._addresses: dict[str, int] = {}

    def set_device_memory(self, address: Any, size: int) -> None:
        pass

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._batch = shape[0]
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self._batch,)

    def set_tensor_address(self, name: str, address: Any) -> bool:
        self._addresses[name] = int(address)
        return True

    def execute_async_v3(self, stream: int) -> bool:
        source, target = self._addresses["frames"], self._addresses["score"]
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        error, *_ = self._cuda.cudaMemcpyAsync(target, source, 4 * self._batch, kind, stream)
        return not error
