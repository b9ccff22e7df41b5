"""Real normals that neither trained nor calibrated exceed a threshold as rarely as it promises."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import binom

from adae_edge.calibration import calibrate
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.loading import score_frames
from adae_edge.train.trainer import train
from tests.support.shared import real
from tests.support.trained import settings_for

FPR = 0.1


@pytest.fixture(scope="module", params=["digits", "mnist"])
def trained(request, tmp_path_factory):
    """A trained contract, and the scores of normals that calibrated and of the test part."""
    data = f"mnist:{real('mnist')}" if request.param == "mnist" else request.param
    dataset = load_dataset(data, 0)
    dataset = dataclasses.replace(
        dataset, frames=dataset.frames[:6000], anomalous=dataset.anomalous[:6000]
    )
    path = tmp_path_factory.mktemp("promise") / "c.safetensors"
    contract = train(dataset, settings_for(dataset, data, 0, epochs=2, fpr=FPR), path)
    model = load_network(Checkpoint.load(path))
    parts = split(dataset.anomalous, 0)
    calibration, _ = score_frames(model, dataset, parts.calibration)
    test, _ = score_frames(model, dataset, parts.test[~dataset.anomalous[parts.test]])
    return contract, calibration, test


def test_held_out_normals_show_the_promised_rate(trained):
    contract, calibration, test = trained
    assert contract.calibration.threshold == pytest.approx(
        calibrate(calibration, FPR).threshold, rel=1e-5
    )
    above = int((test > contract.calibration.threshold).sum())
    assert binom.sf(above - 1, len(test), FPR) > 1e-3  # a rate of 0.1 would give this many or more
    assert above > 0


@pytest.mark.parametrize(("normals", "fpr"), [(150, 0.05), (300, 0.1)])
def test_most_draws_of_real_normals_keep_the_rate(trained, normals, fpr):
    """The draws are from all unseen normals, so that the rate among them is known.

    A bound on the mean alone would not do.
    """
    population = np.concatenate(trained[1:])
    draws = np.random.default_rng(0).choice(population, (2000, normals))
    margin = 4 * math.sqrt(0.95 * 0.05 / len(draws))

    def kept(thresholds):
        return ((population > np.array(thresholds)[:, None]).mean(axis=1) <= fpr).mean()

    assert kept([calibrate(draw, fpr).threshold for draw in draws]) >= 0.95 - margin
    on_average = math.floor(fpr * (normals + 1))
    assert kept(np.sort(draws, axis=1)[:, -on_average]) < 0.95 - 2 * margin
