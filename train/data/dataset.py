"""A data set of raw frames, and reading it in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition, distinct
from adae_edge.contract import MAX_ACQUISITIONS, SIDES, Region
from adae_edge.errors import DatasetError, FrameError, UsageError
from adae_edge.train.data.folders import Files, unusable

Frame = NDArray[np.uint8 | np.float32]
Indices = NDArray[np.intp]

_BATCH_BYTES = 32 * 2**20
_READ_AHEAD = 32


class Viewing(NamedTuple):
    """What of brain volumes is looked at.

    Attributes:
        object: the rule of the contract, or None for the one that goes with the volumes.
        brain_mask: a mask of the brain, or a folder of masks.
        field_of_view: as in the contract.
        chosen: whether the field of view follows from the volumes in its place.
    """

    object: str | None = None
    brain_mask: Path | None = None
    field_of_view: float | None = None
    chosen: bool = False


WHOLE = Viewing()


@dataclass(frozen=True)
class Dataset:
    """Raw frames and which of them are anomalous.

    Attributes:
        frames: by index, uint8 [H, W, channels], or float32 [H, W, 1]; an index may raise
            FrameError.
        anomalous: bool [N].
        channels: 1 or 3, the same for all frames.
        small: whether the paper's network side of 32 shows everything in the frames.
        note: what is to be said beside every figure, or "".
        read_as: how a folder was understood, to be said before it trains, or "".
        kind, modality, object, field_of_view: as in the contract.
        groups: int [N], the number of the patient whom each frame shows, or of the group that
            --group finds; None where every frame stands alone.
        statistics: float32 [N, 2], mean and standard deviation for each frame of kind "modality",
            or None.
        acquisitions: how the series of each frame was acquired; None for a volume that does not
            say it. Empty where no frame does.
        masks: the file with the mask of its defects for each frame, or None. Empty where there
            are none.
    """

    frames: Sequence[Frame] | Frame
    anomalous: NDArray[np.bool_]
    channels: int
    small: bool
    note: str = ""
    read_as: str = ""
    kind: str = "image"
    modality: str | None = None
    object: str | None = None
    field_of_view: float | None = None
    groups: Indices | None = None
    statistics: NDArray[np.float32] | None = None
    acquisitions: Sequence[Acquisition | None] = ()
    masks: Sequence[Path | None] = ()

    def acquisitions_of(self, indices: Indices) -> tuple[Acquisition, ...]:
        """How these frames were acquired, as a contract keeps it.

        Raises:
            DatasetError: in more ways than a contract keeps.
        """
        if not self.acquisitions:
            return ()
        found = distinct(known for index in indices if (known := self.acquisitions[index]))
        if len(found) > MAX_ACQUISITIONS:
            raise DatasetError(
                f"the series that calibrate were acquired in {len(found)} ways, by scanner, "
                f"sequence or spacing, and a model keeps {MAX_ACQUISITIONS}"
            )
        return found

    def statistics_of(self, indices: Indices) -> list[NDArray[np.float32]]:
        """Return mean and standard deviation of these frames, float32 [n] each; [] for images."""
        if self.statistics is None:
            return []
        return list(self.statistics[indices].T)


def typical_sides(dataset: Dataset) -> tuple[int, int]:
    """The shorter and the longer side of the normal frames in pixels, the median of each.

    Of files, only the headers are read.

    Raises:
        DatasetError: no frame's size can be read, and the first one cannot be decoded.
    """
    normals = np.flatnonzero(~dataset.anomalous)
    sizes: list[tuple[int, int]] = []
    if isinstance(dataset.frames, Files):
        sizes = dataset.frames.sizes(normals)
    if not sizes:
        try:
            height, width, _ = dataset.frames[0].shape
        except FrameError as error:
            raise DatasetError(str(error)) from error
        sizes = [(height, width)]
    shorter, longer = np.median(np.sort(sizes, axis=1), axis=0)
    return int(shorter), int(longer)


def check_side(dataset: Dataset, region: Region | None, side: int) -> None:
    """Refuse a network's side that is larger than what is looked at, rounded up.

    The paper's 32 is taken for frames of any size.

    Raises:
        UsageError: it is larger.
        DatasetError: as ``typical_sides``.
    """
    if side <= 32 or dataset.kind == "modality":
        return
    longer = max(region[2:]) if region else typical_sides(dataset)[1]
    enough = next((known for known in SIDES if known >= longer), SIDES[-1])
    if side > max(enough, 32):
        raise UsageError(
            f"--side {side} is larger than what the network would see, whose longer side is "
            f"{longer} pixels: take {max(enough, 32)} or less"
        )


def read_batches(dataset: Dataset, indices: Indices) -> Iterator[Frame]:
    """Read the frames at ``indices`` in order, neighbours of one size stacked to [n, H, W, C].

    A batch has at most 32 MiB, or one frame.

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
    """Read frames in order, in a few threads; the errors of those that fail go to ``failures``."""
    if isinstance(frames, np.ndarray):
        for index in indices:
            yield frames[index]
        return

    def read(index: int) -> Frame | FrameError:
        try:
            return frames[index]
        except FrameError as error:
            return error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(indices), _READ_AHEAD):
            for frame in pool.map(read, indices[start : start + _READ_AHEAD]):
                if isinstance(frame, FrameError):
                    failures.append(frame)
                else:
                    yield frame


def images_word(count: int) -> str:
    """The word for this many images, in messages."""
    return "image" if count == 1 else "images"
