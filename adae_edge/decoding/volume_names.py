"""What the names of NIfTI volumes say: modality, masks, and which belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from adae_edge.errors import FrameError

# What a volume shows, by a word of its file's name: BraTS to 2021, BraTS 2023, HCP.
MODALITIES = {
    "flair": {"flair", "t2f"},
    "t1": {"t1", "t1n", "t1w"},
    "t1ce": {"t1ce", "t1c"},
    "t2": {"t2", "t2w"},
}

TUMOUR_MASK = {"seg", "segm", "gt"}  # BraTS 2020 calls one patient's Segm

# Other words for what is marked in a volume, and is no picture either.
_MARKED = {"lesion", "lesions", "tumor", "tumour", "label", "labels", "segmentation", "roi"}

BRAIN_MASK = {"mask", "brainmask", "dlmuse", "seg"}


def words(path: Path) -> list[str]:
    """The words of a file's name, in lower case."""
    return re.split(r"[_\-.]", stem(path).lower())


def is_brain_mask(path: Path) -> bool:
    """Whether a file is a mask of a brain by its name, and of nothing else."""
    meant = set(words(path))
    return (
        path.name.lower().endswith((".nii", ".nii.gz"))
        and not TUMOUR_MASK & meant
        and bool(BRAIN_MASK & meant)
    )


def is_mask(path: Path) -> bool:
    """Whether a file is a mask of a tumour or of a brain by its name."""
    return not (TUMOUR_MASK | BRAIN_MASK | _MARKED).isdisjoint(words(path))


def modality_of(path: Path) -> str | None:
    """What a volume shows, by the last word of its name that says so.

    None where no word does, and for a mask.
    """
    if is_mask(path):
        return None
    for word in reversed(words(path)):
        for name, meant in MODALITIES.items():
            if word in meant:
                return name
    return None


def volumes_of(files: Iterable[Path], modality: str | None) -> list[Path]:
    """The volumes among NIfTI files that show a modality by their names; never masks.

    HCP keeps the skull-stripped volume beside the steps on the way to it, and it alone is taken.

    Args:
        files: the files.
        modality: one of ``MODALITIES``, or None for all.
    """
    volumes = [
        path
        for path in files
        if not is_mask(path) and (modality is None or modality_of(path) == modality)
    ]
    stripped = {path.parent: path for path in volumes if stem(path).endswith("_restore_brain")}
    return [path for path in volumes if stripped.get(path.parent, path) == path]


def mask_of(volume: Path, masks: Iterable[Path]) -> Path | None:
    """The mask whose name goes on where the volume's ends, or None.

    IXI002_T1_mask.nii.gz is the mask of IXI002_T1.nii.gz.

    Raises:
        FrameError: there are several.
    """
    own = [mask for mask in masks if stem(mask).startswith(stem(volume) + "_")]
    if len(own) > 1:
        raise FrameError(f"{volume} has more than one brain mask: {own[0]} and {own[1]}")
    return own[0] if own else None


def stem(path: Path) -> str:
    """The file's name without .nii or .nii.gz."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
