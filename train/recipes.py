"""Recipes: named sets of hyper-parameters. A recipe's values travel in the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of the training.

    Attributes:
        learning_rate: highest rate that G's and D's rates add up to.
        beta1: of Adam.
        batch: frames per update.
        epochs: passes over the training frames; None for as many as 4000 updates take, 5 to 100.
        adversarial: weight of the generated term in L_G.
        slope: steepness of the sigmoid that shares the learning rate between G and D.
        gamma: level of generated to real loss that the controller holds; None for no controller.
        cosine: whether the learning rate falls to zero along a half cosine.
    """

    learning_rate: float
    beta1: float
    batch: int
    epochs: int | None
    adversarial: float
    slope: float
    gamma: float | None
    cosine: bool

    def epochs_for(self, updates_per_epoch: int) -> int:
        """The number of epochs for a training set of this many updates."""
        return self.epochs or min(max(-(-4000 // updates_per_epoch), 5), 100)


RECIPES = {
    # Section 4.1, with the balance of its reference 14.
    "paper": Recipe(1e-5, beta1=0.5, batch=64, epochs=100, adversarial=1.0, slope=20.0, gamma=None, cosine=False),
    # Stable where the plain losses let the discriminator run away; see docs/architecture.md.
    "default": Recipe(4e-3, beta1=0.5, batch=64, epochs=None, adversarial=1.0, slope=20.0, gamma=1.0, cosine=True),
}
