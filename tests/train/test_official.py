"""Digits, MNIST and CIFAR-10, and the sentences that refuse damaged or missing files."""

import gzip

import numpy as np
import pytest

from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.data.opening import class_number, load_dataset, whole_digest
from adae_edge.train.settings import describe
from tests.support.models import complaints, run
from tests.support.official import (
    FORMS,
    batch,
    planes,
    write_binary,
    write_cifar10,
    write_idx,
    write_python,
)
from tests.support.pictures import noise
from tests.support.shared import real
from tests.support.trained import settings_for


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
        assert (dataset.channels, dataset.small) == (3, True)
        assert dataset.note == (
            "these are other pictures than CIFAR-10's own, and published figures are of those"
        )
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
    assert dataset.note.startswith("the folder has no test batch: the 50000 training images")
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
    numbers = {"plane": 0, "airplane": 0, "automobile": 1, "cat": 3, "truck": 9, "5": 5, None: None}
    assert {name: class_number("cifar10:x", name) for name in numbers} == numbers
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
    training = ("train", f"cifar10:{data}", "--anomalous")
    for arguments in ((*training, "cat", "--epochs", 1, "--out", out), ("evaluate", out)):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "the 100 training images of CIFAR-10 are all there is" in done.stdout
    wrong = run(*training, "zebra", cwd=tmp_path)
    assert wrong.returncode == 2
    (complaint,) = complaints(wrong)
    assert complaint.startswith("cifar10 has no class zebra: choose 0 to 9 or plane, car, ")


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
