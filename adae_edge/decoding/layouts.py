"""Which parts of a folder hold normal pictures, which anomalous ones, and which masks.

Names are those of the field's data sets, in upper or lower case. A folder whose names leave it open
is refused, so that no defect and no mask is taken for a normal picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from adae_edge.decoding.folders import is_foreign, is_scorable, list_folder, walk
from adae_edge.decoding.kinds import IMAGE_SUFFIXES
from adae_edge.errors import DatasetError

# Names without what is no letter: "Non-Defective" is "nondefective".
_NAMES = {
    "normal": "clean defectfree good gut healthy intact io nodefect nodefects nonanomalous "
    "nondefective normal normals ok okay pass passed",
    "anomalous": "abnormal abnormals anomalies anomalous anomaly ausschuss bad broken damaged "
    "defect defective defects defekt fail failed fault faults faulty ko ng nio nok nonnormal "
    "notgood notok outlier outliers reject rejected rejects schlecht",
    "mask": "annotation annotations groundtruth groundtruths gt label labels mask masks "
    "segmentation segmentations",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_PART = re.compile("(train|test|val)(ing|id|idation|set|data|public|private|mixed)*")
# Words within a name that no folder of normals has, or that leave open which of two it is.
_NO_NORMALS = re.compile(
    "abnormal|anomalous|anomaly|broken|contamination|cracks?|def|defects?|dents?|masks?|negatives?|"
    "ng|positives?|scratch|scratches"
)
_MASK_FILE = re.compile("(.+)[ _-](mask|label|gt|seg|groundtruth)s?", re.IGNORECASE)
_EXPECTED = (
    "give normal/ and anomalous/ (or good/ and bad/, ok/ and ng/); train/good, test/good and "
    "test/DEFECT; or a folder of normal pictures alone"
)


@dataclass(frozen=True)
class FolderLayout:
    """The folders of pictures, each with everything beneath it, and the folders that are left out.

    Attributes:
        normal, anomalous: folders of pictures.
        masks: folders within these or beside them.
        labelled: whether names tell normal from anomalous; else everything is normal.
    """

    normal: list[Path] = field(default_factory=list)
    anomalous: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    labelled: bool = True


def read_layout(folder: Path) -> FolderLayout:
    """Tell the parts of a folder by their names.

    Raises:
        DatasetError: the names leave open which pictures are normal.
    """
    kinds = _kinds_in(folder)
    if not any(kinds.values()):
        return _without_names(folder, kinds)
    layout = _divided(folder, kinds) if "part" in kinds.values() else _beside_masks(folder, kinds)
    if not layout.normal:
        raise DatasetError(f"{folder} has no folder of normal pictures: {_EXPECTED}")
    for part in layout.normal:
        _look_below(part, "normal", layout.masks)
    for part in layout.anomalous:
        _look_below(part, "anomalous", layout.masks)
    return layout


def is_mask_of_neighbour(path: Path) -> bool:
    """Whether a file's name says that it is the mask of a picture beside it."""
    match = _MASK_FILE.fullmatch(path.stem)
    if match is None:
        return False
    suffixes = {*IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES), path.suffix}
    return any(path.with_name(match[1] + suffix).exists() for suffix in suffixes)


def picture_of_mask(path: Path) -> str:
    """The name of the picture that a mask's file shows, without its suffix: 7 of 7_mask.png."""
    match = _MASK_FILE.fullmatch(path.stem)
    return match[1] if match else path.stem


def _kind(name: str) -> str:
    """What a folder's name says: normal, anomalous, mask or part; "" for another name."""
    letters = re.sub("[^a-z]", "", name.lower())
    return _KINDS.get(letters) or ("part" if _PART.fullmatch(letters) else "")


def _kinds_in(folder: Path) -> dict[Path, str]:
    """The sub-folders in order of name, and what their names say."""
    _, names, _ = next(walk(folder), (folder, [], []))
    paths = sorted(folder / name for name in names if not is_foreign(name))
    return {path: _kind(path.name) for path in paths}


def _sorted(kinds: dict[Path, str]) -> tuple[list[Path], list[Path], list[Path]]:
    """Normal folders, anomalous ones and masks."""
    normal, anomalous, masks = (
        [path for path, kind in kinds.items() if kind == wanted]
        for wanted in ("normal", "anomalous", "mask")
    )
    return normal, anomalous, masks


def _without_names(folder: Path, below: dict[Path, str]) -> FolderLayout:
    """The layout of a folder none of whose sub-folders has a known name: normals, or refused."""
    if len(below) == 1 and not _pictures_in(folder):
        inner = read_layout(next(iter(below)))
        if inner.labelled:
            return inner
    _look_below(folder, "", [])
    masks = [path for path in list_folder(folder).files if is_mask_of_neighbour(path)]
    if masks:
        raise DatasetError(f"{masks[0]} is a mask by its name, so defects may be near: {_EXPECTED}")
    return FolderLayout([folder], labelled=False)


def _look_below(folder: Path, kind: str, masks: list[Path]) -> None:
    """Refuse names beneath a folder that contradict its own, and add its folders of masks.

    Args:
        folder: normal or anomalous by its name, or without a known name.
        kind: which of these, "" for the last.
        masks: grows by the folders of masks beneath a part whose name is known.

    Raises:
        DatasetError: a name leaves open whether the pictures in it are normal.
    """
    for place, names, _ in walk(folder):
        for name in [name for name in names if not is_foreign(name)]:
            inner = _kind(name)
            words = re.split("[^a-z]+", name.lower())
            if kind and inner == "mask":
                masks.append(place / name)
                names.remove(name)
            elif inner not in ("", kind) and not (kind and inner == "part"):
                raise DatasetError(
                    f"{place / name} leaves open which pictures are normal: {_EXPECTED}"
                )
            elif not kind and any(map(_NO_NORMALS.fullmatch, words)):
                raise DatasetError(
                    f"{place / name} is no folder of normals by its name: {_EXPECTED}"
                )


def _beside_masks(folder: Path, kinds: dict[Path, str]) -> FolderLayout:
    """The layout of a folder with normal and anomalous ones, or with one of both beside masks."""
    unnamed = [path for path, kind in kinds.items() if not kind]
    if len(unnamed) == 1 and set(kinds.values()) == {"", "mask"} and not _pictures_in(folder):
        inner = read_layout(unnamed[0])
        if inner.labelled:
            inner.masks.extend(path for path, kind in kinds.items() if kind)
            return inner
    _refuse_unnamed(folder, kinds)
    return FolderLayout(*_sorted(kinds))


def _divided(folder: Path, kinds: dict[Path, str]) -> FolderLayout:
    """The layout of a folder with train/ and test/."""
    _refuse_unnamed(folder, kinds)
    normal, anomalous, masks = _sorted(kinds)
    if normal or anomalous:
        raise DatasetError(f"{(normal + anomalous)[0]} lies beside parts of a split: {_EXPECTED}")
    layout = FolderLayout(masks=masks)
    for part in (path for path, kind in kinds.items() if kind == "part"):
        inside = _kinds_in(part)
        training = part.name.lower().startswith("train")
        if training and not any(inside.values()):
            found = _without_names(part, inside)  # data sets of one class train on normals alone
        else:
            if "normal" in inside.values() and not training:
                inside = {path: kind or "anomalous" for path, kind in inside.items()}
            _refuse_unnamed(part, inside)
            found = FolderLayout(*_sorted(inside))
        layout.normal.extend(found.normal)
        layout.anomalous.extend(found.anomalous)
        layout.masks.extend(found.masks)
    return layout


def _refuse_unnamed(folder: Path, kinds: dict[Path, str]) -> None:
    """Refuse pictures beside folders whose names tell what they hold."""
    unnamed = [path for path, kind in kinds.items() if not kind and list_folder(path).files]
    unnamed += _pictures_in(folder)[:1]
    if unnamed:
        raise DatasetError(f"{unnamed[0]} is neither normal nor anomalous by its name: {_EXPECTED}")


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself."""
    _, _, names = next(walk(folder), (folder, [], []))
    paths = sorted(folder / name for name in names if not is_foreign(name))
    return [path for path in paths if path.is_file() and is_scorable(path)]
