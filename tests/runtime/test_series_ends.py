"""A folder tells where each of its DICOM series ends, and which instance each frame is of."""

import numpy as np
import pytest

from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted
from tests.support.series import turned, write_enhanced, write_series

HEADS = Wanted("modality", object="head", jobs=1)


@pytest.fixture(scope="module")
def head():
    """A head of 20 x 24 x 12 voxels, with noise."""
    values = np.random.default_rng(5).integers(200, 900, (20, 24, 12))
    values[:2] = values[-2:] = 0
    return turned(values)


def read(folder, wanted=HEADS):
    items = list(open_source(str(folder), wanted))
    ends = [item.series for item in items if isinstance(item, Event) and item.series]
    return [item for item in items if not isinstance(item, Event)], ends


def test_the_end_of_each_series_follows_its_slices(tmp_path, head):
    write_series(tmp_path / "a", head)
    write_series(tmp_path / "b", head)
    items = list(open_source(str(tmp_path), HEADS))
    kinds = [getattr(item, "kind", "frame") for item in items]
    assert kinds == (["frame"] * 12 + ["series"]) * 2
    for frames, end in ((items[:12], items[12]), (items[13:25], items[25])):
        assert {frame.instance.series for frame in frames} == {end.series.uid}
        assert end.series[1:] == ("files", 1, 12, "head")
        assert [frame.instance.sop_instance for frame in frames] == [frame.id for frame in frames]
        assert frames[3].instance.dataset().SOPInstanceUID == frames[3].id


def test_echoes_are_one_series_with_one_end(tmp_path, head):
    def later(number, data):
        data.EchoTime = 90

    paths = write_series(tmp_path, head, EchoTime=30, SeriesInstanceUID="1.2.3")
    for path in paths:
        path.rename(path.with_suffix(".first.dcm"))
    write_series(tmp_path, head, changed=later, SeriesInstanceUID="1.2.3")
    frames, ends = read(tmp_path)
    assert len(frames) == 24
    assert [end[:4] for end in ends] == [("1.2.3", "files", 1, 24)]


def test_slices_that_are_cut_across_name_the_series_alone(tmp_path, head):
    write_series(tmp_path, turned(np.asarray(head.dataobj), "PSR"), SeriesInstanceUID="1.2.3")
    frames, (end,) = read(tmp_path)
    assert {frame.instance.sop_instance for frame in frames} == {""}
    assert {frame.instance.series for frame in frames} == {end.uid} == {"1.2.3"}
    assert frames[0].instance.dataset().SeriesInstanceUID == "1.2.3"


def test_frames_of_an_enhanced_file_have_numbers(tmp_path, head):
    path = write_enhanced(tmp_path / "e.dcm", head)
    frames, (end,) = read(path)
    assert [frame.instance.number for frame in frames] == list(range(1, 13))
    assert len({frame.instance.sop_instance for frame in frames}) == 1
    assert end.slices == 12


def test_pictures_name_their_series_too(tmp_path, head):
    paths = write_series(tmp_path, head, SeriesInstanceUID="1.2.3", WindowCenter=5, WindowWidth=9)
    done = lambda source, frame: source == str(paths[0]) and frame != 0  # noqa: E731
    frames, (end,) = read(tmp_path, Wanted(done=done))
    assert len(frames) == 11
    assert end == ("1.2.3", "files", 1, 12, "")
