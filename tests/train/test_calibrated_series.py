"""A model of heads from training to verdict: on its own scanner, on another one, and on NIfTI."""

import json
import shutil

import nibabel
import pytest

from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.train.request import TrainRequest, prepare
from tests.support.heads import scan
from tests.support.models import complaints, run
from tests.support.series import turned, write_series

OTHER = {"MagneticFieldStrength": 1.5, "ManufacturerModelName": "Avanto"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """People of one scanner and of another one, as series, and one of them as a volume."""
    folder = tmp_path_factory.mktemp("heads")
    for person in range(9):
        place, header = ("here", {}) if person < 6 else ("there", OTHER)
        image = turned(scan(person)[0])
        write_series(folder / place / f"{person}", image, PatientID=f"{person}", **header)
    nibabel.save(turned(scan(5)[0]), folder / "volume.nii.gz")
    silent = {"MagneticFieldStrength": None, "PatientID": "s"}
    write_series(folder / "silent", turned(scan(0)[0]), **silent)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """A model file of whole heads, trained on the series of the first scanner, and its notes."""
    notes = []
    request = TrainRequest(
        f"dicom:{folder / 'here'}", folder / "c.safetensors", object="head", modality="t1"
    )
    prepare(request).run(on_note=notes.append)
    export(folder / "c.safetensors", folder / "c.onnx")
    return folder / "c.onnx", notes


@pytest.fixture
def model(trained, tmp_path):
    """A copy of it that a test may calibrate."""
    return shutil.copy(trained[0], tmp_path / "m.onnx")


def scored(model, *sources, cwd):
    """The verdicts of a command's rows, the notes and the summary."""
    rows = cwd / "rows.jsonl"
    rows.unlink(missing_ok=True)
    done = run("score", model, *sources, "--to", rows, cwd=cwd)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    summary = next(line for line in done.stderr.splitlines() if " frames scored" in line)
    return [row["verdict"] for row in found if "event" not in row], complaints(done), summary


def test_a_training_on_series_tells_and_keeps_its_scanner(trained):
    path, notes = trained
    (acquisition,) = modelfile.read(path).contract.acquisitions
    assert (acquisition.manufacturer, acquisition.model) == ("SIEMENS", "Verio")
    assert (acquisition.field_strength, acquisition.sequence) == (3, "GR SP 3D")
    assert acquisition.spacing == (2, 1, 1)
    assert notes == [f"calibrated on {acquisition}"]


def test_a_series_of_its_scanner_has_a_verdict_and_one_of_another_has_none(model, folder, tmp_path):
    verdicts, notes, summary = scored(model, folder / "here" / "0", cwd=tmp_path)
    assert set(verdicts) <= {"normal", "anomalous"}
    assert notes == []
    assert "uncalibrated" not in summary
    assert "nothing is known" not in summary

    verdicts, notes, summary = scored(model, folder / "there" / "7", cwd=tmp_path)
    assert set(verdicts) == {"uncalibrated"}
    assert f"{len(verdicts)} frames scored, {len(verdicts)} uncalibrated; " in summary
    (note,) = notes
    assert "which differs in model and field strength: its slices get scores" in note


def test_a_volume_has_a_verdict_and_the_summary_says_what_is_not_known(model, folder, tmp_path):
    verdicts, notes, summary = scored(model, folder / "volume.nii.gz", cwd=tmp_path)
    assert set(verdicts) <= {"normal", "anomalous"}
    assert notes == []
    assert summary.endswith("; nothing is known of the scanner that they come from")


def test_a_calibration_on_another_scanner_takes_its_place(model, folder, tmp_path):
    there = sorted((folder / "there").iterdir())
    done = run("calibrate", model, *there, "--fpr", "0.2", cwd=tmp_path)
    assert (done.returncode, complaints(done)) == (0, [])
    lines = done.stdout.splitlines()
    assert "the normals are slices of 3 people" in lines
    assert any(line.startswith("calibrated on SIEMENS Avanto, 1.5 T, GR SP 3D") for line in lines)
    assert set(scored(model, there[0], cwd=tmp_path)[0]) <= {"normal", "anomalous"}
    assert set(scored(model, folder / "here", cwd=tmp_path)[0]) == {"uncalibrated"}

    both = run("calibrate", model, folder / "here", *there, "--fpr", "0.2", cwd=tmp_path)
    assert both.returncode == 0, both.stderr
    assert "the normals are slices of 9 people" in both.stdout.splitlines()
    verdicts, _, _ = scored(model, folder / "here", folder / "there", cwd=tmp_path)
    assert "uncalibrated" not in verdicts


def test_a_series_that_does_not_say_its_field_strength_calibrates_nothing(model, folder, tmp_path):
    before = model.read_bytes()
    done = run("calibrate", model, folder / "silent", "--fpr", "0.5", cwd=tmp_path)
    assert done.returncode != 0
    (complaint,) = complaints(done)
    assert "does not say its field strength, so no other series can be told" in complaint
    assert model.read_bytes() == before
    verdicts, notes, _ = scored(model, folder / "silent", cwd=tmp_path)
    assert set(verdicts) == {"uncalibrated"}
    assert "does not say its field strength, so no calibration holds for it" in notes[0]
