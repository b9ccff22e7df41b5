"""Where arrays of voxels lie in a patient, whose x goes to the left, y to the back and z up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]


class Grid(NamedTuple):
    """Where the voxels of an array lie in the patient, in mm.

    Attributes:
        corner: float64 [3], x, y and z of the voxel with the index 0, 0, 0.
        steps: float64 [3, 3], from a voxel to the next one along each axis of the array.
    """

    corner: Vectors
    steps: Vectors

    @property
    def spacing(self) -> tuple[float, float, float]:
        """How far voxels are apart along each axis of the array, mm."""
        first, second, third = np.linalg.norm(self.steps, axis=1).tolist()
        return first, second, third

    def at(self, number: int) -> Grid:
        """The grid of a part of the array that begins at this index along its first axis."""
        return self._replace(corner=self.corner + number * self.steps[0])

    def is_near(self, other: Grid, shape: Sequence[int]) -> bool:
        """Whether no voxel of an array of this shape is half a voxel away from that of another."""
        apart = np.abs(self.corner - other.corner)
        for size, step, others in zip(shape, self.steps, other.steps, strict=True):
            apart = apart + size * np.abs(step - others)
        return bool(np.linalg.norm(apart) < min(self.spacing) / 2)
