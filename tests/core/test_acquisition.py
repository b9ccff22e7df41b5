"""Acquisitions: what headers say of scanner and sequence, and which ones a calibration covers."""

import warnings
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset

from adae_edge.acquisition import Acquisition, distinct
from adae_edge.decoding.acquisitions import acquisition_of, person_of

SPACING = 1.0, 0.9, 0.9
KNOWN = Acquisition("SIEMENS", "Skyra", 3.0, "GR SP 3D", 2300.0, 2.98, 900.0, 9.0, SPACING)


def header(**values):
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


CLASSIC = {
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Skyra",
    "MagneticFieldStrength": "3",
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "MRAcquisitionType": "3D",
    "RepetitionTime": "2300",
    "EchoTime": "2.98",
    "InversionTime": "900",
    "FlipAngle": "9",
}


def test_a_classic_header_says_its_acquisition():
    assert acquisition_of(header(**CLASSIC), SPACING) == KNOWN
    several = CLASSIC | {"ScanningSequence": ["GR", "IR"]}
    assert acquisition_of(header(**several), SPACING).sequence == "GR\\IR SP 3D"


def test_an_enhanced_header_says_it_in_its_functional_groups():
    timing = header(RepetitionTime=2300.0, FlipAngle=9.0)
    shared = header(MRTimingAndRelatedParametersSequence=[timing])
    frame = header(MREchoSequence=[header(EffectiveEchoTime=2.98)])
    other = header(MREchoSequence=[header(EffectiveEchoTime=30.0)])
    data = header(
        MagneticFieldStrength=3.0,
        PulseSequenceName="tfl3d1",
        EchoPulseSequence="GRADIENT",
        MRAcquisitionType="3D",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[frame, other],
    )
    expected = Acquisition(None, None, 3.0, "tfl3d1 GRADIENT 3D", 2300, 2.98, None, 9, SPACING)
    assert acquisition_of(data, SPACING) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Manufacturer", ""),
        ("Manufacturer", " \t "),
        ("MagneticFieldStrength", "-1.5"),
        ("MagneticFieldStrength", "1e30"),
        ("FlipAngle", "720"),
        ("ScanningSequence", None),
    ],
)
def test_what_is_empty_or_absurd_is_unknown(name, value):
    found = acquisition_of(header(**CLASSIC | {name: value}), SPACING)
    lost = {"MagneticFieldStrength": "field_strength", "ScanningSequence": "sequence"}
    lost |= {"FlipAngle": "flip_angle", "Manufacturer": "manufacturer"}
    assert found == replace(KNOWN, **{lost[name]: None})


def test_long_and_unprintable_texts_are_cut():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, that it is too long
        found = acquisition_of(header(Manufacturer="a\x1b[31m  b" + "c" * 100), SPACING)
    assert found.manufacturer == "a[31m b" + "c" * 57


def test_what_differs_a_little_is_covered():
    near = replace(
        KNOWN,
        manufacturer="Siemens ",
        field_strength=2.8936,
        repetition_time=2250.0,
        spacing=(1.0, 0.93, 0.88),
    )
    assert KNOWN.differences(near) == []
    assert near.differences(KNOWN) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("manufacturer", "GE MEDICAL SYSTEMS"),
        ("model", "Prisma"),
        ("field_strength", 1.5),
        ("sequence", "SE SK 2D"),
        ("repetition_time", 500.0),
        ("echo_time", None),
        ("inversion_time", None),
        ("flip_angle", 15.0),
        ("spacing", (1.0, 0.9, 1.0)),
        ("spacing", (8.0, 0.9, 0.9)),
    ],
)
def test_what_differs_more_is_told_by_name(name, value):
    other = replace(KNOWN, **{name: value})
    assert KNOWN.differences(other) == other.differences(KNOWN) == [name.replace("_", " ")]


@pytest.mark.parametrize("name", ["manufacturer", "model", "field_strength", "sequence"])
def test_what_is_unknown_covers_nothing_not_even_itself(name):
    unknown = replace(KNOWN, **{name: None})
    words = [name.replace("_", " ")]
    assert unknown.unknown == unknown.differences(unknown) == KNOWN.differences(unknown) == words


def test_distinct_ones_are_kept_once():
    near, other = replace(KNOWN, flip_angle=9.1), replace(KNOWN, field_strength=1.5)
    unknown = replace(KNOWN, model=None)
    assert distinct([KNOWN, near, other, unknown, KNOWN]) == (KNOWN, other)


def test_a_person_is_told_by_identifier_or_by_name_and_birth():
    one = person_of(header(PatientID="02", PatientName="Doe^Jane"))
    assert one == person_of(header(PatientID=" 02", PatientName="DOE JANE"))
    assert one != person_of(header(PatientID="02", IssuerOfPatientID="other hospital"))
    named = person_of(header(PatientID="", PatientName="Doe^Jane", PatientBirthDate="19660101"))
    assert named != person_of(header(PatientName="Doe^Jane", PatientBirthDate="19700101"))
    assert len({one, named, person_of(header())}) == 3
    assert person_of(header()) == ""


def test_an_acquisition_is_told_in_a_line():
    assert str(KNOWN) == (
        "SIEMENS Skyra, 3 T, GR SP 3D, TR 2300 ms, TE 2.98 ms, TI 900 ms, flip angle 9 degrees, "
        "1 x 0.9 x 0.9 mm"
    )
    unknown = Acquisition(None, None, None, None, None, None, None, None, SPACING)
    assert str(unknown) == "unknown scanner, 1 x 0.9 x 0.9 mm"
