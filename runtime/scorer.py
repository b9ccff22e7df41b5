"""Scoring frames with an exported model: the Python API of the runtime."""

from __future__ import annotations

import hashlib
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.batch import InputCheck
from adae_edge.contract import Contract, Form
from adae_edge.errors import ModelFileError, UsageError
from adae_edge.formats import enginefile
from adae_edge.formats.enginefile import Engine
from adae_edge.formats.modelfile import ModelFile
from adae_edge.interface import outputs_of
from adae_edge.runtime.backends.backend import Backend, ms_since
from adae_edge.runtime.backends.onnxruntime import OnnxRuntime
from adae_edge.runtime.backends.tensorrt import TensorRT
from adae_edge.stopwatch import stage

# A run holds the frames as float32, so this many pixel values take 256 MiB.
_VALUES_PER_RUN = 64 * 2**20

_logger = logging.getLogger(__name__)


class Scorer:
    """Scores frames with one model, or with one engine built from it, on one device.

    A context manager: ``with Scorer("model.onnx") as scorer`` closes it at the end.

    Attributes:
        contract: what the model expects and returns.
        form: the form in which the file holds the network.
        model: the first 12 hexadecimal digits of the SHA-256 of the graph, or of an engine's plan;
            a new threshold leaves them as they are.
        file: the name of its file, without the folder; "" where it was opened by no path.
        backend: what runs the graph.
    """

    def __init__(
        self,
        file: str | Path | ModelFile | Engine,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load a model file or an engine on a device.

        Args:
            file: a model file that ``adae-edge export`` wrote, or an engine that ``adae-edge
                engine`` built; its path, or what was read of it. An engine holds code for the GPU:
                load none from someone who is not trusted.
            device: "cpu", "cuda", "tensorrt" or "openvino"; another one is never used in its place.
                None is the CPU for a model file, and must be left so for an engine, which runs on
                the GPU that it was built for.
            threads: CPU threads for one run of a model file; None for as many as this process may
                use.

        Raises:
            UsageError: no such file or device, or the extra that it needs is missing.
            ModelFileError: the file is refused, or the engine is not for this machine.
            DeviceError: the device cannot be used.
        """
        started = time.perf_counter()
        self._opened = file if isinstance(file, str | Path) else None, device, threads
        path = file if isinstance(file, str | Path) else "the file"
        self.file = Path(file).name if isinstance(file, str | Path) else ""
        if isinstance(file, str | Path):
            file = enginefile.read_either(file)
        self.contract: Contract = file.contract
        self.form: Form = file.contract.form
        self.model = _hash(file)
        self._check = InputCheck(self.contract)
        self._outputs = [port.name for port in outputs_of(self.contract)]
        self.backend: Backend
        try:
            if isinstance(file, ModelFile):
                place = "cpu" if device is None else device
                self.backend = OnnxRuntime(file.data, place, threads, self.contract)
            elif device is not None or threads is not None:
                raise UsageError(
                    f"{path} is an engine, which has its own GPU: leave out --device and --threads"
                )
            else:
                self.backend = TensorRT(file)
        except ModelFileError as error:
            raise type(error)(f"{path} is refused: {error}") from error
        # Frames that the graph takes in one run, whatever their size.
        self._least = self.form.batch or 1
        self._most = min(self.form.batch or sys.maxsize, self.backend.max_batch or sys.maxsize)
        ready = self.contract.kind, self.backend.name, ms_since(started)
        _logger.info("%s scores frames of kind %s by %s, ready after %.0f ms", path, *ready)

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def again(self) -> Scorer:
        """Another scorer of what the file is now, on the same device.

        Raises:
            UsageError: this one was opened by no path; or what the first opening raises.
        """
        path, device, threads = self._opened
        if path is None:
            raise UsageError("a scorer that was opened by no path cannot be opened again")
        return Scorer(path, device, threads)

    def close(self) -> None:
        """Give back the graph and its memory on the device; a second time does nothing."""
        self.backend.close()

    @property
    def threshold(self) -> float:
        """A frame is anomalous if its score is greater; the contract's, from normals alone."""
        return self.contract.calibration.threshold

    @property
    def has_boxes(self) -> bool:
        """Whether the model tells boxes: it has a map, and a threshold for it."""
        return bool(self.form.anomaly_map) and self.contract.calibration.map_threshold is not None

    def score(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None = None,
        std: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Score frames of any one size.

        Many large frames are run in several parts, which does not change a score.

        Args:
            frames: uint8 [N, H, W, C], RGB or grey; C is the contract's number of channels. For
                kind "modality" float32 [N, H, W, 1] in modality units, 0 outside of the object.
            mean, std: float32 [N], for kind "modality" alone: of each frame's volume, inside the
                object.

        Returns:
            float32 [N], the score that the contract names, one of ``contract.SCORES``.

        Raises:
            FrameError: another dtype, shape or number of channels, or a size that cannot be scored.
            DeviceError: the device or the graph on it failed.
            UsageError: the scorer is closed.
        """
        return self._run(self._check(frames, mean, std), self._outputs[:1])[0]

    def score_with_map(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None = None,
        std: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Score frames as ``score`` does, and say where in them the scores come from.

        Returns:
            The scores float32 [N], and the anomaly maps in model units: float32 [N, S, S] for the
            network's side S, or [N, H, W], as the contract says. The norm over a map at the
            network's resolution is the score l2.

        Raises:
            UsageError: the model has no anomaly map, or the scorer is closed.
            FrameError, DeviceError: as ``score``.
        """
        if self.form.anomaly_map is None:
            raise UsageError("this model has no anomaly map: export it with --anomaly-map")
        scores, maps = self._run(self._check(frames, mean, std), self._outputs)
        return scores, maps

    def _run(self, inputs: list[NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """The graph's outputs for all frames, in as many runs as they take."""
        frames = inputs[0]
        if self._least <= len(frames) <= self._most and frames.size <= _VALUES_PER_RUN:
            with stage("inference"):
                return self.backend.run(inputs, outputs)
        return self._run_in_parts(inputs, outputs)

    def _run_in_parts(
        self, inputs: list[NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """The same for no frames, and for fewer or more than one run takes."""
        count, *sizes = inputs[0].shape
        if count == 0:  # a made-up frame tells the shapes of what is returned
            inputs = [np.ones((1, *array.shape[1:]), array.dtype) for array in inputs]
        most = self.form.batch or max(1, _VALUES_PER_RUN // math.prod(sizes))
        most = min(most, self._most)
        runs = []
        for start in range(0, max(1, count), most):
            part = [array[start : start + most] for array in inputs]
            with stage("inference"):
                runs.append(self.backend.run(self._filled(part), outputs))
        return [np.concatenate(column)[:count] for column in zip(*runs, strict=True)]

    def _filled(self, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """The inputs, with their last frame repeated up to the form's fixed number."""
        missing = (self.form.batch or 0) - len(inputs[0])
        if missing <= 0:
            return inputs
        return [np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for array in inputs]


def _hash(file: ModelFile | Engine) -> str:
    if isinstance(file, ModelFile):
        return file.graph_sha256[:12]
    return hashlib.sha256(file.plan).hexdigest()[:12]
