"""Scoring frames with an exported model: the Python API of the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge import modelfile
from adae_edge.contract import Contract
from adae_edge.errors import FrameError, ModelFileError
from adae_edge.frames import MAX_SIDE, check_size
from adae_edge.runtime.backends import OnnxRuntime

# A run holds the frames as float32, so this many pixel values take 256 MiB.
_VALUES_PER_RUN = 64 * 2**20


class Scorer:
    """Scores frames with one model on one device.

    Attributes:
        contract: what the model expects and returns.
        backend: what runs the graph.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int | None = None) -> None:
        """
        Args:
            path: a model file that ``adae-edge export`` wrote.
            device: "cpu" or "cuda"; another one is never used in its place.
            threads: CPU threads for one run; None for as many as this process may use.

        Raises:
            UsageError: no such file or device, or the extra that it needs is missing.
            ModelFileError: the model file is refused.
        """
        model = modelfile.read(path)
        self.contract: Contract = model.contract
        try:
            self.backend = OnnxRuntime(model.data, device, threads)
        except ModelFileError as error:
            raise ModelFileError(f"{path} is refused: {error}") from None

    @property
    def threshold(self) -> float:
        """A frame is anomalous if its score is greater; the contract's, from normals alone."""
        return self.contract.calibration.threshold

    def score(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score frames of any one size.

        Args:
            frames: uint8 [N, H, W, C], RGB or grey; C is the contract's number of channels.

        Returns:
            float32 [N], ||x - D(G(x))||_2 over pixels and channels, x in [-1, 1] (section 3.1). Many
            large frames are run in several parts, which does not change a score.

        Raises:
            FrameError: another dtype, shape or number of channels, or a size that cannot be scored.
        """
        if not (isinstance(frames, np.ndarray) and frames.dtype == np.uint8 and frames.ndim == 4):
            what = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise FrameError(f"frames are a uint8 array [N, H, W, {self.contract.channels}], and this is {what}")
        count, height, width, channels = frames.shape
        if channels != self.contract.channels:
            raise FrameError(
                f"this model takes frames with {self.contract.channels} channels, and these have {channels}"
            )
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            check_size(height, width, "a frame")
        region = self.contract.region
        if region and (region.left + region.width > width or region.top + region.height > height):
            raise FrameError(
                f"the model looks at {tuple(region)}, which lies outside of a frame of {width} x {height} pixels"
            )
        if not frames.flags.c_contiguous:
            frames = np.ascontiguousarray(frames)
        runs = -(-count // max(1, _VALUES_PER_RUN // (height * width * channels)))
        if runs == 1:
            return self.backend.run(frames)
        parts = [self.backend.run(part) for part in np.array_split(frames, runs)] if runs else []
        return np.concatenate([np.empty(0, np.float32), *parts])
