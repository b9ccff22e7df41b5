"""The balance between G and D: who learns how fast, and how much D works against G."""

from __future__ import annotations

import math


class Balance:
    """Shares the learning rate between G and D and weighs D's adversarial term.

    The rates follow Sainburg et al. 2018, the paper's reference 14: D's share is
    sigmoid(slope * (real - fake)), so the network that lags gets more, and G has the rest.

    With ``gamma`` the weight of the generated term in L_D, ``fake_weight``, follows the controller
    of BEGAN (Berthelot et al. 2017, the paper's reference 2): it rises while the generated loss is
    below ``gamma`` times the real one and falls when the generated loss runs away. Without
    ``gamma`` it stays 1, which is the paper's L_D.
    """

    RATE = 0.01

    def __init__(self, slope: float, gamma: float | None) -> None:
        self.slope = slope
        self.gamma = gamma
        self.fake_weight = 1.0 if gamma is None else 0.0
        self.share_d = 0.5

    def update(self, real: float, fake: float) -> None:
        """Take in one batch's losses: real ||X - D(X)||_1 and fake ||G(X) - D(G(X))||_1, means."""
        exponent = -self.slope * (real - fake)
        self.share_d = 1.0 / (1.0 + math.exp(min(exponent, 60.0)))
        if self.gamma is not None:
            self.fake_weight = min(
                max(self.fake_weight + self.RATE * (self.gamma * real - fake), 0.0), 1.0
            )
