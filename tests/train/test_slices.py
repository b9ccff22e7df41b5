"""Scores of slices of volumes: the inside of a brain, and the score ``local`` of slices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adae_edge.contract import Form, Network
from adae_edge.errors import CheckpointError, UsageError
from adae_edge.export.exporter import export
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Scorer
from adae_edge.slices import ROUNDED, SHOWN, SliceLocal, interior
from adae_edge.train.augment import moved, random_moves
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.evaluate import evaluate
from adae_edge.train.recipes import RECIPES
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.settings import describe
from adae_edge.train.slices import fit_slice_local
from adae_edge.train.tables.slices import auroc_of_same_area, properties
from adae_edge.train.trainer import train
from tests.support.trained import train_on
from tests.support.volumes import write_patients

LINEAR = {"recipe": "linear", "epochs": None, "score": "local"}


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    return f"brats:{write_patients(tmp_path_factory.mktemp('patients'))}"


@pytest.fixture(scope="module")
def trained(patients, tmp_path_factory):
    """A linear checkpoint of the patients with the score local."""
    path = tmp_path_factory.mktemp("trained") / "local.safetensors"
    assert train_on(patients, path, **LINEAR).score == "local"
    return path


@pytest.fixture(scope="module")
def exported(trained):
    """Its model file, with an anomaly map of the slice's size."""
    export(trained, trained.with_suffix(".onnx"), form=Form(anomaly_map="frame"))
    return trained.with_suffix(".onnx")


def slices_of(patients):
    """Slices float32 [N, H, W, 1], means and standard deviations, and which are anomalous."""
    dataset = load_dataset(patients)
    chosen = np.arange(len(dataset.anomalous))[::3]
    frames = np.stack([dataset.frames[int(index)] for index in chosen])
    return (frames, *dataset.statistics_of(chosen)), dataset.anomalous[chosen]


def model_of(side=32):
    return ADAE(Preprocess(side, "pad", z_range=5.0), 1, Network(None, 2)).eval()


def disc(side=32, radius=0.8, value=0.0):
    """A slice float32 [1, 1, side, side]: a disc on the background."""
    axis = torch.linspace(-1, 1, side)
    shown = axis[:, None] ** 2 + axis**2 < radius**2
    return torch.where(shown, value, -1.0)[None, None]


def test_a_tumour_is_found_and_lies_in_the_map(patients, trained, exported):
    evaluation, _, _ = evaluate(Checkpoint.load(trained))
    assert evaluation.auroc > 0.9
    inputs, anomalous = slices_of(patients)
    frames, _, _ = inputs
    _, maps = Scorer(exported).score_with_map(*inputs)
    index = int(np.flatnonzero(anomalous)[np.argmax(maps[anomalous].max(axis=(1, 2)))])
    row, column = np.unravel_index(maps[index].argmax(), maps[index].shape)
    brain = frames[index][frames[index] > 0]
    near = frames[index][row - 2 : row + 3, column - 2 : column + 3]
    assert near.max() > np.quantile(brain, 0.95)  # where the made-up tumour is brighter
    assert (maps[:, 0, 0] == 0).all()


def test_the_graph_scores_as_the_network_does(patients, trained, exported, tmp_path):
    inputs, _ = slices_of(patients)
    model = load_network(Checkpoint.load(trained))
    assert isinstance(model.local, SliceLocal)
    with torch.inference_mode():
        x = model.preprocess(*map(torch.from_numpy, inputs))
        expected, pixels = model.local.with_map(x)
        pixels = model.preprocess.restore(pixels, *inputs[0].shape[1:3]).numpy()
    scores, maps = Scorer(exported).score_with_map(*inputs)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(maps, pixels, atol=1e-3)
    form = Form(size=inputs[0].shape[1:3], batch=3, anomaly_map="network", target="openvino")
    export(trained, tmp_path / "fixed.onnx", form=form)
    some = [array[:5] for array in inputs]
    np.testing.assert_allclose(Scorer(tmp_path / "fixed.onnx").score(*some), scores[:5], rtol=1e-4)


def test_a_slice_without_brain_is_no_anomaly(trained, exported):
    empty = np.zeros((1, 48, 40, 1), np.float32)
    ones = np.ones(1, np.float32)
    threshold = Checkpoint.load(trained).contract.calibration.threshold
    score, pixels = Scorer(exported).score_with_map(empty, ones, ones)
    assert 0 < score[0] < threshold
    assert np.array_equal(pixels, np.zeros((1, 48, 40), np.float32))


def test_the_contract_says_where_distances_are_measured(trained):
    checkpoint = Checkpoint.load(trained)
    assert checkpoint.contract.measured == "interior"
    assert load_network(checkpoint).measured == "interior"
    assert not RECIPES["paper"].interior


@pytest.mark.parametrize("score", ["l2", "generator"])
def test_distances_are_measured_inside_a_brain(score):
    """What the networks make of the background and of its edge changes nothing."""
    model = model_of()
    x = disc(value=0.3)
    inside = interior(x)
    assert model.score_of(torch.full_like(x, -1), score) > 0
    model.measured = "interior"
    assert model.score_of(x, score) > 0
    assert model.score_of(torch.full_like(x, -1), score) == 0
    made = model.reconstruction(x, score)
    assert torch.equal(made[inside == 0], x[inside == 0])
    assert not torch.equal(made[inside == 1], x[inside == 1])
    with torch.no_grad():
        model.generator.centre.add_((inside == 0).flatten() * 0.5)
    np.testing.assert_allclose(model.score_of(x, score), (x - made).norm(), rtol=1e-6)


def test_the_interior_leaves_out_the_edge_and_moves_smoothly():
    x = torch.full((1, 1, 8, 8), -1.0)
    x[..., 2:7, 2:7] = 0.3
    expected = torch.zeros(8, 8)
    expected[3:6, 3:6] = 1
    assert torch.equal(interior(x)[0, 0], expected)
    x[..., 4, 4] = -0.95
    torch.testing.assert_close(interior(x)[0, 0], (0.5 - ROUNDED / SHOWN) * expected)


def test_a_background_that_resizing_has_rounded_is_still_the_background():
    rounded = torch.full((1, 1, 8, 8), -1 + 1e-6)
    assert torch.equal(interior(rounded), torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("side", [32, 64, 128])
def test_every_side_from_32_on(side):
    score, pixels = SliceLocal(side, 3).eval().with_map(disc(side))
    assert (score > 0).all()
    assert pixels.shape == (1, side, side)
    assert pixels[0, 0, 0] == 0
    assert pixels[0, side // 2, side // 2] != 0


@pytest.mark.parametrize("kind", ["one patient", "no patients", "constant", "few", "empty"])
def test_slices_that_hardly_differ_still_give_finite_scores(kind):
    random = np.random.default_rng(0)
    count = 6 if kind == "few" else 30
    brain = disc(40)[0, 0].numpy() > -1
    frames = np.where(brain, random.normal(300, 30, (count, 40, 40)), 0)
    if kind == "constant":
        frames = np.where(brain, 300, 0) * np.ones((count, 1, 1))
    if kind == "empty":
        frames = np.zeros((count, 40, 40))
    dataset = Dataset(
        frames[..., None].astype(np.float32),
        np.zeros(count, bool),
        channels=1,
        small=False,
        kind="modality",
        groups=None if kind == "no patients" else np.zeros(count, int),
        statistics=np.tile(np.float32([300, 30]), (count, 1)),
    )
    model = model_of()
    model.local = fit_slice_local(model, dataset, np.arange(count))
    model.score = "local"
    lesion = frames.copy()
    lesion[:, 18:24, 16:22] += 200 * brain[18:24, 16:22]
    means, deviations = (torch.from_numpy(values) for values in dataset.statistics.T)
    with torch.inference_mode():
        scores, spoiled = (
            model(torch.from_numpy(some[..., None].astype(np.float32)), means, deviations).numpy()
            for some in (frames, lesion)
        )
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    assert spoiled.min() > scores.max()


def test_a_damaged_local_is_refused(trained):
    checkpoint = Checkpoint.load(trained)
    checkpoint.weights["local.deviations"] = np.ones((3, 3), np.float32)
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(checkpoint)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_is_refused(trained, precision, tmp_path):
    with pytest.raises(UsageError, match="the score local takes none: export fp32"):
        export(trained, tmp_path / "out.onnx", form=Form(precision=precision))
    assert not (tmp_path / "out.onnx").exists()


def test_slices_are_mirrored_and_shifted_as_drawn():
    x = torch.arange(48.0).reshape(3, 1, 4, 4)
    y = moved(x, torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, -1]]))
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1], x[1].flip(2))
    expected = torch.full((4, 4), -1.0)
    expected[1:, :3] = x[2, 0].flip(1)[:3, 1:]
    assert torch.equal(y[2, 0], expected)


def test_every_move_is_drawn():
    moves = random_moves(400, 1, torch.Generator().manual_seed(0))
    assert len(moves.unique(dim=0)) == 2 * 3 * 3
    assert (moves[:, 1:].abs() <= 1).all()


def test_the_recipe_moved_moves_slices_and_says_so(patients, tmp_path):
    request = TrainRequest(data=patients, epochs=1, side=16, network="a", score="l2")
    dataset = load_dataset(patients)
    told = "slices train mirrored left to right and shifted at random, by 1 pixel at most"
    weights = []
    for recipe in ("moved", "default"):
        settings = plan(dataset, replace(request, recipe=recipe))
        assert (told in describe(dataset, settings)) == (recipe == "moved")
        train(dataset, settings, tmp_path / recipe)
        weights.append(Checkpoint.load(tmp_path / recipe).contract.weights_sha256)
    assert weights[0] != weights[1]


def test_slices_of_the_same_area_are_compared_within_a_patient():
    areas = np.float32([100, 109, 112, 100, 100])
    anomalous = np.array([True, False, False, False, False])
    patients = np.array([0, 0, 0, 0, 1])
    scores = np.float32([5, 5, 9, 1, 9])
    # The third slice is larger by more than a tenth, and the last one another patient's.
    assert auroc_of_same_area(scores, anomalous, patients, areas) == 0.75
    assert auroc_of_same_area(scores, anomalous, np.arange(5), areas) is None


def test_properties_are_of_the_brain_in_its_own_units(patients):
    dataset = load_dataset(patients)
    chosen = np.array([3, 0])
    found = properties(dataset, chosen)
    for index, number in enumerate(chosen):
        frame, (mean, deviation) = dataset.frames[int(number)], dataset.statistics[number]
        z = (frame[frame > 0] - mean) / deviation
        assert found["area"][index] == len(z)
        np.testing.assert_allclose(found["mean"][index], z.mean(), rtol=1e-4)
        np.testing.assert_allclose(found["98th percentile"][index], np.quantile(z, 0.98), rtol=1e-4)
