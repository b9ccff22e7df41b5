"""The network as Appendix A reads, preprocessing by an independent definition, and the score."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from adae_edge.contract import Network, Region
from adae_edge.model import ADAE, Autoencoder, anomaly_score
from adae_edge.preprocess import Preprocess

A, B = Network(16, 32), Network(64, 128)


def resized(frames, **options):
    return Preprocess(**options).resize(torch.from_numpy(frames)).numpy()


@pytest.mark.parametrize(("network", "scale"), [(A, 1), (B, 4)])
def test_layers_are_those_of_appendix_a(network, scale):
    layers = list(Autoencoder(1, 32, network))
    convolutions = [
        (type(layer).__name__, layer.kernel_size[0], layer.stride[0], layer.out_channels)
        for layer in layers
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    down, up = "Conv2d", "ConvTranspose2d"
    assert convolutions == [
        (down, 3, 2, 16 * scale),
        (down, 3, 2, 32 * scale),
        (down, 3, 2, 48 * scale),
        (down, 4, 1, 16 * scale),
        (down, 1, 1, 32 * scale),
        (up, 4, 1, 16 * scale),
        (up, 3, 2, 16 * scale),
        (up, 3, 2, 16 * scale),
        (up, 3, 2, 1),
    ]
    normed = [
        isinstance(after, nn.BatchNorm2d)
        for layer, after in zip(layers, [*layers[1:], None], strict=True)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    assert normed == [False, *[True] * 7, False]
    slopes = {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}
    assert isinstance(layers[-1], nn.Tanh)


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_side_goes_through_one_pixel_and_back(side, channels):
    network = Autoencoder(channels, side, A).eval()
    seen = []
    for layer in network:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[-1]))
    with torch.inference_mode():
        out = network(torch.zeros(2, channels, side, side))
    assert out.shape == (2, channels, side, side)
    assert min(seen) == 1
    assert out.abs().max() <= 1


@pytest.mark.parametrize("shape", [(480, 640), (33, 47), (1080, 1920), (100, 32), (64, 64)])
def test_shrinking_is_the_area_average(shape):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = cv2.resize(frame.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)
    found = resized(frame[None], side=32)[0].transpose(1, 2, 0)
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (20, 31), (1, 1), (1, 7)])
def test_growing_is_bilinear(shape):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 1), np.uint8)
    expected = cv2.resize(frame.astype(np.float32), (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(resized(frame[None], side=32)[0, 0] - expected).max() < 1e-3


def test_one_axis_may_shrink_while_the_other_grows():
    frame = np.random.default_rng(0).integers(0, 256, (300, 10, 1), np.uint8)
    tall = cv2.resize(frame.astype(np.float32), (10, 32), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(tall, (32, 32), interpolation=cv2.INTER_LINEAR)
    assert np.abs(resized(frame[None], side=32)[0, 0] - expected).max() < 1e-3


def test_a_frame_of_the_networks_size_stays_as_it_is():
    frame = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert np.array_equal(resized(frame, side=32), frame.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    "shape", [(60, 200), (200, 60), (61, 200), (200, 33), (64, 64), (10, 24), (24, 9)]
)
def test_padding_is_the_resize_of_the_padded_square(shape):
    height, width = shape
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 1), np.uint8)
    edge = 2 * max(shape)  # twice the size, so that half a pixel of margin is a whole one
    big = np.kron(frame[:, :, 0], np.ones((2, 2), np.uint8))
    square = np.full((edge, edge), 77, np.float32)
    top, left = (edge - 2 * height) // 2, (edge - 2 * width) // 2
    square[top : top + 2 * height, left : left + 2 * width] = big
    if max(shape) > 32:
        expected = cv2.resize(square, (32, 32), interpolation=cv2.INTER_AREA)
        found = resized(frame[None], side=32, resize="pad", pad_value=77)[0, 0]
        assert np.abs(found - expected).max() < 1e-3
    else:
        found = resized(frame[None], side=32, resize="pad", pad_value=77)[0, 0]
        assert found.min() >= 0
        assert found.max() <= 255
        rim = found[0] if height < width else found[:, 0]
        assert np.allclose(rim, 77, atol=1e-3)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("side", [6, 8, 16, 32, 64])
@pytest.mark.parametrize(
    "shape", [(480, 640), (640, 480), (1080, 640), (512, 512), (72, 64), (96, 33), (63, 65), (1, 9)]
)
def test_equal_parts_are_resampled_as_the_whole_axis(shape, side, resize, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    in_parts = resized(frames, side=side, resize=resize, pad_value=114.0)
    monkeypatch.setattr(Preprocess, "_parts", lambda self, *sizes: 1)
    whole = resized(frames, side=side, resize=resize, pad_value=114.0)
    np.testing.assert_allclose(in_parts, whole, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("length", "square", "parts"),
    [
        (480, 480, 32),
        (720, 720, 16),
        (1080, 1080, 8),
        (540, 540, 4),
        (481, 481, 1),
        (224, 224, 16),  # a 32nd of it would be 7 pixels
        (64, 64, 8),
        (32, 32, 4),
        (24, 24, 1),
        (480, 640, 1),
    ],
)
def test_an_axis_is_resampled_in_as_many_parts_as_pay(length, square, parts):
    assert Preprocess(32)._parts(length, square, ()) == parts


def test_a_constant_frame_stays_constant():
    for value in (0, 1, 128, 255):
        frame = np.full((1, 719, 1283, 1), value, np.uint8)
        assert np.abs(resized(frame, side=64) - value).max() < 1e-3


def test_only_the_region_is_looked_at():
    frame = np.random.default_rng(0).integers(0, 256, (1, 90, 120, 3), np.uint8)
    region = Region(left=10, top=20, width=50, height=40)
    inside = frame[:, 20:60, 10:60]
    assert np.array_equal(resized(frame, side=32, region=region), resized(inside, side=32))
    other = frame.copy()
    other[:, :20] = 255 - other[:, :20]
    assert np.array_equal(
        resized(frame, side=32, region=region), resized(other, side=32, region=region)
    )


def test_frames_are_normalised_to_the_range_of_tanh():
    frames = np.array([0, 255, 51], np.uint8).reshape(3, 1, 1, 1)
    x = Preprocess(8)(torch.from_numpy(frames))
    assert torch.allclose(x[:, 0, 0, 0], torch.tensor([-1.0, 1.0, -0.6]), atol=1e-6)


def test_the_score_is_the_l2_norm_over_pixels_and_channels():
    torch.manual_seed(0)
    model = ADAE(Preprocess(32), 3, A).eval()
    frames = torch.randint(0, 256, (5, 40, 50, 3), dtype=torch.uint8)
    with torch.inference_mode():
        x = model.preprocess(frames)
        difference = (x - model.discriminator(model.generator(x))).numpy().astype(np.float64)
        scores = model(frames)
    expected = np.sqrt((difference.reshape(5, -1) ** 2).sum(axis=1))
    assert scores.dtype == torch.float32
    assert np.allclose(scores, expected, rtol=1e-6)


def test_the_score_is_finite_in_half_precision_where_float16_sums_overflow():
    x = torch.ones(1, 3, 256, 256, dtype=torch.float16)
    score = anomaly_score(x, -x)
    assert score.dtype == torch.float32
    assert score.item() == pytest.approx(2 * np.sqrt(3 * 256 * 256), rel=1e-6)


def test_a_frames_score_does_not_depend_on_its_batch_or_place():
    torch.manual_seed(1)
    model = ADAE(Preprocess(32), 1, A)
    with torch.no_grad():  # statistics that are not those of the batch
        for _ in range(3):
            model.train()(torch.randint(0, 256, (16, 32, 32, 1), dtype=torch.uint8))
    model.eval()
    frames = torch.randint(0, 256, (7, 30, 44, 1), dtype=torch.uint8)
    with torch.inference_mode():
        together = model(frames)
        alone = torch.cat([model(frame[None]) for frame in frames])
        shuffled = model(frames.flip(0)).flip(0)
    assert torch.allclose(alone, together, rtol=1e-5)
    assert torch.allclose(shuffled, together, rtol=1e-5)
