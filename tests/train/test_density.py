"""The score ``density`` of the recipe ``linear``: from small pictures to the exported graph."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from adae_edge.contract import Form
from adae_edge.density import Density
from adae_edge.errors import CheckpointError, TrainingError
from adae_edge.export.exporter import export
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import load_network
from adae_edge.runtime import Scorer
from adae_edge.train.density import PICTURE
from adae_edge.train.evaluate import evaluate
from tests.support.pictures import save
from tests.support.trained import train_on

LINEAR = {"recipe": "linear", "score": "density", "epochs": None}


@pytest.fixture(scope="module", params=[32, 8])
def trained(request, tmp_path_factory):
    """A linear checkpoint of the digits, seen in more and in fewer pixels than 16 x 16."""
    path = tmp_path_factory.mktemp("density") / "c.safetensors"
    train_on("digits", path, 0, side=request.param, **LINEAR)
    return path


def write_rings(folder, count, channels=1):
    """Pictures of 28 x 28 pixels with a ring of changing size, width and colour."""
    random = np.random.default_rng(2)
    rows, columns = np.mgrid[:28, :28] - 13.5
    for index in range(count):
        radius, width = random.uniform(5, 10), random.uniform(1, 2.5)
        ring = np.exp(-(((np.hypot(rows, columns) - radius) / width) ** 2))
        colour = np.array([1.0, random.uniform(0.6, 0.8), random.uniform(0.1, 0.3)])[:channels]
        picture = ring[..., None] * colour * random.uniform(120, 250)
        picture += random.uniform(0, 6, picture.shape)
        pixels = picture.clip(0, 255).astype(np.uint8).squeeze()
        save(folder / "normal" / f"{index:03}.png", pixels)
    return folder


def exported(checkpoint, form=None):
    out = checkpoint.with_suffix(".onnx")
    export(checkpoint, out, form=form or Form())
    return Scorer(out)


def test_the_exported_density_is_the_one_that_was_fitted(trained):
    evaluation, expected, unseen = evaluate(Checkpoint.load(trained))
    frames = np.stack([unseen.dataset.frames[int(index)] for index in unseen.indices])
    np.testing.assert_allclose(exported(trained).score(frames), expected, rtol=1e-5)
    assert evaluation.auroc > 0.98


def test_frames_without_a_digit_are_rarer_than_every_normal(trained):
    """Black has no direction, and white and noise lie in the middle of what components explain."""
    scorer, random = exported(trained), np.random.default_rng(0)
    frames = np.zeros((8, 8, 8, 1), np.uint8)
    frames[1:3] = [[[[1]]], [[[255]]]]
    frames[3:6] = random.integers(0, 256, (3, 8, 8, 1))
    frames[6:] = random.integers(0, 3, (2, 8, 8, 1))
    scores = scorer.score(frames)
    assert np.isfinite(scores).all()
    assert (scores > 1.2 * scorer.contract.calibration.quantiles[-1]).all()


def test_brightness_is_divided_out_and_colour_is_not():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    seen = LinearAutoencoder(3, 32, 1).activations
    torch.testing.assert_close(seen(x - 1), seen(2 * x - 1), atol=1e-6, rtol=1e-5)
    picture = seen(2 * x - 1)
    torch.testing.assert_close(picture[:, :-1].norm(dim=1), torch.ones(2))
    expected = torch.nn.functional.avg_pool2d(x, 2).flatten(1)
    torch.testing.assert_close(picture[:, :-1], expected / expected.norm(dim=1, keepdim=True))
    swapped = seen(2 * x.flip(1) - 1)
    assert (swapped - picture).norm(dim=1).min() > 0.1


def test_black_stays_black():
    seen = LinearAutoencoder(1, 16, 1).activations
    levels = torch.tensor([0.0, 0.5, 1.0, 200.0]).reshape(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    lengths = seen(levels / 127.5 - 1)
    torch.testing.assert_close(lengths[:, -1], torch.tensor([0.0, 0.5, 1.0, 1.0]))
    torch.testing.assert_close(
        lengths[:, :-1].norm(dim=1), torch.tensor([0.0, 0.5, 1.0, 1.0]), atol=1e-4, rtol=1e-4
    )


def test_what_the_components_leave_is_one_more_coordinate():
    random = np.random.default_rng(0)
    components = np.linalg.qr(random.normal(size=(6, 2)))[0]
    basis, centre, spreads = components / [2.0, 0.5], random.normal(size=6), random.uniform(1, 2, 6)
    arrays = (centre, basis, np.eye(3), np.zeros(3), np.zeros(1), spreads)
    density = Density(*(torch.from_numpy(array).float() for array in arrays))
    points = random.normal(size=(20, 6))
    deviations = points - centre
    left = (deviations - deviations @ components @ components.T) / spreads
    expected = np.column_stack([deviations @ basis, 0.5 * np.log((left**2).mean(axis=1))])
    coordinates = density.coordinates(torch.from_numpy(points).float()).numpy()
    np.testing.assert_allclose(coordinates, expected, rtol=1e-4, atol=1e-5)
    scores = density(torch.from_numpy(points).float()).numpy()
    np.testing.assert_allclose(scores, np.linalg.norm(expected, axis=1), rtol=1e-4)


@pytest.mark.parametrize(("count", "channels"), [(12, 1), (120, 3)])
def test_small_pictures_of_a_folder(count, channels, tmp_path):
    folder = write_rings(tmp_path / "rings", count, channels)
    train_on(str(folder), tmp_path / "c.safetensors", **LINEAR)
    model = load_network(Checkpoint.load(tmp_path / "c.safetensors"))
    assert model.density.peaks.shape == (PICTURE.mixtures,)
    form = Form(anomaly_map="frame")
    scorer = exported(tmp_path / "c.safetensors", form)
    black = np.zeros((1, 28, 28, channels), np.uint8)
    score, pixels = scorer.score_with_map(black)
    assert pixels.shape == (1, 28, 28)
    assert np.isfinite(score).all()
    assert score[0] > scorer.contract.calibration.threshold


def test_a_colour_that_no_normal_has_is_rare(tmp_path):
    folder = write_rings(tmp_path / "rings", 150, 3)
    train_on(str(folder), tmp_path / "c.safetensors", **LINEAR)
    _, normal, unseen = evaluate(Checkpoint.load(tmp_path / "c.safetensors"))
    frames = np.stack([unseen.dataset.frames[int(index)] for index in unseen.indices])
    model = load_network(Checkpoint.load(tmp_path / "c.safetensors"))
    with torch.inference_mode():
        blue = model(torch.from_numpy(frames[..., ::-1].copy())).numpy()
    assert roc_auc_score([0] * len(normal) + [1] * len(blue), [*normal, *blue]) == 1


def test_frames_that_vary_in_nothing_but_brightness_are_refused(tmp_path):
    for index in range(30):
        picture = np.zeros((32, 32), np.uint8)
        picture[:, :16] = 20 + 4 * index
        save(tmp_path / "halves" / "normal" / f"{index:03}.png", picture)
    with pytest.raises(TrainingError, match="all alike, but for their brightness"):
        train_on(str(tmp_path / "halves"), tmp_path / "c.safetensors", **LINEAR)
    assert [path.name for path in tmp_path.iterdir()] == ["halves"]


def test_a_checkpoint_that_lost_a_part_of_it_is_refused(trained):
    checkpoint = Checkpoint.load(trained)
    del checkpoint.weights["density.spreads"]
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(checkpoint)
