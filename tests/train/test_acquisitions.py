"""A training keeps how the series were acquired that calibrate it, and says where it holds."""

from dataclasses import replace

import numpy as np
import pytest

from adae_edge.acquisition import Acquisition
from adae_edge.errors import DatasetError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data import dataset as dataset_module
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.trainer import train
from tests.support.trained import settings_for
from tests.support.volumes import write_patients

HERE = Acquisition("SIEMENS", "Skyra", 3.0, "GR SP 3D", 2300.0, 2.98, 900.0, 9.0, (2.0, 1.0, 1.0))
THERE = replace(HERE, manufacturer="Philips")
LINEAR = {"recipe": "linear", "epochs": None, "score": "local"}


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patients")
    return f"brats:{write_patients(folder, 10)}"


def calibrated_by(patients, acquired, out):
    """Train on these patients, acquired by their numbers; the contract and what is told."""
    dataset = load_dataset(patients)
    dataset = replace(dataset, acquisitions=[acquired(group) for group in dataset.groups.tolist()])
    parts = split(dataset.anomalous, 0, dataset.groups)
    notes = []
    settings = settings_for(dataset, patients, **LINEAR)
    contract = train(dataset, settings, out, on_note=notes.append)
    return contract, notes, np.unique(dataset.groups[parts.calibration]).tolist()


def test_the_contract_has_the_acquisitions_of_those_who_calibrate(patients, tmp_path):
    out = tmp_path / "c.safetensors"
    _, _, (calibrating,) = calibrated_by(patients, lambda _: THERE, tmp_path / "first.safetensors")
    contract, notes, _ = calibrated_by(
        patients, lambda person: HERE if person == calibrating else THERE, out
    )
    assert contract.acquisitions == Checkpoint.load(out).contract.acquisitions == (HERE,)
    assert notes == [f"calibrated on {HERE}"]


def test_series_that_do_not_say_their_scanner_cover_nothing_and_that_is_told(patients, tmp_path):
    unknown = replace(HERE, field_strength=None)
    contract, notes, _ = calibrated_by(patients, lambda _: unknown, tmp_path / "c.safetensors")
    assert contract.acquisitions == ()
    assert notes == [
        "the series that calibrated it do not say their scanner, so every series is uncalibrated "
        "until adae-edge calibrate with some that do"
    ]


def test_more_acquisitions_than_a_contract_keeps_are_refused_before_the_training(
    patients, tmp_path, monkeypatch
):
    monkeypatch.setattr(dataset_module, "MAX_ACQUISITIONS", 3)
    numbers = iter(range(10**6))
    out = tmp_path / "c.safetensors"
    with pytest.raises(DatasetError, match="acquired in"):
        calibrated_by(patients, lambda _: replace(HERE, model=f"M{next(numbers)}"), out)
    assert not out.exists()


def test_volumes_tell_nothing(patients, tmp_path):
    dataset = load_dataset(patients)
    notes = []
    settings = settings_for(dataset, patients, **LINEAR)
    contract = train(dataset, settings, tmp_path / "c.safetensors", on_note=notes.append)
    assert (contract.acquisitions, notes) == ((), [])
