"""The scores beside the paper's: what they mean, and that export and runtime agree on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from adae_edge.contract import Network
from adae_edge.density import Density
from adae_edge.errors import CheckpointError, TrainingError
from adae_edge.export.exporter import export
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Scorer
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.density import fit_density
from adae_edge.train.evaluate import all_scores, evaluate
from adae_edge.train.loading import score_frames
from adae_edge.train.report import write_report


@pytest.fixture(scope="module")
def trained(checkpoints):
    """A checkpoint of the digits with the score density."""
    path = checkpoints("density")
    assert Checkpoint.load(path).contract.score == "density"
    return path


def test_density_is_the_mixture_s():
    """Against scipy, for two Gaussians in three dimensions behind an affine map."""
    random = np.random.default_rng(0)
    means, roots = random.normal(size=(2, 3)), random.normal(size=(2, 3, 3))
    precisions = roots @ roots.transpose(0, 2, 1) + np.eye(3)
    factors = np.linalg.cholesky(precisions)
    weights, centre, basis = np.array([0.3, 0.7]), random.normal(size=5), random.normal(size=(5, 3))
    peaks = np.log(weights) + np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    peaks -= np.logaddexp.reduce(peaks)
    side_by_side = factors.transpose(1, 0, 2).reshape(3, 6)
    offsets = np.einsum("kd,kde->ke", means, factors).ravel()
    arrays = (centre, basis, side_by_side, offsets, peaks)
    density = Density(*(torch.from_numpy(array).float() for array in arrays))
    points = random.normal(size=(50, 5))
    gaussians = [
        multivariate_normal(mean, np.linalg.inv(precision))
        for mean, precision in zip(means, precisions, strict=True)
    ]
    inner = (points - centre) @ basis
    p = sum(
        weight * gaussian.pdf(inner) for weight, gaussian in zip(weights, gaussians, strict=True)
    )
    p_max = sum(
        weight * gaussian.pdf(gaussian.mean)
        for weight, gaussian in zip(weights, gaussians, strict=True)
    )
    scores = density(torch.from_numpy(points).float()).numpy()
    np.testing.assert_allclose(scores, np.sqrt(-2 * np.log(p / p_max)), rtol=1e-4, atol=1e-4)


def test_density_stays_finite_far_from_every_normal(trained):
    model = load_network(Checkpoint.load(trained))
    with torch.inference_mode():
        far = model.density(torch.full((1, model.density.centre.shape[0]), 1e4))
    assert torch.isfinite(far).all()


def test_fit_is_the_same_every_time():
    torch.manual_seed(0)
    model = ADAE(Preprocess(32), 1, Network(4, 4)).eval()
    frames = torch.randint(
        0, 256, (900, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    first, second = (fit_density(model, frames, seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["peaks"].shape == (2,)


def test_components_that_normals_hardly_vary_in_are_left_out():
    """Copies among few frames leave components whose variance is rounding: it is no divisor."""
    torch.manual_seed(0)
    model = ADAE(Preprocess(32), 1, Network(4, 4)).eval()
    frames = torch.randint(
        0, 256, (6, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    density = fit_density(model, frames.repeat(10, 1, 1, 1), seed=0)
    assert density.basis.shape[1] == 5
    with torch.inference_mode():
        scores = density(model.activations(model.preprocess(frames.permute(0, 2, 3, 1))))
    assert scores.max() < 10


def test_exported_density_is_the_one_that_was_trained(trained, tmp_path):
    checkpoint = Checkpoint.load(trained)
    export(trained, tmp_path / "digits.onnx")
    scorer = Scorer(tmp_path / "digits.onnx")
    assert scorer.contract.score == "density"
    evaluation, expected, unseen = evaluate(checkpoint)
    frames = np.stack([unseen.dataset.frames[int(index)] for index in unseen.indices])
    np.testing.assert_allclose(scorer.score(frames), expected, rtol=1e-4)
    assert evaluation.auroc > 0.9


def test_a_checkpoint_that_lost_its_density_is_refused(trained):
    checkpoint = Checkpoint.load(trained)
    checkpoint.weights = {
        name: value for name, value in checkpoint.weights.items() if not name.startswith("density")
    }
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(checkpoint)


def test_the_papers_score_stands_beside_the_density(trained):
    checkpoint = Checkpoint.load(trained)
    evaluation, _, unseen = evaluate(checkpoint)
    scores = all_scores(load_network(checkpoint), unseen.dataset, unseen.indices)
    assert evaluation.auroc_l2 == roc_auc_score(unseen.anomalous, scores["l2"])
    told = f"{evaluation.auroc_l2:.4f}, ||x - D(G(x))||, the paper's score"
    assert told in evaluation.table()

    settings = checkpoint.training["settings"]
    without_d = settings | {"recipe": settings["recipe"] | {"adversarial": 0.0}}
    generator_alone = replace(checkpoint, training=checkpoint.training | {"settings": without_d})
    assert evaluate(generator_alone)[0].auroc_l2 is None


def test_all_scores_are_those_of_each_name(trained):
    model = load_network(Checkpoint.load(trained))
    dataset = load_dataset("digits", 0)
    scores = all_scores(model, dataset, np.arange(20))
    assert list(scores) == ["l2", "generator", "density"]
    assert model.score == "density"
    with torch.inference_mode():
        x = model.preprocess(torch.from_numpy(dataset.frames[:20]))
        l2 = (x - model.discriminator(model.generator(x))).flatten(1).norm(dim=1)
        generator = (x - model.generator(x)).flatten(1).norm(dim=1)
    np.testing.assert_allclose(scores["l2"], l2, rtol=1e-5)
    np.testing.assert_allclose(scores["generator"], generator, rtol=1e-5)


def test_a_score_that_is_no_number_is_refused_in_a_sentence(trained):
    model, dataset = load_network(Checkpoint.load(trained)), load_dataset("digits", 0)
    frames = torch.randint(
        0, 256, (900, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    model.density.offsets[0] = torch.nan
    for score in (score_frames, all_scores):
        with pytest.raises(TrainingError, match="score of frame 7 is not a finite number"):
            score(model, dataset, np.arange(7, 20))
    with torch.no_grad():
        model.generator[0].bias[0] = torch.inf
    with pytest.raises(TrainingError, match="activations are not finite"):
        fit_density(model, frames, seed=0)


def test_the_report_names_the_score_that_was_evaluated(trained, tmp_path):
    checkpoint = Checkpoint.load(trained)
    write_report(
        tmp_path / "report.html", "digits", *evaluate(checkpoint), load_network(checkpoint)
    )
    page = (tmp_path / "report.html").read_text()
    assert (
        "The score density: how rare normals make what the encoders of G and D see in x; " in page
    )
