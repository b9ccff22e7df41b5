"""Folders of images and DICOM files as data sets, and what is refused in them."""

import numpy as np
import pytest
from PIL import Image

from adae_edge.decoding import workers
from adae_edge.errors import DatasetError, UsageError
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_for
from adae_edge.train.data.dataset import read_batches
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.trainer import train
from adae_edge.train.unseen import unseen_frames
from tests.support.pictures import noise, save
from tests.support.shared import real
from tests.support.slices import write_slice
from tests.support.trained import settings_for


def test_a_class_cannot_be_chosen_in_a_folder(tmp_path):
    save(tmp_path / "a.png", noise(4, 4))
    with pytest.raises(UsageError, match="--anomalous"):
        load_dataset(str(tmp_path), 3)


def test_a_folder_with_normal_and_anomalous(tmp_path):
    for index in range(3):
        save(tmp_path / "normal" / "deep" / f"{index}.png", noise(5, 6))
    save(tmp_path / "anomalous" / "x.jpg", noise(5, 6))
    (tmp_path / "normal" / "notes.txt").write_text("not a picture")
    dataset = load_dataset(str(tmp_path))
    assert list(dataset.anomalous) == [False, False, False, True]
    assert dataset.channels == 1
    assert dataset.frames[1].shape == (5, 6, 1)


def test_one_colour_file_makes_the_folder_colour(tmp_path):
    save(tmp_path / "a.png", noise(5, 6))
    save(tmp_path / "b.png", noise(5, 6, 3))
    dataset = load_dataset(str(tmp_path))
    assert dataset.channels == 3
    assert np.array_equal(dataset.frames[0], np.repeat(noise(5, 6)[:, :, None], 3, axis=2))


def test_exif_orientation_is_respected(tmp_path):
    image = Image.fromarray(noise(4, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(load_dataset(str(tmp_path)).frames[0][:, :, 0], np.rot90(noise(4, 9), -1))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no images"):
        load_dataset(str(tmp_path))


def test_an_empty_part_of_a_folder_is_named(tmp_path):
    save(tmp_path / "normal" / "a.png", noise(5, 6))
    (tmp_path / "anomalous").mkdir()
    with pytest.raises(
        DatasetError, match=f"no images and no DICOM files in {tmp_path / 'anomalous'}"
    ):
        load_dataset(str(tmp_path))
    save(tmp_path / "anomalous" / "a.png", noise(5, 6))
    (tmp_path / "normal" / "a.png").unlink()
    with pytest.raises(
        DatasetError, match=f"no images and no DICOM files in {tmp_path / 'normal'}"
    ):
        load_dataset(str(tmp_path))


AXIAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]


def turned(degrees):
    """Axial, turned about the patient's left-right axis."""
    return [1, 0, 0, 0, float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def slices(folder, orientations, **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    for index, axes in enumerate(orientations):
        pixels = noise(12, 10).astype(np.uint16) + index
        given = {"SeriesInstanceUID": "1.2.3", "ImageOrientationPatient": axes} | attributes
        write_slice(folder / f"{index:02}.dcm", pixels, BitsStored=12, **given)
    return folder


def test_dicom_files_stand_beside_images_as_frames(tmp_path):
    slices(tmp_path / "normal", [AXIAL] * 3)
    save(tmp_path / "normal" / "03.png", noise(5, 6))
    slices(tmp_path / "anomalous", [AXIAL] * 2)
    dataset = load_dataset(str(tmp_path), window=(128.0, 256.0))
    assert list(dataset.anomalous) == [False] * 4 + [True] * 2
    assert dataset.channels == 1
    for index in range(3):
        expected = noise(12, 10).astype(np.float64) + index
        assert np.abs(dataset.frames[index][:, :, 0] - expected.clip(0, 255)).max() <= 1
    assert dataset.frames[3].shape == (5, 6, 1)


def test_every_frame_of_a_dicom_file_counts(tmp_path):
    pixels = noise(4, 12, 10)
    write_slice(tmp_path / "many.dcm", pixels, NumberOfFrames=4)
    write_slice(tmp_path / "one.dcm", pixels[0])
    dataset = load_dataset(str(tmp_path))
    assert [frame.tobytes() for frame in dataset.frames] == [
        *(frame.tobytes() for frame in pixels),
        pixels[0].tobytes(),
    ]
    assert np.array_equal(next(read_batches(dataset, np.array([2, 0])))[..., 0], pixels[[2, 0]])


def test_dicom_without_a_window_is_refused_by_name(tmp_path):
    dataset = load_dataset(str(slices(tmp_path, [AXIAL] * 3)))
    with pytest.raises(DatasetError, match=r"3 images cannot be used: .*00\.dcm .*--window"):
        list(read_batches(dataset, np.arange(3)))


def test_a_window_is_for_dicom_files():
    with pytest.raises(UsageError, match="--window is for DICOM files"):
        load_dataset("digits", 0, window=(1.0, 2.0))


@pytest.mark.parametrize("second", [SAGITTAL, turned(3), [-1, 0, 0, 0, 1, 0]])
def test_a_series_of_mixed_orientation_is_refused(tmp_path, second):
    slices(tmp_path, [AXIAL] * 3 + [second])
    with pytest.raises(
        DatasetError,
        match=r"03\.dcm and .*00\.dcm are slices turned by \d+ degrees .* in one series",
    ):
        load_dataset(str(tmp_path))


def test_slices_without_a_series_uid_are_the_series_of_their_folder(tmp_path):
    slices(tmp_path, [AXIAL, turned(3)], SeriesInstanceUID=None)
    with pytest.raises(DatasetError, match="in one series"):
        load_dataset(str(tmp_path))


def test_different_series_may_be_tilted_but_not_show_another_plane(tmp_path):
    slices(tmp_path / "normal" / "a", [AXIAL] * 2)
    slices(tmp_path / "normal" / "b", [turned(20)] * 2, SeriesInstanceUID="1.2.4")
    assert len(load_dataset(str(tmp_path)).frames) == 4
    slices(tmp_path / "anomalous", [SAGITTAL], SeriesInstanceUID="1.2.5")
    with pytest.raises(
        DatasetError,
        match=r"anomalous/00.dcm and .*normal/a/00.dcm are slices turned by 90 degrees",
    ):
        load_dataset(str(tmp_path))


def test_equal_positions_are_allowed_as_echoes_have_them(tmp_path):
    slices(tmp_path, [AXIAL] * 3, ImagePositionPatient=[0, 0, 5])
    assert len(load_dataset(str(tmp_path)).frames) == 3


@pytest.mark.parametrize("axes", [[1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0]])
def test_a_header_that_makes_no_sense_is_named(tmp_path, axes):
    slices(tmp_path, [AXIAL, axes])
    with pytest.raises(DatasetError, match=r"1 image cannot be used: .*01\.dcm"):
        load_dataset(str(tmp_path))


def test_a_damaged_dicom_file_is_named(tmp_path):
    slices(tmp_path, [AXIAL] * 3)
    (tmp_path / "01.dcm").write_bytes(b"no more")
    with pytest.raises(DatasetError, match=r"1 image cannot be used: .*01\.dcm"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("function", ["read_header", "decode_one"])
def test_a_file_that_kills_its_decoder_is_named_and_ends_no_training(
    tmp_path, monkeypatch, function
):
    """A decoder in C that crashes would end the training without a word."""
    monkeypatch.setattr(
        workers,
        "_CODE",
        f"""
import os, signal, sys
sys.path[:] = sys.argv[1:]
from adae_edge.decoding import dicom, worker
sound = dicom.{function}

def dangerous(path, *rest):
    if path.name.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return sound(path, *rest)

dicom.{function} = dangerous
worker.main()
""",
    )
    for name in ("a", "crash", "z"):
        write_slice(tmp_path / f"{name}.dcm", np.zeros((6, 8), np.uint8))

    def read_all():
        return list(read_batches(load_dataset(str(tmp_path)), np.arange(3)))

    with pytest.raises(DatasetError, match=r"1 image cannot be used: .*crash.dcm cannot be decode"):
        read_all()


def test_the_real_series_trains_with_a_window_that_the_checkpoint_keeps(tmp_path):
    data, window = str(real("dicom/mr_t1")), (300.0, 600.0)
    dataset = load_dataset(data, window=window)
    out = tmp_path / "c.safetensors"
    train(dataset, settings_for(dataset, data, epochs=1, side=32, window=window), out)
    unseen = unseen_frames(Checkpoint.load(out))
    assert list(unseen.indices) == list(split(dataset.anomalous, 0).test)
    assert np.array_equal(unseen.frame(0, 1), dataset.frames[int(unseen.indices[0])])


def test_scoring_and_the_gate_take_the_window_of_the_training(tmp_path):
    slices(tmp_path / "data", [AXIAL] * 12)
    data, window = str(tmp_path / "data"), (128.0, 256.0)
    dataset = load_dataset(data, window=window)
    settings = settings_for(dataset, data, epochs=1, side=8, window=window, references=False)
    contract = train(dataset, settings, tmp_path / "c.safetensors")
    assert contract.window == window
    expected = [dataset.frames[index] for index in range(len(dataset.frames))]
    given = [item.pixels for item in open_for(contract, data) if isinstance(item, Frame)]
    assert len(given) == len(expected)
    assert all(map(np.array_equal, given, expected))
    other = next(iter(open_for(contract, data, (500.0, 10.0))))
    assert not np.array_equal(other.pixels, expected[0])
    exported = export(tmp_path / "c.safetensors", tmp_path / "m.onnx", tmp_path / "data")
    assert exported.contract.window == window
    assert "of DICOM files by the window 128,256" in modelfile.describe(
        modelfile.read(tmp_path / "m.onnx")
    )


def test_all_corrupt_files_are_listed_by_name(tmp_path):
    for index in range(20):
        save(tmp_path / f"{index:02}.png", noise(8, 8))
    for name in ("03.png", "11.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    dataset = load_dataset(str(tmp_path))
    with pytest.raises(DatasetError, match="2 images cannot be used") as refused:
        list(read_batches(dataset, np.arange(20)))
    assert "03.png" in str(refused.value)
    assert "11.png" in str(refused.value)
    assert "05.png" not in str(refused.value)


def test_batches_keep_the_order_and_never_mix_sizes(tmp_path):
    sizes = [(8, 8)] * 40 + [(6, 9)] * 2 + [(8, 8)]
    for index, size in enumerate(sizes):
        pixels = np.full(size, index, np.uint8)
        save(tmp_path / f"{index:02}.png", pixels)
    batches = list(read_batches(load_dataset(str(tmp_path)), np.arange(len(sizes))))
    assert [batch.shape[1:3] for batch in batches] == [(8, 8), (6, 9), (8, 8)]
    assert [frame[0, 0, 0] for batch in batches for frame in batch] == list(range(len(sizes)))


def test_a_camera_s_bits_are_kept_from_the_training_to_the_score(tmp_path):
    for index in range(12):
        save(tmp_path / "data" / f"{index:02}.png", noise(40 + index, 40).astype(np.uint16) * 16)
    dataset = load_dataset(str(tmp_path / "data"), bits=12)
    assert np.array_equal(dataset.frames[0][:, :, 0], noise(40, 40))
    settings = settings_for(dataset, str(tmp_path / "data"), epochs=1, side=8, bits=12)
    contract = train(dataset, settings, tmp_path / "c.safetensors")
    assert contract.bits == 12
    (first, *_) = open_for(contract, str(tmp_path / "data"))
    assert np.array_equal(first.pixels[:, :, 0], noise(40, 40))
    unseen = unseen_frames(Checkpoint.load(tmp_path / "c.safetensors"))
    index = int(unseen.indices[0])
    assert np.array_equal(unseen.frame(0, 1), dataset.frames[index])
    exported = export(tmp_path / "c.safetensors", tmp_path / "m.onnx")
    assert exported.contract.bits == 12
    assert "low 12" in modelfile.describe(modelfile.read(tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match="camera's bits"):
        export(tmp_path / "c.safetensors", tmp_path / "n.onnx", example=tmp_path / "example")
    with pytest.raises(UsageError, match="--bits"):
        load_dataset("digits", 0, bits=12)
