"""Recipes: named sets of hyper-parameters. A recipe's values travel in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of the training.

    Attributes:
        learning_rate: the sum of G's and D's rates, at its highest.
        beta1: Adam's decay of the first moment.
        batch: frames per update.
        epochs: passes over the training frames; None for as many as 2500 updates take, 4 to 200.
        slope: steepness of the sigmoid that shares the learning rate between G and D.
        gamma: level of generated to real loss that the controller holds; None for no controller.
        cosine: whether the learning rate falls to zero along a half cosine.
        adversarial: weight of the generated term in L_G; 0 trains G alone. Checkpoints of 0.1.0 do
            not say it.
        slope_floor: least slope of the last layers' tanh in the backward pass, where the gradient
            leads back from saturation; see ``saturation.py``. Checkpoints of 0.1.0 do not say it.
        reach: pixels by which slices of volumes, mirrored or not, are shifted at random; 0 leaves
            them as they are. Other frames are never moved. Checkpoints of 0.1.0 do not say it.
        interior: whether distances are measured inside of what a slice of a volume shows, and not
            over the whole slice. Checkpoints of 0.1.0 do not say it.
    """

    learning_rate: float
    beta1: float
    batch: int
    epochs: int | None
    slope: float
    gamma: float | None
    cosine: bool
    adversarial: float = 1.0
    slope_floor: float = 0.0
    reach: int = 0
    interior: bool = False

    def epochs_for(self, updates_per_epoch: int) -> int:
        """The number of epochs for a training set of this many updates."""
        if self.epochs is not None:
            return self.epochs
        return min(max(-(-2500 // updates_per_epoch), 4), 200)


_DEFAULT = Recipe(
    4e-3,
    beta1=0.5,
    batch=64,
    epochs=None,
    slope=20.0,
    gamma=1.0,
    cosine=True,
    slope_floor=0.1,
    interior=True,
)

RECIPES = {
    # Section 4.1, with the balance of its reference 14.
    "paper": Recipe(1e-5, beta1=0.5, batch=64, epochs=100, slope=20.0, gamma=None, cosine=False),
    # Stable where the plain losses let the discriminator run away; see docs/method.md.
    "default": _DEFAULT,
    # For slices of volumes, which are mirrored and shifted at random while they train.
    "moved": replace(_DEFAULT, reach=1),
    # G alone, the baseline of Figure 3; its score is ||x - G(x)||.
    "autoencoder": replace(_DEFAULT, adversarial=0.0),
    # G and D are principal components, in closed form; no other value of it is looked at.
    "linear": replace(_DEFAULT, epochs=0),
}
