"""What the DICOM sinks make of a series, and what they do where they cannot."""

import io
from dataclasses import replace

import pytest
from pydicom import dcmread

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.errors import SpoolFull
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sinks.registry import open_sink
from adae_edge.runtime.sinks.sink import HIGHEST, MAP, PIXELS
from tests.runtime.test_sinks import LOST, result
from tests.support.results import header, result_of

REPORT, PICTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"
pytestmark = [  # of sockets that pynetdicom drops where it could not connect
    pytest.mark.filterwarnings("ignore:unclosed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def opened(tmp_path):
    """Opens a sink for an archive that is away."""
    sinks, port = [], free_port()

    def again(options=""):
        for sink in sinks:
            sink.close()
        sinks.append(open_sink(f"dicom://PACS@127.0.0.1:{port}?spool={tmp_path}{options}"))
        return sinks[-1]

    yield again
    for sink in sinks:
        sink.close()


def end_of(end):
    return Event("scan", 1.0, "series", "the series is complete", series=end)


def give(sink, revision=1, slices=3, models=("90f3d94cb19b",)):
    """Give a sink the results of a series, and its end."""
    numbers = range(1, slices + 1)
    made = result_of([header(number) for number in numbers], numbers, revision=revision)
    for number, scored in enumerate(made.slices):
        model = models[number % len(models)]
        sink.write(replace(scored, contract=made.contract, file="heads.onnx", model=model))
    sink.event(end_of(made.end))


def waiting(sink):
    """What waits in the queue of a sink, by its class."""
    found = [dcmread(io.BytesIO(message.payload)) for message in sink._spool.peek(100)]
    return [(one.SOPClassUID, one) for one in found]


def test_a_series_gives_a_report_and_a_picture_when_it_has_ended(opened):
    sink = opened()
    assert (sink.wants, sink.shows) == ({PIXELS, MAP}, HIGHEST)
    sink.write(result())  # no DICOM
    sink.event(LOST)
    give(sink)
    (first, report), (second, picture) = waiting(sink)
    assert (first, second) == (REPORT, PICTURE)
    assert report.StudyInstanceUID == picture.StudyInstanceUID == "1.2.3"
    assert (sink.waiting, sink.lacks) == (2, 0)
    assert not sink._series


def test_one_kind_of_object_alone(opened):
    sink = opened("&results=sr")
    assert not sink.wants
    give(sink)
    assert [kind for kind, _ in waiting(sink)] == [REPORT]


def test_the_same_series_gives_the_same_objects_and_a_secret_others(opened):
    sink = opened()
    give(sink)
    give(sink)
    uids = [one.SOPInstanceUID for _, one in waiting(sink)]
    assert uids[:2] == uids[2:]
    sink = opened("&secret=abcdefgh")
    give(sink)
    assert not {one.SOPInstanceUID for _, one in waiting(sink)[4:]} & set(uids)
    assert "abcdefgh" not in sink.name


def test_a_revision_names_the_report_that_it_replaces_also_after_a_restart(opened):
    give(opened())
    sink = opened()
    give(sink, revision=2, slices=4)
    reports = [one for kind, one in waiting(sink) if kind == REPORT]
    assert len(reports) == 2
    assert reports[0].SOPInstanceUID in str(reports[1].PredecessorDocumentsSequence)
    assert "PredecessorDocumentsSequence" not in reports[0]


def test_a_series_for_which_the_queue_has_no_room_is_an_error_and_counted(opened):
    sink = opened("&limit=1kB")
    with pytest.raises(SpoolFull):
        give(sink)
    assert (sink.waiting, sink.lacks) == (0, 1)


def test_a_series_of_two_models_is_told_and_counted(opened):
    sink = opened()
    give(sink, models=("90f3d94cb19b", "a0f3d94cb19b"))
    assert (sink.waiting, sink.lacks) == (0, 1)
    assert any("its slices were scored by two models" in told for told in sink.news())
