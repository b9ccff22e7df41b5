"""The fit of the linear network: principal components of the training frames, no epochs."""

from __future__ import annotations

import torch
from torch import Tensor

from adae_edge.contract import Network
from adae_edge.linear import LinearAutoencoder
from adae_edge.preprocess import Preprocess
from adae_edge.train.components import principal_components
from adae_edge.train.loading import unpack

# More frames change the components little, and 2000 colour frames of 128 x 128 pixels take 2 GB.
FRAMES = 2000
NUMBERS = FRAMES * 3 * 128 * 128


def components_for(network: Network, count: int) -> Network:
    """Limit a linear network to half as many components as frames; another one stays as it is."""
    if not network.linear:
        return network
    return Network(None, max(min(network.latent, min(count, FRAMES) // 2), 1))


def fit_linear(network: LinearAutoencoder, frames: Tensor, preprocess: Preprocess) -> None:
    """Give the network the mean and the components of training frames, in closed form.

    Args:
        network: whose numbers are replaced.
        frames: of the training, as ``load_frames`` returns them, in random order; the first 2000
            are used, or as many as memory is meant to hold.
        preprocess: what made them.
    """
    most = max(min(FRAMES, NUMBERS // frames[0].numel()), 2 * len(network.basis))
    pictures = unpack(frames[:most].cpu(), preprocess).flatten(1)
    centre, basis = principal_components(pictures, len(network.basis))
    with torch.no_grad():
        network.centre.copy_(centre)
        network.basis.copy_(basis.T)
