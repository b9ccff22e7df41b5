"""Three real sets of parts, with the splits that are fair: what is known and what is tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from adae_edge.errors import DatasetError
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.folders import Files
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.yardsticks import Scores, auroc_within

# Modules of cells that are tested together, by fold; those before 05 have hardly a normal cell.
FOLDS = {"A": (5, 8, 14, 17), "B": (6, 9, 12, 15, 18), "C": (7, 10, 11, 13, 16)}
MODULES = tuple(sorted(module for fold in FOLDS.values() for module in fold))

# Neighbours by number are alike, so rows of screws stay together: four of them make a fold, and the
# trainings are divided by row. The grey level is about what a background has.
SCREW_ROW = 16
ROWS_TOGETHER = 4
SCREW_LEVEL = 180

# Cookies on another background than all others.
OTHER_COOKIES = ("normal-31", "test-normal-1")


@dataclass(frozen=True)
class Parts:
    """A set of parts.

    Attributes:
        about: what is measured on which parts, a sentence.
        paths: of the images, normals first.
        dataset: the same as frames.
        folds: by name, indices of the normals that are known, and of the frames that are tested.
        groups: int [N], only frames of one number are compared; None compares all.
        rule: what --group the normals of a fold are trained with, or None.
        masks: of the defects, by the index of the frame.
        whole: whether scores of whole frames are compared.
    """

    about: str
    paths: list[Path]
    dataset: Dataset
    folds: dict[str, tuple[Indices, Indices]]
    groups: Indices | None = None
    rule: str | None = None
    masks: dict[int, Path] = field(default_factory=dict)
    whole: bool = True

    def auroc(self, scores: Scores, tested: Indices) -> float:
        """AUROC of these frames' scores float32 [N], within groups where there are any."""
        anomalous = self.dataset.anomalous[tested]
        if self.groups is None:
            return float(roc_auc_score(anomalous, scores))
        return auroc_within(scores, anomalous, self.groups[tested])

    def masked(self, tested: Indices) -> list[int]:
        """Those of the frames that have a mask."""
        return [int(index) for index in tested if int(index) in self.masks]

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Where the defect lies, bool [H, W]."""
        with Image.open(self.masks[index]) as image:
            return np.asarray(image.convert("L")) > 127


def open_parts(data: str, place: Path) -> Parts:
    """Open elpv:DIR, screw:DIR or cookies:DIR.

    Args:
        data: which set, and its folder.
        place: an empty folder for images that are changed beforehand.

    Raises:
        DatasetError: there is no such set, or the folder holds another one.
    """
    name, _, folder = data.partition(":")
    if name == "elpv":
        return open_cells(Path(folder))
    if name == "screw":
        return open_screws(Path(folder), place)
    if name == "cookies":
        return open_cookies(Path(folder), place)
    raise DatasetError(f"there is no set {name}: give elpv:DIR, screw:DIR or cookies:DIR")


def open_cells(folder: Path) -> Parts:
    """Open elpv_mono: solar cells, whose files are named mMM_cellNNNN.png.

    Raises:
        DatasetError: they are not.
    """
    dataset, paths = _opened(folder)
    try:
        modules = np.array([int(path.name[1:3]) for path in paths])
    except ValueError as error:
        raise DatasetError(f"{folder} is not elpv_mono: its files name no modules") from error
    folds = {}
    for name, own in FOLDS.items():
        tested = np.isin(modules, own)
        known = np.isin(modules, MODULES) & ~tested & ~dataset.anomalous
        folds[name] = np.flatnonzero(known), np.flatnonzero(tested)
    about = "Solar cells of `elpv_mono`, split by module and compared within module"
    return Parts(about, paths, dataset, folds, groups=modules)


def open_screws(folder: Path, place: Path) -> Parts:
    """Open mvtec_screw, each image divided by its own median, as exposure and defect go together.

    Raises:
        DatasetError: the folder holds something else.
    """
    normals = sorted((folder / "normal").glob("train_*.png"))
    if not normals:
        raise DatasetError(f"{folder} is not mvtec_screw: it has no train_*.png")
    masks = {}
    for path in normals:
        row = int(path.stem.removeprefix("train_")) // SCREW_ROW
        _write_divided(path, place / "normal" / f"row{row:02}_{path.name}")
    for path in sorted((folder / "anomalous").glob("*/*.png")):
        name = f"{path.parent.name}_{path.name}"
        _write_divided(path, place / "anomalous" / name)
        masks[name] = folder / "masks" / path.parent.name / path.name

    dataset, paths = _opened(place)
    normal, bad = np.flatnonzero(~dataset.anomalous), np.flatnonzero(dataset.anomalous)
    block = np.array([int(paths[index].name[3:5]) // ROWS_TOGETHER for index in normal])
    folds = {
        str(name): (normal[block != name], np.concatenate([normal[block == name], bad]))
        for name in np.unique(block)
    }
    about = "Screws of `mvtec_screw`, each image divided by its median, in blocks of neighbours"
    places = {int(index): masks[paths[index].name] for index in bad}
    return Parts(about, paths, dataset, folds, rule="(row[0-9]+)", masks=places)


def open_cookies(folder: Path, place: Path) -> Parts:
    """Open cookies, without the two on another background.

    Raises:
        DatasetError: the folder holds something else.
    """
    for kind in ("normal", "anomalous"):
        (place / kind).mkdir(parents=True)
        for path in sorted((folder / kind).rglob("*.jpg")):
            if path.stem not in OTHER_COOKIES:
                (place / kind / path.name).symlink_to(path.resolve())
    dataset, paths = _opened(place)
    known = np.array([path.name.startswith("normal-") for path in paths])
    if not known.any():
        raise DatasetError(f"{folder} is not cookies: it has no normal-*.jpg")
    masks = {path.stem: path for path in (folder / "masks").rglob("*.png")}
    bad = [int(index) for index in np.flatnonzero(dataset.anomalous)]
    places = {index: masks[paths[index].stem] for index in bad if paths[index].stem in masks}
    folds = {"all": (np.flatnonzero(known), np.flatnonzero(~known))}
    about = "Broken biscuits of `cookies`, whose whole frames are no fair comparison"
    return Parts(about, paths, dataset, folds, masks=places, whole=False)


def _opened(folder: Path) -> tuple[Dataset, list[Path]]:
    """The folder as a data set, and the files of its frames."""
    dataset = load_dataset(str(folder))
    assert isinstance(dataset.frames, Files)
    return dataset, dataset.frames.paths


def _write_divided(path: Path, new: Path) -> None:
    """Write the image with a median of 180."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L")).astype(np.float32)
    divided = (pixels * (SCREW_LEVEL / np.median(pixels))).round().clip(0, 255).astype(np.uint8)
    new.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(divided).save(new)
