"""What every backend offers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import UsageError


class Backend(Protocol):
    """Runs one graph on one device.

    Attributes:
        name: what runs it, for people.
        max_batch: frames in one run at the most; None where any number is taken.
    """

    name: str
    max_batch: int | None

    def run(
        self, inputs: Sequence[NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.float32]]:
        """Run the graph once.

        Args:
            inputs: one C-contiguous array for each of the graph's inputs, in its order.
            outputs: the names of the outputs that are wanted.

        Returns:
            One array for each of ``outputs``.

        Raises:
            DeviceError: the device or the graph on it failed.
            UsageError: the backend is closed.
        """
        ...

    def close(self) -> None:
        """Give back what the backend holds; a second time does nothing."""
        ...


def ms_since(started: float) -> float:
    """Milliseconds since a reading of ``time.perf_counter``, for the log."""
    return (time.perf_counter() - started) * 1e3


def closed() -> UsageError:
    """The error of a run after ``close``."""
    return UsageError("the scorer is closed: open the file again to score further frames")
