"""Values that lie in a DICOM file as they are, to be read without its header."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Stored(NamedTuple):
    """Where the values of the only frame of a file lie in it.

    Attributes:
        at: where they begin.
        shape: rows and columns.
        dtype: of a value, in the order of the file's bytes.
        low, high: what its bits that count can hold.
        file: how large the file is, and when it was changed, ns.
    """

    at: int
    shape: tuple[int, int]
    dtype: str
    low: int
    high: int
    file: tuple[int, int]


def stored_from(fields: Sequence[Any] | None) -> Stored | None:
    """What JSON has made of it, as it was."""
    if fields is None:
        return None
    at, shape, dtype, low, high, file = fields
    return Stored(at, tuple(shape), dtype, low, high, tuple(file))


def state_of(state: os.stat_result) -> tuple[int, int]:
    """How large a file is, and when it was changed, ns."""
    return state.st_size, state.st_mtime_ns


def read_stored(path: Path, stored: Stored) -> NDArray[np.generic] | None:
    """Read values [H, W] that lie in a file as they are.

    Returns:
        None where the file is another one since, or has a value that its bits cannot hold.

    Raises:
        OSError: it cannot be read.
    """
    values: NDArray[Any] = np.empty(stored.shape, stored.dtype)
    with path.open("rb", buffering=0) as file:
        if state_of(os.fstat(file.fileno())) != stored.file:
            return None
        file.seek(stored.at)
        if file.readinto(values.data.cast("B")) != values.nbytes:
            return None
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values if stored.low <= values.min() and values.max() <= stored.high else None
