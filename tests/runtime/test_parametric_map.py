"""The map of a series lies on its slices, and is read back by programs that are not ours."""

import io
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

pytest.importorskip("highdicom")

from highdicom.pm import ParametricMap

from adae_edge.decoding.dicom import decode_dicom
from adae_edge.errors import FrameError, NoPicture
from adae_edge.formats import modelfile
from adae_edge.placement import placement_of
from adae_edge.runtime.dicom.results import parametric_map as module
from adae_edge.runtime.dicom.results.parametric_map import parametric_map
from adae_edge.runtime.dicom.results.result import SeriesResult
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.runtime.sinks import results as gathering
from adae_edge.runtime.sources.registry import open_for
from tests.support.heads import scan
from tests.support.models import slice_model
from tests.support.results import faults, header, headers_of, read, result_of, written
from tests.support.series import turned, write_enhanced, write_series
from tests.support.shared import real

SCORES = [0.5, 1.5, 0.7, 2.25, 1.25]
HEADERS = [header(number) for number in range(1, 6)]
CONTRACT = modelfile.check(slice_model()).contract


def scored_volume(place, **contract):
    """What is known of the series at a place, each of whose maps is its slice itself."""
    contract = replace(CONTRACT, **contract)
    with open_for(contract, str(place)) as source:
        items = list(source)
    frames = [item for item in items if isinstance(item, Frame)]
    (end,) = [item.series for item in items if not isinstance(item, Frame)]
    slices = [
        Scored(
            frame,
            float(number),
            5.5,
            anomaly_map=frame.pixels[..., 0],
            placement=placement_of(contract, *frame.size),
        )
        for number, frame in enumerate(frames)
    ]
    return SeriesResult(tuple(slices), slices[-1], end, contract, "model.onnx")


def values_at(image, places):
    """The values of an image at places [..., 3] of the patient, x to the left and y to the back."""
    there = (places * (-1, -1, 1) - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    there = np.rint(there).astype(int)
    return np.asarray(image.dataobj)[tuple(np.moveaxis(there, -1, 0))]


def lies_on(made, image):
    """Whether each pixel of a map that is not 0 has the image's value at the same place."""
    shared = made.SharedFunctionalGroupsSequence[0]
    along, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient).reshape(2, 3)
    rows, columns = shared.PixelMeasuresSequence[0].PixelSpacing
    frames = ParametricMap.from_dataset(made).pixel_array
    for group, values in zip(made.PerFrameFunctionalGroupsSequence, frames, strict=True):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(values > 1)
        places = corner + row[:, None] * rows * down + column[:, None] * columns * along
        assert len(row) > 100
        assert np.array_equal(values_at(image, places), values[row, column])


@pytest.mark.parametrize(
    ("axes", "side"),
    [("LPS", None), ("LPS", 30.0), ("LAS", 90.0), ("RPS", 30.0), ("PSR", None), ("LSA", 30.0)],
)
def test_the_map_of_a_volume_lies_on_its_slices(tmp_path, axes, side):
    image = turned(scan(3)[0], axes)
    paths = write_series(tmp_path / "series", image)
    made = read(parametric_map(scored_volume(tmp_path / "series", field_of_view=side)))
    assert not faults(made, tmp_path)
    lies_on(made, image)
    groups = made.PerFrameFunctionalGroupsSequence
    if axes[2] != "S":  # cut across the images, none of which is a slice
        assert not any("DerivationImageSequence" in group for group in groups)
        assert len(made.SourceImageSequence) == 1
        return
    at = {str(dcmread(path).SOPInstanceUID): dcmread(path).ImagePositionPatient for path in paths}
    for group in groups:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert at[image.ReferencedSOPInstanceUID][2] == place[2]
        assert image.SpatialLocationsPreserved == ("YES" if axes == "LPS" else "NO")
    named = made.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(named) == len(made.SourceImageSequence) == len(groups)


def test_frames_of_an_enhanced_image_are_told_by_their_numbers(tmp_path):
    image, order = turned(scan(3)[0]), np.random.default_rng(0).permutation(16).tolist()
    path = write_enhanced(tmp_path / "enhanced.dcm", image, order)
    data = dcmread(path)
    data.FrameOfReferenceUID = "1.2.3.9"
    data.save_as(path)
    made = read(parametric_map(scored_volume(path)))
    assert not faults(made, tmp_path)
    lies_on(made, image)
    for group in made.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        own = data.PerFrameFunctionalGroupsSequence[source.ReferencedFrameNumber - 1]
        place = group.PlanePositionSequence[0].ImagePositionPatient
        assert own.PlanePositionSequence[0].ImagePositionPatient == place
    (named,) = made.SourceImageSequence
    assert named.ReferencedSOPInstanceUID == data.SOPInstanceUID


def test_the_map_of_pictures_lies_where_their_headers_say(tmp_path):
    made = read(parametric_map(result_of(HEADERS, SCORES)))
    assert not faults(made, tmp_path)
    assert (made.Rows, made.Columns, made.NumberOfFrames) == (64, 48, 5)
    frames = ParametricMap.from_dataset(made).pixel_array
    assert frames.dtype == np.float32
    for group, values in zip(made.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = int(group.PlanePositionSequence[0].ImagePositionPatient[2]) // 2
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == f"1.2.3.4.{number}"
        # a square of the network's 16 x 16 pixels, over 64 x 48 of the slice
        assert values[18:26, 29:34] == pytest.approx(2 * SCORES[number - 1])
        assert values[:14].max() == values[:, :25].max() == 0
    mapping = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.LUTExplanation == "Anomaly map, not a diagnosis"
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 4.5


def test_the_same_input_gives_the_same_bytes_and_a_secret_keys_what_is_ours():
    result = result_of(HEADERS, SCORES)
    assert written(parametric_map(result)) == written(parametric_map(result_of(HEADERS, SCORES)))

    def own(secret):
        uids = {
            str(each.value) for each in parametric_map(result, secret).iterall() if each.VR == "UI"
        }
        return {uid for uid in uids if not uid.startswith("1.2.")}

    assert all(uid.startswith("2.25.") for uid in own(None))
    assert len(own(None)) == 3  # of the series, of the map, and of its dimensions
    assert not own(None) & own(b"site")


def test_a_map_that_comes_back_is_not_scored(tmp_path):
    path = tmp_path / "back.dcm"
    path.write_bytes(written(parametric_map(result_of(HEADERS, SCORES))))
    with pytest.raises(
        NoPicture, match=r"back\.dcm holds no picture: it is of the kind Parametric"
    ):
        next(decode_dicom(path))


def test_what_has_no_map_gets_one_sentence(monkeypatch):
    def why(headers, **told):
        with pytest.raises(FrameError) as caught:
            parametric_map(result_of(headers, SCORES[: len(headers)], **told))
        return str(caught.value)

    assert "no anomaly maps" in why(HEADERS, with_map=False)
    assert "no frame of reference" in why([header(1, FrameOfReferenceUID=None)])
    assert "does not say where" in why([header(1, PixelSpacing=None)])
    assert "several, as echoes" in why([header(1), header(2, ImagePositionPatient=[0, 0, 2])])
    assert "one size" in why([header(1), header(2, Rows=32)])
    sagittal = header(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert "one size and orientation" in why([header(1), sagittal])
    monkeypatch.setattr(module, "MOST_BYTES", 4 * 64 * 48 * 4)
    assert "more than" in why(HEADERS)


def test_maps_that_would_make_no_map_are_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(gathering, "MOST_BYTES", 4 * 16 * 16 * 4)
    gathered = gathering.Gathered(with_maps=True)
    held = []
    for scored in result_of(HEADERS, SCORES).slices:
        gathered.add(scored)
        held.append(sum(each.anomaly_map is not None for each in gathered.slices))
    assert held == [1, 2, 3, 4, 0]
    assert gathered.highest.anomaly_map is not None


def test_the_shared_series_has_a_map_without_errors(tmp_path):
    files = sorted(real("dicom/mr_t1").glob("*.dcm"))
    made = parametric_map(result_of(headers_of(files), [0.03 * n for n in range(len(files))]))
    assert not faults(made, tmp_path)
    back = ParametricMap.from_dataset(dcmread(io.BytesIO(written(made))))
    assert back.get_volume_geometry().shape == (len(files), made.Rows, made.Columns)
