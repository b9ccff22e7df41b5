"""From a scanner through an archive and back: stored, pulled, scored, reported, read back."""

import io
import json
import subprocess
from types import SimpleNamespace

import highdicom
import pytest
from pydicom import dcmread

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.formats import modelfile
from tests.support.heads import scan
from tests.support.models import complaints, mean_model, run, slice_model
from tests.support.peers import peer
from tests.support.real_archives import orthanc
from tests.support.receiving import HANGS_S, wait_until
from tests.support.series import turned, write_series

NAME, STUDY, SERIES = "Quarrington^Ophelia", "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.498.2"
REPORT, PICTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
MAPS = "1.2.840.10008.5.1.4.1.1.30"


@pytest.fixture
def archive(tmp_path):
    """An Orthanc to which a scanner has sent a series of a head."""
    port = free_port()
    web = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowGet": True}
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "PatientName": NAME}
    about = {"PatientID": "QO-4711", "WindowCenter": 300, "WindowWidth": 600, **uids}
    paths = write_series(tmp_path / "scan", turned(scan(3)[0]), **about)
    known = {"adae": ["ADAE", "127.0.0.1", free_port()]}
    with orthanc(tmp_path, port, [peer("libOrthancDicomWeb.so")], known, **web) as one:
        words = [peer("storescu"), "-R", "-aec", "ORTHANC", "127.0.0.1", port, *paths]
        subprocess.run([*map(str, words)], check=True, timeout=HANGS_S)
        service = f"dicomweb:http://127.0.0.1:{one.http}/dicom-web"
        (tmp_path / "desk").mkdir()
        (tmp_path / "desk" / "queue").mkdir()
        to = "spool=queue&results=sr,sc"
        yield SimpleNamespace(
            one=one,
            desk=tmp_path / "desk",
            images={str(dcmread(path).SOPInstanceUID) for path in paths},
            dimse=f"dicom://ORTHANC@127.0.0.1:{port}/{STUDY}",
            web=f"{service}/studies/{STUDY}",
            sinks=[f"dicom://ORTHANC@127.0.0.1:{port}?{to}", f"{service}?{to}"],
        )


def objects(one):
    """What the archive has, by its SOP class."""
    found = {}
    for id_ in one.call("/instances"):
        data = one.read(f"/instances/{id_}/file")
        found.setdefault(str(dcmread(io.BytesIO(data)).SOPClassUID), []).append(data)
    return found


def clean(data, folder):
    """The object, of which dicom3tools says no error."""
    (folder / "object.dcm").write_bytes(data)
    command = [peer("dciodvfy"), "-new", folder / "object.dcm"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert [line for line in told.stderr.splitlines() if line.startswith("Error")] == []
    return dcmread(io.BytesIO(data))


def check_nobody_is_named(desk, *done):
    """Whether the patient is in no message, no row, and no file's name."""
    told = "".join(one.stdout + one.stderr for one in done)
    rows = "".join(path.read_text() for path in desk.glob("*.jsonl"))
    names = " ".join(str(path.relative_to(desk)) for path in desk.rglob("*"))
    for secret in ("uarrington", "phelia", "QO-4711"):
        assert secret not in told + rows + names
    assert SERIES in rows


def test_a_series_is_pulled_and_scored_and_its_results_are_stored(archive, tmp_path):
    desk, done = archive.desk, []
    (desk / "slices.onnx").write_bytes(slice_model(threshold=0.1, last="Abs"))
    (desk / "pictures.onnx").write_bytes(mean_model())
    for model, source, more in (("slices", archive.dimse, ",map"), ("pictures", archive.web, "")):
        sinks = *(sink + more for sink in archive.sinks), f"{model}.jsonl"
        to = [word for sink in sinks for word in ("--to", sink)]
        words = "score", f"{model}.onnx", source, "--spool", "spool", *to
        done.append(run(*words, cwd=desk))
        assert done[-1].returncode == 0, done[-1].stderr
    check_nobody_is_named(desk, *done)
    rows = [json.loads(line) for line in (desk / "slices.jsonl").read_text().splitlines()]
    frames = {row["frame"] for row in rows if "score" in row}
    assert frames <= archive.images
    assert {row["complete"] for row in rows if "score" in row} == {"archive"}

    # both ways gave the same, and the second model took no result of the first for a slice
    found = objects(archive.one)
    kinds = {kind: len(found[kind]) for kind in (REPORT, PICTURE, MAPS)}
    assert kinds == {REPORT: 2, PICTURE: 2, MAPS: 1}
    for data in found[REPORT]:
        report = clean(data, tmp_path)
        content = highdicom.sr.srread(io.BytesIO(data)).content
        series = content.get_image_measurement_groups()[0]
        judged = {
            each.name.value: each.value.value for each in series.get_qualitative_evaluations()
        }
        assert judged["complete"] == "by-archive"
        named = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        uids = {item.ReferencedSOPInstanceUID for item in named.ReferencedSOPSequence}
        assert uids in (frames, archive.images)
        assert report.PatientName == NAME
    for data in found[PICTURE]:
        assert clean(data, tmp_path).StudyInstanceUID == STUDY
    made = clean(found[MAPS][0], tmp_path)
    assert made.NumberOfFrames == len(frames)
    assert made.pixel_array.max() > 100


def test_a_pulled_series_calibrates_and_a_station_pulls_it(archive, tmp_path):
    desk = archive.desk
    (desk / "head.onnx").write_bytes(slice_model(last="Abs"))
    words = "calibrate", "head.onnx", f"{archive.web}/series/{SERIES}", "--fpr", "0.3"
    without = run(*words, cwd=desk)
    assert (without.returncode, complaints(without)[0][-16:]) == (2, "give --spool DIR")
    calibrated = run(*words, "--spool", "spool", cwd=desk)
    assert calibrated.returncode == 0, calibrated.stderr
    assert "slices of 1 person\ncalibrated on SIEMENS Verio, 3 T" in calibrated.stdout
    assert modelfile.read(desk / "head.onnx").contract.acquisitions

    sinks = ["rows.jsonl", *archive.sinks]
    (desk / "station.toml").write_text(
        f'[[stream]]\nmodel = "head.onnx"\nsource = "{archive.dimse}"\nspool = "spool"\n'
        f"to = {json.dumps(sinks)}\n"
    )
    checked = run("run", "station.toml", "--check", cwd=desk)
    assert checked.returncode == 0, checked.stderr
    done = run("run", "station.toml", cwd=desk)
    assert done.returncode == 0, done.stderr
    check_nobody_is_named(desk, without, calibrated, checked, done)
    rows = [json.loads(line) for line in (desk / "rows.jsonl").read_text().splitlines()]
    verdicts = {row["verdict"] for row in rows if "score" in row}
    assert "normal" in verdicts <= {"normal", "anomalous"}
    wait_until(lambda: len(objects(archive.one)) == 3)
