"""Data sets and the paper's split, and the sentences that refuse damaged or missing data."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.datasets import Digest, load_dataset, read_batches, split

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


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
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{end}", noise(count, 28, 28), compress=compress)
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


@pytest.mark.skipif(not MNIST.is_dir(), reason="the MNIST files are not here")
def test_the_real_mnist_files():
    dataset = load_dataset(f"mnist:{MNIST}", 0)
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


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (damage_truncate, "t10k-images"),
        (damage_gzip, "train-images"),
        (damage_magic, "t10k-images"),
        (damage_count, "t10k-images-idx3-ubyte has 10 images, and t10k-labels-idx1-ubyte has 9 labels"),
        (damage_absence, "train-labels"),
        (damage_header, "t10k-images"),
    ],
)
def test_damaged_mnist_files_are_named(mnist, damage, named):
    damage(mnist)
    with pytest.raises(DatasetError, match=named) as refused:
        load_dataset(f"mnist:{mnist}", 0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wrong", [("digits", None), ("digits", 10), ("mnist", -1), ("nowhere", None)])
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
