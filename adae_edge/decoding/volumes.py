"""Volumes of heads, whatever file they were read from, laid out in one way.

A slice lies as a DICOM axial slice does: row 0 is the patient's front, column 0 the patient's
right, and slice 0 is nearest to the feet. So the axes of a volume are z, y and x of DICOM's
patient, whose x goes to the left, y to the back and z up.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.acquisition import Acquisition
from adae_edge.decoding.instances import Origin
from adae_edge.decoding.kinds import Member
from adae_edge.grid import Grid, Vectors

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Place(NamedTuple):
    """Where a slice is found again: a file or folder, and the number or UID of the slice in it."""

    source: str
    id: int | str


class VolumeLayout(NamedTuple):
    """How an array is turned into a volume.

    Attributes:
        axes: the array's axis that becomes each of the volume's.
        reversed: whether that one is reversed, for each of the volume's.
    """

    axes: tuple[int, ...]
    reversed: tuple[bool, ...]

    def turn(self, values: NDArray[Any]) -> NDArray[Any]:
        """A view of an array of three axes as a volume."""
        ends = tuple(slice(None, None, -1 if back else 1) for back in self.reversed)
        return values.transpose(self.axes)[ends]

    def turn_back(self, values: NDArray[Any]) -> NDArray[Any]:
        """A view of a volume as the array that ``turn`` makes it from."""
        ends = tuple(slice(None, None, -1 if back else 1) for back in self.reversed)
        return values[ends].transpose(np.argsort(self.axes))

    def grid(self, grid: Grid, shape: Sequence[int]) -> Grid:
        """The grid of the volume that an array of this grid and shape becomes."""
        steps, corner = grid.steps[list(self.axes)], grid.corner
        for number, axis in enumerate(self.axes):
            if self.reversed[number]:
                corner = corner + steps[number] * (shape[axis] - 1)
                steps[number] *= -1
        return Grid(corner, steps)


@dataclass(frozen=True)
class Volume:
    """The voxels of a volume, and what is known of it.

    Attributes:
        name: what it is called in messages.
        values: [S, H, W] in the volume's units, float32, or integers of up to 16 bits where these
            are the values: slices from the feet up, rows from the front, columns from the patient's
            right.
        grid: where they lie.
        places: of each slice.
        stored: the values [S, H, W] before slope and intercept, by which the background of a
            skull-stripped volume is told; None where a file has no such.
        padded: whether a NaN among the values says that the scanner did not see the voxel.
        person: a hash that tells whom a series shows, or "".
        acquisition: how a series was acquired; None where the file does not tell.
        origins: the instance of each slice, of DICOM alone; the series' first one for slices that
            were cut across them, without the UIDs of the instance.
    """

    name: str
    values: NDArray[Any]
    grid: Grid
    places: Sequence[Place]
    stored: NDArray[Any] | None = None
    padded: bool = False
    person: str = ""
    acquisition: Acquisition | None = None
    origins: Sequence[tuple[Origin, Path | Member]] = ()


def layout_of(steps: Vectors) -> VolumeLayout | None:
    """How an array becomes a volume, by the nearest axes of the patient.

    It does not depend on the order of the array's axes.

    Args:
        steps: as in ``Grid``.

    Returns:
        None where an axis has no direction.
    """
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return None
    upwards = (steps / lengths)[:, ::-1]  # along z, y and x
    order = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(upwards[axis, number]) for number, axis in enumerate(order)),
    )
    return VolumeLayout(
        order, tuple(upwards[axis, number] < 0 for number, axis in enumerate(order))
    )


def shape_word(values: NDArray[Any]) -> str:
    """The size of a volume in words, as 240 x 240 x 155."""
    return " x ".join(map(str, values.shape[::-1]))
