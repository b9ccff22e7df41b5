"""What a training scores by where nothing, or "auto", is asked for."""

from dataclasses import replace

import numpy as np
import pytest

from adae_edge.contract import Region
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.recipes import RECIPES
from adae_edge.train.request import TrainRequest, plan, prepare
from tests.support.pictures import save


def dataset(height, width, **changed):
    frames = np.zeros((20, height, width, 1), np.uint8)
    large = Dataset(frames, np.zeros(20, bool), channels=1, small=False)
    return replace(large, **changed)


def settled(data, made=None, **asked):
    settings = plan(made or dataset(200, 300), TrainRequest(data=data, **asked))
    name = next(name for name, recipe in RECIPES.items() if recipe == settings.recipe)
    return name, settings.score


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("linear", "local")),
        ({"score": "auto"}, ("linear", "local")),
        ({"score": "local"}, ("linear", "local")),
        ({"recipe": "linear"}, ("linear", "local")),
        ({"recipe": "linear", "score": "l2"}, ("linear", "l2")),
        ({"score": "l2"}, ("default", "l2")),
        ({"score": "density"}, ("default", "density")),
        ({"recipe": "paper"}, ("paper", "l2")),
        ({"recipe": "autoencoder"}, ("autoencoder", "generator")),
        ({"epochs": 3}, ("default", "l2")),
        ({"network": "a"}, ("default", "l2")),
        ({"recipe": "default", "score": "auto"}, ("default", "local")),
        ({"side": 16}, ("linear", "density")),
        ({"region": Region(0, 0, 20, 40)}, ("linear", "density")),
    ],
)
def test_a_folder_gets_the_recommended_score_unless_a_training_is_asked_for(asked, expected):
    assert settled("parts", **asked) == expected


@pytest.mark.parametrize("data", ["digits", "mnist:DIR", "cifar10:DIR", "brats:DIR"])
def test_data_of_the_papers_kind_gets_the_papers_score(data):
    assert settled(data) == ("default", "l2")
    assert settled(data, score="auto") == ("linear", "local")


def test_the_frames_decide():
    assert settled("parts", dataset(28, 28)) == ("linear", "density")
    assert settled("parts", dataset(33, 500)) == ("linear", "local")
    slices = dataset(200, 200, kind="modality", statistics=np.ones((20, 2), np.float32))
    assert settled("nifti:DIR", slices) == ("linear", "local")


def test_the_choice_is_told_with_the_way_back(tmp_path):
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 255, (64, 64), dtype=np.uint8)
        save(tmp_path / "parts" / f"{number}.png", pixels)
    training = prepare(TrainRequest(data=str(tmp_path / "parts"), out=tmp_path / "c.safetensors"))
    told = training.describe().splitlines()[1]
    assert told.startswith("score local, recommended ")
    assert told.endswith("; --score l2 takes the paper's")
    asked = TrainRequest(data=str(tmp_path / "parts"), out=tmp_path / "c.safetensors", score="l2")
    assert "recommended" not in prepare(asked).describe()
