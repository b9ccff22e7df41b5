"""The tanh that ends both autoencoders, with a floor under its slope while it learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FlooredTanh(nn.Tanh):
    """tanh, whose gradient does not vanish where it would lead back from saturation.

    Where a pixel is saturated on the wrong side the slope is 0, and a loss of absolute errors
    never pulls it back: the pixel is dead. With a floor the gradient is that of a slope no smaller,
    if a step against it moves the input towards 0. Values are those of tanh, whatever the floor.

    Attributes:
        floor: of the slope, 0 to 1; 0 is the plain tanh.
    """

    floor = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """x: float, any shape -> the same, -1 to 1."""
        if self.floor and self.training and torch.is_grad_enabled():
            floored: Tensor = _Floored.apply(x, self.floor)  # type: ignore[no-untyped-call]
            return floored
        return torch.tanh(x)


class _Floored(torch.autograd.Function):
    """tanh forwards, the larger of its slope and the floor backwards, towards 0."""

    @staticmethod
    def forward(context: Any, x: Tensor, floor: float) -> Tensor:
        y = torch.tanh(x)
        context.save_for_backward(y)
        context.floor = floor
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = context.saved_tensors
        slope = 1 - y.square()
        towards_zero = gradient * y > 0
        slope = torch.where(towards_zero, slope.clamp(min=context.floor), slope)
        return gradient * slope, None
