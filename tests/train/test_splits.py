"""The paper's split, copies in it, and the digest of the frames."""

import numpy as np
import pytest

from adae_edge.errors import DatasetError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data.digest import Digest
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split, without_copies
from adae_edge.train.trainer import train
from adae_edge.train.unseen import unseen_frames
from tests.support.pictures import noise, write_pictures
from tests.support.trained import settings_for


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
