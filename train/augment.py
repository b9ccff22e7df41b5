"""Slices of volumes as they train: mirrored and shifted at random.

A head is nearly symmetric and never lies in quite the same place, and some hundred slices of a few
people are learned by heart otherwise. A camera's frames are not changed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def random_moves(count: int, reach: int, random: torch.Generator) -> Tensor:
    """Draw how slices are moved: int64 [count, 3], mirrored or not, down and to the right.

    Args:
        count: of the slices.
        reach: pixels by which they are shifted at most, along both axes.
        random: what draws.
    """
    mirrored = torch.randint(0, 2, (count, 1), generator=random)
    shifts = torch.randint(-reach, reach + 1, (count, 2), generator=random)
    return torch.cat([mirrored, shifts], dim=1)


def moved(x: Tensor, moves: Tensor) -> Tensor:
    """Mirror slices left to right and shift them; background moves in.

    Args:
        x: float32 [N, 1, S, S], the background -1.
        moves: of ``random_moves``, [N, 3], on the same device.
    """
    side, reach = x.shape[2], int(moves[:, 1:].abs().max())
    padded = functional.pad(x[:, 0], [reach] * 4, value=-1.0)
    mirrored, down, right = moves[:, :, None].unbind(dim=1)
    pixel = torch.arange(side, device=x.device)
    rows, columns = pixel - down + reach, pixel - right
    columns = torch.where(mirrored == 1, side - 1 - columns, columns) + reach
    slices = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[slices, rows[:, :, None], columns[:, None, :]][:, None]
