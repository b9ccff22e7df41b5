"""The table of detection: the yardsticks, the comparison within groups, and the command."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from adae_edge.benchmarks.detection import main, train_and_score
from adae_edge.benchmarks.inspection import (
    FOLDS,
    MODULES,
    open_cells,
    open_cookies,
    open_parts,
    open_screws,
)
from adae_edge.benchmarks.pixels import map_yardsticks, pixel_auroc
from adae_edge.contract import Network
from adae_edge.errors import DatasetError
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.yardsticks import auroc_within, yardsticks
from tests.support.pictures import save
from tests.support.shared import real


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """A folder named as elpv_mono is: flat cells under noise, some with a dark spot."""
    folder, random = tmp_path_factory.mktemp("cells"), np.random.default_rng(0)
    for module in MODULES:
        for number in range(8):
            pixels = random.normal(120 + module, 6, (64, 64))
            if number > 5:
                pixels[20:28, 30:38] -= 60
            kind = "anomalous" if number > 5 else "normal"
            name = f"m{module:02}_cell{number:04}.png"
            save(folder / kind / name, pixels.clip(0, 255).astype(np.uint8))
    return folder


def test_the_command_writes_the_table_with_yardsticks_beside(cells, tmp_path):
    main(f"elpv:{cells}", tmp_path / "table", recipes="linear:local", seeds="0,1")
    result = json.loads((tmp_path / "table.json").read_text())
    row = result["trained"]["linear:local"]
    assert list(row["auroc"]) == list(FOLDS)
    assert row["mean"] > 0.95
    assert row["mean"] > result["yardsticks"]["mean brightness"]["mean"]
    page = (tmp_path / "table.md").read_text()
    assert "| `--recipe linear --score local` | " in page
    assert all(f"| {name} | " in page for name in result["yardsticks"])


def test_maps_are_measured_where_there_are_masks(tmp_path):
    """Cookies whose crack is dark, one of them without a mask, and two on another background."""
    folder, random = tmp_path / "cookies", np.random.default_rng(0)
    names = [*(f"normal-{n}" for n in range(1, 32)), *(f"test-normal-{n}" for n in range(1, 6))]
    for name in [*names, *(f"anomaly-{n}" for n in range(4))]:
        pixels, mask = random.normal(150, 5, (48, 40, 3)), np.zeros((48, 40), np.uint8)
        if name.startswith("anomaly"):
            mask[20:30, 10:14] = 255
            pixels[mask > 0] -= 60
            if name != "anomaly-3":
                save(folder / "masks" / "cracked" / f"{name}.png", mask)
        place = "anomalous/cracked" if name.startswith("anomaly") else "normal"
        save(folder / place / f"{name}.jpg", pixels.clip(0, 255).astype(np.uint8))
    main(f"cookies:{folder}", tmp_path / "table", recipes="linear:local", seeds="0")
    result = json.loads((tmp_path / "table.json").read_text())
    assert result["folds"] == {"all": [30, 8]}
    row = result["trained"]["linear:local"]
    assert row["pixels_mean"] > 0.9
    assert "auroc" not in row
    page = (tmp_path / "table.md").read_text()
    assert "## Frames" not in page
    assert f"| darkness | {result['map_yardsticks']['darkness']['mean']:.3f} | " in page


def test_a_mask_tells_its_pixels_from_all_others(tmp_path):
    save(tmp_path / "set" / "normal" / "normal-1.jpg", np.full((8, 8), 90, np.uint8))
    save(tmp_path / "set" / "anomalous" / "anomaly-1.jpg", np.full((8, 8), 90, np.uint8))
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:6] = 255
    save(tmp_path / "set" / "masks" / "cracked" / "anomaly-1.png", mask)
    parts = open_cookies(tmp_path / "set", tmp_path / "work")
    (index,) = parts.masked(np.arange(2))
    truth = (mask > 0).astype(np.float32)
    assert pixel_auroc(parts, {index: truth}) == 1
    assert pixel_auroc(parts, {index: -truth}) == 0
    assert pixel_auroc(parts, {index: np.zeros((4, 4), np.float32)}) == 0.5
    known = np.array([0, 0])
    assert set(map_yardsticks(parts, known, [index])) > {"brightness", "darkness"}


def test_screws_are_divided_by_their_median_and_tested_in_blocks(tmp_path):
    parts = open_screws(real("industrial/mvtec_screw"), tmp_path)
    assert {name: [len(known), len(tested)] for name, (known, tested) in parts.folds.items()} == {
        str(block): [256, 64 + 119] for block in range(5)
    }
    known, tested = parts.folds["2"]
    assert sorted(parts.paths[index].name[:5] for index in tested[:64])[::16] == [
        "row08",
        "row09",
        "row10",
        "row11",
    ]
    assert not set(known) & set(tested)
    assert len(parts.masked(tested)) == 119
    medians = [np.median(parts.dataset.frames[int(index)]) for index in tested[::20]]
    assert np.abs(np.array(medians) - 180).max() <= 1


def test_another_set_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="there is no set bottles: give elpv:DIR"):
        open_parts(f"bottles:{tmp_path}", tmp_path)
    with pytest.raises(DatasetError, match="is not mvtec_screw"):
        open_screws(tmp_path, tmp_path / "work")


def test_files_that_name_no_module_are_refused(tmp_path):
    save(tmp_path / "normal" / "cell.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DatasetError, match="its files name no modules"):
        open_cells(tmp_path)


def test_within_groups_pairs_of_one_group_count():
    random = np.random.default_rng(0)
    scores = random.normal(size=60).astype(np.float32)
    anomalous, groups = random.random(60) < 0.4, np.repeat([0, 1], 30)
    shifted = scores + 100 * groups
    assert auroc_within(shifted, anomalous, groups) == auroc_within(scores, anomalous, groups)
    one = auroc_within(scores, anomalous, np.zeros(60, int))
    assert one == pytest.approx(roc_auc_score(anomalous, scores))
    assert np.isnan(auroc_within(scores, anomalous, np.arange(60)))


def test_yardsticks_are_what_their_names_say():
    """Against numpy, where the frames have the yardstick's size already."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (90, 64, 64, 1), np.uint8)
    dataset = Dataset(frames, np.zeros(90, bool), 1, small=False)
    model = ADAE(Preprocess(64), 1, Network(None, 1))
    found = yardsticks(model, dataset, np.arange(80), np.arange(80, 90))
    assert all(scores.shape == (10,) for scores in found.values())
    grey = torch.from_numpy(frames[..., 0] / 255.0)
    np.testing.assert_allclose(found["mean brightness"], grey[80:].mean((1, 2)), rtol=1e-5)
    darkness = found["mean brightness, lower is anomalous"]
    np.testing.assert_allclose(darkness, -found["mean brightness"])
    flat = grey.flatten(1).numpy()
    deviations = flat[:80] - flat[:80].mean(axis=0)
    rows = np.linalg.svd(deviations, full_matrices=False)[2][:40]
    new = flat[80:] - flat[:80].mean(axis=0)
    errors = ((new - new @ rows.T @ rows) ** 2).sum(axis=1)
    name = "40 principal components of 64 x 64 pixels, sum"
    np.testing.assert_allclose(found[name], errors, rtol=1e-4)


def test_the_linear_recipe_is_above_the_yardsticks_on_solar_cells():
    """One fold of three; the table in docs/results has them all."""
    cells = open_cells(real("industrial/elpv_mono"))
    trained = train_and_score(cells, "B", "linear:local", 0)
    known, tested = cells.folds["B"]
    assert (len(known), len(tested)) == (357, 230)
    model = ADAE(Preprocess(64), 1, Network(None, 1))
    best = max(
        cells.auroc(scores, tested)
        for scores in yardsticks(model, cells.dataset, known, tested).values()
    )
    assert trained.pose["rigid"] < trained.pose["none"]
    assert trained.auroc > 0.9
    assert trained.auroc > best - 0.03


def test_screws_are_turned_and_found(tmp_path):
    """One fold of five; the table in docs/results has them all."""
    parts = open_screws(real("industrial/mvtec_screw"), tmp_path)
    trained = train_and_score(parts, "0", "linear:local", 0)
    assert trained.pose["rigid"] > trained.pose["none"] + 0.05
    assert trained.auroc > 0.85
    assert trained.pixels > 0.95
