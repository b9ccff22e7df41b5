"""The anomaly map: where in what the network sees a score comes from."""

from __future__ import annotations

from torch import Tensor

from adae_edge.model import ADAE, anomaly_score


def score_with_map(model: ADAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """Score what the network sees, and say where in it the score comes from.

    The map of the score "density", which knows no pixels, is that of the paper's score.

    Args:
        model: in eval mode.
        x: float32 [N, C, S, S] in [-1, 1].

    Returns:
        The model's own score float32 [N], and its map float32 [N, S, S].
    """
    if model.score == "local":
        assert model.local is not None
        return model.local.with_map(x)
    reconstruction = model.reconstruction(x, model.score)
    pixels = anomaly_map(x, reconstruction)
    if model.score == "density":
        return model.score_of(x, "density"), pixels
    return anomaly_score(x, reconstruction), pixels


def anomaly_map(x: Tensor, reconstruction: Tensor) -> Tensor:
    """The norm of an image minus its reconstruction over the channels alone: float32 [N, S, S].

    Both are float [N, C, S, S] in [-1, 1]. Its own norm is the score.
    """
    difference = x.float() - reconstruction.float()
    return (difference * difference).sum(dim=1).sqrt()
