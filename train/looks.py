"""The fit of the three looks of the score ``local`` to pictures, in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from adae_edge.local import VALUES, Gaussians, Local, of_rarest
from adae_edge.pose import Pose
from adae_edge.train.components import principal_components

COMPONENTS = 200
# How far a place's covariance is drawn to what all places have, of its own size, and how much of
# that is the same in every direction.
SHRINKAGE = 0.01
ROUND = 0.2
# Of white: every pixel's noise, at least. A frame's own 8 bits are no finer.
NOISE = 0.1 / 255
_CHUNK = 64

Looks = dict[str, Tensor]


def some(pictures: Looks, chosen: Tensor) -> Looks:
    """Each look's pictures of the chosen frames, bool [N] or int [n]."""
    return {name: values[chosen] for name, values in pictures.items()}


def joined(parts: list[Looks]) -> Looks:
    """Each look's pictures of several batches as one."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def pictures_of(local: Local, grey: Tensor) -> Looks:
    """What each look sees of grey frames [N, S, S], as ``Local.pictures`` gives it."""
    with torch.inference_mode():
        parts = torch.split(grey, _CHUNK)
        return joined([local.pictures(local.seen(part)[0]) for part in parts])


def fitted(pictures: Looks, side: int, pose: Pose | None) -> Local:
    """The three looks, fitted to all of these pictures, which ``Local.pictures`` has made."""
    centre, basis = principal_components(pictures["whole"].flatten(1), COMPONENTS)
    local = Local(side, basis.shape[1], pose)
    local.whole.centre.copy_(centre)
    local.whole.basis.copy_(basis)
    fit_gaussians(local.coarse, pictures["coarse"])
    fit_gaussians(local.fine, pictures["fine"])
    return local


def fit_gaussians(look: Gaussians, pictures: Tensor) -> None:
    """Give the look its means and factors.

    Args:
        look: whose buffers are filled.
        pictures: float32 [N, h, w], logarithms of grey levels.
    """
    mean = pictures.mean(dim=0, dtype=torch.float64)
    means = look.patches(mean[None])[:, 0]
    products = torch.zeros(len(means), VALUES, VALUES, dtype=torch.float64)
    for part in pictures.split(_CHUNK):  # type: ignore[no-untyped-call]
        deviations = look.patches(part.double()) - means[:, None]
        products += deviations.transpose(1, 2) @ deviations
    covariance = products / len(pictures)

    # Shrink each place's covariance, and add the noise that every camera has.
    size = covariance.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    common = covariance.mean(dim=0)
    common = common / common.trace().clamp(min=1e-30)
    target = ROUND / VALUES * torch.eye(VALUES) + (1 - ROUND) * common
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * target
    plain = Gaussians(look.size, look.stride, centred=False)
    noise = NOISE * torch.exp(-plain.patches(mean[None])[:, 0])
    covariance += torch.diag_embed(noise.square())

    # The factor F of the inverse, F F^T.
    lower = torch.linalg.cholesky(covariance)
    eye = torch.eye(VALUES, dtype=torch.float64).expand_as(lower)
    factors = torch.linalg.solve_triangular(lower, eye, upper=False).transpose(1, 2)
    look.means.copy_(means)
    look.factors.copy_(factors)


def energies_of(local: Local, pictures: Looks) -> Looks:
    """The looks' energies, float32 [N, rows, columns] each."""
    with torch.inference_mode():
        return {
            name: torch.cat([look(part) for part in torch.split(pictures[name], _CHUNK)])
            for name, look in local.looks().items()
        }


def rarest_of(energies: Looks) -> Tensor:
    """The energies of whole frames by each look, float32 [N, 3]."""
    return torch.stack([of_rarest(energy) for energy in energies.values()], dim=1)
