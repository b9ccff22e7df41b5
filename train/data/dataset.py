"""A data set of raw frames, and reading it in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import FrameError
from adae_edge.train.data.folders import unusable

Frame = NDArray[np.uint8 | np.float32]

Indices = NDArray[np.intp]


_BATCH_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Dataset:
    """Raw frames and which of them are anomalous.

    Attributes:
        frames: by index, uint8 [H, W, channels], or float32 [H, W, 1]; an index may raise
            FrameError.
        anomalous: bool [N].
        channels: 1 or 3, the same for all frames.
        small: frames so small that the network's paper side of 32 shows everything.
        note: what is to be said beside every figure, or "".
        kind, modality: of the frames, as in the contract.
        groups: int [N], whose frame each is, where several are of one patient; or None.
        statistics: float32 [N, 2], mean and standard deviation for each frame of kind "modality";
            or None.
    """

    frames: Sequence[Frame] | Frame
    anomalous: NDArray[np.bool_]
    channels: int
    small: bool
    note: str = ""
    kind: str = "image"
    modality: str | None = None
    groups: Indices | None = None
    statistics: NDArray[np.float32] | None = None

    def statistics_of(self, indices: Indices) -> list[NDArray[np.float32]]:
        """Of these frames, the mean and the standard deviation, float32 [n] each; nothing for images."""
        return [] if self.statistics is None else list(self.statistics[indices].T)


def read_batches(dataset: Dataset, indices: Indices) -> Iterator[Frame]:
    """The frames at ``indices``, in order, stacked where neighbours share a size: [n, H, W, C].

    Raises:
        DatasetError: some frames cannot be decoded; names them.
    """
    failures: list[FrameError] = []
    pending: list[Frame] = []
    for frame in _read(dataset.frames, indices, failures):
        full = (len(pending) + 1) * frame.nbytes > _BATCH_BYTES
        if pending and (full or frame.shape != pending[0].shape):
            yield np.stack(pending)
            pending = []
        pending.append(frame)
    if failures:
        raise unusable(failures)
    if pending:
        yield np.stack(pending)


def _read(
    frames: Sequence[Frame] | Frame, indices: Indices, failures: list[FrameError]
) -> Iterator[Frame]:
    """Frames in order, decoded by a few threads; what cannot be decoded goes to ``failures``."""

    def read(index: int) -> Frame | FrameError:
        try:
            return frames[index]
        except FrameError as error:
            return error

    if isinstance(frames, np.ndarray):
        yield from (frames[index] for index in indices)
        return
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(indices), 32):
            for frame in pool.map(read, indices[start : start + 32]):
                if isinstance(frame, FrameError):
                    failures.append(frame)
                else:
                    yield frame


def images_word(count: int) -> str:
    """The word for this many images, in messages."""
    return "image" if count == 1 else "images"
