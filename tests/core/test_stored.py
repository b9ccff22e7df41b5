"""Values that are read from where they lie: those that the header gives, or none."""

import json

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from adae_edge.decoding import planes
from adae_edge.decoding.planes import as_json, from_json, planes_of, values_of
from tests.support.series import turned, write_series

VALUES = np.random.default_rng(0).integers(-900, 900, (9, 10, 8))


@pytest.fixture
def write(tmp_path):
    """Writes a series, and gives one file of it and the plane that lies in it."""

    def written(**options):
        path = write_series(tmp_path, turned(VALUES), **options)[3]
        (plane,) = planes_of(path)
        return path, plane

    return written


def test_values_that_lie_in_a_file_are_read_without_its_header(write, monkeypatch):
    path, plane = write()
    (expected,) = values_of(path, [0])
    monkeypatch.setattr(planes, "open_place", None)
    (found,) = values_of(path, [0], plane.stored)
    assert found.dtype == expected.dtype == np.int16
    assert np.array_equal(found, expected)


def test_where_values_lie_travels_as_json(write):
    path, plane = write()
    assert from_json(path, json.loads(json.dumps(as_json(plane)))).stored == plane.stored


@pytest.mark.parametrize("change", ["longer", "later"])
def test_a_file_that_was_changed_is_read_by_its_header(write, change):
    path, plane = write()
    data = pydicom.dcmread(path)
    data.PixelData = bytes(reversed(data.PixelData))
    if change == "longer":
        data.PatientName = "Somebody^With^A^Long^Name"
    data.save_as(path)
    (found,) = values_of(path, [0], plane.stored)
    (expected,) = values_of(path, [0])
    assert np.array_equal(found, expected)


def test_values_that_the_bits_cannot_hold_are_read_by_the_header(write):
    path, plane = write(BitsStored=10, HighBit=9)
    assert (plane.stored.low, plane.stored.high) == (-512, 511)
    (expected,) = values_of(path, [0])
    (found,) = values_of(path, [0], plane.stored)
    assert expected.dtype == np.float32
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"shift": 1024},
        {"PixelPaddingValue": 0},
        {"changed": lambda _, data: data.compress(RLELossless)},
    ],
    ids=["rescaled", "padded", "compressed"],
)
def test_values_that_become_others_do_not_lie_in_the_file(write, options):
    _, plane = write(**options)
    assert plane.stored is None


def test_deflated_values_do_not_lie_in_the_file(tmp_path):
    path = write_series(tmp_path, turned(VALUES))[3]
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path)
    (plane,) = planes_of(path)
    assert plane.stored is None
