"""Whether parts are turned upright before they are looked at, which made-up defects decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from adae_edge.defects import KINDS, spoil
from adae_edge.local import Local
from adae_edge.pose import Pose, away_from_median
from adae_edge.train.looks import energies_of, fitted, pictures_of, rarest_of

# A part is what lies this far from the median, of what the frame's farthest twentieth does.
FARTHEST = 0.95
FROM = 0.4
# Less than that, of white, is no part on a background.
LEAST_LEVEL = 0.004
# The canvas holds so much of the parts, and a margin around it. Its sides are multiples of that.
EXTENT = 0.995
MARGIN = 1.12
MULTIPLE = 16
LEAST_SIDE = 32
# Of the main axis' second moment: what has none lies as if its axis were horizontal.
UPRIGHT = 1e-4
ROUNDS = 5

# Made-up defects: how many, and the least and the most of their sizes and contrasts.
SPOILED = 96
SIZES = (0.05, 0.2)
CONTRASTS = (0.5, 2.0)
# The score is so much better with a pose, or there is none.
BETTER_BY = 0.05


@dataclass(frozen=True)
class Trial:
    """How well made-up defects on held-out normals are told from the same normals without.

    Attributes:
        none: mean AUROC over the kinds of defects, in frames as they lie.
        rigid: the same, with parts turned upright.
    """

    none: float
    rigid: float

    @property
    def turned(self) -> bool:
        """Whether parts are to be turned."""
        return self.rigid >= self.none + BETTER_BY

    def sentence(self) -> str:
        """What the trial found, and what follows."""
        follows = "are turned upright" if self.turned else "are looked at as they lie"
        return (
            f"parts {follows}: made-up defects on held-out normals have an AUROC of "
            f"{self.none:.2f} as they lie, and of {self.rigid:.2f} if turned"
        )


def choose_pose(grey: Tensor, held_out: Tensor, aspect: float) -> tuple[Pose | None, Trial | None]:
    """Choose from normals alone whether parts are turned; the same frames give the same pose.

    Args:
        grey: float32 [N, S, S], normals in random order, as ``Local.seen`` takes them.
        held_out: bool [N], those that get defects; the others fit what looks for them.
        aspect: height by width of the frames.

    Returns:
        The pose, or None for frames as they lie; and the trial, or None where nothing lies on a
            background.
    """
    pose = fit_pose(grey[~held_out], aspect)
    if pose is None:
        return None, None
    spoiled, kinds = spoiled_of(grey[held_out])
    none, rigid = (_auroc(grey, held_out, spoiled, kinds, candidate) for candidate in (None, pose))
    trial = Trial(round(none, 4), round(rigid, 4))
    return fit_pose(grey, aspect) if trial.turned else None, trial


def fit_pose(grey: Tensor, aspect: float) -> Pose | None:
    """Fit the pose to normals: the part's levels, the canvas, and which way round parts lie.

    Args:
        grey: float32 [N, S, S], normals as ``Local.seen`` takes them.
        aspect: height by width of the frames.

    Returns:
        The pose, or None where nothing differs from the background.
    """
    side = grey.shape[1]
    first = Pose(side, (LEAST_SIDE, LEAST_SIDE))
    first.steps.copy_(torch.tensor([aspect**0.5, aspect**-0.5]))

    # What of a frame is the part.
    away = away_from_median(grey).flatten(1)
    high = away.quantile(FARTHEST, dim=1).median()
    if high < LEAST_LEVEL:
        return None
    first.levels.copy_(torch.stack([FROM * high, high]))

    # Where the parts lie, and how far they reach along and across their axes.
    weights, place = first.weights(grey), first.place(grey)
    along, across = _along_axes(first, place, weights.shape[1])
    size = _canvas_side(first, across, weights), _canvas_side(first, along, weights)
    pose = Pose(side, size)
    pose.steps.copy_(first.steps)
    pose.levels.copy_(first.levels)
    moments = (weights * along.square()).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))
    pose.upright.copy_(UPRIGHT * moments.median())

    # Which of both directions is the same: the first guess is that of the third moment.
    canvases = pose.canvas(grey, place)
    turned = (weights * along**3).sum(dim=(1, 2)) < 0
    for _ in range(ROUNDS):
        template = torch.where(turned[:, None, None], canvases.flip(1, 2), canvases).mean(dim=0)
        pose.lean.copy_(template.flip(0, 1) - template)
        before, turned = turned, (canvases * pose.lean).sum(dim=(1, 2)) > 0
        if torch.equal(before, turned):
            break
    return pose


def _along_axes(pose: Pose, place: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where ``count`` x ``count`` pixels lie along and across a part's axis: [N, count, count]."""
    y, x = pose.positions(count)
    centre_x, centre_y, cosine, sine = torch.split(place[:, :, None], 1, dim=1)
    x, y = x - centre_x, y[:, None] - centre_y
    return cosine * x + sine * y, cosine * y - sine * x


def _canvas_side(pose: Pose, positions: Tensor, weights: Tensor) -> int:
    """Pixels of the canvas along an axis, from positions and weights [N, P, P]."""
    distances, order = positions.abs().flatten().sort()
    reached = weights.flatten()[order].double().cumsum(dim=0)
    index = int(torch.searchsorted(reached, EXTENT * reached[-1]))
    wanted = 2 * float(distances[index]) * MARGIN
    most = pose.side * float(pose.steps.square().sum().sqrt())
    return max(math.ceil(min(wanted, most) / MULTIPLE) * MULTIPLE, LEAST_SIDE)


def spoiled_of(grey: Tensor) -> tuple[Tensor, list[str]]:
    """Normals with a made-up defect each, and its kind; each kind is there as often.

    The defect alone is added to a frame, so that both have the same fractions of grey levels.

    Args:
        grey: float32 [N, S, S].

    Returns:
        float32 [96, S, S], and the kinds.
    """
    random = np.random.default_rng(0)
    kinds = random.permutation(np.arange(SPOILED) % len(KINDS))
    pictures = (255 * grey).round().clamp(0, 255).to(torch.uint8).numpy()[..., None]
    spoiled = []
    for index, number in enumerate(kinds):
        picture, other = (pictures[(index + step) % len(pictures)] for step in (0, 1))
        size, contrast = (float(np.exp(random.uniform(*np.log(of)))) for of in (SIZES, CONTRASTS))
        defect = spoil(picture, list(KINDS)[number], size, contrast, other, random)
        change = (defect.picture.astype(np.float32) - picture)[..., 0] / 255
        spoiled.append(grey[index % len(pictures)] + torch.from_numpy(change))
    return torch.stack(spoiled), [list(KINDS)[number] for number in kinds]


def _auroc(
    grey: Tensor, held_out: Tensor, spoiled: Tensor, kinds: list[str], pose: Pose | None
) -> float:
    """Mean over the kinds of the AUROC of spoiled frames against held-out normals."""
    local = Local(grey.shape[1], 1, pose)
    known, new, bad = (
        pictures_of(local, part) for part in (grey[~held_out], grey[held_out], spoiled)
    )
    local = fitted(known, grey.shape[1], pose)
    normal, rare = (rarest_of(energies_of(local, pictures)) for pictures in (new, bad))
    mean, spread = normal.mean(dim=0), normal.std(dim=0).clamp(min=1e-6)
    normal, rare = (((values - mean) / spread).mean(dim=1) for values in (normal, rare))
    return float(
        np.mean([
            roc_auc_score([0] * len(normal) + [1] * int(chosen.sum()), np.r_[normal, rare[chosen]])
            for chosen in (np.array(kinds) == kind for kind in KINDS)
        ])
    )  # fmt: skip
