"""What is traced, and in which form: batch norm folded, convolutions rewritten, half precision.

Every form is the same function of its input; only rounding differs.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adae_edge.batch import Batch
from adae_edge.contract import Form
from adae_edge.export.tolerances import LIMITS, error_of_most, layers_within
from adae_edge.linear import LinearAutoencoder
from adae_edge.maps import score_with_map
from adae_edge.model import ADAE, Autoencoder


class Fused(nn.Module):
    """The module that is traced: raw frames in, the score out, and the anomaly map if asked for."""

    def __init__(self, model: ADAE, resolution: str | None) -> None:
        super().__init__()
        self.model = model
        self.resolution = resolution

    def forward(
        self, frames: Tensor, mean: Tensor | None = None, std: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Frames as for ``Preprocess`` -> score [N] and map [N, S, S] or [N, H, W], all float32."""
        model = self.model
        x = model.preprocess(frames, mean, std)
        if self.resolution is None:
            return (model.score_of(x, model.score),)
        score, pixels = score_with_map(model, x)
        if self.resolution == "frame":
            pixels = model.preprocess.restore(pixels, frames.shape[1], frames.shape[2])
        return score, pixels


def in_form(model: ADAE, form: Form, x: Tensor) -> ADAE:
    """A copy of the trained network in a form; for fp16 its G and D are ``Staged``.

    For int8 it still computes in float32: ``int8.quantise`` rounds in the traced graph.

    Args:
        model: in eval mode; stays as it is.
        form: the form.
        x: float32 [N, C, S, S], real frames as the network sees them.
    """
    model = copy.deepcopy(model)
    for network in (model.generator, model.discriminator):
        if isinstance(network, LinearAutoencoder):
            continue
        fold_batch_norm(network)
        if form.target == "openvino" or form.precision == "int8":
            rewrite_transposed(network, form.target)
        elif form.precision == "fp32":
            rewrite_bottleneck(network)
    if form.precision == "fp16":
        halve(model, x, LIMITS["fp16"])
    return model


def as_seen(model: ADAE, references: Sequence[Batch]) -> Tensor:
    """Real frames, and black, white and noise, as the network sees them: float32 [N, C, S, S]."""
    shape = (1, model.channels, model.preprocess.side, model.preprocess.side)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        real = [model.preprocess(*map(torch.tensor, frame.arrays())) for frame in references]
    return torch.cat([*real, -torch.ones(shape), torch.ones(shape), 2 * noise - 1])


def fold_batch_norm(network: Autoencoder) -> None:
    """Give each batch norm to the convolution before it; an identity keeps its place."""
    for index, (layer, following) in enumerate(itertools.pairwise(list(network))):
        if isinstance(following, nn.BatchNorm2d):
            assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            transposed = isinstance(layer, nn.ConvTranspose2d)
            network[index] = fuse_conv_bn_eval(layer, following, transpose=transposed)
            network[index + 1] = nn.Identity()


def rewrite_bottleneck(network: Autoencoder) -> None:
    """Replace the layers from 4x4 to the vector and back to 4x4 by the same maps as products.

    ONNX Runtime joins a product with the activation after it, but no transposed convolution.
    """
    start = network.halving
    whole, vector, back = (network[index] for index in (start, start + 3, start + 6))
    assert isinstance(back, nn.ConvTranspose2d)
    network[start] = nn.Sequential(nn.Flatten(), _product(whole))
    network[start + 3] = _product(vector)
    unfolding, _, shape = _unfolding(back)
    network[start + 6] = _product(unfolding)
    # The vector becomes an image after its activation, which has to follow the product at once.
    network[start + 7], network[start + 8] = network[start + 8], shape


def _product(layer: nn.Module) -> nn.Linear:
    """The map of a convolution whose input is as large as its kernel: [N, inputs] -> [N, out]."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    weight = layer.weight.flatten(1)
    product = nn.Linear(weight.shape[1], weight.shape[0])
    product.weight.data.copy_(weight)
    product.bias.data.copy_(layer.bias)
    return product


def rewrite_transposed(network: Autoencoder, target: str) -> None:
    """Replace each transposed convolution by the same map as a convolution and a depth-to-space."""
    for index, layer in enumerate(network):
        if isinstance(layer, nn.ConvTranspose2d):
            doubling = layer.stride == (2, 2)
            network[index] = _doubling(layer, target) if doubling else _unfolding(layer)


def _doubling(layer: nn.ConvTranspose2d, target: str) -> nn.Module:
    """Doubling by kernel 3 and stride 2, as a 2x2 convolution to four times the channels.

    Along one axis, output 2m takes input m by the kernel's middle; output 2m + 1 takes input m by
    its last element and input m + 1 by its first.
    """
    given = layer.weight.detach().transpose(0, 1)  # [out, in, 3, 3]
    taps = torch.zeros(2, 2, 3)  # [even or odd output, input m or m + 1, kernel]
    taps[0, 0, 1] = taps[1, 0, 2] = taps[1, 1, 0] = 1
    weight = torch.einsum("oiyx,pay,qbx->opqiab", given, taps, taps)
    bias = _bias(layer)[:, None, None].expand(-1, 2, 2)
    to_space: nn.Module = nn.PixelShuffle(2)
    if target == "portable":
        to_space, weight, bias = ToSpace(), weight.movedim(0, 2), bias.movedim(0, 2)
    convolution = _convolution(weight.flatten(0, 2), bias.flatten())
    return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), convolution, to_space)


class ToSpace(nn.Module):
    """Depth to space as ONNX Runtime's INT8 runs it best, whose convolutions have channels last.

    The first and the last transposition here cancel those that it adds to its convolutions. What
    is left moves two pixels at a time, and that in INT8.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, 2 * 2 * C, H, W], rows and columns first -> float [N, C, 2H, 2W]."""
        _, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1).reshape(-1, height, width, 2, channels // 2)
        x = x.transpose(2, 3).reshape(-1, 2 * height, 2 * width, channels // 4)
        return x.permute(0, 3, 1, 2)


def _unfolding(layer: nn.ConvTranspose2d) -> nn.Sequential:
    """From 1x1 to the kernel's size, as a 1x1 convolution to as many times the channels."""
    height, width = layer.kernel_size
    weight = layer.weight.detach().permute(1, 2, 3, 0).reshape(-1, layer.in_channels, 1, 1)
    convolution = _convolution(weight, _bias(layer).repeat_interleave(height * width))
    shape = (layer.out_channels, height, width)
    return nn.Sequential(convolution, nn.Flatten(), nn.Unflatten(1, shape))


def _bias(layer: nn.ConvTranspose2d) -> Tensor:
    return torch.zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()


def _convolution(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel)  # type: ignore[arg-type]
    assert layer.bias is not None
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(bias)
    return layer


class Half(nn.Module):
    """Layers in float16: takes float32 or float16, returns float16."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = copy.deepcopy(layers).half()

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, ...] -> float16 [N, ...]."""
        return self.layers(x.half())  # type: ignore[no-any-return]


class Staged(nn.Module):
    """An autoencoder as its convolutions, each with what follows it, some of them in float16.

    Attributes:
        exact: the stages in float32.
        halved: the same stages in float16.
        chosen: the indices of the stages that run in float16.
        halving: how many stages belong to what ``activations`` sees.
    """

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        starts = [
            index for index, layer in enumerate(network) if not isinstance(layer, _WITHOUT_WEIGHTS)
        ]
        stages = [
            nn.Sequential(*list(network)[start:end])
            for start, end in itertools.pairwise([*starts, len(network)])
        ]
        self.exact = nn.ModuleList(stages)
        self.halved = nn.ModuleList(Half(stage) for stage in stages)
        self.halving = sum(start < network.halving for start in starts)
        self.chosen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, S, S] -> float32 or float16 [N, C, S, S]."""
        return self._through(x, len(self.exact))

    def activations(self, x: Tensor) -> Tensor:
        """x: float [N, C, S, S] -> float32 [N, V], because what follows computes in float32."""
        return self._through(x, self.halving).flatten(1).float()

    def _through(self, x: Tensor, count: int) -> Tensor:
        """x after the first stages, this many."""
        for index in range(count):
            x = self.halved[index](x) if index in self.chosen else self.exact[index](x.float())
        return x


_WITHOUT_WEIGHTS = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.Tanh)


def halve(model: ADAE, x: Tensor, limit: float) -> None:
    """Give the model a G and a D with as many stages in float16 as the scores of x allow.

    Args:
        model: folded, in eval mode; its G and D become ``Staged``.
        x: float32 [N, C, S, S], real frames as the network sees them.
        limit: the relative error of the score that nine frames in ten keep to.
    """
    assert isinstance(model.generator, Autoencoder)
    assert isinstance(model.discriminator, Autoencoder)
    networks = Staged(model.generator), Staged(model.discriminator)
    stages = [(network, index) for network in networks for index in range(len(network.exact))]

    def choose(chosen: list[tuple[Staged, int]]) -> None:
        for network in networks:
            network.chosen = {index for owner, index in chosen if owner is network}

    def error(chosen: list[tuple[Staged, int]]) -> float:
        choose(chosen)
        return error_of_most(model.score_of(x, model.score).numpy(), expected)

    with torch.inference_mode():
        expected = model.score_of(x, model.score).numpy()
        model.generator, model.discriminator = networks  # type: ignore[assignment]
        choose(layers_within(limit, stages, error))
