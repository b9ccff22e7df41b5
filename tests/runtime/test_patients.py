"""Patients are named in JSON Lines if that is asked for, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from adae_edge.runtime import Scorer, Stream, open_source
from adae_edge.runtime.frame import Instance
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.sink import Keeping
from tests.support.models import mean_model, run
from tests.support.slices import write_slice

NAME = "Tr0ub4dor^Anna"


def a_folder(folder):
    """Two series of two people, whose slices lie in turn."""
    pixels = np.full((8, 8), 7, np.uint8)
    for number in range(4):
        write_slice(
            folder / f"{number}.dcm",
            pixels,
            StudyInstanceUID="1.2.1",
            SeriesInstanceUID=f"1.2.{2 + number % 2}",
            SOPInstanceUID=f"1.2.3.{number}",
            PatientName=NAME if number % 2 else None,
            PatientID=f"471{number % 2}",
        )
    return folder


def test_json_lines_name_patients_where_that_is_asked_for(tmp_path):
    (tmp_path / "dicom").mkdir()
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    files = [tmp_path / "with.jsonl", tmp_path / "without.jsonl", tmp_path / "with.csv"]
    keepings = [Keeping(with_patient=True), Keeping(), Keeping(with_patient=True)]
    sinks = [open_sink(str(file), keeping) for file, keeping in zip(files, keepings, strict=True)]
    with Scorer(tmp_path / "grey.onnx", threads=1) as scorer:
        Stream(scorer, open_source(str(a_folder(tmp_path / "dicom"))), sinks).run()
    for sink in sinks:
        sink.close()
    rows = [json.loads(line) for line in files[0].read_text().splitlines()]
    people = [row["patient"] for row in rows if "score" in row]
    assert people == [{"name": "", "id": "4710"}, {"name": NAME, "id": "4711"}] * 2
    for file in files[1:]:
        assert "Tr0ub4dor" not in file.read_text()
        assert "4711" not in file.read_text()


def test_a_frame_that_is_no_dicom_has_no_patient(tmp_path):
    from tests.runtime.test_sinks import result

    sink = open_sink(str(tmp_path / "a.jsonl"), Keeping(with_patient=True))
    sink.write(result())
    sink.close()
    assert json.loads((tmp_path / "a.jsonl").read_text())["patient"] is None


@pytest.mark.parametrize(
    ("kind", "value", "patient"),
    [("DS", b"4711A ", {"name": NAME, "id": "4711A"}), ("US", b"4711A", None)],
)
def test_a_damaged_value_costs_no_row_and_is_not_told(tmp_path, recwarn, kind, value, patient):
    from tests.runtime.test_sinks import result

    header = Dataset()
    for tag, *said in [(0x00100010, "PN", NAME.encode()), (0x00100020, kind, value)]:
        header[tag] = RawDataElement(Tag(tag), said[0], len(said[1]), said[1], 0, False, True)
    shown = result()
    instance = Instance("1.2.1", "1.2.2", "1.2.3", "1.2.4", 0, lambda: header)
    sink = open_sink(str(tmp_path / "a.jsonl"), Keeping(with_patient=True))
    sink.write(replace(shown, frame=replace(shown.frame, instance=instance)))
    sink.close()
    assert json.loads((tmp_path / "a.jsonl").read_text())["patient"] == patient
    assert not recwarn


def test_the_option_is_for_json_lines_alone(tmp_path):
    (tmp_path / "grey.onnx").write_bytes(mean_model(1))
    (tmp_path / "dicom").mkdir()
    a_folder(tmp_path / "dicom")
    refused = run("score", "grey.onnx", "dicom", "--with-patient", "--to", "a.csv", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--with-patient is for JSON Lines" in refused.stderr
    done = run("score", "grey.onnx", "dicom", "--with-patient", "--to", "a.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert NAME in (tmp_path / "a.jsonl").read_text()
    assert "Tr0ub4dor" not in done.stdout + done.stderr
