"""Archives of others give what is asked for: C-GET, C-MOVE, and DICOMweb."""

import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Receiving, Wanted
from tests.support.models import HANGS_S
from tests.support.peers import peer
from tests.support.real_archives import dcmqrscp, orthanc
from tests.support.slices import write_slice

ROOT = "1.2.826.0.1.3680043.8.498"
STUDY, PLAIN, SQUEEZED, REPORT = (f"{ROOT}.{number}" for number in (1, 2, 3, 4))
NAME = "Quarrington^Ophelia"


def a_study(folder):
    """Six slices of one series and four compressed ones of another, each of its number's mean."""
    files = []
    for series, count in ((PLAIN, 6), (SQUEEZED, 4)):
        for number in range(count):
            pixels = np.full((64, 48), 10 * number + 5, np.uint8)
            uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": series}
            path = folder / f"{series}-{number}.dcm"
            about = {"PatientName": NAME, "PatientID": "7", "InstanceNumber": number + 1}
            write_slice(path, pixels, SOPInstanceUID=f"{series}.{number}", **uids, **about)
            if series == SQUEEZED:
                subprocess.run([peer("dcmcjpls"), "+un", path, path], check=True)
            files.append(path)
    return files


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An Orthanc that holds the study."""
    folder, port, receiver = tmp_path_factory.mktemp("orthanc"), free_port(), free_port()
    adae = {"adae": {"AET": "ADAE", "Host": "127.0.0.1", "Port": receiver}}
    web = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(
        folder, port, [peer("libOrthancDicomWeb.so")], adae, **web, DicomAlwaysAllowGet=True
    ) as one:
        for path in a_study(folder):
            one.call("/instances", path.read_bytes())
        web = f"dicomweb:http://127.0.0.1:{one.http}/dicom-web"
        yield SimpleNamespace(
            call=one.call,
            dimse=f"dicom://ORTHANC@127.0.0.1:{port}/{STUDY}",
            web=f"{web}/studies/{STUDY}",
            move=f"?move={receiver}",
        )


@pytest.fixture(scope="module")
def dcmtk(tmp_path_factory):
    """A dcmqrscp that holds the study."""
    folder, port, receiver = tmp_path_factory.mktemp("dcmtk"), free_port(), free_port()
    with dcmqrscp(folder, port, receiver):
        files = a_study(folder)
        command = [peer("storescu"), "-R", "-xt", "-aec", "QRSCP", "127.0.0.1", str(port)]
        subprocess.run([*command, *files], check=True, timeout=HANGS_S)
        yield SimpleNamespace(
            dimse=f"dicom://QRSCP@127.0.0.1:{port}/{STUDY}", move=f"?move={receiver}"
        )


def given(spec, folder, **wanted):
    """The frames and the events of a source."""
    wanted = Wanted(receiving=Receiving(folder / "spool"), **wanted)
    with open_source(spec, wanted) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    return frames, [item for item in items if item not in frames]


def check(spec, folder, series=(PLAIN, SQUEEZED)):
    """Whether a source gives these series, each frame once and whole."""
    frames, events = given(spec, folder)
    assert [event.detail for event in events if event.kind != "series"] == []
    expected = {
        f"{one}.{number}": 10 * number + 5
        for one, count in ((PLAIN, 6), (SQUEEZED, 4))
        for number in range(count)
        if one in series
    }
    assert {frame.id: frame.pixels.mean() for frame in frames} == expected
    assert len(frames) == len(expected)
    place = spec.partition("?")[0].partition("/series/")[0].partition(f"/{STUDY}/")[0]
    assert all(frame.source.startswith(place.partition("/studies")[0]) for frame in frames)
    assert {frame.source.rpartition("/")[2] for frame in frames} == set(series)
    ends = {event.series.uid: event.series for event in events if event.kind == "series"}
    assert [event.kind for event in events] == ["series"] * len(series)
    assert {uid: (end.slices, end.complete) for uid, end in ends.items()} == {
        one: (6 if one == PLAIN else 4, "archive") for one in series
    }


@pytest.mark.parametrize("move", [False, True])
def test_orthanc_gives_a_study_by_dimse(archive, tmp_path, move):
    check(archive.dimse + archive.move * move, tmp_path)


@pytest.mark.parametrize("move", [False, True])
def test_dcmtk_gives_a_study(dcmtk, tmp_path, move):
    check(dcmtk.dimse + dcmtk.move * move, tmp_path)


def test_orthanc_gives_a_study_over_the_web(archive, tmp_path):
    check(archive.web, tmp_path)


def test_one_series_is_asked_for_alone(archive, dcmtk, tmp_path):
    check(f"{archive.dimse}/{SQUEEZED}", tmp_path, [SQUEEZED])
    check(f"{dcmtk.dimse}/{PLAIN}", tmp_path, [PLAIN])
    check(f"{archive.web}/series/{PLAIN}", tmp_path, [PLAIN])
