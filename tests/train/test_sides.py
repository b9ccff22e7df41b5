"""The side that a training recommends or refuses, by the sizes of all frames."""

import pytest
from PIL import Image

from adae_edge.contract import Region
from adae_edge.errors import UsageError
from adae_edge.train.data.dataset import typical_sides
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.request import TrainRequest, plan, prepare, recommended_side
from tests.support.pictures import noise, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of 300 x 200, of which the first by name is a thumbnail, and one is cut short."""
    folder = tmp_path_factory.mktemp("sizes")
    save(folder / "normal" / "000.png", noise(20, 30))
    for index in range(1, 12):
        shape = (200, 300) if index % 2 else (300, 200)
        save(folder / "normal" / f"{index:03}.jpg", noise(*shape))
    cut = folder / "normal" / "999.png"
    save(cut, noise(50, 50))
    cut.write_bytes(cut.read_bytes()[:1000])
    for index in range(30):
        save(folder / "anomalous" / f"{index}.png", noise(9, 9))
    return folder


def test_the_recommended_side_follows_from_most_normals_and_not_from_the_first(folder):
    dataset = load_dataset(str(folder))
    assert typical_sides(dataset) == (200, 300)
    assert recommended_side(dataset, None, 1) == 128
    assert recommended_side(dataset, None, 4) == 32
    assert recommended_side(dataset, Region(0, 0, 90, 70), 1) == 64
    assert plan(dataset, TrainRequest(data=str(folder))).score == "local"


def test_sizes_are_read_without_decoding(folder, monkeypatch):
    dataset = load_dataset(str(folder))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it was decoded"))
    assert typical_sides(dataset) == (200, 300)


def test_frames_in_memory_have_one_size():
    assert typical_sides(load_dataset("digits", 0)) == (8, 8)


@pytest.mark.parametrize(
    ("region", "side", "told"),
    [
        (None, 1024, "--side 1024 is larger than what the network would see, whose longer side is "
         "300 pixels: take 512 or less"),
        (Region(0, 0, 50, 20), 128, "longer side is 50 pixels: take 64 or less"),
        (Region(0, 0, 9, 20), 64, "longer side is 20 pixels: take 32 or less"),
    ],
)  # fmt: skip
def test_a_side_larger_than_the_frames_is_refused(folder, tmp_path, region, side, told):
    out = tmp_path / "c.safetensors"
    with pytest.raises(UsageError, match=told):
        prepare(TrainRequest(data=str(folder), out=out, region=region, side=side))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("region", "side"), [(None, 512), (Region(0, 0, 9, 9), 32)])
def test_a_side_that_is_just_large_enough_is_taken(folder, region, side):
    request = TrainRequest(data=str(folder), region=region, side=side)
    assert plan(load_dataset(str(folder)), request).side == side


def test_slices_and_small_pictures_keep_the_papers_side():
    dataset = load_dataset("digits", 0)
    assert plan(dataset, TrainRequest(data="digits", anomalous="0", side=32)).side == 32
    assert recommended_side(dataset, None) == 32
