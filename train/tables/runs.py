"""Trainings whose losses differ from the product's, for the table of variants."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from adae_edge.model import ADAE, anomaly_score
from adae_edge.train.recipes import Recipe
from adae_edge.train.run import Run


class ChangedRun(Run):
    """A ``Run`` with places to change its losses; here its gradients are those of ``Run``."""

    def shown(self, x: Tensor) -> Tensor:
        """Return what G sees in place of x, float32 [N, C, S, S]; further frames may follow."""
        return x

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """Weigh each frame in one of the three losses.

        Args:
            x: the frames, float32 [N, C, S, S].
            errors: the loss of each frame, float32 [N].

        Returns:
            float32 [N], with mean 1.
        """
        return torch.ones(len(x))

    def fake_weight(self, real: float, fake: float) -> float:
        """Weigh the generated term in L_D.

        Args:
            real: ||x - D(x)|| of this batch.
            fake: ||G(x) - D(G(x))|| of this batch.
        """
        return self.balance.fake_weight

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor | None:
        """Return a further loss of G and of D, or None; ``again`` is D(G(shown))."""
        return None

    def gradients(self, x: Tensor) -> tuple[float, float, float]:
        """Set the gradients of the losses; returns the losses as ``Run.gradients`` does."""
        # both networks
        shown = self.shown(x).contiguous(memory_format=torch.channels_last)
        with self.precision:
            generated, real = self.model.generator(shown), self.real(x)
            fake = generated.detach().requires_grad_()
            again = self.again(fake)

        # their losses
        def loss(a: Tensor, b: Tensor) -> Tensor:
            errors = (a[: len(x)].float() - b[: len(x)].float()).abs().mean(dim=(1, 2, 3))
            return (errors * self.weights(x, errors.detach())).mean()

        loss_generator, loss_real, loss_fake = loss(x, generated), loss(x, real), loss(fake, again)
        further = self.further(x, shown, again.float())

        # As in Run.gradients: negate D's gradient of the generated term, then pass the gradient at
        # G(x) on to G.
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


class Gaia(ChangedRun):
    """Weighs the generated term as Sainburg et al. 2018 do.

    They clip their losses to [-1, 1], too, which means of pictures in [0, 1] never reach.
    """

    def fake_weight(self, real: float, fake: float) -> float:
        """Weigh the term the more the larger it is, at most by 0.9."""
        return min(1 / (1 + math.exp(-self.balance.slope * (0.5 * fake - real))), 0.9)


class Margin(ChangedRun):
    """Has EBGAN's max(0, margin - ||G(x) - D(G(x))||) in L_D, a margin twice the real loss."""

    def margin(self, real: float) -> float:
        """Return the generated loss from which on the term pulls no more."""
        return 2 * real

    def fake_weight(self, real: float, fake: float) -> float:
        """Weigh the term by 1 below the margin, and by 0 above."""
        return float(fake < self.margin(real))


class FixedMargin(Margin):
    """Has a margin that does not follow the training."""

    def margin(self, real: float) -> float:
        """Return about twice the loss of real frames at the end of a training."""
        return 0.1


class Averaged(Run):
    """Trains a copy of the model, and keeps the average of its weights in the model itself."""

    def __init__(self, model: ADAE, recipe: Recipe) -> None:
        super().__init__(copy.deepcopy(model), recipe)
        self.average = model
        self.updates = 0

    def update(self, x: Tensor, progress: float) -> tuple[float, float, float]:
        """Update the copy and the average; returns the losses as ``Run.update`` does."""
        losses = super().update(x, progress)
        # With 0.999 from the start, a quarter of the average would still be untrained weights after
        # 1500 updates.
        decay = min(0.999, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        means, values = self.average.state_dict().values(), self.model.state_dict().values()
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
        return losses


class Noisy(ChangedRun):
    """Trains G to take noise away."""

    def shown(self, x: Tensor) -> Tensor:
        """Add noise whose standard deviation is 0.3 of a range of 2."""
        return x + 0.3 * torch.randn_like(x)


class Erased(ChangedRun):
    """Trains G to fill in what is missing."""

    def shown(self, x: Tensor) -> Tensor:
        """Put black rectangles into three frames of four."""
        return torch.where(rectangles(x, 0.75), -1.0, x)


class Pasted(ChangedRun):
    """Trains G to remove what belongs to another frame."""

    def shown(self, x: Tensor) -> Tensor:
        """Put rectangles of other frames into three frames of four."""
        return torch.where(rectangles(x, 0.75), x[torch.randperm(len(x))], x)


class PseudoAnomalies(ChangedRun):
    """Teaches both networks to score damaged frames high.

    Both kinds are in one batch, so that batch norm sees the mixture that it will see in use.
    """

    def shown(self, x: Tensor) -> Tensor:
        """Return the frames and as many damaged ones."""
        return torch.cat([x, damaged(x)])

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor:
        """Ask for small errors of normals and large ones of damaged frames, up to about 0.3."""
        errors = (shown - again).abs().mean(dim=(1, 2, 3))
        pushed = -0.3 * torch.log(1 - torch.exp(-errors[len(x) :] / 0.3) + 1e-6)
        return 5 * (errors[: len(x)].mean() + pushed.mean())


class Spread(ChangedRun):
    """Asks for normals that score alike."""

    def further(self, x: Tensor, shown: Tensor, again: Tensor) -> Tensor:
        """Return the coefficient of variation of the paper's score."""
        scores = anomaly_score(x, again)
        return 0.5 * scores.std() / scores.mean().detach()


class Ink(ChangedRun):
    """Weighs frames by the fourth power of their ink: those with much to reconstruct count more."""

    power = 4

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """Weigh each frame by the norm of what is not black."""
        ink: Tensor = torch.linalg.vector_norm(x + 1, dim=(1, 2, 3)) ** self.power
        return ink / ink.mean()


class Ink8(Ink):
    """Weighs frames by the eighth power of their ink."""

    power = 8


class Contrast(ChangedRun):
    """Weighs frames by the fourth power of their contrast, where black is not the background."""

    power = 4

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """Weigh each frame by its standard deviation."""
        contrast = x.std(dim=(1, 2, 3)) ** self.power
        return contrast / contrast.mean()


class Contrast6(Contrast):
    """Weighs frames by the sixth power of their contrast."""

    power = 6


class Hard(ChangedRun):
    """Weighs frames by their error: those that are reconstructed badly count more."""

    power = 1

    def weights(self, x: Tensor, errors: Tensor) -> Tensor:
        """Weigh each frame by its own error."""
        return errors**self.power / (errors**self.power).mean()


class Harder(Hard):
    """Weighs frames by the square of their error."""

    power = 2


def rectangles(x: Tensor, share: float) -> Tensor:
    """Mark a rectangle of 6 to 20 pixels a side in a share of the frames.

    Args:
        x: the frames, [N, C, S, S].
        share: the part of them that gets a rectangle.

    Returns:
        bool [N, 1, S, S].
    """

    def spans(side: int) -> Tensor:
        length = torch.randint(6, 21, (len(x), 1))
        start = (torch.rand(len(x), 1) * (side - length + 1)).long()
        position = torch.arange(side)
        return (position >= start) & (position < start + length)

    rows = spans(x.shape[2]) & (torch.rand(len(x), 1) < share)
    return rows[:, None, :, None] & spans(x.shape[3])[:, None, None, :]


def damaged(x: Tensor) -> Tensor:
    """Damage frames [N, C, S, S] in four ways, a quarter of them in each.

    A rectangle is erased, the lower half is another frame's, the frame is warped, or it is rotated.
    """
    erased, cut, warped, rotated = x.tensor_split(4)
    erased = torch.where(rectangles(erased, 1.0), -1.0, erased)

    lower = torch.arange(x.shape[2])[:, None] >= x.shape[2] // 2
    cut = torch.where(lower, x[torch.randint(len(x), (len(cut),))], cut)

    # a smooth random shift of each pixel; beyond the edge it is black
    shifts = nn.functional.interpolate(
        0.25 * torch.randn(len(warped), 2, 5, 5), x.shape[2:], mode="bicubic"
    )
    still = nn.functional.affine_grid(
        torch.eye(2, 3).expand(len(warped), 2, 3), list(warped.shape), align_corners=False
    )
    grid = still + shifts.permute(0, 2, 3, 1)
    warped = nn.functional.grid_sample(warped + 1, grid, align_corners=False) - 1

    turns = enumerate(rotated.tensor_split(3), start=1)
    return torch.cat([erased, cut, warped, *(part.rot90(turn, (2, 3)) for turn, part in turns)])
