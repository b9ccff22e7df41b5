"""Masks of defects: which frame they belong to, and what maps are measured against."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.evaluate import evaluate
from adae_edge.train.pixels import MOST_FALSE, _Tally
from adae_edge.train.report import run_evaluation
from tests.support.pictures import save
from tests.support.trained import train_on


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


@pytest.mark.parametrize(
    ("frame", "mask"),
    [
        ("test/crack/0.png", "ground_truth/crack/0_mask.png"),
        ("test/crack/0.png", "ground_truth/crack/0.png"),
        ("test/crack/0.png", "test/ground_truth/crack/0.png"),
        ("test/crack/0.jpg", "ground_truth/test/crack/0_gt.bmp"),
        ("test/crack/0.png", "test/crack/0_mask.png"),
        ("anomalous/crack/0.png", "masks/crack/0.png"),
        ("anomalous/crack/0.png", "anomalous/masks/crack/0.png"),
        ("anomalous/0.png", "masks/0-mask.png"),
        ("anomalous/a mask.png", "masks/a mask.png"),
        ("bad/crack/0.png", "masks/bad/crack/0.png"),
        ("bad/crack/0.png", "bad/crack/masks/0.png"),
    ],
)
def test_a_mask_is_found_by_its_name(tmp_path, frame, mask):
    good = "train/good" if frame.startswith("test") else "good"
    save(tmp_path / good / "0.png", noise(4, 5))
    if frame.startswith("test"):
        save(tmp_path / "test/good/0.png", noise(4, 5, 1))
    save(tmp_path / frame, noise(4, 5, 2))
    save(tmp_path / mask, np.eye(4, 5, dtype=np.uint8) * 255)

    dataset = load_dataset(str(tmp_path))

    found = dict(zip(dataset.frames.paths, dataset.masks, strict=True))
    assert found.pop(tmp_path / frame) == tmp_path / mask
    assert set(found.values()) == {None}


def test_a_mask_that_two_frames_could_have_is_none(tmp_path):
    for name in ("crack/0", "hole/0", "hole/1"):
        save(tmp_path / "anomalous" / f"{name}.png", noise(4, 4))
    save(tmp_path / "normal" / "0.png", noise(4, 4))
    for name in ("0", "1"):
        save(tmp_path / "masks" / f"{name}.png", noise(4, 4))

    masks = load_dataset(str(tmp_path)).masks

    assert [mask and mask.name for mask in masks] == [None, None, None, "1.png"]


def test_figures_are_those_of_their_definitions():
    random = np.random.default_rng(0)
    defects = np.zeros((3, 30, 40), np.bool_)
    defects[0, 2:9, 3:5] = defects[0, 20:22, 20:39] = defects[1, 9, 9] = defects[1, 10, 10] = True
    maps = random.normal(size=defects.shape).astype(np.float32) + defects * random.uniform(
        0, 3, (3, 1, 1)
    ).astype(np.float32)
    tally = _Tally()
    for values, defect in zip(maps, defects, strict=True):
        tally.add(values, defect)

    auroc, aupro = tally.figures()

    assert auroc == pytest.approx(roc_auc_score(defects.ravel(), maps.ravel()), abs=5e-4)
    regions = [(0, np.s_[2:9, 3:5]), (0, np.s_[20:22, 20:39])]
    regions = [maps[at][where].ravel() for at, where in regions]
    regions.append(np.array([maps[1, 9, 9], maps[1, 10, 10]]))  # they touch at a corner
    steps = np.linspace(0, MOST_FALSE, 3001)
    thresholds = np.quantile(maps[~defects], 1 - steps)
    overlap = [np.mean([(region > limit).mean() for region in regions]) for limit in thresholds]
    assert aupro == pytest.approx(np.trapezoid(overlap, steps) / MOST_FALSE, abs=2e-3)


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    """A folder of noise, some with a light spot and its mask, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("spots")
    for index in range(24):
        save(folder / "normal" / f"{index}.png", noise(32, 48, index) // 4)
    for index in range(4):
        picture, mask = noise(32, 48, 100 + index) // 4, np.zeros((32, 48), np.uint8)
        picture[8:16, 4 * index : 4 * index + 8] = 255
        mask[8:16, 4 * index : 4 * index + 8] = 1
        save(folder / "anomalous" / f"{index}.png", picture)
        if index:
            save(folder / "masks" / f"{index}.png", mask)
    train_on(str(folder), folder / "spots.safetensors", epochs=1)
    return folder


def test_a_map_is_measured_beside_simpler_ones(spots, tmp_path):
    evaluation, unseen = run_evaluation(spots / "spots.safetensors", None, tmp_path)

    found = evaluation.localisation
    assert (found.masked, found.unmasked) == (3, 1)
    grey = next(figures for figures in found.simple if figures.name == "grey value")
    assert grey.auroc == pytest.approx(1, abs=1e-3)
    assert grey.aupro == pytest.approx(1, abs=1e-3)
    assert [figures.name for figures in found.simple].count("distance from the mean normal") == 1
    assert "of 3 anomalous frames; 1 without one are left out" in evaluation.table()
    written = json.loads((tmp_path / "evaluation.json").read_text())["localisation"]
    assert written["model"]["auroc"] == found.model.auroc
    assert "AUPRO" in (tmp_path / "report.html").read_text()
    assert len(unseen.dataset.masks) == len(unseen.dataset.frames)


def test_a_mask_of_another_size_is_told(spots):
    wrong = spots / "masks" / "1.png"
    kept = wrong.read_bytes()
    save(wrong, noise(8, 9))
    try:
        evaluation, _, _ = evaluate(Checkpoint.load(spots / "spots.safetensors"))
    finally:
        wrong.write_bytes(kept)

    assert evaluation.localisation is None
    assert "1.png is a mask of 9 x 8 pixels, and its frame has 48 x 32" in evaluation.table()
