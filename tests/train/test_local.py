"""The score ``local`` and the recipe ``linear``: from a folder to the exported graph."""

import shutil

import numpy as np
import pytest
import torch

from adae_edge.contract import Form, Network
from adae_edge.errors import CheckpointError, UsageError
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.linear import LinearAutoencoder
from adae_edge.local import Gaussians, Local, of_rarest
from adae_edge.model import ADAE, load_network
from adae_edge.preprocess import Preprocess
from adae_edge.resampling import bilinear, mean_of_three
from adae_edge.runtime import Scorer
from adae_edge.train.components import principal_components
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.evaluate import evaluate
from adae_edge.train.linear import fit_linear
from adae_edge.train.local import fit_local, folds_of
from adae_edge.train.looks import fit_gaussians
from adae_edge.train.request import TrainRequest, plan
from tests.support.pictures import write_pictures, write_scratched
from tests.support.trained import train_on

LINEAR = {"recipe": "linear", "epochs": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Normal frames and such with a faint small scratch."""
    return write_scratched(tmp_path_factory.mktemp("parts") / "parts", 80, 20)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A linear checkpoint of the folder with the score local."""
    path = tmp_path_factory.mktemp("local") / "local.safetensors"
    contract = train_on(str(folder), path, score="local", **LINEAR)
    assert (contract.score, contract.side) == ("local", 32)
    return path


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Its model file, with an anomaly map of the frame's size."""
    out = tmp_path_factory.mktemp("exported") / "local.onnx"
    export(trained, out, form=Form(anomaly_map="frame"))
    return out


def frames_of(folder, kind):
    dataset = load_dataset(str(folder))
    chosen = np.flatnonzero(dataset.anomalous == (kind == "anomalous"))
    return np.stack([dataset.frames[int(index)] for index in chosen])


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_local_finds_what_the_squared_error_misses(folder, trained, tmp_path):
    train_on(str(folder), tmp_path / "l2.safetensors", score="l2", **LINEAR)
    local, _, _ = evaluate(Checkpoint.load(trained))
    squared, _, _ = evaluate(Checkpoint.load(tmp_path / "l2.safetensors"))
    assert local.auroc > 0.95
    assert squared.auroc < 0.8


def test_the_graph_scores_as_the_network_does(folder, trained, exported):
    scorer, model = Scorer(exported), load_network(Checkpoint.load(trained))
    frames = np.concatenate([frames_of(folder, "normal")[:20], frames_of(folder, "anomalous")])
    with torch.inference_mode():
        x = model.preprocess(torch.from_numpy(frames))
        expected, pixels = model.local.with_map(x)
        pixels = model.preprocess.restore(pixels, *frames.shape[1:3]).numpy()
    scores, maps = scorer.score_with_map(frames)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    np.testing.assert_allclose(maps, pixels, atol=1e-3)
    alone = np.concatenate([scorer.score(frames[index : index + 1]) for index in range(40)])
    np.testing.assert_allclose(alone, scores, rtol=1e-5)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(scorer.score(frames[order]), scores[order], rtol=1e-5)


def test_the_map_lies_on_the_scratch(trained, exported):
    """Its values are standard deviations, so they are about 0 on normals that no fit has seen."""
    scorer = Scorer(exported)
    _, _, unseen = evaluate(Checkpoint.load(trained))
    normals = [unseen.dataset.frames[int(i)] for i in unseen.indices[~unseen.anomalous]]
    frame = normals[0].copy()
    frame[20:27, 30:33] -= np.minimum(frame[20:27, 30:33], 70)
    _, maps = scorer.score_with_map(np.stack([frame, *normals]))
    row, column = np.unravel_index(maps[0].argmax(), maps[0].shape)
    assert 16 <= row <= 30
    assert 26 <= column <= 36
    assert maps[0].max() > maps[1].max() + 2
    assert abs(maps[1:].mean()) < 1


def test_a_fixed_size_and_batch_give_the_same_scores(folder, trained, exported, tmp_path):
    form = Form(size=(48, 64), batch=3, anomaly_map="network", target="openvino")
    export(trained, tmp_path / "fixed.onnx", form=form)
    frames = frames_of(folder, "anomalous")[:4]
    fixed = Scorer(tmp_path / "fixed.onnx")
    np.testing.assert_allclose(fixed.score(frames), Scorer(exported).score(frames), rtol=1e-5)


def test_the_same_frames_give_the_same_numbers_and_the_same_graph(
    folder, trained, exported, tmp_path
):
    again = tmp_path / "again.safetensors"
    train_on(str(folder), again, score="local", **LINEAR)
    first, second = Checkpoint.load(trained), Checkpoint.load(again)
    assert second.contract == first.contract  # with the digest of the weights
    assert second.training == first.training
    export(again, tmp_path / "again.onnx", form=Form(anomaly_map="frame"))
    assert (tmp_path / "again.onnx").read_bytes() == exported.read_bytes()


def test_no_weight_of_g_or_d_is_in_the_graph(trained, exported):
    held = sum(value.nbytes for value in Checkpoint.load(trained).weights.values())
    both = 2 * load_network(Checkpoint.load(trained)).generator.basis.nbytes
    assert exported.stat().st_size < held - both + 1.2e6


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_is_refused(trained, precision, tmp_path):
    with pytest.raises(UsageError, match="the score local takes none: export fp32"):
        export(trained, tmp_path / "out.onnx", form=Form(precision=precision))
    assert not (tmp_path / "out.onnx").exists()


def test_a_linear_network_has_no_convolutions_to_lower(folder, tmp_path):
    train_on(str(folder), tmp_path / "c.safetensors", score="generator", **LINEAR)
    with pytest.raises(UsageError, match="a linear network has none: export fp32"):
        export(tmp_path / "c.safetensors", tmp_path / "out.onnx", form=Form(precision="fp16"))


@pytest.mark.parametrize("score", ["l2", "generator", "density"])
def test_a_linear_network_has_the_other_scores_too(folder, score, tmp_path):
    contract = train_on(str(folder), tmp_path / "c.safetensors", score=score, **LINEAR)
    assert contract.network == Network(None, 28)
    form = Form(anomaly_map="network")
    written = export(tmp_path / "c.safetensors", tmp_path / "c.onnx", form=form)
    _, expected, unseen = evaluate(Checkpoint.load(tmp_path / "c.safetensors"))
    frames = np.stack([unseen.dataset.frames[int(index)] for index in unseen.indices])
    np.testing.assert_allclose(Scorer(tmp_path / "c.onnx").score(frames), expected, rtol=1e-4)
    assert "linear, 28 components" in modelfile.describe_contract(written.contract)["network"]


def test_colour_and_a_trained_network(tmp_path):
    """Neither G nor D moves the score, so a short training has the linear one's score."""
    folder = write_scratched(tmp_path / "parts", 60, 12, channels=3)
    train_on(str(folder), tmp_path / "a.safetensors", score="local", epochs=1)
    train_on(str(folder), tmp_path / "b.safetensors", score="local", **LINEAR)
    export(tmp_path / "a.safetensors", tmp_path / "a.onnx")
    evaluation, expected, _ = evaluate(Checkpoint.load(tmp_path / "a.safetensors"))
    _, same, _ = evaluate(Checkpoint.load(tmp_path / "b.safetensors"))
    np.testing.assert_allclose(expected, same, rtol=1e-5)
    assert evaluation.auroc > 0.9


@pytest.mark.parametrize("side", [32, 64, 128, 256])
def test_every_side_from_32_on(side):
    local = Local(side, 3).eval()
    for look in (local.coarse, local.fine):
        look.factors.copy_(torch.eye(64).expand_as(look.factors))
    score, pixels = local.with_map(2 * noise(2, 3, side, side) - 1)
    assert score.shape == (2,)
    assert (score > 0).all()
    assert pixels.shape == (2, side, side)


def test_a_smaller_side_is_refused_before_the_training(folder):
    request = TrainRequest(data=str(folder), recipe="linear", score="local", side=16)
    with pytest.raises(UsageError, match="needs a side of 32 pixels or more"):
        plan(load_dataset(str(folder)), request)


def test_a_linear_training_has_no_epochs(folder):
    with pytest.raises(UsageError, match="without epochs: leave out --epochs"):
        plan(load_dataset(str(folder)), TrainRequest(data=str(folder), recipe="linear", epochs=3))


def test_a_linear_training_leaves_a_finished_checkpoint_and_no_metrics(folder, tmp_path):
    train_on(str(folder), tmp_path / "c.safetensors", **LINEAR)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]
    assert Checkpoint.load(tmp_path / "c.safetensors").training["epochs"] == 0


def test_a_damaged_local_is_refused(trained):
    checkpoint = Checkpoint.load(trained)
    del checkpoint.weights["local.whole.basis"]
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(checkpoint)


@pytest.mark.parametrize("kind", ["constant", "few", "still"])
def test_frames_that_hardly_vary_still_give_finite_scores(kind, tmp_path):
    """Constant frames of a few grey levels, the fewest that train, and one scene under noise."""
    random = np.random.default_rng(0)
    count = 8 if kind == "few" else 40
    frames = np.full((count, 40, 40, 1), 90, np.uint8)
    if kind == "constant":
        frames += (np.arange(count) % 3)[:, None, None, None].astype(np.uint8)
    else:
        frames += random.integers(0, 40, (1, 40, 40, 1), np.uint8)
        frames += random.integers(0, 3, frames.shape, np.uint8)
    model = ADAE(Preprocess(32), 1, Network(None, 2)).eval()
    dataset = Dataset(frames, np.zeros(count, bool), 1, small=False)
    model.local = fit_local(model, dataset, np.arange(count)).local
    model.score = "local"
    black = np.zeros((1, 40, 40, 1), np.uint8)
    with torch.inference_mode():
        scores = model(torch.from_numpy(np.concatenate([frames, black]))).numpy()
    assert np.isfinite(scores).all()
    assert (scores > 0).all()
    assert scores[-1] > scores[:-1].max()


def test_identical_frames_are_refused_in_a_sentence(tmp_path):
    folder = write_pictures(tmp_path / "one", 1)
    (first,) = (folder / "normal").iterdir()
    for index in range(12):
        shutil.copy(first, first.with_name(f"copy{index}.png"))
    with pytest.raises(Exception, match="1 different image") as refused:
        train_on(str(folder), tmp_path / "c.safetensors", score="local", **LINEAR)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "c.safetensors").exists()


def test_energies_are_mahalanobis_distances():
    """Against numpy's inverse covariance at one place, for plain and for centred patches."""
    pictures = noise(400, 32, 32).log1p()
    for stride, centred in ((2, False), (4, True)):
        look = Gaussians((32, 32), stride, centred)
        fit_gaussians(look, pictures)
        row, column = 5, 3
        place = row * look.columns + column
        patches = look.patches(pictures)[place].double().numpy()
        corner = pictures[:, row * stride :, column * stride :][:, :8, :8]
        corner = corner - corner.mean(dim=(1, 2), keepdim=True) if centred else corner
        np.testing.assert_allclose(
            np.sort(patches, axis=1), np.sort(corner.flatten(1), axis=1), atol=1e-6
        )
        deviations = patches - patches.mean(axis=0)
        covariance = deviations.T @ deviations / len(patches)
        whitened = deviations @ look.factors[place].double().numpy()
        found = (whitened**2).sum(axis=1)
        directions = np.linalg.pinv(covariance, rcond=1e-6)
        expected = np.einsum("nd,de,ne->n", deviations, directions, deviations)
        assert np.corrcoef(found, expected)[0, 1] > 0.99
        energies = look(pictures)[:, row, column]
        np.testing.assert_allclose(energies, 0.5 * np.log(found / 64), atol=1e-4)


def test_the_mean_of_three_mirrors_the_edges():
    values = torch.arange(5.0) ** 2
    expected = np.convolve(np.pad(values.numpy(), 1, mode="reflect"), np.ones(3) / 3, "valid")
    np.testing.assert_allclose(mean_of_three(5) @ values, expected, rtol=1e-6)


def test_maps_are_spread_to_where_the_patches_lie():
    """A patch's value stands at its centre, and an axis's ends have the last one."""
    weights, _ = Gaussians((32, 32), 4, True).spread((64, 64))
    np.testing.assert_allclose(weights.sum(dim=1), 1, rtol=1e-6)
    centres = (weights @ torch.arange(7.0))[8:56]
    np.testing.assert_allclose(centres.numpy(), (np.arange(8, 56) + 0.5) / 8 - 1, atol=1e-5)
    assert torch.equal(bilinear(torch.tensor([-3.0, 9.0]), 2), torch.eye(2))


def test_the_rarest_hundredth_counts():
    values = torch.arange(400.0).reshape(1, 20, 20)
    assert of_rarest(values).item() == np.arange(396, 400).mean()
    assert of_rarest(values[:, :2, :2]).item() == 21


@pytest.mark.parametrize("shape", [(50, 20), (20, 50)])
def test_principal_components_are_those_of_the_covariance(shape):
    pictures = noise(*shape)
    centre, basis = principal_components(pictures, 5)
    _, _, rows = np.linalg.svd(pictures.numpy() - centre.numpy(), full_matrices=False)
    np.testing.assert_allclose(basis.T @ basis, np.eye(5), atol=1e-5)
    np.testing.assert_allclose(np.abs(rows[:5] @ basis.numpy()), np.eye(5), atol=1e-3)


def test_pictures_that_do_not_vary_have_no_components():
    _, basis = principal_components(torch.ones(6, 4), 3)
    assert torch.equal(basis, torch.zeros(4, 3))


def test_the_linear_network_gives_back_what_lies_in_its_span():
    frames = (255 * noise(40, 1, 16, 16)).to(torch.uint8)
    network = LinearAutoencoder(1, 16, 20)
    fit_linear(network, frames, Preprocess(16))
    x = frames / 127.5 - 1
    once = network(x)
    assert (x - once).square().mean() < x.square().mean()
    np.testing.assert_allclose(network(once), once, atol=1e-5)


def test_folds_keep_groups_whole():
    groups = np.array([3, 3, 3, 3, 1, 1, 7, 7, 9])
    folds = folds_of(9, groups)
    assert set(folds) == {0, 1, 2}
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert list(folds_of(5, None)) == [0, 1, 2, 0, 1]
    assert list(folds_of(3, np.array([4, 4, 4]))) == [0, 1, 2]
