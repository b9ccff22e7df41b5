"""Yardsticks: what they measure, where they are kept, and what is said when a model loses."""

import dataclasses
import json
import re

import numpy as np
import pytest
import safetensors.numpy
from sklearn.metrics import roc_auc_score

from adae_edge.errors import CheckpointError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.evaluate import distances, evaluate
from adae_edge.train.intervals import auroc_interval
from adae_edge.train.report import describe_reconstructions, run_evaluation
from adae_edge.train.unseen import UnseenFrames
from adae_edge.train.yardsticks import (
    FRAMES,
    measure_yardsticks,
    simple_scores,
    small_pictures,
)
from tests.support.pictures import write_pictures, write_scratched
from tests.support.trained import train_on

LINEAR = {"recipe": "linear", "epochs": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Parts under changing light, and such with a faint small scratch."""
    return write_scratched(tmp_path_factory.mktemp("parts") / "parts", 80, 20)


@pytest.fixture(scope="module")
def checkpoints(folder, tmp_path_factory):
    """Linear checkpoints: the score that finds scratches, and the one that does not."""
    place = tmp_path_factory.mktemp("trained")
    for score in ("local", "l2"):
        train_on(str(folder), place / score, score=score, **LINEAR)
    return place


def test_a_checkpoint_keeps_small_pictures_of_training_normals(folder, checkpoints):
    dataset = load_dataset(str(folder))
    checkpoint = Checkpoint.load(checkpoints / "l2")
    trained = split(dataset.anomalous, 0).train
    assert checkpoint.pictures.shape == (len(trained), 64, 64)
    assert checkpoint.pictures.dtype == np.uint8
    means = [float(dataset.frames[index].mean()) for index in trained]
    np.testing.assert_allclose(checkpoint.pictures.mean((1, 2)), means, atol=0.5)
    assert FRAMES * 64 * 64 < 4 * 2**20


def test_no_picture_travels_without_reference_frames_and_the_evaluation_says_so(folder, tmp_path):
    out = tmp_path / "c.safetensors"
    train_on(str(folder), out, references=False, **LINEAR)
    tensors = safetensors.numpy.load_file(out)
    assert "pictures" not in tensors
    evaluation, _, _ = evaluate(Checkpoint.load(out))
    assert evaluation.yardsticks == ()
    assert evaluation.verdict == ""
    assert re.search("yardsticks +none: .*--no-reference-frames", evaluation.comparison())


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((3, 64, 64), np.float32),
        np.zeros((3, 64 * 64), np.uint8),
        np.zeros((3, 64, 32), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((4097, 32, 32), np.uint8),
    ],
)
def test_pictures_that_training_does_not_write_are_refused(checkpoints, tmp_path, pictures):
    checkpoint = Checkpoint.load(checkpoints / "l2")
    dataclasses.replace(checkpoint, pictures=pictures).save(tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of adae-edge"):
        Checkpoint.load(tmp_path / "c.safetensors")


def test_the_first_line_says_that_a_model_loses(checkpoints, tmp_path):
    lost, unseen = run_evaluation(checkpoints / "l2", out=tmp_path / "lost")
    best = lost.yardsticks[0]
    assert lost.auroc < best.auroc
    assert lost.verdict.startswith(f"the model loses to a yardstick: its AUROC is {lost.auroc:.4f}")
    assert best.name in lost.verdict
    page = (tmp_path / "lost" / "report.html").read_text()
    assert page.index("The model loses to a yardstick") < page.index("<table>")
    assert f"<td>{best.name}</td>" in page
    written = json.loads((tmp_path / "lost" / "evaluation.json").read_text())
    assert written["yardsticks"][0] == {"name": best.name, "auroc": best.auroc}
    assert written["auroc_interval"] == list(lost.auroc_interval)
    order = [yardstick.auroc for yardstick in lost.yardsticks]
    assert order == sorted(order, reverse=True)
    assert len(unseen.indices) == lost.normals + lost.anomalous

    won, _ = run_evaluation(checkpoints / "local", out=tmp_path / "won")
    assert won.auroc >= won.yardsticks[0].auroc
    assert won.verdict == ""
    assert "loses" not in (tmp_path / "won" / "report.html").read_text()


def test_the_papers_score_stands_beside_another_one(checkpoints, tmp_path):
    local, unseen = run_evaluation(checkpoints / "local", out=tmp_path)
    model = load_network(Checkpoint.load(checkpoints / "local"))
    errors = distances(model, unseen.dataset, unseen.indices)["l2"]
    assert local.auroc_l2 == roc_auc_score(unseen.anomalous, errors) != local.auroc
    told = f"{local.auroc_l2:.4f}, ||x - D(G(x))||, of the linear autoencoder"
    assert re.search(f"^AUROC of l2 +{re.escape(told)}$", local.table(), re.MULTILINE)
    page = (tmp_path / "report.html").read_text()
    assert f"<tr><th>AUROC of l2</th><td>{told}</td></tr>" in page
    assert "one linear autoencoder" in page

    alone, _, _ = evaluate(Checkpoint.load(checkpoints / "l2"))
    assert alone.auroc_l2 is None
    assert "AUROC of l2" not in alone.table()


def test_what_the_report_says_of_reconstructions_follows_from_the_figures(checkpoints, tmp_path):
    weak = Checkpoint.load(checkpoints / "local")
    _, scores, unseen = evaluate(weak)
    told = describe_reconstructions(scores, unseen, load_network(weak))
    assert "stays close" not in told
    squared, _, _ = evaluate(Checkpoint.load(checkpoints / "l2"))
    assert f"its AUROC is {squared.auroc:.2f}." in told

    data = write_pictures(tmp_path / "data", 80, anomalous=20)
    train_on(str(data), tmp_path / "c.safetensors", **LINEAR)
    strong = Checkpoint.load(tmp_path / "c.safetensors")
    _, scores, unseen = evaluate(strong)
    model = load_network(strong)
    told = describe_reconstructions(scores, unseen, model)
    assert "D(G(x)) stays close to normal frames and fails on anomalous ones" in told
    normals = UnseenFrames(unseen.dataset, unseen.indices[~unseen.anomalous], 0)
    assert "D(G(x))" not in describe_reconstructions(scores[:16], normals, model)


def pictures_of(random, count, side=64, level=100):
    return random.integers(level, level + 60, (count, side, side)).astype(np.uint8)


def test_each_kind_of_anomaly_has_its_yardstick():
    """The better side of a property counts, and it says which."""
    random = np.random.default_rng(0)
    known, new = pictures_of(random, 60), pictures_of(random, 40)
    anomalous = np.arange(40) >= 20
    assert measure_yardsticks(known, new, anomalous)[0].auroc < 0.9

    darker = new.copy()
    darker[anomalous] -= 20
    by_name = {y.name: y.auroc for y in measure_yardsticks(known, darker, anomalous)}
    assert by_name["mean brightness, lower is anomalous"] == 1.0
    assert "mean brightness" not in by_name

    spotted = new.copy()
    spotted[anomalous, 10:18, 30:38] = 160
    by_name = {y.name: y.auroc for y in measure_yardsticks(known, spotted, anomalous)}
    assert by_name["a Gaussian per position of 8 x 8 patches"] > 0.85
    assert by_name["40 principal components of 64 x 64 pixels, local maximum"] == 1.0
    assert not any(name.startswith("area") for name in by_name)


def test_a_background_of_zeros_gives_an_area_and_properties_of_the_object():
    random = np.random.default_rng(0)
    frames = np.zeros((60, 32, 32), np.uint8)
    for index, frame in enumerate(frames):
        width = 8 + index % 16
        frame[4:28, 4 : 4 + width] = random.integers(90, 110)
    scores = simple_scores(frames[:40], frames[40:])
    np.testing.assert_allclose(
        scores["area of what is not black"], (frames[40:] > 0).mean((1, 2)), rtol=1e-6
    )
    inside = frames[40:].max(axis=(1, 2)) / 255
    name = "mean brightness of what is not black"
    np.testing.assert_allclose(scores[name], inside, rtol=1e-6)


@pytest.mark.parametrize("pictures", [np.zeros((9, 32, 32), np.uint8), np.full((2, 64, 64), 7)])
def test_normals_that_do_not_vary_give_finite_scores(pictures):
    pictures = pictures.astype(np.uint8)
    new = pictures.copy()
    new[0, 3, 3] = 200
    for name, scores in simple_scores(pictures, new).items():
        assert np.isfinite(scores).all(), name


def test_small_pictures_take_the_models_region_and_padding(folder, tmp_path):
    train_on(str(folder), tmp_path / "c.safetensors", resize="pad", pad_value=255.0, **LINEAR)
    model = load_network(Checkpoint.load(tmp_path / "c.safetensors"))
    frames = np.zeros((3, 32, 64, 1), np.uint8)
    small = small_pictures(model, Dataset(frames, np.zeros(3, bool), 1, small=False), np.arange(3))
    assert (small[:, :16] == 255).all()
    assert (small[:, 16:48] == 0).all()


def test_the_interval_is_delongs():
    """Against the definition: components of every frame, and their sample variances."""
    random = np.random.default_rng(1)
    anomalous = np.arange(70) >= 45
    scores = (random.normal(size=70) + anomalous).round(1).astype(np.float32)
    bad, good = scores[anomalous], scores[~anomalous]
    wins = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)
    auroc = roc_auc_score(anomalous, scores)
    variance = wins.mean(1).var(ddof=1) / len(bad) + wins.mean(0).var(ddof=1) / len(good)
    reach = 1.959964 * np.sqrt(variance) / (auroc * (1 - auroc))
    logit = np.log(auroc / (1 - auroc))
    expected = [1 / (1 + np.exp(-(logit + side * reach))) for side in (-1, 1)]
    assert auroc_interval(scores, anomalous) == pytest.approx(expected)


def test_copies_within_groups_do_not_narrow_the_interval():
    random = np.random.default_rng(2)
    anomalous = np.arange(60) >= 30
    scores = (random.normal(size=60) + anomalous).astype(np.float32)
    alone = auroc_interval(scores, anomalous)
    many, kinds, groups = (np.tile(v, 10) for v in (scores, anomalous, np.arange(60)))
    assert auroc_interval(many, kinds, groups) == pytest.approx(alone, rel=1e-6)
    low, high = auroc_interval(many, kinds)
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Groups that shift their frames together; the true AUROC is that of many of them."""

    def draw(random, count):
        groups = np.repeat(np.arange(count), 6)
        anomalous = np.arange(len(groups)) % 3 == 0
        shift = random.normal(size=count)[groups]
        return (random.normal(size=len(groups)) + shift + 1.5 * anomalous), anomalous, groups

    truth = roc_auc_score(*draw(np.random.default_rng(0), 50_000)[1::-1])
    bounds = [auroc_interval(*draw(np.random.default_rng(seed), 30)) for seed in range(1, 301)]
    held = np.mean([low <= truth <= high for low, high in bounds])
    assert 0.90 <= held <= 0.99


def test_few_frames_have_no_interval_and_perfect_ones_no_false_certainty():
    assert auroc_interval(np.arange(5.0), np.arange(5) > 3) is None
    low, high = auroc_interval(np.arange(10.0), np.arange(10) >= 5)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 5))
    low, high = auroc_interval(-np.arange(10.0), np.arange(10) >= 5)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 5)))
