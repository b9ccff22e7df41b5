"""The arrays that go into a graph: frames, and what a kind of frames has beside them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.errors import FrameError
from adae_edge.interface import Port, check_size, inputs_of


@dataclass(frozen=True)
class Batch:
    """Frames of one size, and what else a graph takes for each of them.

    Attributes:
        frames: uint8 [N, H, W, C], C 1 (grey) or 3 (RGB); or float32 [N, H, W, 1] in modality
            units, 0 outside of the object.
        mean, std: float32 [N], of each frame's volume inside the object, in the same units; None
            for frames of kind "image".
    """

    frames: NDArray[np.uint8 | np.float32]
    mean: NDArray[np.float32] | None = None
    std: NDArray[np.float32] | None = None

    @staticmethod
    def joined(batches: Iterable[Batch]) -> Batch:
        """One batch of the frames of all, which have one size and one kind."""
        columns = zip(*(batch.arrays() for batch in batches), strict=True)
        return Batch(*(np.concatenate(column) for column in columns))

    @staticmethod
    def of_pictures(pictures: NDArray[np.uint8], contract: Contract) -> Batch:
        """Made-up frames of a contract's kind from pictures, for tests of speed and of extremes.

        Args:
            pictures: uint8 [N, H, W, C], C as in the contract.
            contract: of the model that takes the batch. For kind "modality" the grey levels become
                modality units, with a mean of 127 and a standard deviation of 20: black is
                background, and z-scores are clipped at both ends.
        """
        if contract.kind == "image":
            return Batch(pictures)
        count = len(pictures)
        mean, std = np.full(count, 127, np.float32), np.full(count, 20, np.float32)
        return Batch(pictures.astype(np.float32), mean, std)

    def arrays(self) -> list[NDArray[Any]]:
        """The frames, and mean and std where there are any: one array for each of ``inputs_of``."""
        arrays = (self.frames, self.mean, self.std)
        return [array for array in arrays if array is not None]


class InputCheck:
    """Checks the arrays that are to go into one model's graph, and lays them out as it takes them.

    What it says of a dtype and a shape is remembered, as frames of a camera are all alike.
    """

    def __init__(self, contract: Contract) -> None:
        """
        Args:
            contract: of the model.
        """
        self._port, *self._others = inputs_of(contract)
        self._check_layout = functools.lru_cache(
            functools.partial(_check_layout, contract, self._port)
        )

    def __call__(
        self,
        frames: NDArray[np.uint8 | np.float32],
        mean: NDArray[np.float32] | None = None,
        std: NDArray[np.float32] | None = None,
    ) -> list[NDArray[Any]]:
        """One C-contiguous array for each of ``inputs_of``; frames that are contiguous as they are.

        Raises:
            FrameError: another dtype, shape or number of channels than the contract's, a size that
                cannot be scored, mean and std where none belong or the reverse, or numbers that
                are not finite.
        """
        if not isinstance(frames, np.ndarray):
            raise _unlike(self._port, type(frames).__name__)
        self._check_layout(frames.dtype, frames.shape)
        frames = np.ascontiguousarray(frames)
        if not self._others:
            if mean is not None or std is not None:
                raise FrameError(
                    "this model takes pictures, which have no mean and standard deviation"
                )
            return [frames]
        if mean is None or std is None:
            raise FrameError("this model takes a mean and a standard deviation with each frame")
        mean, std = (np.ascontiguousarray(values, np.float32) for values in (mean, std))
        _check_statistics(mean, std, len(frames))
        if not np.isfinite(frames).all():  # the graph's clipping would make a number of it
            raise FrameError("a frame has values that are not finite numbers")
        return [frames, mean, std]


def _check_layout(
    contract: Contract, port: Port, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    """Refuse frames whose dtype, shape or size is not the contract's."""
    if dtype != port.dtype or len(shape) != len(port.shape):
        raise _unlike(port, f"{dtype} {list(shape)}")
    _, height, width, channels = shape
    if channels != contract.channels:
        raise FrameError(
            f"this model takes frames with {contract.channels} channels, and these have {channels}"
        )
    check_size(height, width, "a frame")
    fixed = contract.form.size
    if fixed is not None and (height, width) != fixed:
        raise FrameError(
            f"this model was exported for frames of {fixed[1]} x {fixed[0]} pixels alone, "
            f"and this one has {width} x {height}"
        )
    if contract.region is not None:
        contract.region.check(height, width)


def _unlike(port: Port, what: str) -> FrameError:
    shape = f"[N, H, W, {port.shape[-1]}]"
    return FrameError(f"frames are a {port.dtype} array {shape}, and this is {what}")


def _check_statistics(mean: NDArray[np.float32], std: NDArray[np.float32], count: int) -> None:
    """Refuse means and standard deviations that are not one finite number for each frame."""
    for values in (mean, std):
        if values.shape != (count,) or not np.isfinite(values).all():
            raise FrameError(
                "the mean and the standard deviation are one finite number for each frame"
            )
    if not (std > 0).all():
        raise FrameError("a standard deviation is above 0")
