"""What a graph takes and returns, as its contract says it."""

import dataclasses

import numpy as np
import pytest

from adae_edge.batch import Batch, InputCheck
from adae_edge.contract import Form, Region
from adae_edge.errors import FrameError, UsageError
from adae_edge.interface import INPUTS, Port, inputs_of, outputs_of


@pytest.fixture
def slices(contract):
    """A contract of kind "modality"."""
    return dataclasses.replace(contract, kind="modality", z_range=5.0, object="nonzero")


def test_pictures_are_one_input_of_bytes(contract):
    colour = dataclasses.replace(contract, channels=3)
    assert inputs_of(colour) == (Port("frames", "uint8", (None, None, None, 3)),)
    assert outputs_of(colour) == (Port("score", "float32", (None,)),)


def test_slices_come_with_a_mean_and_a_standard_deviation(slices):
    assert inputs_of(slices) == (
        Port("frames", "float32", (None, None, None, 1)),
        Port("mean", "float32", (None,)),
        Port("std", "float32", (None,)),
    )
    assert tuple(port.name for port in inputs_of(slices)) == INPUTS
    assert tuple(field.name for field in dataclasses.fields(Batch)) == INPUTS


@pytest.mark.parametrize(
    ("anomaly_map", "shape"), [("network", (4, 32, 32)), ("frame", (4, 480, 640))]
)
def test_fixed_sizes_are_those_of_the_form(slices, anomaly_map, shape):
    form = Form(size=(480, 640), batch=4, anomaly_map=anomaly_map)
    fixed = dataclasses.replace(slices, form=form)
    assert [port.shape for port in inputs_of(fixed)] == [(4, 480, 640, 1), (4,), (4,)]
    assert outputs_of(fixed)[1] == Port("anomaly_map", "float32", shape)


def test_a_port_can_be_read(slices):
    frames, mean, _ = inputs_of(slices)
    assert str(frames) == "frames float32 [N, H, W, 1]"
    assert str(mean) == "mean float32 [N]"
    mapped = dataclasses.replace(slices, form=Form(anomaly_map="frame"))
    assert str(outputs_of(mapped)[1]) == "anomaly_map float32 [N, H, W]"


def test_frames_are_checked_and_laid_out_as_a_graph_takes_them(contract, slices):
    pictures = np.arange(2 * 6 * 8, dtype=np.uint8).reshape(2, 6, 8, 1)
    check = InputCheck(contract)
    assert check(pictures)[0] is pictures
    (frames,) = check(pictures[:, ::2])
    assert frames.flags.c_contiguous
    assert np.array_equal(frames, pictures[:, ::2])
    values = pictures.astype(np.float32)
    checked = InputCheck(slices)(values, np.array([3.0, 4.0]), np.array([1, 2]))
    assert [array.dtype for array in checked] == ["float32"] * 3
    assert checked[0] is values


FRAMES = np.zeros((2, 6, 8, 1), np.float32)
ONES = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (
            ("frames",),
            "frames are a float32 array [N, H, W, 1], and this is str",
        ),
        (
            (FRAMES[0], ONES, ONES),
            "frames are a float32 array [N, H, W, 1], and this is float32 [6, 8, 1]",
        ),
        (
            (FRAMES.astype(np.uint8), ONES, ONES),
            "frames are a float32 array [N, H, W, 1], and this is uint8 [2, 6, 8, 1]",
        ),
        (
            (np.repeat(FRAMES, 3, axis=3), ONES, ONES),
            "this model takes frames with 1 channels, and these have 3",
        ),
        (
            (FRAMES[:, :0], ONES, ONES),
            "a frame is 8 x 0 pixels, and a frame has 1 x 1 to 8192 x 8192",
        ),
        ((FRAMES,), "this model takes a mean and a standard deviation with each frame"),
        (
            (FRAMES, ONES[:1], ONES),
            "the mean and the standard deviation are one finite number for each frame",
        ),
        (
            (FRAMES, ONES * np.nan, ONES),
            "the mean and the standard deviation are one finite number for each frame",
        ),
        ((FRAMES, ONES, 0 * ONES), "a standard deviation is above 0"),
        ((FRAMES + np.inf, ONES, ONES), "a frame has values that are not finite numbers"),
    ],
)
def test_frames_that_do_not_fit_are_refused_with_a_sentence_each_time(slices, arrays, sentence):
    check = InputCheck(slices)
    check(FRAMES, ONES, ONES)
    for _ in range(2):
        with pytest.raises(FrameError) as refused:
            check(*arrays)
        assert str(refused.value) == sentence


def test_pictures_have_no_mean(contract):
    with pytest.raises(FrameError, match="this model takes pictures, which have no mean"):
        InputCheck(contract)(FRAMES.astype(np.uint8), mean=ONES)


def test_a_fixed_size_is_the_only_one(contract):
    fixed = dataclasses.replace(contract, form=Form(size=(480, 640)))
    with pytest.raises(FrameError, match="frames of 640 x 480 pixels alone, and this one has 8 x"):
        InputCheck(fixed)(FRAMES.astype(np.uint8))


def test_a_region_lies_in_the_frame_or_is_refused(contract):
    region = Region(4, 2, 4, 4)
    region.check(6, 8)
    with pytest.raises(UsageError, match=r"looks at \(4, 2, 4, 4\), .* a frame of 7 x 6 pixels"):
        region.check(6, 7, UsageError)
    with pytest.raises(FrameError, match="outside of a frame of 8 x 5 pixels"):
        InputCheck(dataclasses.replace(contract, region=region))(FRAMES.astype(np.uint8)[:, :5])


def test_made_up_frames_are_of_the_models_kind(contract, slices):
    pictures = np.full((3, 5, 7, 1), 200, np.uint8)
    assert Batch.of_pictures(pictures, contract).frames is pictures
    made = Batch.of_pictures(pictures, slices)
    InputCheck(slices)(*made.arrays())
    assert made.frames.dtype == "float32"
    assert (made.frames == 200).all()
    assert len(made.mean) == len(made.std) == 3


def test_batches_of_one_size_are_joined(contract, slices):
    pictures = np.arange(3 * 35, dtype=np.uint8).reshape(3, 5, 7, 1)
    for wanted in (contract, slices):
        whole = Batch.of_pictures(pictures, wanted)
        singles = [Batch.of_pictures(picture[None], wanted) for picture in pictures]
        for array, expected in zip(Batch.joined(singles).arrays(), whole.arrays(), strict=True):
            assert np.array_equal(array, expected)
