"""Data sets and the paper's split, and the sentences that refuse damaged or missing data."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import DatasetError, UsageError
from adae_edge.export.graph import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.runtime.sources.registry import open_for
from adae_edge.train.data.dataset import read_batches
from adae_edge.train.data.digest import Digest
from adae_edge.train.data.opening import class_number, load_dataset, whole_digest
from adae_edge.train.data.splits import split, without_copies
from adae_edge.train.settings import describe
from adae_edge.train.trainer import train
from adae_edge.train.unseen import unseen_frames
from tests.core.test_dicom import write as write_slice
from tests.support.shared import real
from tests.support.trained import settings_for, write_pictures


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def write_idx(path, array, magic=None, compress=False):
    header = bytes(magic or [0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if compress else data)


@pytest.fixture
def mnist(tmp_path):
    for part, count in (("train", 40), ("t10k", 10)):
        compress = part == "train"
        end = ".gz" if compress else ""
        write_idx(
            tmp_path / f"{part}-images-idx3-ubyte{end}", noise(count, 28, 28), compress=compress
        )
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{end}", labels, compress=compress)
    return tmp_path


def test_digits_are_the_real_ones():
    dataset = load_dataset("digits", 3)
    assert len(dataset.frames) == 1797
    assert dataset.frames[0].shape == (8, 8, 1)
    assert np.max(dataset.frames) == 255
    assert dataset.anomalous.sum() == 183


def test_the_split_is_the_papers():
    anomalous = np.arange(1000) % 10 == 4
    parts = split(anomalous, seed=5)
    normals = set(np.flatnonzero(~anomalous))
    train, calibration, test = set(parts.train), set(parts.calibration), set(parts.test)
    assert (len(train), len(calibration), len(test)) == (648, 72, 180 + 100)
    assert train | calibration | test == set(range(1000))
    assert not train & calibration
    assert not (train | calibration) & test
    assert train | calibration <= normals
    assert set(split(anomalous, seed=6).train) != train
    assert np.array_equal(split(anomalous, seed=5).train, parts.train)


def test_official_mnist_files_gzipped_or_not(mnist):
    dataset = load_dataset(f"mnist:{mnist}", 7)
    assert len(dataset.frames) == 50
    assert np.array_equal(dataset.frames[0], noise(40, 28, 28)[0][:, :, None])
    assert np.array_equal(dataset.frames[40], noise(10, 28, 28)[0][:, :, None])
    assert list(np.flatnonzero(dataset.anomalous)) == [7, 17, 27, 37, 47]


def test_the_real_mnist_files():
    dataset = load_dataset(f"mnist:{real('mnist')}", 0)
    assert len(dataset.frames) == 70000
    assert dataset.anomalous.sum() == 6903


def damage_truncate(folder):
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def damage_gzip(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-200])


def damage_magic(folder):
    write_idx(folder / "t10k-images-idx3-ubyte", noise(10, 28, 28), magic=[0, 0, 9, 3])


def damage_count(folder):
    write_idx(folder / "t10k-labels-idx1-ubyte", np.zeros(9, np.uint8))


def damage_absence(folder):
    (folder / "train-labels-idx1-ubyte.gz").unlink()


def damage_header(folder):
    (folder / "t10k-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12)


def damage_label(folder):
    write_idx(folder / "t10k-labels-idx1-ubyte", np.arange(1, 11, dtype=np.uint8))


def damage_size(folder):
    write_idx(folder / "t10k-images-idx3-ubyte", noise(10, 28, 27))


def damage_emptiness(folder):
    write_idx(folder / "t10k-images-idx3-ubyte", noise(0, 28, 28))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_truncate, "t10k-images"),
        (damage_gzip, "train-images"),
        (damage_magic, "t10k-images"),
        (
            damage_count,
            "t10k-images-idx3-ubyte has 10 images, and t10k-labels-idx1-ubyte has 9 labels",
        ),
        (damage_absence, "train-labels"),
        (damage_header, "t10k-images"),
        (damage_label, "t10k-labels-idx1-ubyte has the label 10"),
        (damage_size, "t10k-images-idx3-ubyte has pictures of 27 x 28 pixels"),
        (damage_emptiness, "t10k-images-idx3-ubyte is an idx file with nothing in it"),
    ],
)
def test_damaged_mnist_files_are_named(mnist, damage, named):
    damage(mnist)
    with pytest.raises(DatasetError, match=named) as refused:
        load_dataset(f"mnist:{mnist}", 0)
    assert "\n" not in str(refused.value)


def batch(number, count=20):
    """Labels and pixels of a small batch; its pictures are ramps that tell rows, columns and colours apart."""
    labels = (np.arange(count) + number) % 10
    red = np.add.outer(np.arange(32) * 2, np.arange(32)) + np.arange(count)[:, None, None]
    frames = np.stack([red + number, red * 2, 255 - red], axis=-1).astype(np.uint8)
    return labels.astype(np.uint8), frames


def planes(frames):
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).reshape(len(frames), -1)


def write_binary(path, labels, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate([labels[:, None], planes(frames)], axis=1).tobytes())


def write_python(path, labels, frames):
    """The opcodes of the official files: Python 2, protocol 2, a dict with a numpy array of bytes."""
    memo = iter(range(10**6))

    def put():
        number = next(memo)
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def text(value):
        return b"U" + bytes([len(value)]) + value + put()

    def integer(value):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    pixels = planes(frames).tobytes()
    names = b"".join(text(b"camion_s_%06d.png" % index) for index in range(len(labels)))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + put() + b"cnumpy\nndarray\n" + put() + b"K\x00\x85" + put()
        + text(b"b") + b"\x87" + put() + b"R" + put()
        + b"(K\x01" + integer(len(labels)) + integer(3072) + b"\x86" + put()
        + b"cnumpy\ndtype\n" + put() + text(b"u1") + b"K\x00K\x01\x87" + put() + b"R" + put()
        + b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00t" + put() + b"b\x89"
        + b"T" + struct.pack("<I", len(pixels)) + pixels + put() + b"t" + put() + b"b"
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x80\x02}" + put() + b"(" + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + b"]" + put() + b"(" + b"".join(integer(int(label)) for label in labels) + b"e"
        + text(b"data") + array + text(b"filenames") + b"]" + put() + b"(" + names + b"eu."
    )  # fmt: skip


FORMS = {"bin": (".bin", write_binary), "py": ("", write_python)}


def write_cifar10(folder, form, test=True):
    end, write = FORMS[form]
    for number in range(1, 6):
        write(folder / f"cifar-10-batches-{form}" / f"data_batch_{number}{end}", *batch(number))
    if test:
        write(folder / f"cifar-10-batches-{form}" / f"test_batch{end}", *batch(0))
    return folder


@pytest.fixture(params=FORMS)
def cifar10(request, tmp_path):
    """The folder, what a batch's file name ends with, and what writes a batch."""
    return (write_cifar10(tmp_path, request.param), *FORMS[request.param])


def test_the_test_writes_what_python_reads(tmp_path):
    import pickle

    labels, frames = batch(1)
    write_python(tmp_path / "b", labels, frames)
    read = pickle.loads((tmp_path / "b").read_bytes(), encoding="latin-1")
    assert read["labels"] == labels.tolist()
    assert np.array_equal(read["data"], planes(frames))


def test_official_cifar10_files_in_either_form(cifar10):
    folder, _, _ = cifar10
    (within,) = folder.iterdir()
    for place in (folder, within):
        dataset = load_dataset(f"cifar10:{place}", 3)
        assert dataset.frames.shape == (120, 32, 32, 3)
        assert dataset.frames.dtype == np.uint8
        assert (dataset.channels, dataset.small, dataset.note) == (3, True, "")
        expected = [batch(number) for number in range(1, 6)] + [batch(0)]
        assert np.array_equal(dataset.frames, np.concatenate([frames for _, frames in expected]))
        assert np.array_equal(
            dataset.anomalous, np.concatenate([labels for labels, _ in expected]) == 3
        )


@pytest.mark.parametrize("form", FORMS)
def test_without_the_test_batch_the_training_images_serve_and_it_is_said(tmp_path, form):
    dataset = load_dataset(f"cifar10:{write_cifar10(tmp_path, form, test=False)}", 3)
    assert len(dataset.frames) == 100
    assert dataset.note.endswith(
        "has no test batch: the 100 training images of CIFAR-10 are all there is"
    )
    assert dataset.note in describe(dataset, settings_for(dataset, "cifar10", 3, network=None))


def test_cifar10_is_seen_by_the_papers_larger_network(tmp_path):
    dataset = load_dataset(f"cifar10:{write_cifar10(tmp_path, 'bin')}", 3)
    settings = settings_for(dataset, "cifar10", 3, network=None)
    assert (settings.side, settings.network.latent) == (32, 128)


def test_the_real_cifar10_files():
    dataset = load_dataset(f"cifar10:{real('cifar-10-batches-bin')}", 9)
    assert len(dataset.frames) == 50000
    assert dataset.anomalous.sum() == 5000
    assert "50000 training images" in dataset.note
    assert not dataset.anomalous[0]  # the first picture is a frog, the second a truck
    assert dataset.anomalous[1]
    assert dataset.frames[0][0, 0].tolist() == [59, 62, 63]


@pytest.mark.parametrize("kept", [0.5, 0.999, 0.0])
def test_a_truncated_batch_is_named(cifar10, kept):
    folder, end, _ = cifar10
    (path,) = folder.rglob(f"data_batch_4{end}")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DatasetError, match="data_batch_4") as refused:
        load_dataset(f"cifar10:{folder}", 3)
    assert str(refused.value).isprintable()


def test_a_label_beyond_the_classes_is_named(cifar10):
    folder, end, write = cifar10
    (path,) = folder.rglob(f"data_batch_2{end}")
    labels, frames = batch(2)
    write(path, labels + np.uint8(1), frames)
    with pytest.raises(DatasetError, match=r"data_batch_2.* has the label 10"):
        load_dataset(f"cifar10:{folder}", 3)


def test_a_missing_batch_is_named(cifar10):
    folder, end, _ = cifar10
    next(folder.rglob(f"data_batch_5{end}")).unlink()
    with pytest.raises(DatasetError, match="there is no data_batch_5"):
        load_dataset(f"cifar10:{folder}", 3)
    with pytest.raises(DatasetError, match="there is no data_batch_1"):
        load_dataset(f"cifar10:{folder / 'nowhere'}", 3)


@pytest.mark.parametrize("labels", [19, 21, 0])
def test_labels_that_do_not_match_the_pixels_are_refused(tmp_path, labels):
    write_cifar10(tmp_path, "py")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    write_python(path, np.zeros(labels, np.uint8), batch(1)[1])
    with pytest.raises(
        DatasetError, match=f"data_batch_1 has {labels} labels and 61440 bytes of pixels"
    ):
        load_dataset(f"cifar10:{tmp_path}", 3)


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"\x80\x02.",
        b"\x80\x02U",
        bytes(range(256)) * 20,
        b"\x80\x02cos\nsystem\n(U\x04exit\x85R.",
    ],
)
def test_a_foreign_python_file_is_refused_and_nothing_in_it_runs(tmp_path, content):
    write_cifar10(tmp_path, "py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(DatasetError, match="data_batch_3"):
        load_dataset(f"cifar10:{tmp_path}", 3)


def test_a_python_batch_that_would_run_a_command_is_only_read(tmp_path):
    write_cifar10(tmp_path, "py")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    mark = tmp_path / "it-ran"
    command = f"touch {mark}".encode()
    attack = b"cposix\nsystem\n" + b"U" + bytes([len(command)]) + command + b"\x85R0"
    path.write_bytes(path.read_bytes()[:2] + attack + path.read_bytes()[2:])
    assert len(load_dataset(f"cifar10:{tmp_path}", 3).frames) == 120
    assert not mark.exists()


def test_classes_go_by_number_or_by_name():
    assert [class_number("cifar10:x", name) for name in ("plane", "cat", "truck", "5", None)] == [
        0,
        3,
        9,
        5,
        None,
    ]
    assert [class_number("cifar10:x", name) for name in ("airplane", "automobile")] == [0, 1]
    for spec, name in (
        ("cifar10:x", "zebra"),
        ("mnist:x", "cat"),
        ("digits", "-1"),
        ("cifar10:x", ""),
    ):
        with pytest.raises(UsageError, match="0 to 9"):
            class_number(spec, name)


def test_the_commands_train_and_evaluate_cifar10_and_say_what_is_missing(tmp_path):
    data, out = write_cifar10(tmp_path, "bin", test=False), tmp_path / "c.safetensors"
    command = [sys.executable, "-m", "adae_edge"]
    training = [
        "train",
        f"cifar10:{data}",
        "--anomalous",
        "cat",
        "--epochs",
        "1",
        "--out",
        str(out),
    ]
    for arguments in (training, ["evaluate", str(out)]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        assert "the 100 training images of CIFAR-10 are all there is" in done.stdout
    wrong = subprocess.run(
        [*command, *training[:3], "zebra"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "adae-edge: cifar10 has no class zebra: choose 0 to 9 or plane, car, "
    )
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("labels", "sentence"), [([1] * 10, "no image of the class 3"), ([3] * 10, "only images of")]
)
def test_an_empty_class_is_refused(tmp_path, labels, sentence):
    for number in range(1, 6):
        frames = batch(number, 10)[1]
        write_binary(tmp_path / f"data_batch_{number}.bin", np.array(labels, np.uint8), frames)
    with pytest.raises(DatasetError, match=sentence) as refused:
        load_dataset(f"cifar10:{tmp_path}", 3)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    "wrong", [("digits", None), ("digits", 10), ("mnist", -1), ("nowhere", None)]
)
def test_wrong_use_is_told(wrong):
    with pytest.raises(UsageError):
        load_dataset(*wrong)


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
    assert all(map(np.array_equal, (frame.pixels for frame in open_for(contract, data)), expected))
    other = next(iter(open_for(contract, data, (500.0, 10.0))))
    assert not np.array_equal(other.pixels, expected[0])
    exported = export(tmp_path / "c.safetensors", tmp_path / "m.onnx", tmp_path / "data")
    assert exported.contract.window == window
    assert "of DICOM files by the window 128,256" in modelfile.describe(
        modelfile.read(tmp_path / "m.onnx")
    )


def copies(folder, count, others):
    """A folder that holds one picture many times, and other ones."""
    write_pictures(folder, others + 1)
    first = folder / "normal" / "000.png"
    for index in range(1, count):
        (folder / "normal" / f"copy{index:04}.png").write_bytes(first.read_bytes())
    return str(folder)


@pytest.mark.parametrize("others", [0, 1, 5])
def test_one_image_a_thousand_times_is_refused(tmp_path, others):
    data = copies(tmp_path / "data", 1000, others)
    dataset = load_dataset(data)
    with pytest.raises(
        DatasetError, match=r"data holds \d different images? among 80\d that would train"
    ) as refused:
        train(dataset, settings_for(dataset, data), tmp_path / "c.safetensors")
    assert str(refused.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_copy_of_a_training_frame_neither_calibrates_nor_is_evaluated(tmp_path):
    data = copies(tmp_path / "data", 20, 80)
    dataset = load_dataset(data)
    parts = split(dataset.anomalous, 0)
    contract = train(dataset, settings_for(dataset, data, epochs=1), tmp_path / "c.safetensors")
    frames = [frame.tobytes() for frame in dataset.frames]
    trained = {frames[index] for index in parts.train}
    calibration = [index for index in parts.calibration if frames[index] not in trained]
    assert 0 < len(calibration) < len(parts.calibration)
    assert contract.calibration.normals == len(calibration)
    unseen = unseen_frames(Checkpoint.load(tmp_path / "c.safetensors"))
    test = [index for index in parts.test if frames[index] not in trained]
    assert list(unseen.indices) == test
    assert unseen.left_out == len(parts.test) - len(test) > 0


def test_a_few_different_normals_are_enough():
    parts = split(np.zeros(8, bool), seed=0)
    digests = np.arange(48, dtype=np.uint8).reshape(6, 8)
    assert np.array_equal(without_copies(parts, digests, "x").calibration, parts.calibration)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_normals_are_refused(count):
    with pytest.raises(DatasetError, match=f"^{count} normal image"):
        split(np.zeros(count, bool), seed=0)


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


def test_the_digest_tells_content_order_and_shape_apart_but_not_batches():
    def of(*batches):
        digest = Digest()
        for batch in batches:
            digest.update(batch)
        return digest.hexdigest()

    frames = noise(4, 6, 6, 1)
    assert of(frames) == of(frames[:1], frames[1:])
    assert of(frames) != of(frames[::-1])
    assert of(frames) != of(frames.reshape(4, 4, 9, 1))


def test_the_digest_of_a_whole_data_set_tells_frames_labels_and_patients(mnist):
    before = whole_digest(f"mnist:{mnist}")
    unpacked = mnist / "train-images-idx3-ubyte"
    unpacked.write_bytes(gzip.decompress((mnist / "train-images-idx3-ubyte.gz").read_bytes()))
    assert whole_digest(f"mnist:{mnist}") == before
    unpacked.write_bytes(unpacked.read_bytes()[:-1] + b"\x00")
    changed = whole_digest(f"mnist:{mnist}")
    write_idx(mnist / "t10k-labels-idx1-ubyte", np.arange(10, dtype=np.uint8)[::-1])
    assert len({before, changed, whole_digest(f"mnist:{mnist}")}) == 3

    volume = mnist / "one" / "p_flair.nii.gz"
    volume.parent.mkdir()
    volume.write_bytes(b"a")
    digests = {whole_digest(f"brats:{mnist}")}
    volume.write_bytes(b"b")
    digests.add(whole_digest(f"brats:{mnist}"))
    volume.parent.rename(mnist / "two")
    assert len(digests | {whole_digest(f"brats:{mnist}")}) == 3
