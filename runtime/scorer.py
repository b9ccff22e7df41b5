"""Scoring frames with an exported model: the Python API of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract, Form
from adae_edge.decoding.images import MAX_SIDE, check_size
from adae_edge.errors import FrameError, ModelFileError, UsageError
from adae_edge.formats import enginefile
from adae_edge.runtime.backends.onnxruntime import OUTPUTS, Backend, OnnxRuntime
from adae_edge.runtime.backends.tensorrt import TensorRT

# A run holds the frames as float32, so this many pixel values take 256 MiB.
_VALUES_PER_RUN = 64 * 2**20


class Scorer:
    """Scores frames with one model, or with one engine built from it, on one device.

    Attributes:
        contract: what the model expects and returns.
        form: of its graph.
        backend: what runs the graph.
    """

    def __init__(
        self, path: str | Path, device: str | None = None, threads: int | None = None
    ) -> None:
        """
        Args:
            path: a model file that ``adae-edge export`` wrote, or an engine that ``adae-edge
                engine`` built. An engine holds code for the GPU: load none from someone who is not
                trusted.
            device: "cpu", "cuda", "tensorrt" or "openvino"; another one is never used in its place.
                None is the CPU for a model file, and must be left so for an engine, which runs on
                the GPU that it was built for.
            threads: CPU threads for one run of a model file; None for as many as this process may
                use.

        Raises:
            UsageError: no such file or device, or the extra that it needs is missing.
            ModelFileError: the file is refused, or the engine is not for this machine.
            AdaeEdgeError: the device cannot be used.
        """
        file = enginefile.read_either(path)
        self.contract: Contract = file.contract
        self.form: Form = file.contract.form
        self.backend: Backend
        try:
            if isinstance(file, enginefile.Engine):
                if device is not None or threads is not None:
                    raise UsageError(
                        f"{path} is an engine, which has its own GPU: leave out --device and "
                        "--threads"
                    )
                self.backend = TensorRT(file)
            else:
                self.backend = OnnxRuntime(file.data, device or "cpu", threads, self.contract.kind)
        except ModelFileError as error:
            raise ModelFileError(f"{path} is refused: {error}") from None

    @property
    def threshold(self) -> float:
        """A frame is anomalous if its score is greater; the contract's, from normals alone."""
        return self.contract.calibration.threshold

    def score(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None = None,
        std: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Score frames of any one size.

        Args:
            frames: uint8 [N, H, W, C], RGB or grey; C is the contract's number of channels. For
                kind "modality" float32 [N, H, W, 1] in modality units, 0 outside of the object.
            mean, std: float32 [N], for kind "modality" alone: of each frame's volume, inside the
                object.

        Returns:
            float32 [N], the score that the contract names, one of ``contract.SCORES``. Many large
                frames
            are run in several parts, which does not change a score.

        Raises:
            FrameError: another dtype, shape or number of channels, or a size that cannot be scored.
        """
        return self._run(self._inputs(frames, mean, std), OUTPUTS[:1])[0]

    def score_with_map(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None = None,
        std: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As ``score``, and beside the scores where they come from.

        Returns:
            The scores, and the anomaly maps: float32 [N, S, S] for the network's side S, or [N, H,
                W], as the
            contract says, in model units; the norm over a map at the network's resolution is the
                score l2.

        Raises:
            UsageError: the model has no anomaly map.
            FrameError: as ``score``.
        """
        if self.form.anomaly_map is None:
            raise UsageError("this model has no anomaly map: export it with --anomaly-map")
        scores, maps = self._run(self._inputs(frames, mean, std), OUTPUTS)
        return scores, maps

    def _inputs(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None,
        std: NDArray[np.float32] | None,
    ) -> list[NDArray[Any]]:
        """The graph's inputs, checked."""
        dtype = np.dtype(np.uint8 if self.contract.kind == "image" else np.float32)
        if not (isinstance(frames, np.ndarray) and frames.dtype == dtype and frames.ndim == 4):
            what = (
                f"{frames.dtype} {list(frames.shape)}"
                if isinstance(frames, np.ndarray)
                else type(frames).__name__
            )
            raise FrameError(
                f"frames are a {dtype} array [N, H, W, {self.contract.channels}], and this is "
                f"{what}"
            )
        _, height, width, channels = frames.shape
        if channels != self.contract.channels:
            raise FrameError(
                f"this model takes frames with {self.contract.channels} channels, and these have "
                f"{channels}"
            )
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            check_size(height, width, "a frame")
        if self.form.size and (height, width) != self.form.size:
            fixed_height, fixed_width = self.form.size
            raise FrameError(
                f"this model was exported for frames of {fixed_width} x {fixed_height} pixels "
                "alone, "
                f"and this one has {width} x {height}"
            )
        region = self.contract.region
        if region and (region.left + region.width > width or region.top + region.height > height):
            raise FrameError(
                f"the model looks at {tuple(region)}, which lies outside of a frame of {width} x "
                f"{height} pixels"
            )
        contiguous = frames if frames.flags.c_contiguous else np.ascontiguousarray(frames)
        return [contiguous, *self._statistics(frames, mean, std)]

    def _run(self, inputs: list[NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[np.float32]]:
        """Run the graph once, or in parts where there are many frames or the backend takes fewer or a fixed number."""
        count, height, width, channels = inputs[0].shape
        most = self.form.batch or max(1, _VALUES_PER_RUN // (height * width * channels))
        most = min(most, self.backend.max_batch or most)
        if count == (self.form.batch or count) and 0 < count <= most:
            return self.backend.run(inputs, outputs)
        if count == 0:
            return [
                part[:0]
                for part in self._run(
                    [np.ones((1, *array.shape[1:]), array.dtype) for array in inputs], outputs
                )
            ]
        parts = []
        for start in range(0, count, most):
            part = [array[start : start + most] for array in inputs]
            if self.form.batch:  # the last frame fills up the last run
                missing = most - len(part[0])
                part = [
                    np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
                    for array in part
                ]
            parts.append(self.backend.run(part, outputs))
        return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]

    def _statistics(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None,
        std: NDArray[np.float32] | None,
    ) -> list[NDArray[np.float32]]:
        """The inputs beside the frames, checked; none for images."""
        if self.contract.kind == "image":
            if mean is not None or std is not None:
                raise FrameError(
                    "this model takes pictures, which have no mean and standard deviation"
                )
            return []
        if mean is None or std is None:
            raise FrameError("this model takes a mean and a standard deviation with each frame")
        statistics = [np.ascontiguousarray(values, np.float32) for values in (mean, std)]
        if any(
            values.shape != (len(frames),) or not np.isfinite(values).all() for values in statistics
        ):
            raise FrameError(
                "the mean and the standard deviation are one finite number for each frame"
            )
        if not (statistics[1] > 0).all():
            raise FrameError("a standard deviation is above 0")
        if not np.isfinite(frames).all():  # the graph's clipping would make a number of it
            raise FrameError("a frame has values that are not finite numbers")
        return statistics
