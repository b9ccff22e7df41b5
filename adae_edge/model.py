"""The network: the autoencoders G and D, and the score that the graph returns.

This module and the parts that it is made of (``preprocess.py``, ``linear.py``, ``density.py``,
``local.py``, ``slices.py``) alone import torch in this package. Training, evaluation and export all
use these same modules, so a score cannot depend on who computed it.
"""

from __future__ import annotations

import hashlib
import itertools

import torch
from torch import Tensor, nn

from adae_edge.contract import Network
from adae_edge.density import DENSITY, Density
from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.linear import LinearAutoencoder
from adae_edge.local import Local
from adae_edge.preprocess import Preprocess
from adae_edge.saturation import FlooredTanh
from adae_edge.slices import SliceLocal, interior

# The scores that G and D give; "local" depends on neither.
NETWORK_SCORES = ("l2", "generator", "density")


class Autoencoder(nn.Sequential):
    """One of the two equal sub-networks, Appendix A: encoder to a vector, decoder back to an image.

    ``3x2`` layers halve (double) the side with kernel 3, stride 2, padding 1. The ``4x1`` layers
    take 4x4 to 1x1 and back. Batch norm follows every layer but the encoder's first and the
    decoder's last. A side of 4 * 2**n has n halving stages; stages beyond the paper's three repeat
    the third width. Input and output are float32 [N, channels, side, side] in [-1, 1].
    """

    def __init__(self, channels: int, side: int, network: Network) -> None:
        width, latent = network.width, network.latent
        assert width is not None, "a linear network has no layers"
        stages = (side // 4).bit_length() - 1
        widths = [width * min(stage + 1, 3) for stage in range(stages)]

        # the encoder
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, 2, 1), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        layers += [nn.Conv2d(widths[-1], width, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, latent, 1, bias=False), nn.BatchNorm2d(latent), nn.ReLU()]

        # the decoder
        layers += [
            nn.ConvTranspose2d(latent, width, 4, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
        ]
        for _ in range(stages - 1):
            layers += [
                nn.ConvTranspose2d(width, width, 3, 2, 1, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2),
            ]
        layers += [nn.ConvTranspose2d(width, channels, 3, 2, 1, 1), FlooredTanh()]
        super().__init__(*layers)
        self.halving = 3 * stages - 1

    @property
    def output(self) -> FlooredTanh:
        """The last layer."""
        layer = self[-1]
        assert isinstance(layer, FlooredTanh)
        return layer

    def activations(self, x: Tensor) -> Tensor:
        """What the encoder's 4x4 stage sees in images [N, channels, side, side]: float32 [N, V]."""
        for layer in itertools.islice(self, self.halving):
            x = layer(x)
        return x.flatten(1)


class ADAE(nn.Module):
    """Adversarial Dual Autoencoders: raw frames in, anomaly scores out (section 3.1).

    This module is evaluated in PyTorch, and it is the one that is exported.

    Attributes:
        score: which of ``contract.SCORES`` it returns.
        density, local: what the scores of these names need, or None.
        measured: as in the contract.
    """

    generator: Autoencoder | LinearAutoencoder
    discriminator: Autoencoder | LinearAutoencoder
    density: Density | None
    local: Local | SliceLocal | None

    def __init__(self, preprocess: Preprocess, channels: int, network: Network) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.channels = channels
        side = preprocess.side
        if network.linear:
            self.generator = self.discriminator = LinearAutoencoder(channels, side, network.latent)
        else:
            self.generator = Autoencoder(channels, side, network)
            self.discriminator = Autoencoder(channels, side, network)
        self.density = None
        self.local = None
        self.score = "l2"
        self.measured = "frame"

    def forward(
        self, frames: Tensor, mean: Tensor | None = None, std: Tensor | None = None
    ) -> Tensor:
        """Score frames, given as to ``Preprocess``: float32 [N], the score that ``score`` names."""
        return self.score_of(self.preprocess(frames, mean, std), self.score)

    def score_of(self, x: Tensor, name: str) -> Tensor:
        """Score what the network sees: float32 [N], higher is more anomalous.

        Args:
            x: float32 [N, C, S, S] in [-1, 1].
            name: one of ``contract.SCORES``.
        """
        if name == "density":
            assert self.density is not None
            score: Tensor = self.density(self.activations(x))
            return score
        if name == "local":
            assert self.local is not None
            score = self.local(x)
            return score
        return anomaly_score(x, self.reconstruction(x, name))

    def reconstruction(self, x: Tensor, name: str) -> Tensor:
        """G(x) for the score "generator", else D(G(x)); all float32 [N, C, S, S]."""
        generated: Tensor = self.generator(x)
        return self.inside(x, generated if name == "generator" else self.discriminator(generated))

    def every_score(self, x: Tensor) -> dict[str, Tensor]:
        """``NETWORK_SCORES`` by name, float32 [N] each, from one pass through G."""
        return self.distances(x) | {"density": self.score_of(x, "density")}

    def distances(self, x: Tensor) -> dict[str, Tensor]:
        """The scores "l2" and "generator" by name, float32 [N] each, from one pass through G."""
        generated = self.generator(x)
        again = self.inside(x, self.discriminator(generated))
        return {
            "l2": anomaly_score(x, again),
            "generator": anomaly_score(x, self.inside(x, generated)),
        }

    def inside(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The reconstruction, with x itself in its place where no distance is measured.

        Both are float [N, C, S, S].
        """
        if self.measured == "frame":
            return reconstruction
        return x + interior(x) * (reconstruction - x)

    def activations(self, x: Tensor) -> Tensor:
        """What ``density`` looks at in ``x``, float32 [N, C, S, S] in [-1, 1]: float32 [N, V]."""
        if isinstance(self.generator, LinearAutoencoder):
            return self.generator.activations(x)
        return torch.cat([self.generator.activations(x), self.discriminator.activations(x)], dim=1)


def anomaly_score(x: Tensor, reconstruction: Tensor) -> Tensor:
    """The L2 norm of images minus their reconstructions (section 3.1): float32 [N].

    Both are float [N, C, S, S] in [-1, 1]. The norm is always computed in float32: over 256x256x3
    the sum of squares passes float16's largest number.
    """
    difference = x.float() - reconstruction.float()
    # not square(), which becomes a power in the graph, and that is slower
    return (difference * difference).sum(dim=(1, 2, 3)).sqrt()


def weights_digest(model: ADAE) -> str:
    """SHA-256 over the names and little-endian bytes of all weights, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_network(checkpoint: Checkpoint) -> ADAE:
    """The trained network of a finished checkpoint, in eval mode, built as its contract says.

    Raises:
        CheckpointError: the training is unfinished, or the weights are not the contract's.
    """
    contract = checkpoint.contract
    if contract is None:
        done, of = checkpoint.training.get("epoch"), checkpoint.training.get("epochs")
        raise CheckpointError(
            f"the training is unfinished, {done} of {of} epochs: finish it with train --resume"
        )
    preprocess = Preprocess(
        contract.side, contract.resize, contract.pad_value, contract.region, contract.z_range
    )
    model = ADAE(preprocess, contract.channels, contract.network)
    weights = {name: torch.from_numpy(value.copy()) for name, value in checkpoint.weights.items()}
    try:
        if contract.score == "density":
            names = [*DENSITY, "spreads"] if contract.network.linear else DENSITY
            model.density = Density(
                *(torch.zeros_like(weights[f"density.{name}"]) for name in names)
            )
        if contract.score == "local":
            parts = {name.removeprefix("local."): value for name, value in weights.items()}
            if contract.kind == "modality":
                model.local = SliceLocal(contract.side, len(parts["whole.basis"]))
            else:
                model.local = Local.like(contract.side, parts)
        model.load_state_dict(weights)
    except (KeyError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            "the weights do not fit the network that the contract describes"
        ) from error
    if weights_digest(model) != contract.weights_sha256:
        raise CheckpointError("the weights are not those that the contract was written for")
    model.score, model.measured = contract.score, contract.measured
    return model.eval()
