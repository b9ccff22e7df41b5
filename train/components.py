"""Principal components in float64, for the linear network and the score ``local``."""

from __future__ import annotations

import torch
from torch import Tensor

# Of the first component's variance: what pictures vary less by is rounding.
NEGLIGIBLE = 1e-10


def principal_components(pictures: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean of pictures and the directions in which they vary most.

    Args:
        pictures: float32 [N, V], two at least.
        count: how many components at most; never more than half of the pictures.

    Returns:
        The mean float32 [V] and orthonormal columns float32 [V, K], the largest variance first.
            Directions in which the pictures do not vary are zeros.
    """
    centre = pictures.mean(dim=0, dtype=torch.float64)
    deviations = pictures.double() - centre
    frames, values = deviations.shape
    count = max(min(count, frames // 2, values), 1)
    tall = frames > values
    products = deviations.T @ deviations if tall else deviations @ deviations.T
    variances, vectors = torch.linalg.eigh(products)
    variances, vectors = variances.flip(0)[:count], vectors.flip(1)[:, :count]
    if not tall:
        vectors = deviations.T @ vectors / variances.clamp(min=1e-30).sqrt()
    varied = variances > NEGLIGIBLE * variances[0].clamp(min=1e-12)
    return centre.float(), (vectors * varied).float()
