"""From the scanner to the archive: series are sent, scored and reported, and read back."""

import io
import subprocess
from contextlib import contextmanager

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from adae_edge.benchmarks.peers import processes
from adae_edge.benchmarks.peers.processes import free_port
from tests.support.archives import storage
from tests.support.models import run, slice_model
from tests.support.peers import peer
from tests.support.real_archives import Orthanc, orthanc
from tests.support.receiving import HANGS_S, wait_until
from tests.support.scoring import scoring, store
from tests.support.series import turned, write_series
from tests.support.shared import real
from tests.support.slices import write_slice

NAME = "Tr0ub4dor^Anna"
REPORT, PICTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


class Archive(Orthanc):
    """An Orthanc with its web plug-in."""

    def __init__(self, http, port):
        super().__init__(http)
        self.http, self.port = http, port

    def results(self):
        """The objects that are no slices, by their SOP class."""
        found = {}
        for id_ in self.call("/instances"):
            data = self.read(f"/instances/{id_}/file")
            if (kind := dcmread(io.BytesIO(data)).SOPClassUID) in (REPORT, PICTURE):
                found.setdefault(kind, []).append(data)
        return found


@contextmanager
def archive(folder, **modalities):
    """An archive within the block."""
    port = free_port()
    web = {"Enable": True, "Root": "/dicom-web/"}
    plugins = [peer("libOrthancDicomWeb.so")]
    with orthanc(folder, port, plugins, modalities, DicomCheckCalledAet=True, DicomWeb=web) as one:
        yield Archive(one.http, port)


def sinks(one, folder, options=""):
    """Both ways to the archive, as words of the command."""
    end = f"&spool={folder}{options}"
    return [
        *("--to", f"dicom://ORTHANC@127.0.0.1:{one.port}?results=sr,sc{end}"),
        *("--to", f"dicomweb:http://127.0.0.1:{one.http}/dicom-web?results=sr,sc{end}"),
    ]


def a_head(folder, **header):
    """A series of an object whose seventh slice is the brightest."""
    values = np.zeros((24, 24, 12), np.int16)
    values[4:20, 4:20] = 100 + np.arange(12) % 7 * 10
    return write_series(folder, turned(values), PatientName=NAME, PatientID="4711", **header)


def said_of(data, folder):
    """What dcmtk reads in a report, and what dicom3tools complains of."""
    (folder / "report.dcm").write_bytes(data)
    options = {"capture_output": True, "text": True, "timeout": HANGS_S}
    read = subprocess.run([peer("dsrdump"), folder / "report.dcm"], check=True, **options)
    checked = subprocess.run([peer("dciodvfy"), folder / "report.dcm"], check=False, **options)
    return read.stdout, [line for line in checked.stderr.splitlines() if "Error" in line]


@pytest.mark.parametrize("of", ["a series of ours", "the shared MR series"])
def test_a_scanner_s_series_is_reported_to_the_archive_both_ways(tmp_path, of):
    model = slice_model(threshold=0.1)
    files = a_head(tmp_path / "scan") if "ours" in of else sorted(real("dicom/mr_t1").glob("*.dcm"))
    with archive(tmp_path) as one:
        (tmp_path / "queue").mkdir()
        options = "--quiet", "3s", *sinks(one, tmp_path / "queue")
        with scoring(tmp_path, *options, model=model) as command:
            store(command.port, *files)
            wait_until(lambda: command.series())
            wait_until(lambda: len(one.results()) == 2)
            wait_until(lambda: not command.files("claimed"))
            found = one.results()
        rows = command.rows()
    # by both ways came the same objects, so that there is one of each
    assert {kind: len(all_of) for kind, all_of in found.items()} == {REPORT: 1, PICTURE: 1}
    slices = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
    highest = max(rows, key=lambda row: row["score"])
    report = highdicom.sr.srread(io.BytesIO(found[REPORT][0]))
    assert report.content.get_image_measurement_groups() is not None
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for series in report.CurrentRequestedProcedureEvidenceSequence
        for one_series in series.ReferencedSeriesSequence
        for item in one_series.ReferencedSOPSequence
    }
    assert referenced
    assert referenced <= slices
    text, complaints = said_of(found[REPORT][0], tmp_path)
    assert "not a diagnosis" in text.lower()
    assert f"{highest['score']:.4g}"[:5] in text
    assert complaints == []
    picture = dcmread(io.BytesIO(found[PICTURE][0]))
    assert picture.pixel_array.std() > 0
    assert picture.StudyInstanceUID == report.StudyInstanceUID
    assert "Tr0ub4dor" not in command.process.stderr_text


def test_a_series_that_is_scored_again_is_no_second_result(tmp_path):
    (tmp_path / "model.onnx").write_bytes(slice_model(threshold=0.1))
    a_head(tmp_path / "scan")
    (tmp_path / "queue").mkdir()
    with archive(tmp_path) as one:
        words = "score", "model.onnx", "scan", *sinks(one, tmp_path / "queue")
        for _ in range(2):
            done = run(*words, cwd=tmp_path)
            assert done.returncode == 0
            assert "Tr0ub4dor" not in done.stdout + done.stderr
        found = one.results()
        assert {kind: len(all_of) for kind, all_of in found.items()} == {REPORT: 1, PICTURE: 1}
        keyed = *words[:3], *sinks(one, tmp_path / "queue", "&secret=abcdefgh")
        assert run(*keyed, cwd=tmp_path).returncode == 0
        assert len(one.results()[REPORT]) == 2


def test_what_was_scored_while_the_archive_was_away_is_reported_later(tmp_path):
    (tmp_path / "model.onnx").write_bytes(slice_model(threshold=0.1))
    a_head(tmp_path / "scan")
    (tmp_path / "queue").mkdir()
    port = free_port()
    to = f"dicom://ORTHANC@127.0.0.1:{port}?spool={tmp_path / 'queue'}"
    done = run("score", "model.onnx", "scan", "--to", to, cwd=tmp_path)
    assert done.returncode == 0
    assert f"cannot reach ORTHANC at 127.0.0.1:{port}; results wait in" in done.stderr
    assert "2 wait for dicom://" in done.stderr
    (tmp_path / "kept").mkdir()
    command = [peer("storescp"), "-od", tmp_path / "kept", "-aet", "ORTHANC", port]
    with processes.peer(command) as archive:
        processes.wait_for_port(port, archive)
        again = run("score", "model.onnx", "scan", "--resume", "--to", to, "--to", "a.jsonl",
                    cwd=tmp_path)  # fmt: skip
    assert again.returncode == 0, again.stderr
    kept = {dcmread(path).SOPClassUID for path in (tmp_path / "kept").iterdir()}
    assert kept == {REPORT, PICTURE}


def test_slices_that_were_scored_before_a_kill_are_in_the_report_once(tmp_path):
    (tmp_path / "queue").mkdir()
    files = []
    for number in range(6):
        uids = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.2"}
        files.append(
            write_slice(
                tmp_path / f"{number}.dcm",
                np.full((16, 16), 50 + 20 * number, np.uint8),
                SOPInstanceUID=f"1.2.3.{number}",
                PatientName=NAME,
                **uids,
            )
        )
    with storage(classes=(REPORT, PICTURE)) as one:
        to = "--to", f"dicom://PACS@127.0.0.1:{one.port}?spool={tmp_path / 'queue'}"
        with scoring(tmp_path, "--resume", "--quiet", "60s", *to) as command:
            store(command.port, *files)
            wait_until(lambda: len(command.rows()) == 6)
            command.process.kill()
        with scoring(tmp_path, "--resume", "--quiet", "2s", *to, port=command.port) as command:
            wait_until(lambda: len(one.kept) == 2)
            wait_until(lambda: not command.files("claimed"))
            assert len(command.rows()) == 6
        assert len(one.came) == 2
    (report,) = [data for data in one.kept.values() if data.SOPClassUID == REPORT]
    assert all(f"1.2.3.{number}" in str(report) for number in range(3, 6))  # the anomalous ones
