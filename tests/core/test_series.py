"""DICOM series as volumes: every orientation and order, splits, refusals that name the files."""

import itertools
import warnings
import zipfile

import nibabel
import numpy as np
import pytest

from adae_edge.decoding import planes
from adae_edge.decoding.nifti import read_volume
from adae_edge.decoding.objects import slices_of
from adae_edge.decoding.plane_workers import PlaneWorkers
from adae_edge.decoding.planes import planes_of
from adae_edge.decoding.series import find_series, read_series
from adae_edge.decoding.workers import Workers
from adae_edge.errors import FrameError, NoPicture
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.volumes import Volumes
from tests.support.series import planes_here, turned, values_here, write_enhanced, write_series

VALUES = np.random.default_rng(0).integers(-900, 900, (9, 10, 12))
ORIENTATIONS = [
    "".join(axes)
    for order in itertools.permutations(("LR", "PA", "SI"))
    for axes in itertools.product(*order)
]


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only_series(folder):
    found = find_series(files_in(folder), planes_here)
    assert not found.refused
    (series,) = found.series
    return series


def refusal(folder, kind=FrameError):
    found = find_series(files_in(folder), planes_here)
    assert not found.series
    (error,) = found.refused
    assert type(error) is kind
    assert str(folder) in str(error)
    return str(error)


@pytest.fixture(scope="module")
def as_nifti(tmp_path_factory):
    path = tmp_path_factory.mktemp("nifti") / "v.nii.gz"
    nibabel.save(turned(VALUES), path)
    return read_volume(path)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_series_is_the_nifti_volume_in_every_orientation_and_order(tmp_path, axes, as_nifti):
    order = np.random.default_rng(1).permutation(turned(VALUES, axes).shape[2])
    write_series(tmp_path, turned(VALUES, axes), order, shift=1000)
    volume = read_series(only_series(tmp_path), values_here)
    assert np.array_equal(volume.values, as_nifti.values)
    assert np.allclose(volume.grid.steps, as_nifti.grid.steps)
    assert np.allclose(volume.grid.corner, as_nifti.grid.corner)
    assert volume.grid.spacing == pytest.approx((2, 1, 1))


def test_planes_of_an_enhanced_file_come_one_by_one(tmp_path, monkeypatch):
    """So that the time for a frame is not the time for thousands of them."""
    path = write_enhanced(tmp_path / "e.dcm", turned(VALUES))
    read = planes_of(path)
    assert next(read).number == 0
    monkeypatch.setattr(planes, "parts_of", None)
    with pytest.raises(FrameError, match="its header is damaged"):
        next(read)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "PSR", "SLA"])
def test_an_enhanced_file_is_the_same_volume(tmp_path, axes, as_nifti):
    order = np.random.default_rng(1).permutation(turned(VALUES, axes).shape[2])
    write_enhanced(tmp_path / "e.dcm", turned(VALUES, axes), order)
    volume = read_series(only_series(tmp_path), values_here)
    assert np.array_equal(volume.values, as_nifti.values)
    assert np.allclose(volume.grid.corner, as_nifti.grid.corner)


def test_an_oblique_series_is_the_oblique_volume(tmp_path):
    image = turned(VALUES, "LPS")
    turn = nibabel.eulerangles.euler2mat(0.3, 0.2, -0.25)
    oblique = nibabel.Nifti1Image(
        np.asarray(image.dataobj),
        nibabel.affines.from_matvec(turn @ image.affine[:3, :3], [1, 2, 3]),
    )
    nibabel.save(oblique, tmp_path / "v.nii.gz")
    nifti = read_volume(tmp_path / "v.nii.gz")
    for axes in ("LPS", "ASR", "IRA"):
        stored = oblique.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.orientations.io_orientation(oblique.affine),
                nibabel.orientations.axcodes2ornt(tuple(axes)),
            )
        )
        write_series(tmp_path / axes, stored)
        volume = read_series(only_series(tmp_path / axes), values_here)
        assert np.array_equal(volume.values, nifti.values)
        assert volume.grid.is_near(nifti.grid, volume.values.shape)


def test_slices_that_are_frames_are_found_again(tmp_path):
    image = turned(VALUES, "LPI")
    paths = write_series(tmp_path, image)
    volume = read_series(only_series(tmp_path), values_here)
    assert [place.source for place in volume.places] == [str(path) for path in paths[::-1]]
    assert len({place.id for place in volume.places}) == 12
    write_enhanced(tmp_path / "e" / "e.dcm", image)
    places = read_series(only_series(tmp_path / "e"), values_here).places
    assert places[0].source == str(tmp_path / "e" / "e.dcm")
    assert places[0].id.endswith("/12")
    write_series(tmp_path / "s", turned(VALUES, "PSR"))
    places = read_series(only_series(tmp_path / "s"), values_here).places
    assert places[3] == (f"{tmp_path / 's'}, series 5 t1 mprage", 3)


def test_rescaling_is_each_slices_own(tmp_path, as_nifti):
    def rescaled(number, data):
        data.RescaleSlope = str(0.5 + number % 2)
        data.PixelData = (
            (np.frombuffer(data.PixelData, "<i2") / (0.5 + number % 2)).astype("<i2").tobytes()
        )

    write_series(tmp_path, turned(VALUES * 3), changed=rescaled)
    assert np.allclose(
        read_series(only_series(tmp_path), values_here).values, as_nifti.values * 3, atol=1.5
    )


def test_values_stay_integers_while_these_are_the_values(tmp_path, as_nifti):
    write_series(tmp_path / "plain", turned(VALUES))
    plain = read_series(only_series(tmp_path / "plain"), values_here).values
    assert plain.dtype == np.int16
    assert np.array_equal(plain, as_nifti.values)

    def doubled(number, data):
        data.RescaleSlope = 2 if number == 3 else 1

    write_series(tmp_path / "mixed", turned(VALUES), changed=doubled)
    mixed = read_series(only_series(tmp_path / "mixed"), values_here).values
    assert mixed.dtype == np.float32
    assert np.array_equal(mixed[3], as_nifti.values[3] * 2)
    assert np.array_equal(np.delete(mixed, 3, 0), np.delete(as_nifti.values, 3, 0))


def test_bits_that_do_not_count_are_no_values(tmp_path, as_nifti):
    def dirty(number, data):
        data.BitsStored, data.HighBit = 12, 11
        values = np.frombuffer(data.PixelData, "<i2")
        data.PixelData = (values & 0xFFF | 0x5000).astype("<i2").tobytes()

    write_series(tmp_path, turned(VALUES), changed=dirty)
    assert np.array_equal(read_series(only_series(tmp_path), values_here).values, as_nifti.values)


def test_pixel_padding_is_no_object(tmp_path):
    values = np.where(np.indices(VALUES.shape)[0] < 2, -900, np.abs(VALUES))
    write_series(tmp_path, turned(values), PixelPaddingValue=-900)
    volume = read_series(only_series(tmp_path), values_here)
    assert np.isnan(volume.values).sum() == (values == -900).sum()
    slices = slices_of(volume, "head")
    assert np.isfinite(slices.values).all()
    assert (slices.values[:, :, -2:] == 0).all()  # the patient's left


def test_copies_of_a_file_count_once(tmp_path, as_nifti):
    paths = write_series(tmp_path, turned(VALUES))
    (tmp_path / "copy.dcm").write_bytes(paths[3].read_bytes())
    assert np.array_equal(read_series(only_series(tmp_path), values_here).values, as_nifti.values)


def without_uid(number, data):
    data.SOPInstanceUID = ""


def of_one_uid(number, data):
    data.SOPInstanceUID = "1.2.3"


@pytest.mark.parametrize("changed", [without_uid, of_one_uid])
def test_slices_without_a_uid_of_their_own_are_no_copies(tmp_path, changed, as_nifti):
    paths = write_series(tmp_path / "a", turned(VALUES), changed=changed)
    (tmp_path / "b").mkdir()
    for number, path in enumerate(paths[6:]):  # under the names of others
        path.rename(tmp_path / "b" / paths[number].name)
    series = only_series(tmp_path)
    assert np.array_equal(read_series(series, values_here).values, as_nifti.values)


def test_a_slice_that_does_not_say_its_rescaling_may_lie_beside_those_that_need_none(tmp_path):
    def silent(number, data):
        if number == 4:
            del data.RescaleSlope, data.RescaleIntercept

    write_series(tmp_path, turned(VALUES), changed=silent)
    assert only_series(tmp_path).planes[4].rescaled is None


def test_the_scanner_the_patient_and_the_spacing_are_kept(tmp_path):
    write_series(tmp_path, turned(VALUES, "LPS"))
    volume = read_series(only_series(tmp_path), values_here)
    assert volume.acquisition.manufacturer == "SIEMENS"
    assert volume.acquisition.spacing == (2, 1, 1)
    assert len(volume.person) == 64


SPLITS = {
    "EchoTime": ("2.5", "10.2"),
    "EchoNumbers": ("1", "2"),
    "DiffusionBValue": (0.0, 1000.0),
    "TemporalPositionIdentifier": ("1", "2"),
    "TriggerTime": ("10", "400"),
    "InversionTime": ("700", "2500"),
    "AcquisitionNumber": ("1", "2"),
    "ImageType": (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]),
}


@pytest.mark.parametrize("name", SPLITS)
def test_what_was_taken_twice_at_each_place_is_two_volumes(tmp_path, name, as_nifti):
    def varied(number, data):
        data.AcquisitionTime = f"1200{number:02}"  # counts slices, and no volumes

    for times, value in enumerate(SPLITS[name], start=1):
        header = {name: value, "SeriesInstanceUID": "1.2.3"}
        write_series(tmp_path / str(times), turned(VALUES * times), changed=varied, **header)
    found = find_series(files_in(tmp_path), planes_here)
    assert not found.refused
    assert len(found.series) == 2
    assert len({series.name for series in found.series}) == 2
    for times, series in enumerate(found.series, start=1):
        assert np.array_equal(read_series(series, values_here).values, as_nifti.values * times)


def test_two_echoes_of_three_times_are_six_volumes(tmp_path):
    for echo, time in itertools.product(("3", "8"), ("1", "2", "3")):
        header = {"EchoTime": echo, "TemporalPositionIdentifier": time, "SeriesInstanceUID": "1.2"}
        write_series(tmp_path / f"{echo}-{time}", turned(VALUES), **header)
    found = find_series(files_in(tmp_path), planes_here)
    assert not found.refused
    names = [series.name for series in found.series]
    assert len(names) == 6
    assert any(name.endswith("series 5 t1 mprage, echo time 3, time 2") for name in names)


def test_two_volumes_that_nothing_tells_apart_are_refused(tmp_path):
    for copy in ("a", "b"):
        write_series(tmp_path / copy, turned(VALUES), SeriesInstanceUID="1.2.3")
    assert "slices at the same place, and nothing tells them apart" in refusal(tmp_path)


@pytest.mark.parametrize("missing", [1, 6, 10])
def test_a_gap_is_refused(tmp_path, missing):
    paths = write_series(tmp_path, turned(VALUES))
    paths[missing].unlink()
    sentence = refusal(tmp_path)
    assert "has a gap: its slices are 2 mm apart, and 4 mm between" in sentence
    assert str(paths[missing - 1]) in sentence


def test_wide_spacing_that_is_even_is_no_gap(tmp_path):
    write_series(tmp_path, turned(VALUES, spacing=(1, 1, 8)), SliceThickness="1")
    assert read_series(only_series(tmp_path), values_here).grid.spacing == pytest.approx((8, 1, 1))


def test_slices_that_a_heart_triggered_are_a_volume(tmp_path):
    def triggered(number, data):
        data.RepetitionTime = 800 + 20 * number

    write_series(tmp_path, turned(VALUES), changed=triggered)
    assert len(only_series(tmp_path).planes) == 12


def test_a_localiser_is_no_volume_and_no_fault(tmp_path):
    for axes in ("LPS", "PSR", "LSA"):
        image = turned(VALUES[:5, :5, :5], axes)
        write_series(tmp_path / axes, image, SeriesInstanceUID="1.2.3")
    sentence = refusal(tmp_path, NoPicture)
    assert "has 15 slices of 3 orientations, as a localiser has" in sentence


def test_several_orientations_of_many_slices_are_a_volume_each(tmp_path):
    for axes in ("LPS", "PSR"):
        write_series(tmp_path / axes, turned(VALUES, axes), SeriesInstanceUID="1.2.3")
    found = find_series(files_in(tmp_path), planes_here)
    assert len(found.series) == 2
    one, other = (read_series(series, values_here).values for series in found.series)
    assert np.array_equal(one, other)


def test_few_slices_are_no_volume(tmp_path):
    write_series(tmp_path, turned(VALUES[:, :, :7]))
    assert "has 7 slices, and a volume has 8" in refusal(tmp_path, NoPicture)


def smaller(number, data):
    if number == 4:
        data.Columns -= 1
        data.PixelData = data.PixelData[: data.Rows * data.Columns * 2]


def of_other_pixels(number, data):
    if number == 4:
        data.PixelSpacing = ["1.5", "1"]


def of_other_units(number, data):
    data.RescaleType = "HU" if number == 4 else "US"


def rescaled_in_part(number, data):
    data.RescaleSlope = 2
    if number == 4:
        del data.RescaleSlope, data.RescaleIntercept


def displaced(number, data):
    x, y, z = map(float, data.ImagePositionPatient)
    data.ImagePositionPatient = [x, y + number, z]


def of_another_patient(number, data):
    data.PatientID = str(number // 6)


def of_another_frame_of_reference(number, data):
    data.FrameOfReferenceUID = f"1.2.{number // 6}"


def of_another_echo_between(number, data):
    data.EchoTime = 80 if number % 2 else 10


def of_another_b_value_between(number, data):
    data.DiffusionBValue = 1000.0 if number % 2 else 0.0


def of_another_scanner(number, data):
    data.ManufacturerModelName = "Skyra" if number > 5 else "Verio"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (of_another_frame_of_reference, "has slices that differ in frame of reference"),
        (of_another_echo_between, "has slices that differ in echo time"),
        (of_another_b_value_between, "has slices that differ in b-value"),
        (of_another_scanner, "has slices that differ in model"),
        (smaller, "has slices of 2 sizes, and a volume has one"),
        (of_other_pixels, "has slices of 2 pixel spacings, and a volume has one"),
        (of_other_units, "has slices of 2 units, and a volume has one"),
        (displaced, "displaced against each other, as a tilted gantry does"),
        (rescaled_in_part, "slices that are rescaled, and others that do not say how"),
        (of_another_patient, "shows more than one patient under one series UID"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(tmp_path, changed, sentence):
    write_series(tmp_path, turned(VALUES), changed=changed)
    assert sentence in refusal(tmp_path)


def without_place(number, data):
    del data.ImagePositionPatient


def in_colour(number, data):
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
    data.PlanarConfiguration, data.PixelRepresentation = 0, 0
    data.PixelData = data.PixelData * 3


@pytest.mark.parametrize("changed", [without_place, in_colour])
def test_pictures_that_are_no_slices_are_left_out_and_counted(tmp_path, changed):
    write_series(tmp_path, turned(VALUES), changed=changed)
    found = find_series(files_in(tmp_path), planes_here)
    assert not found.series
    assert not found.refused
    assert found.left_out == {"without a slice": 12}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("ImageOrientationPatient", ["1.5", "0", "0", "0", "1", "0"]),
        ("ImageOrientationPatient", ["1", "0", "0"]),
        ("ImagePositionPatient", ["1", "0"]),
        ("PixelSpacing", ["0", "1"]),
        ("PixelSpacing", ["-1", "1"]),
        ("PixelSpacing", ["1e9", "1"]),
        ("ImagePositionPatient", ["1e300", "0", "0"]),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, name, value):
    paths = write_series(
        tmp_path, turned(VALUES), changed=lambda number, data: setattr(data, name, value)
    )
    found = find_series(paths, planes_here)
    assert not found.series
    assert len(found.refused) == 12
    assert all(str(path) in str(error) for path, error in zip(paths, found.refused, strict=True))


@pytest.mark.parametrize("uid", ["1.2/../../etc", "1" * 4096, "a\x1b[2J"])
def test_odd_uids_reach_neither_names_nor_messages(tmp_path, uid):
    def odd(number, data):
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}{number}"
        data.SeriesInstanceUID = uid

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, as it writes
        write_series(tmp_path, turned(VALUES), changed=odd)
    volume = read_series(only_series(tmp_path), values_here)
    assert [place.id for place in volume.places] == [f"{number:04}.dcm" for number in range(12)]


def test_other_processes_read_the_same(tmp_path):
    image = turned(VALUES, "PIR")
    write_series(tmp_path / "a", image, np.random.default_rng(3).permutation(image.shape[2]))
    write_enhanced(tmp_path / "b" / "e.dcm", image)
    files = files_in(tmp_path)
    with Workers(2) as workers:
        processes = PlaneWorkers(workers)
        there = find_series(files, processes.planes).series
        here = find_series(files, planes_here).series
        assert [series.name for series in there] == [series.name for series in here]
        for one, other in zip(there, here, strict=True):
            volume, expected = read_series(one, processes.values), read_series(other, values_here)
            assert np.array_equal(volume.values, expected.values)
            assert volume.places == expected.places
            assert volume.acquisition == expected.acquisition
            assert volume.grid.is_near(expected.grid, volume.values.shape)


def test_a_damaged_slice_costs_its_series_and_no_other_one(tmp_path):
    damaged = write_series(tmp_path / "a", turned(VALUES))
    write_series(tmp_path / "b", turned(VALUES))
    with Workers(2) as workers:
        processes = PlaneWorkers(workers)
        one, other = find_series(files_in(tmp_path), processes.planes).series
        damaged[2].write_bytes(damaged[2].read_bytes()[:-50])
        with pytest.raises(FrameError, match=f"{damaged[2]} cannot be decoded"):
            read_series(one, processes.values)
        volume = read_series(other, processes.values)
        assert np.array_equal(volume.values, read_series(other, values_here).values)


def test_a_series_of_an_archive_or_an_index_is_the_same(tmp_path):
    paths = write_series(tmp_path / "series", turned(VALUES))
    with zipfile.ZipFile(tmp_path / "cd.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, f"IMAGES/{path.name}")
        archive.writestr("README.TXT", "a viewer for Windows")
    expected = list(Volumes(str(tmp_path / "series"), Wanted("modality", object="head")))
    source = Volumes(str(tmp_path / "cd.zip"), Wanted("modality", object="head"))
    frames = list(source)
    assert len(frames) == len(expected) > 0
    for frame, other in zip(frames[:-1], expected[:-1], strict=True):
        assert np.array_equal(frame.pixels, other.pixels)
        assert (frame.id, frame.mean, frame.std) == (other.id, other.mean, other.std)
        assert frame.acquisition == other.acquisition
        assert frame.about == other.about
    assert frames[0].source.startswith(f"{tmp_path / 'cd.zip'}/IMAGES/")
    assert source.left_out == {".txt": 1}
