"""Weights that resample an axis of a picture, so that a matrix product for each axis resizes it."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(pictures: Tensor, side: int) -> Tensor:
    """pictures: float32 [N, S, S] -> float32 [N, side, side], by the mean; S a multiple of side."""
    of = pictures.shape[1] // side
    return pictures.reshape(-1, side, of, side, of).mean(dim=(2, 4)) if of > 1 else pictures


def resampled(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """float32 [N, h, w] by weights [h', h] and [w', w] -> float32 [N, h', w']."""
    return torch.matmul(torch.matmul(rows, pictures), columns.T)


def area(count: int, length: int) -> Tensor:
    """Weights float32 [count, length]: the mean over equal parts of an axis, in which pixels lie.

    Args:
        count: of the parts, not more than ``length``.
        length: pixels of the axis.
    """
    step = length / count
    start = torch.arange(count, dtype=torch.float64)[:, None] * step
    pixel = torch.arange(length, dtype=torch.float64)
    overlap = torch.minimum(start + step, pixel + 1) - torch.maximum(start, pixel)
    return (overlap.clamp(min=0) / step).float()


def bilinear(position: Tensor, count: int) -> Tensor:
    """Weights float32 [len(position), count] of ``count`` values at the positions, from 0 on."""
    position = position.clamp(0, count - 1)
    return (1 - (position[:, None] - torch.arange(count)).abs()).clamp(min=0)


def mean_of_three(side: int) -> Tensor:
    """Weights float32 [side, side]: each pixel's mean with its neighbours; edges mirror theirs."""
    index = torch.arange(side)
    weights = torch.zeros(side, side)
    for step in (-1, 0, 1):
        neighbour = (index + step).abs()
        neighbour = torch.where(neighbour >= side, 2 * side - 2 - neighbour, neighbour)
        weights[index, neighbour] += 1 / 3
    return weights
