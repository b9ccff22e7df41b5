"""Calibration by folds: with few normals all of them train, and all of them calibrate."""

import numpy as np
import pytest

from adae_edge.calibration import calibrate
from adae_edge.contract import Network
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import sharing, split
from adae_edge.train.loading import map_peaks, score_frames
from adae_edge.train.local import fit_local
from adae_edge.train.request import TrainRequest, prepare
from adae_edge.train.settings import calibrates_by_folds
from tests.support.pictures import write_scratched
from tests.support.trained import settings_for


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """60 normals, of which the split takes 12 for the test."""
    return write_scratched(tmp_path_factory.mktemp("few") / "parts", 60, 5)


@pytest.fixture(scope="module")
def trained(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("shared") / "c.safetensors"
    training, notes = prepare(TrainRequest(data=str(parts), out=out)), []
    contract = training.run(on_note=notes.append)
    return Checkpoint.load(out), contract, notes


def test_all_normals_of_a_small_folder_train_and_calibrate(parts, trained):
    checkpoint, contract, notes = trained
    whole = split(load_dataset(str(parts)).anomalous, 0)
    assert contract.calibration.normals == len(whole.train) + len(whole.calibration) == 48
    assert len(whole.calibration) == 5
    assert contract.calibration.target_fpr == pytest.approx(1 - 0.05 ** (1 / 48))
    assert any(note.startswith("all 48 normals train and calibrate") for note in notes)
    assert len(checkpoint.references) == 48


def test_the_thresholds_lie_above_what_the_fit_itself_gives_its_frames(parts, trained):
    """They rest on fits that did not see the frames, so none of the 48 is near them."""
    checkpoint, contract, _ = trained
    model = load_network(checkpoint)
    frames = np.stack(checkpoint.references)
    dataset = Dataset(frames, np.zeros(len(frames), bool), 1, small=False)
    scores, _ = score_frames(model, dataset, np.arange(len(frames)))
    assert contract.calibration.threshold > scores.max()
    assert contract.calibration.map_threshold > map_peaks(model, dataset, np.arange(48)).max()


def test_held_out_scores_are_those_of_the_fit_without_the_fold(parts):
    """The first fold of 24 is scored by a fit to the other 16, in all folds' mean and spread."""
    dataset = load_dataset(str(parts))
    model = ADAE(Preprocess(32), 1, Network(None, 4)).eval()
    indices = np.arange(24)
    fit = fit_local(model, dataset, indices)
    without = fit_local(model, dataset, indices[indices % 3 != 0]).local
    for name in ("scores", "places"):
        getattr(without, name).copy_(getattr(fit.local, name))
    model.local, model.score = without, "local"
    first = indices[indices % 3 == 0]
    scores, _ = score_frames(model, dataset, first)
    np.testing.assert_allclose(fit.scores[first], scores, rtol=1e-4)
    np.testing.assert_allclose(fit.peaks[first], map_peaks(model, dataset, first), rtol=1e-3)
    assert fit.scores.shape == fit.peaks.shape == (24,)


def test_enough_normals_or_another_score_calibrate_with_what_is_kept_apart(parts):
    def by_folds(count, **given):
        frames = np.zeros((count, 40, 48, 1), np.uint8)
        dataset = Dataset(frames, np.zeros(count, bool), 1, small=False)
        settings = settings_for(dataset, str(parts), **({"epochs": None, "network": None} | given))
        return calibrates_by_folds(dataset, settings, split(dataset.anomalous, 0))

    local = {"recipe": "linear", "score": "local"}
    assert by_folds(60, **local)
    assert not by_folds(3750, **local)
    assert by_folds(3650, **local)
    assert not by_folds(800, fpr=0.05, **local)
    assert by_folds(700, fpr=0.05, **local)
    assert not by_folds(60, recipe="linear", score="l2")
    assert not by_folds(60, recipe="linear", score="density")


def test_copies_calibrate_and_train_once():
    whole = split(np.zeros(20, bool), 0)
    digests = np.arange(16, dtype=np.uint8).repeat(8).reshape(16, 8)
    digests[5], digests[15] = digests[2], digests[2]
    shared = sharing(whole, digests, 99)
    assert shared.shared
    assert not whole.shared
    normals = np.concatenate([whole.train, whole.calibration])
    assert list(shared.train) == list(np.delete(normals, [5, 15]))
    assert len(sharing(whole, digests, 6).train) == 6


def test_groups_are_whole_in_the_folds_and_told(tmp_path):
    from tests.train.test_groups import write_parts

    folder = write_parts(tmp_path / "parts", parts=8, frames=5)
    out = tmp_path / "c.safetensors"
    training = prepare(TrainRequest(data=str(folder), out=out, group="(p[0-9]+)_"))
    assert (
        training.describe().splitlines()[-1].startswith("6 groups train and calibrate and 2 test")
    )
    contract = training.run()
    assert contract.calibration.normals == 30


def test_the_promised_rate_holds_on_new_normals_of_the_same_kind():
    """Digits but 0, the first 32 or 96 of a random order, measured on those that are left.

    The fits on two thirds give their held-out frames higher scores than the whole one does, so
    the rate is rather lower than promised.
    """
    data = load_dataset("digits", 0)
    normals = np.flatnonzero(~data.anomalous)
    model = ADAE(Preprocess(32), 1, Network(None, 4)).eval()
    model.score = "local"
    for seed, count in enumerate([32, 32, 32, 32, 96, 96]):
        order = np.random.default_rng(seed).permutation(normals)
        fit = fit_local(model, data, order[:count])
        model.local = fit.local
        calibration = calibrate(fit.scores, 0.1, peaks=fit.peaks)
        new = order[count : count + 400]
        scores, _ = score_frames(model, data, new)
        assert (scores > calibration.threshold).mean() <= 0.1
        assert (map_peaks(model, data, new) > calibration.map_threshold).mean() <= 0.1
