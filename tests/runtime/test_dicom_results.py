"""Results of a series as DICOM objects, read back by programs that are not ours."""

import logging
import shutil
import subprocess
import warnings
from dataclasses import replace

import numpy as np
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset

pytest.importorskip("highdicom")

from highdicom.sr import Comprehensive3DSR

from adae_edge.decoding.dicom import decode_dicom
from adae_edge.errors import FrameError, NoPicture
from adae_edge.grid import Grid
from adae_edge.runtime.dicom.results import concepts
from adae_edge.runtime.dicom.results.capture import capture, picture
from adae_edge.runtime.dicom.results.identity import written_of
from adae_edge.runtime.dicom.results.parametric_map import parametric_map
from adae_edge.runtime.dicom.results.report import MOST_SLICES, report
from tests.support.checkout import ROOT
from tests.support.results import NAME, faults, header, headers_of, read, result_of, written
from tests.support.shared import DATA

SCORES = [0.5, 1.5, 0.7, 2.25, 1.25]
HEADERS = [header(number) for number in range(1, 6)]


def content_of(dataset):
    """The report as highdicom's own reader has it."""
    return Comprehensive3DSR.from_dataset(read(dataset)).content


def groups_of(dataset):
    return content_of(dataset).get_image_measurement_groups()


def values_of(group):
    """What a group measures, by the code of its concept."""
    return {each.name.value: each.value for each in group.get_measurements()}


def judged(group):
    """What a group judges, by the code of its concept."""
    return {each.name.value: each.value.value for each in group.get_qualitative_evaluations()}


def test_a_report_says_what_the_series_and_its_anomalous_slices_have():
    result = result_of(HEADERS, SCORES, slices=7, complete="quiet", object="head")
    series, *slices = groups_of(report(result))
    assert values_of(series) == {
        "highest": 2.25,
        "threshold": 1.0,
        "target-rate": 0.01,
        "anomalous-slices": 3,
        "scored-slices": 5,
        "all-slices": 7,
        "revision": 1,
    }
    assert judged(series) == {
        "status": "no-diagnosis",
        "verdict": "anomalous",
        "calibrated": "373066001",
        "object": "object-head",
        "complete": "by-quiet",
    }
    assert [values_of(group)["score"] for group in slices] == [2.25, 1.5, 1.25]
    assert [group.source_images[0].referenced_sop_instance_uid for group in slices] == [
        f"1.2.3.4.{number}" for number in (4, 2, 5)
    ]
    assert all(judged(group)["status"] == "no-diagnosis" for group in slices)


def test_a_report_names_device_algorithm_and_evidence_and_is_verified_by_nobody():
    made = read(report(result_of(HEADERS, SCORES)))
    content = content_of(made)
    device = content.get_observer_contexts()[0].observer_identifying_attributes
    assert str(device.uid).startswith("2.25.")
    texts = {each.value for each in made.iterall() if each.keyword == "TextValue"}
    assert "weights SHA-256 " + "0" * 64 in texts
    assert made.CompletionFlag == "COMPLETE"
    assert made.VerificationFlag == "UNVERIFIED"
    assert made.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99ADAE"
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert len(evidence.ReferencedSOPSequence) == len(HEADERS)
    assert made.PatientName == NAME
    assert made.StudyInstanceUID == "1.2.3"
    assert (made.ContentDate, made.ContentTime) == ("20240203", "101500.25")


def test_of_400_slices_the_50_highest_have_a_group():
    headers = [header(number) for number in range(1, 401)]
    groups = groups_of(report(result_of(headers, [0.01 * n for n in range(1, 401)])))
    assert len(groups) == 1 + MOST_SLICES
    assert values_of(groups[0])["anomalous-slices"] == 300
    assert values_of(groups[-1])["score"] == pytest.approx(3.51)


def test_the_same_input_gives_the_same_bytes_and_another_one_other_uids():
    result = result_of(HEADERS, SCORES)
    for make in (report, capture):
        assert written(make(result)) == written(make(result_of(HEADERS, SCORES)))
    changed = [
        result_of(HEADERS[:4], SCORES[:4]),
        result_of(HEADERS, SCORES, threshold=1.1),
        result_of(HEADERS, SCORES, revision=2),
        result_of(HEADERS, SCORES, complete="quiet"),
        result_of(HEADERS, SCORES, calibrated=False),
        replace(result, model="other.onnx"),
        replace(result, contract=replace(result.contract, weights_sha256="2" * 64)),
    ]
    uids = {str(report(each).SOPInstanceUID) for each in (result, *changed)}
    assert len(uids) == 1 + len(changed)
    assert report(result).SOPInstanceUID != capture(result).SOPInstanceUID


def test_a_last_digit_of_a_score_makes_no_second_result():
    other = result_of(HEADERS, [score * (1 + 1e-7) for score in SCORES])
    assert written(report(other)) == written(report(result_of(HEADERS, SCORES)))


def test_a_secret_keys_every_uid_that_is_ours():
    result = result_of(HEADERS, SCORES)

    def own(secret):
        return {
            str(element.value)
            for element in report(result, secret).iterall()
            if element.VR == "UI" and str(element.value).startswith("2.25.")
        }

    assert own(b"site") == own(b"site")
    assert not own(b"site") & own(b"other")
    assert not own(b"site") & own(None)
    assert all(len(uid) <= 64 for uid in own(b"site"))


def test_a_revision_names_what_it_replaces_and_keeps_the_tracking_uids():
    first = report(result_of(HEADERS[:4], SCORES[:4]))
    second = report(result_of(HEADERS, SCORES, revision=2, replaces=written_of(first)))
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert named.SeriesInstanceUID == first.SeriesInstanceUID == second.SeriesInstanceUID
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert values_of(groups_of(second)[0])["revision"] == 2
    assert groups_of(second)[1].tracking_uid == groups_of(first)[1].tracking_uid


def test_without_a_threshold_that_holds_there_is_no_verdict_and_no_count():
    groups = groups_of(report(result_of(HEADERS, SCORES, calibrated=False)))
    assert len(groups) == 1
    assert judged(groups[0])["verdict"] == "uncalibrated"
    assert judged(groups[0])["calibrated"] == concepts.NO.value
    assert not {"anomalous-slices", "target-rate"} & set(values_of(groups[0]))


def test_a_threshold_of_the_operator_has_no_target_rate():
    result = result_of(HEADERS, SCORES)
    slices = tuple(replace(scored, threshold=1.3) for scored in result.slices)
    moved = replace(result, slices=slices, highest=slices[3])
    values = values_of(groups_of(report(moved))[0])
    assert values["threshold"] == 1.3
    assert "target-rate" not in values


def test_frames_of_one_instance_are_told_by_their_numbers():
    headers = [header(1)] * 3
    groups = groups_of(report(result_of(headers, [2.0, 0.5, 3.0], numbers=[1, 2, 3])))
    numbers = [group.source_images[0].referenced_frame_numbers for group in groups[1:]]
    assert numbers == [[3], [1]]
    assert len({group.tracking_uid for group in groups}) == 3


def test_slices_cut_across_instances_refer_to_the_series_alone():
    result = result_of(HEADERS, SCORES)
    slices = []
    for scored in result.slices:
        instance = replace(scored.frame.instance, sop_class="", sop_instance="")
        slices.append(replace(scored, frame=replace(scored.frame, instance=instance)))
    cut = replace(result, slices=tuple(slices), highest=slices[3])
    groups = groups_of(report(cut))
    assert len(groups) == 4
    assert not any(group.source_images for group in groups)
    assert len({group.tracking_uid for group in groups}) == 4
    assert "SourceImageSequence" not in capture(cut) or not capture(cut).SourceImageSequence


@pytest.mark.parametrize("with_map", [True, False])
def test_a_capture_shows_the_highest_slice_under_its_text(with_map, tmp_path):
    made = read(capture(result_of(HEADERS, SCORES, with_map=with_map)))
    shown = made.pixel_array
    assert made.PhotometricInterpretation == "RGB"
    assert shown.dtype == np.uint8
    assert tuple(shown[0, 0]) == (190, 70, 0)  # the colour of anomalous frames
    left, right = shown[-300:, :100], shown[-300:, -100:]
    assert (np.ptp(left, axis=2) == 0).all()
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.4"
    assert made.PatientName == NAME
    assert right.any()
    assert not faults(made, tmp_path)


@pytest.mark.parametrize(
    ("said", "grid", "tall"),
    [
        ({"PixelSpacing": [2, 1]}, None, 2),
        ({"PixelSpacing": [0.5, 2]}, None, 0.25),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.3, 0.2]}, None, 1.5),
        ({"PixelSpacing": None, "PixelAspectRatio": [2, 1]}, None, 2),
        ({"PixelSpacing": [0, 1], "PixelAspectRatio": [3, 1]}, None, 3),
        ({"PixelSpacing": [1, 1e9]}, None, 1),
        ({"PixelSpacing": None}, None, 1),
        ({"PixelSpacing": [1, 1]}, Grid(np.zeros(3), np.diag([1.0, 3.0, 1.0])), 3),
    ],
)
def test_a_capture_shows_slice_and_map_in_their_true_proportions(said, grid, tall):
    result = result_of([header(1, **said)], [3.0])
    pixels = np.zeros((64, 48, 1), np.uint8)
    pixels[24:40, 16:32] = 255
    frame = replace(result.highest.frame, pixels=pixels, grid=grid)
    drawn = picture(replace(result, highest=replace(result.highest, frame=frame))).astype(int)
    strip = (drawn[:, 0] == (190, 70, 0)).all(axis=1).sum()
    drawn, middle = drawn[strip:], drawn.shape[1] // 2
    assert proportion(drawn[:, :middle, 2] > 127) == pytest.approx(tall, rel=0.1)
    heat = np.ptp(drawn, axis=2) > 20
    assert not heat[:, :middle].any()
    assert proportion(heat) == pytest.approx(tall * 64 / 48, rel=0.1)  # as the map is square


def proportion(seen):
    """How many times as high as wide is what is seen."""
    down, across = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return (np.ptp(down) + 1) / (np.ptp(across) + 1)


def test_a_capture_that_comes_back_is_not_scored(tmp_path):
    path = tmp_path / "back.dcm"
    path.write_bytes(written(capture(result_of(HEADERS, SCORES))))
    with pytest.raises(NoPicture, match=r"back\.dcm is a result of adae-edge, and results are not"):
        next(decode_dicom(path))


@pytest.mark.parametrize("said", ["YES", "NO", ""])
def test_a_capture_says_of_text_in_its_pixels_what_the_slice_says(said):
    others = [header(n, BurnedInAnnotation="NO") for n in range(1, 3)]
    shown = header(3, BurnedInAnnotation=said)
    made = capture(result_of([*others, shown], [0.5, 0.7, 1.5]))
    assert made.get("BurnedInAnnotation", "") == said


def test_dcmtk_reads_both(tmp_path):
    if shutil.which("dsrdump") is None:
        pytest.skip("dcmtk is not installed")
    for make in (report, capture):
        (tmp_path / make.__name__).write_bytes(written(make(result_of(HEADERS, SCORES))))
    dump = subprocess.run(
        ["dsrdump", tmp_path / "report"], capture_output=True, text=True, check=True
    )
    assert 'NUM:(,,"Highest anomaly score of the series")="2.25"' in dump.stdout
    assert 'NUM:(,,"Number of scored slices")="5"' in dump.stdout
    assert "not-a-diagnosis" in dump.stdout or "Not a diagnosis" in dump.stdout
    subprocess.run(
        ["dcm2pnm", tmp_path / "capture", tmp_path / "shown.ppm"], check=True, capture_output=True
    )
    assert (tmp_path / "shown.ppm").read_bytes().startswith(b"P6")


UGLY = {
    "nothing of the patient": dict.fromkeys(
        ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"]
    ),
    "no time at all": dict.fromkeys(["AcquisitionDate", "AcquisitionTime", "StudyDate"]),
    "no frame of reference": {"FrameOfReferenceUID": None, "Modality": None},
    "no place": dict.fromkeys(["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]),
    "an enhanced MR": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"},
    "a CT": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"},
    "an ultrasound": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": "US"},
    "an odd modality": {"Modality": "Q9"},
    "a name of three groups": {
        "PatientName": "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060"
    },
    "an old name": {"PatientName": "Quibblewick, Ottoline ^^^^^^"},
}


NO_PLACE = ("no frame of reference", "no place")


@pytest.mark.parametrize("what", UGLY)
def test_odd_headers_give_valid_objects(what, tmp_path):
    result = result_of([header(n, **UGLY[what]) for n in range(1, 4)], [0.5, 1.5, 0.7])
    for make in (report, capture) if what in NO_PLACE else (report, capture, parametric_map):
        assert not faults(make(result), tmp_path)


def test_values_that_break_the_standard_are_left_out():
    broken = header(1)
    raw = Dataset.from_json(broken.to_json())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.PatientBirthDate = "1970-01-02"
        raw.AccessionNumber = "much longer than sixteen letters"
    raw.add_new(0x00091001, "UN", b"\x00\xff private")
    made = report(result_of([raw], [2.0]))
    assert made.PatientBirthDate == ""
    assert made.AccessionNumber == "much longer than"


@pytest.mark.parametrize(
    "values",
    [
        {"StudyInstanceUID": ""},
        {"SeriesInstanceUID": "../../etc"},
        {"SOPInstanceUID": "", "SOPClassUID": ""},
        {"SOPClassUID": "1.2.3.4.5.6.7"},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_cannot_be_filed_gets_one_sentence(values):
    with pytest.raises(FrameError) as caught:
        report(result_of([header(1, **values)], [2.0]))
    assert "\n" not in str(caught.value)
    assert NAME not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_of_each_kind_of_file_of_pydicom_there_is_a_report_or_a_sentence():
    seen, made = set(), 0
    for path in get_testdata_files("*.dcm"):
        try:
            (read_header,) = headers_of([path])
            kind = str([read_header.get("SOPClassUID"), read_header.get("SpecificCharacterSet")])
        except Exception:
            continue
        if kind in seen:
            continue
        seen.add(kind)
        try:
            made_of = report(result_of([read_header], [2.0], with_map=False))
        except FrameError:
            continue
        assert read(made_of).SOPClassUID == made_of.SOPClassUID
        made += 1
    assert made > 10


def test_nobody_is_told_the_patients_name(caplog, capfd):
    bad = header(1)
    bad.PatientName = "Quibblewick^Ottoline^^^^^^x"
    bad.SpecificCharacterSet = "ISO_IR 999"
    with caplog.at_level(logging.DEBUG):
        for headers in (HEADERS[:1], [bad]):
            for make in (report, capture, parametric_map):
                make(result_of(headers, [2.0]))
    told = capfd.readouterr()
    assert "uibblewick" not in told.out + told.err + caplog.text


@pytest.mark.skipif(not (DATA / "dicom").is_dir(), reason="the shared series is not there")
def test_the_shared_series_gives_objects_without_errors(tmp_path):
    files = sorted((DATA / "dicom" / "mr_t1").glob("*.dcm"))
    result = result_of(headers_of(files), [0.5 + 0.03 * n for n in range(len(files))])
    for make in (report, capture):
        assert not faults(make(result), tmp_path)


def test_every_concept_of_ours_stands_in_the_page():
    page = (ROOT / "docs" / "dicom-results.md").read_text("utf-8")
    assert len({concept.value for concept in concepts.OWN}) == len(concepts.OWN)
    for concept in concepts.OWN:
        assert f"| `{concept.value}` | {concept.meaning} |" in page
        assert len(concept.value) <= 16
        assert len(concept.meaning) <= 64
