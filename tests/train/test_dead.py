"""Dead pixels: how they are counted, and that a floor under the tanh's slope brings them back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adae_edge.contract import Network
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.saturation import FlooredTanh
from adae_edge.train.dead import dead_note, dead_pixels
from adae_edge.train.recipes import RECIPES
from adae_edge.train.run import Run


def black_frames():
    """Black frames with a grey square in the middle, uint8 [32, 1, 16, 16]."""
    random = np.random.default_rng(0)
    frames = np.zeros((32, 1, 16, 16), np.uint8)
    frames[:, :, 6:10, 6:10] = random.integers(60, 200, (32, 1, 1, 1))
    return torch.from_numpy(frames)


def dead_after_training(floor):
    """The dead pixels of a G that large steps drove to white, and that is trained on black."""
    frames = black_frames()
    torch.manual_seed(0)
    model = ADAE(Preprocess(16), 1, Network(4, 4))
    with torch.no_grad():
        model.generator[-2].bias.fill_(12)
    recipe = replace(RECIPES["autoencoder"], learning_rate=0.1, slope_floor=floor)
    run = Run(model.train(), recipe)
    for index in range(400):
        run.update(frames / 127.5 - 1, index / 400)
    return dead_pixels(model.eval(), frames)[0]


def test_pixels_that_are_stuck_stay_so_without_the_floor_and_none_with_it():
    assert dead_after_training(0.0) == 256
    assert dead_after_training(RECIPES["default"].slope_floor) == 0


def test_the_papers_recipe_has_no_floor():
    assert {name: recipe.slope_floor for name, recipe in RECIPES.items()} == {
        "paper": 0.0,
        "default": 0.1,
        "autoencoder": 0.1,
        "linear": 0.1,
        "moved": 0.1,
    }


@pytest.mark.parametrize("floor", [0.0, 0.1, 0.5])
def test_values_are_those_of_tanh_and_the_slope_is_floored_towards_zero_alone(floor):
    layer = FlooredTanh()
    layer.floor = floor
    start = torch.tensor([-30.0, -2.0, -0.1, 0.0, 0.1, 2.0, 30.0])
    for direction in (1.0, -1.0):
        x = start.clone().requires_grad_()
        y = layer(x)
        assert torch.equal(y, torch.tanh(start))
        (direction * y).sum().backward()
        slope = 1 - torch.tanh(start).square()
        back = direction * start > 0
        expected = torch.where(back, slope.clamp(min=floor), slope)
        torch.testing.assert_close(x.grad, direction * expected)


def test_scoring_does_not_see_the_floor():
    layer = FlooredTanh().eval()
    layer.floor = 0.1
    x = torch.tensor([30.0], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.item() == 0


def test_a_training_tells_of_dead_pixels_alone():
    model = ADAE(Preprocess(16), 1, Network(4, 4)).eval()
    assert dead_note(model, black_frames()) == ""
    with torch.no_grad():
        model.generator[-2].bias.fill_(12)
    assert dead_note(model, black_frames()).startswith("256 pixels of G and 0 of D are stuck")
