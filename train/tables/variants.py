"""Alternatives to the recipe ``default``: what each changes, and how well its networks detect.

python -m adae_edge.train.tables.variants DATA VARIANT CLASS SEED UPDATES

prints one run's figures as JSON; ``ablations.py`` makes the table of all. They are rows of that
table and no options of the product: whoever doubts a choice can measure it again.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from adae_edge.model import ADAE, Preprocess, anomaly_score
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.density import fit_density
from adae_edge.train.evaluate import all_scores
from adae_edge.train.loading import load_frames, unpack
from adae_edge.train.recipes import RECIPES, Recipe
from adae_edge.train.run import Run
from adae_edge.train.settings import NETWORKS
from adae_edge.train.tables.tables import DEVELOPMENT

SIDE = 32
NETWORK = NETWORKS["a"]
DEFAULT = RECIPES["default"]
# The paper's losses, for variants with a balance of their own.
UNCONTROLLED = replace(DEFAULT, gamma=None)
# Of the split, the weights and the batches; no table of the paper has this seed.


class Changed(Run):
    """``Run`` with places to change its losses; as it stands here, its gradients are those of ``Run``."""

    def shown(self, x: Tensor) -> Tensor:
        """What G sees in place of x, float32 [N, C, S, S]; further frames may follow those N."""
        return x

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """Each frame's weight in one of the three losses, whose value for it is ``errors``: float32 [N], mean 1."""
        return torch.ones(len(x))

    def fake_weight(self, real: float, fake: float) -> float:
        """The weight of the generated term in L_D, given this batch's ||x - D(x)|| and ||G(x) - D(G(x))||."""
        return self.balance.fake_weight

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor | None:
        """A further loss, of G and of D, by ``again``: D(G(shown))."""
        return None

    def gradients(self, x: Tensor) -> tuple[float, float, float]:
        """As ``Run.gradients``."""
        shown = self.shown(x).contiguous(memory_format=torch.channels_last)
        with self.precision:
            generated, real = self.model.generator(shown), self.model.discriminator(x)
            fake = generated.detach().requires_grad_()
            again = self.model.discriminator(fake)

        def loss(a: Tensor, b: Tensor) -> Tensor:
            errors = (a[: len(x)].float() - b[: len(x)].float()).abs().mean(dim=(1, 2, 3))
            return (errors * self.weights(x, errors.detach())).mean()

        loss_generator, loss_real, loss_fake = loss(x, generated), loss(x, real), loss(fake, again)
        further = self.further(x, shown, again.float())

        # As there: what D has of the generated term is turned around, and what arrives at G(x) goes
        # on into G.
        loss_fake.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        discriminator = self.model.discriminator.parameters()
        gradients = [parameter.grad for parameter in discriminator if parameter.grad is not None]
        torch._foreach_mul_(gradients, -self.fake_weight(loss_real.item(), loss_fake.item()))
        assert fake.grad is not None
        fake.grad.mul_(self.recipe.adversarial)
        if further is not None:
            further.backward()  # type: ignore[no-untyped-call]
        torch.autograd.backward([loss_generator + loss_real, generated], [None, fake.grad])
        return loss_real.item(), loss_fake.item(), loss_generator.item()


class Gaia(Changed):
    """Sainburg et al. 2018 clip their losses to [-1, 1], too, which means of pictures in [0, 1] never reach."""

    def fake_weight(self, real: float, fake: float) -> float:
        """At most 0.9, and the more the larger the generated loss is."""
        return min(1 / (1 + math.exp(-self.balance.slope * (0.5 * fake - real))), 0.9)


class Margin(Changed):
    """EBGAN's max(0, margin - ||G(x) - D(G(x))||) in L_D: it pulls with its whole weight below the margin, or not."""

    def margin(self, real: float) -> float:
        """Twice the loss of real frames."""
        return 2 * real

    def fake_weight(self, real: float, fake: float) -> float:
        """1 or 0."""
        return float(fake < self.margin(real))


class FixedMargin(Margin):
    """A margin that does not follow the training."""

    def margin(self, real: float) -> float:
        """Near twice the loss of real frames at the end of a training."""
        return 0.1


class Averaged(Run):
    """Trains a copy of the model, and keeps the average of its weights in the model itself."""

    def __init__(self, model: ADAE, recipe: Recipe) -> None:
        super().__init__(copy.deepcopy(model), recipe)
        self.average = model
        self.updates = 0

    def update(self, x: Tensor, progress: float) -> tuple[float, float, float]:
        """As ``Run.update``."""
        losses = super().update(x, progress)
        # With 0.999 from the start, a quarter of the average would still be untrained weights after
        # 1500 updates.
        decay = min(0.999, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mean, value in zip(
            self.average.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
        return losses


class Noisy(Changed):
    """Denoising."""

    def shown(self, x: Tensor) -> Tensor:
        """Standard deviation 0.3 of a range of 2."""
        return x + 0.3 * torch.randn_like(x)


class Erased(Changed):
    """Inpainting."""

    def shown(self, x: Tensor) -> Tensor:
        """Black rectangles in three frames of four."""
        return torch.where(rectangles(x, 0.75), -1.0, x)


class Pasted(Changed):
    """Removal of what belongs to another frame."""

    def shown(self, x: Tensor) -> Tensor:
        """Rectangles of other frames in three frames of four."""
        return torch.where(rectangles(x, 0.75), x[torch.randperm(len(x))], x)


class PseudoAnomalies(Changed):
    """Both kinds in one batch, so that batch norm sees the mixture that it will see in use."""

    def shown(self, x: Tensor) -> Tensor:
        """The frames and as many damaged ones."""
        return torch.cat([x, damaged(x)])

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor:
        """Small errors of D(G(.)) for normals, large ones for the damaged; the latter's worth fades beyond 0.3."""
        errors = (shown - again).abs().mean(dim=(1, 2, 3))
        pushed = -0.3 * torch.log(1 - torch.exp(-errors[len(x) :] / 0.3) + 1e-6)
        return 5 * (errors[: len(x)].mean() + pushed.mean())


class Spread(Changed):
    """Normals should score alike."""

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor:
        """The coefficient of variation of the paper's score."""
        scores = anomaly_score(x, again)
        return 0.5 * scores.std() / scores.mean().detach()


class Ink(Changed):
    """Frames with much to reconstruct count for more."""

    power = 4

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """By the norm of what is not black."""
        ink: Tensor = torch.linalg.vector_norm(x + 1, dim=(1, 2, 3)) ** self.power
        return ink / ink.mean()


class MoreInk(Ink):
    """Still more."""

    power = 8


class Contrast(Changed):
    """As ``Ink``, for frames of which black is not the background."""

    power = 4

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """By the frame's standard deviation."""
        contrast = x.std(dim=(1, 2, 3)) ** self.power
        return contrast / contrast.mean()


class MoreContrast(Contrast):
    """Still more."""

    power = 6


class Hard(Changed):
    """Frames that are reconstructed badly count for more, whatever they show."""

    power = 1

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """By the frame's own error."""
        return errors**self.power / (errors**self.power).mean()


class Harder(Hard):
    """Still more."""

    power = 2


def rectangles(x: Tensor, share: float) -> Tensor:
    """A rectangle of 6 to 20 pixels a side in this share of the frames x [N, C, S, S]: bool [N, 1, S, S]."""

    def spans(side: int) -> Tensor:
        length = torch.randint(6, 21, (len(x), 1))
        start = (torch.rand(len(x), 1) * (side - length + 1)).long()
        at = torch.arange(side)
        return (at >= start) & (at < start + length)

    rows = spans(x.shape[2]) & (torch.rand(len(x), 1) < share)
    return rows[:, None, :, None] & spans(x.shape[3])[:, None, None, :]


def damaged(x: Tensor) -> Tensor:
    """A quarter each with a rectangle erased, with another frame's lower half, warped, and rotated: [N, C, S, S]."""
    erased, cut, warped, rotated = x.tensor_split(4)
    erased = torch.where(rectangles(erased, 1.0), -1.0, erased)
    lower = torch.arange(x.shape[2])[:, None] >= x.shape[2] // 2
    cut = torch.where(lower, x[torch.randint(len(x), (len(cut),))], cut)
    shifts = nn.functional.interpolate(
        0.25 * torch.randn(len(warped), 2, 5, 5), x.shape[2:], mode="bicubic"
    )
    still = nn.functional.affine_grid(
        torch.eye(2, 3).expand(len(warped), 2, 3), list(warped.shape), align_corners=False
    )
    grid = still + shifts.permute(0, 2, 3, 1)
    warped = (
        nn.functional.grid_sample(warped + 1, grid, align_corners=False) - 1
    )  # beyond the edge it is black
    turns = enumerate(rotated.tensor_split(3), start=1)
    return torch.cat([erased, cut, warped, *(part.rot90(turn, (2, 3)) for turn, part in turns)])


@dataclass(frozen=True)
class Variant:
    """What differs from ``default``, in words, in the recipe, in the updates, and in the latent vector's size."""

    what: str
    recipe: Recipe = DEFAULT
    run: type[Run] = Run
    latent: int = NETWORK.latent


VARIANTS = {
    "default": Variant(
        "the recipe `default`: latent size 32, learning rate 4e-3 along a half cosine, gamma 1"
    ),
    "latent-16": Variant("latent size 16", latent=16),
    "latent-8": Variant("latent size 8", latent=8),
    "latent-4": Variant("latent size 4", latent=4),
    "rate-2e-3": Variant("learning rate 2e-3", replace(DEFAULT, learning_rate=2e-3)),
    "rate-8e-3": Variant("learning rate 8e-3", replace(DEFAULT, learning_rate=8e-3)),
    "constant-rate": Variant("the learning rate stays 4e-3", replace(DEFAULT, cosine=False)),
    "uncontrolled": Variant(
        "the paper's losses: no controller of L_D's generated term", UNCONTROLLED
    ),
    "adversarial-5": Variant(
        "L_G's generated term weighs 5, gamma 0.7", replace(DEFAULT, adversarial=5.0, gamma=0.7)
    ),
    "gamma-0.5": Variant(
        "the controller holds the generated loss at half of the real one",
        replace(DEFAULT, gamma=0.5),
    ),
    "gaia": Variant(
        "the weight that Sainburg et al. give L_D's generated term", UNCONTROLLED, Gaia
    ),
    "margin": Variant(
        "EBGAN's margin for L_D's generated term, twice the real loss", UNCONTROLLED, Margin
    ),
    "margin-0.1": Variant(
        "EBGAN's margin for L_D's generated term, 0.1", UNCONTROLLED, FixedMargin
    ),
    "averaged": Variant(
        "a moving average of both networks' weights, decay up to 0.999", run=Averaged
    ),
    "noise": Variant("G sees the frame with Gaussian noise of 0.3", run=Noisy),
    "erased": Variant("G sees the frame with a rectangle erased", run=Erased),
    "pasted": Variant("G sees the frame with a rectangle of another one", run=Pasted),
    "pseudo": Variant("damaged frames are taught to score high", run=PseudoAnomalies),
    "spread": Variant("a penalty on the spread of the scores in a batch", run=Spread),
    "ink": Variant("a frame's losses weigh as the fourth power of its ink", run=Ink),
    "ink-8": Variant("as the eighth power of its ink", run=MoreInk),
    "contrast": Variant(
        "a frame's losses weigh as the fourth power of its standard deviation", run=Contrast
    ),
    "contrast-6": Variant("as the sixth power of its standard deviation", run=MoreContrast),
    "ink-latent-8": Variant("ink, and latent size 8", run=Ink, latent=8),
    "ink-gamma-0.5": Variant("ink, and gamma 0.5", replace(DEFAULT, gamma=0.5), Ink),
    "hard": Variant("a frame's losses weigh as their own value", run=Hard),
    "harder": Variant("a frame's losses weigh as the square of their own value", run=Harder),
}


def development_part(data: str, anomalous: int) -> Dataset:
    """Every third frame of ``digits`` or ``mnist:DIR``, so that a choice by this table has not seen the others.

    Raises:
        UsageError, DatasetError: as ``load_dataset``.
    """
    dataset = load_dataset(data, anomalous)
    return replace(
        dataset,
        frames=np.asarray(dataset.frames)[::DEVELOPMENT],
        anomalous=dataset.anomalous[::DEVELOPMENT],
    )


def run_variant(data: str, name: str, anomalous: int, seed: int, updates: int) -> dict[str, float]:
    """Train a variant for one class.

    Args:
        data: as for ``development_part``.
        name: of the variant.
        anomalous: the class that is held out.
        seed: of the split, the weights and the order.
        updates: of the weights.

    Returns:
        The AUROC of each named score on the test part of the development part, and the training's
            seconds.
    """
    variant, dataset = VARIANTS[name], development_part(data, anomalous)
    parts, preprocess = split(dataset.anomalous, seed), Preprocess(SIDE)
    frames, _ = load_frames(dataset, parts, preprocess)

    torch.manual_seed(seed)
    network = replace(NETWORK, latent=variant.latent)
    model = ADAE(preprocess, dataset.channels, network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = variant.run(model.train(), variant.recipe)
    begun = time.perf_counter()
    for index, chosen in enumerate(
        _batches(len(frames), min(variant.recipe.batch, len(frames)), updates, seed)
    ):
        x = unpack(frames[chosen], preprocess).contiguous(memory_format=torch.channels_last)
        run.update(x, progress=index / updates)
    seconds = time.perf_counter() - begun

    model.eval()
    model.density = fit_density(model, frames, seed)
    labels, scores = dataset.anomalous[parts.test], all_scores(model, dataset, parts.test)
    aurocs: dict[str, Any] = {
        score: round(float(roc_auc_score(labels, values)), 4) for score, values in scores.items()
    }
    return aurocs | {"seconds": round(seconds, 1)}


def _batches(count: int, batch: int, updates: int, seed: int) -> Iterator[Tensor]:
    """Indices of each update's frames, in whole epochs of whole batches as ``train`` has them."""
    random = torch.Generator().manual_seed(seed)
    whole = count // batch * batch
    epoch: list[Tensor] = []
    for _ in range(updates):
        if not epoch:
            epoch = list(torch.randperm(count, generator=random)[:whole].split(batch))  # type: ignore[no-untyped-call]
        yield epoch.pop()


def main(data: str, variant: str, anomalous: int, seed: int, updates: int) -> None:
    """Train a variant for one class on one thread, and print its figures."""
    torch.set_num_threads(1)
    typer.echo(json.dumps(run_variant(data, variant, anomalous, seed, updates)))


if __name__ == "__main__":
    typer.run(main)
