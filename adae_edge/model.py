"""The network: preprocessing, the autoencoders G and D, and the score that the graph returns.

This module and the parts that it is made of (``linear.py``, ``density.py``, ``local.py``,
``slices.py``) alone import torch in this package. Training, evaluation and export all use these
same modules, so a score cannot depend on who computed it.
"""

from __future__ import annotations

import hashlib
import itertools
import math

import torch
from torch import Tensor, nn

from adae_edge.contract import Network, Region
from adae_edge.density import DENSITY, Density
from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.linear import LinearAutoencoder
from adae_edge.local import Local
from adae_edge.saturation import FlooredTanh
from adae_edge.slices import SliceLocal, interior

# The scores that G and D give; "local" depends on neither.
NETWORK_SCORES = ("l2", "generator", "density")


class Preprocess(nn.Module):
    """Turns raw frames of both kinds into what the network sees: crops, resizes and normalises.

    Resizing works per axis: the area average where the axis shrinks, bilinear where it grows. It is
    one matrix product per axis, whose weights follow from the frame's size alone. With
    ``resize="pad"`` the frame is centred in a square of ``pad_value`` first, by the same product
    with shifted weights (the paper's section 4.1 pads slices so).

    Grey levels are resized and then mapped to [-1, 1]. Values in modality units become z-scores
    first: (frame - mean) / std, clipped to ``z_range`` and divided by it, which is what a tanh can
    give back. A value of 0 is outside of the object and becomes -1, as the padding does. As a
    z-score it would be another grey for each volume, and the background is most of a frame.

    Args:
        side: height and width that the network sees, pixels.
        resize: "stretch" or "pad".
        pad_value: grey level 0 to 255 around a padded frame.
        region: part of the frame to look at, or None for all of it.
        z_range: standard deviations that become 1, for frames in modality units; None for grey
            levels.
    """

    def __init__(
        self,
        side: int,
        resize: str = "stretch",
        pad_value: float = 0.0,
        region: Region | None = None,
        z_range: float | None = None,
    ) -> None:
        super().__init__()
        self.side = side
        self.pad = resize == "pad"
        self.pad_value = pad_value if z_range is None else -1.0
        self.region = region
        self.z_range = z_range

    def forward(
        self, frames: Tensor, mean: Tensor | None = None, std: Tensor | None = None
    ) -> Tensor:
        """Prepare frames for the network.

        Args:
            frames: uint8 [N, H, W, C], RGB or grey; with ``z_range`` float32 [N, H, W, 1], modality
                units.
            mean, std: float32 [N], for frames in modality units.

        Returns:
            float32 [N, C, side, side] in [-1, 1].
        """
        if self.z_range is None:
            return self.normalise(self.resize(frames))
        assert mean is not None
        assert std is not None
        return self.resize(self.standardise(frames, mean, std))

    def standardise(self, frames: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Turn values in modality units into clipped z-scores, and the background into -1.

        Frames are float32 [N, H, W, 1], mean and std [N]; the result is in [-1, 1].
        """
        assert self.z_range is not None
        z = (frames - mean.reshape(-1, 1, 1, 1)) / (self.z_range * std.reshape(-1, 1, 1, 1))
        return torch.where(frames == 0, -1.0, z.clamp(-1.0, 1.0))

    def resize(self, frames: Tensor) -> Tensor:
        """Crop and resize frames [N, H, W, C] to float32 [N, C, side, side], on the same scale."""
        # the region alone
        x = frames.to(torch.float32)
        if self.region is not None:
            left, top, width, height = self.region
            x = x[:, top : top + height, left : left + width, :]

        # the weights of both axes
        n, height, width, channels = x.shape
        if isinstance(height, int) and height == width == self.side:
            return x.permute(0, 3, 1, 2)
        square = torch.sym_max(height, width)  # type: ignore[no-untyped-call]
        rows = self._weights(height, square if self.pad else height, x.device)
        columns = self._weights(width, square if self.pad else width, x.device)
        repeats = self._repeats(height, square), self._repeats(width, square)

        # a product for each axis, and the padding
        x = x.reshape(n * repeats[0], height // repeats[0], width * channels)
        x = torch.matmul(_block(rows, repeats[0]), x).reshape(n, self.side, width, channels)
        x = x.permute(0, 3, 1, 2).reshape(n, channels, self.side * repeats[1], width // repeats[1])
        x = torch.matmul(x, _block(columns, repeats[1]).T).reshape(
            n, channels, self.side, self.side
        )
        if self.pad:
            covered = rows.sum(1, keepdim=True) * columns.sum(1)
            x = x + self.pad_value * (1.0 - covered)
        return x

    def restore(self, x: Tensor, height: int, width: int) -> Tensor:
        """Put values of the network's pixels where a frame has them, bilinear.

        float32 [N, side, side] become float32 [N, height, width], 0 outside of the region.
        """
        left, top, inner_width, inner_height = self.region or (0, 0, width, height)
        square = torch.sym_max(inner_height, inner_width)  # type: ignore[no-untyped-call]
        rows = self._weights_back(
            height, top, inner_height, square if self.pad else inner_height, x.device
        )
        columns = self._weights_back(
            width, left, inner_width, square if self.pad else inner_width, x.device
        )
        return torch.matmul(torch.matmul(rows, x), columns.T)

    def normalise(self, x: Tensor) -> Tensor:
        """Map grey levels 0 to 255, of any shape, to float32 in [-1, 1] (section 4.1)."""
        return x.to(torch.float32) / 127.5 - 1.0

    def _weights(self, length: int, square: int, device: torch.device) -> Tensor:
        """Weights float32 [side, length] that resample one axis of ``length`` pixels.

        The axis is the middle of ``square`` pixels, which become ``side``. All positions below are
        in pixels of the frame.
        """
        edge = torch.scalar_tensor(square, dtype=torch.float32, device=device)
        step = edge / self.side
        margin = (edge - length) / 2
        pixel = torch.arange(length, dtype=torch.float32, device=device)
        out = torch.arange(self.side, dtype=torch.float32, device=device)[:, None]

        start = out * step - margin
        overlap = torch.minimum(start + step, pixel + 1) - torch.maximum(start, pixel)
        area = overlap.clamp(min=0) / step

        centre = (out + 0.5) * step - 0.5
        centre = torch.minimum(centre.clamp(min=0), edge - 1) - margin
        bilinear = (1 - (centre - pixel).abs()).clamp(min=0)
        return torch.where(step > 1, area, bilinear)

    def _repeats(self, length: int, square: int) -> int:
        """Number of equal parts of an axis that are resampled alike; 1 for an unknown length."""
        if not isinstance(length, int) or length <= self.side or (self.pad and length != square):
            return 1
        return math.gcd(length, self.side)

    def _weights_back(
        self, length: int, start: int, inner: int, square: int, device: torch.device
    ) -> Tensor:
        """Weights float32 [length, side] that give pixels back what was made of them.

        These are the ``inner`` pixels from ``start`` on, the middle of ``square``; others get 0.
        """
        edge = torch.scalar_tensor(square, dtype=torch.float32, device=device)
        margin = (edge - inner) / 2
        pixel = torch.arange(length, dtype=torch.float32, device=device)[:, None] - start
        seen = torch.arange(self.side, dtype=torch.float32, device=device)
        centre = ((pixel + 0.5 + margin) * (self.side / edge) - 0.5).clamp(0, self.side - 1)
        inside = (pixel >= 0) & (pixel < inner)
        return torch.where(inside, (1 - (centre - seen).abs()).clamp(min=0), 0.0)


def _block(weights: Tensor, repeats: int) -> Tensor:
    """The first of equal blocks on the diagonal of weights [side, length] that are 0 elsewhere."""
    side, length = weights.shape
    return weights[: side // repeats, : length // repeats]


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
    return difference.square().sum(dim=(1, 2, 3)).sqrt()


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
