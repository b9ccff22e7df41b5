"""What is traced, and in which form: batch norm folded, convolutions rewritten, half precision.

Every form is the same function of its input; only rounding differs.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adae_edge.contract import Form
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import ADAE, Autoencoder, anomaly_map, anomaly_score

# The error of the scores that 90 % of the real frames keep to, relative to the score: layers that
# would make it larger stay in float32.
ERRORS = {"fp16": 2e-3, "int8": 0.05}
# INT8 weights take 7 of the 8 bits: CPUs without VNNI add pairs of products in 16 bits, which 8
# would overflow, so that the same file would score differently there.
WEIGHT_LEVELS = 63


class Fused(nn.Module):
    """What is traced: raw frames in, the score out, and beside it the anomaly map if that was asked for."""

    def __init__(self, model: ADAE, resolution: str | None) -> None:
        super().__init__()
        self.model = model
        self.resolution = resolution

    def forward(
        self, frames: Tensor, mean: Tensor | None = None, std: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Frames as for ``Preprocess`` -> score: float32 [N]; anomaly_map: float32 [N, S, S] or [N, H, W].

        The map of the score "density", which knows no pixels, is that of the paper's score.
        """
        model = self.model
        x = model.preprocess(frames, mean, std)
        if self.resolution is None:
            return (model.score_of(x, model.score),)
        if model.local is not None:
            score, pixels = model.local.with_map(x)
        else:
            reconstruction = model.reconstruction(x, model.score)
            score = (
                model.score_of(x, "density")
                if model.score == "density"
                else anomaly_score(x, reconstruction)
            )
            pixels = anomaly_map(x, reconstruction)
        if self.resolution == "frame":
            pixels = model.preprocess.restore(pixels, frames.shape[1], frames.shape[2])
        return score, pixels


def in_form(model: ADAE, graph: Form, x: Tensor) -> ADAE:
    """A copy of the trained network in the form of ``graph``.

    For fp16 and int8 its G and D are ``Staged``. With int8 they still run in float32:
    ``precision.quantise`` takes the chosen stages in the traced graph.

    Args:
        model: in eval mode; stays as it is.
        graph: the form.
        x: float32 [N, C, S, S], real frames as the network sees them.
    """
    model = copy.deepcopy(model)
    networks = model.generator, model.discriminator
    for network in networks:
        if isinstance(network, LinearAutoencoder):
            continue
        fold_batch_norm(network)
        if graph.target == "openvino" or graph.precision == "int8":
            rewrite_transposed(network)
    if graph.precision != "fp32":
        with torch.no_grad():
            seen = x, model.generator(x)
        kind: type[Half | FakeQuantised] = Half
        if graph.precision == "int8":
            kind = FakeQuantisedSymmetric if graph.target == "tensorrt" else FakeQuantised
        staged = [
            Staged(network, kind, y)
            for network, y in zip(networks, seen, strict=True)
            if isinstance(network, Autoencoder)
        ]
        lower(model, staged, x, ERRORS[graph.precision])
        if graph.precision == "int8":
            for one in staged:
                one.low = set()
    return model


def fold_batch_norm(network: Autoencoder) -> None:
    """Give each batch norm to the convolution before it; an identity keeps its place."""
    for at, (layer, following) in enumerate(itertools.pairwise(list(network))):
        if isinstance(following, nn.BatchNorm2d):
            transposed = isinstance(layer, nn.ConvTranspose2d)
            network[at] = fuse_conv_bn_eval(layer, following, transpose=transposed)  # type: ignore[type-var]
            network[at + 1] = nn.Identity()


def rewrite_transposed(network: Autoencoder) -> None:
    """Replace each transposed convolution by the same map as a convolution and a depth-to-space."""
    for at, layer in enumerate(network):
        if isinstance(layer, nn.ConvTranspose2d):
            network[at] = _doubling(layer) if layer.stride == (2, 2) else _unfolding(layer)


def _doubling(layer: nn.ConvTranspose2d) -> nn.Module:
    """Kernel 3, stride 2, padding 1, output padding 1, as a 2x2 convolution to four times the channels.

    Along one axis, output 2m takes input m by the kernel's middle; output 2m + 1 takes input m by
    its last element and input m + 1 by its first.
    """
    given = layer.weight.detach().transpose(0, 1)  # [out, in, 3, 3]
    taps = torch.zeros(2, 2, 3)  # [even or odd output, input m or m + 1, kernel]
    taps[0, 0, 1] = taps[1, 0, 2] = taps[1, 1, 0] = 1
    weight = torch.einsum("oiyx,pay,qbx->opqiab", given, taps, taps).reshape(
        -1, given.shape[1], 2, 2
    )
    convolution = _convolution(weight, layer.bias, 4)
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), convolution, nn.PixelShuffle(2))


def _unfolding(layer: nn.ConvTranspose2d) -> nn.Module:
    """From 1x1 to the kernel's size, as a 1x1 convolution to as many times the channels."""
    height, width = layer.kernel_size
    weight = layer.weight.detach().permute(1, 2, 3, 0).reshape(-1, layer.in_channels, 1, 1)
    shape = (layer.out_channels, height, width)
    return nn.Sequential(
        _convolution(weight, layer.bias, height * width), nn.Flatten(), nn.Unflatten(1, shape)
    )


def _convolution(weight: Tensor, bias: Tensor | None, repeats: int) -> nn.Conv2d:
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel)  # type: ignore[arg-type]
    assert layer.bias is not None
    layer.weight.data.copy_(weight)
    layer.bias.data.zero_() if bias is None else layer.bias.data.copy_(
        bias.detach().repeat_interleave(repeats)
    )
    return layer


class Half(nn.Module):
    """Layers in float16: takes float32 or float16, returns float16."""

    def __init__(self, layers: nn.Sequential, x: Tensor) -> None:
        super().__init__()
        self.layers = copy.deepcopy(layers).half()

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, ...] -> float16 [N, ...]."""
        return self.layers(x.half())  # type: ignore[no-any-return]


class Rounded(nn.Module):
    """To the nearest of the levels of an 8-bit number with this scale and zero point, in float32."""

    def __init__(self, scale: float, zero: int, levels: tuple[int, int]) -> None:
        super().__init__()
        self.scale, self.zero, self.levels = scale, zero, levels

    def forward(self, x: Tensor) -> Tensor:
        """x: float32, any shape -> the same."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, *self.levels)


class FakeQuantised(nn.Module):
    """A convolution and what follows it with the rounding of INT8, as ``precision.quantise`` has it, in float32.

    Args:
        layers: the convolution somewhere among them.
        x: real inputs, whose range the activations get.
    """

    def __init__(self, layers: nn.Sequential, x: Tensor) -> None:
        super().__init__()
        parts: list[nn.Module] = [self.rounded(x)]
        for layer in copy.deepcopy(layers).modules():
            if any(layer.children()) or isinstance(layer, nn.Identity):
                continue
            parts.append(layer)
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                scale = (
                    layer.weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-8) / WEIGHT_LEVELS
                )
                zeros = torch.zeros(len(scale), dtype=torch.int32)
                levels = -WEIGHT_LEVELS, WEIGHT_LEVELS
                layer.weight.data = torch.fake_quantize_per_channel_affine(
                    layer.weight.data, scale, zeros, 0, *levels
                )
                parts.append(self.rounded(x))
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, ...] -> float32 [N, ...]."""
        return self.layers(x)  # type: ignore[no-any-return]

    @classmethod
    def rounded(cls, x: Tensor) -> nn.Module:
        """Rounds activations in the range of x."""
        return Rounded(*cls.of_range(min(float(x.min()), 0.0), max(float(x.max()), 0.0)))

    @staticmethod
    def of_range(low: float, high: float) -> tuple[float, int, tuple[int, int]]:
        """Scale, zero point and levels of activations between ``low`` and ``high``."""
        scale = max((high - low) / 255, 1e-8)
        return scale, round(-low / scale), (0, 255)


class FakeQuantisedSymmetric(FakeQuantised):
    """The same as TensorRT takes it: the activations' zero is 0."""

    @staticmethod
    def of_range(low: float, high: float) -> tuple[float, int, tuple[int, int]]:
        """Scale, zero point and levels of activations between ``low`` and ``high``."""
        return max(high, -low, 1e-6) / 127, 0, (-128, 127)


class Staged(nn.Module):
    """An autoencoder as its convolutions, each with what follows it, some of them in a lower precision.

    Args:
        network: the autoencoder.
        lowered: makes a stage of the lower precision.
        x: float32 [N, C, S, S], what the autoencoder sees of real frames.

    Attributes:
        low: the numbers of the stages that run in the lower precision.
        chosen: of those that are to be in it.
    """

    def __init__(
        self, network: Autoencoder, lowered: type[Half | FakeQuantised], x: Tensor
    ) -> None:
        super().__init__()
        starts = [at for at, layer in enumerate(network) if not isinstance(layer, _WITHOUT_WEIGHTS)]
        self.exact = nn.ModuleList(
            nn.Sequential(*list(network)[start:end])
            for start, end in itertools.pairwise([*starts, len(network)])
        )
        self.lowered = nn.ModuleList()
        self.halving = sum(start < network.halving for start in starts)
        self.low: set[int] = set()
        self.chosen: frozenset[int] = frozenset()
        with torch.no_grad():
            for stage in self.exact:
                assert isinstance(stage, nn.Sequential)
                self.lowered.append(lowered(stage, x))
                x = stage(x)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, S, S] -> float32 or float16 [N, C, S, S]."""
        return self._through(x, len(self.exact))

    def activations(self, x: Tensor) -> Tensor:
        """x: float [N, C, S, S] -> float32 [N, V]; what follows from them is computed in float32."""
        return self._through(x, self.halving).flatten(1).float()

    def _through(self, x: Tensor, count: int) -> Tensor:
        for at in range(count):
            x = self.lowered[at](x) if at in self.low else self.exact[at](x.float())
        return x


_WITHOUT_WEIGHTS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Tanh)


def lower(model: ADAE, staged: list[Staged], x: Tensor, limit: float) -> None:
    """Give the model these G and D, with as many of their stages in the lower precision as the scores of x allow.

    A trained network may make much of little: where a layer's outputs hardly vary, the next one
    amplifies them, and with them what was rounded away. Such layers stay in float32, the worst of
    them first.
    """
    stages = [(network, at) for network in staged for at in range(len(network.exact))]
    with torch.no_grad():
        exact = model.score_of(x, model.score)
        model.generator, model.discriminator = staged  # type: ignore[assignment]

        def error(chosen: list[int]) -> float:
            for network in staged:
                network.low = {stages[i][1] for i in chosen if stages[i][0] is network}
            errors = (model.score_of(x, model.score) - exact).abs() / exact.clamp(min=1e-3)
            return float(errors.nan_to_num(torch.inf).quantile(0.9))

        chosen = list(range(len(stages)))
        if error(chosen) > limit:
            alone = [error([i]) for i in chosen]
            chosen.sort(key=alone.__getitem__)
            while error(chosen) > limit:  # of none at all it is 0
                chosen.pop()
    for network in staged:
        network.chosen = frozenset(network.low)


def staged_in(model: ADAE) -> dict[str, Staged]:
    """The autoencoders of a network in its form, by name; none in float32."""
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    return {name: network for name, network in networks.items() if isinstance(network, Staged)}


def lowered(model: ADAE, graph: Form) -> tuple[int, int]:
    """How many of the graph's convolutions are in the lower precision, and of how many."""
    staged = staged_in(model)
    if model.score == "generator":
        del staged["discriminator"]
    encoders_alone = model.score == "density" and graph.anomaly_map is None
    counts = {
        network: network.halving if encoders_alone else len(network.exact)
        for network in staged.values()
    }
    return sum(at < count for network, count in counts.items() for at in network.chosen), sum(
        counts.values()
    )
