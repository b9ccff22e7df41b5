"""Masks of defects in a folder of pictures: which one belongs to which frame."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.folders import list_folder
from adae_edge.decoding.images import decode_image, to_channels
from adae_edge.decoding.layouts import is_mask_of_neighbour, picture_of_mask
from adae_edge.errors import FrameError

_LOSSY = (".jpg", ".jpeg", ".webp")


def find_masks(frames: list[Path], folders: list[Path]) -> list[Path | None]:
    """Find the mask of each frame by its name.

    A mask is named as its frame, with or without an ending such as "_mask". It lies beside the
    frame, or in a folder of masks, below the same sub-folders as far as that has any.

    Args:
        frames: the files of anomalous frames.
        folders: of masks; each is for the frames beneath the folder that it lies in.

    Returns:
        A mask for each frame, or None: it has none, or another frame would have the same one.
    """
    beside = {
        (mask.parent, picture_of_mask(mask)): mask
        for place in {frame.parent for frame in frames}
        for mask in sorted(place.iterdir())
        if is_mask_of_neighbour(mask)
    }
    within = {folder: _by_place(folder) for folder in sorted(folders, key=_depth, reverse=True)}
    found = [beside.get((frame.parent, frame.stem)) or _within(frame, within) for frame in frames]
    claims = Counter(found)
    return [mask if claims[mask] == 1 else None for mask in found]


def load_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask, bool [H, W]: whatever is not black is defect; of a JPEG, what is nearer white.

    Args:
        path: an image.
        shape: H and W of its frame.

    Raises:
        FrameError: it cannot be decoded, or has another size.
    """
    pixels = decode_image(path)
    if pixels.shape[:2] != shape:
        height, width = pixels.shape[:2]
        raise FrameError(
            f"{path} is a mask of {width} x {height} pixels, and its frame has "
            f"{shape[1]} x {shape[0]}"
        )
    lossy = path.suffix.lower() in _LOSSY
    return to_channels(pixels, 1)[:, :, 0] > (127 if lossy else 0)


def _by_place(folder: Path) -> dict[tuple[str, ...], Path]:
    """The masks of a folder by the parts of their paths below it, the last without its ending."""
    masks = {}
    for path in list_folder(folder).files:
        parts = path.relative_to(folder).parts[:-1]
        masks[(*parts, path.stem)] = path
        masks.setdefault((*parts, picture_of_mask(path)), path)
    return masks


def _within(frame: Path, folders: dict[Path, dict[tuple[str, ...], Path]]) -> Path | None:
    """The mask of a frame in the deepest folder that has one, by the longest part of its path."""
    for folder, masks in folders.items():
        if folder.parent not in frame.parents:
            continue
        parts = (*frame.relative_to(folder.parent).parts[:-1], frame.stem)
        for start in range(len(parts)):
            if mask := masks.get(parts[start:]):
                return mask
    return None


def _depth(folder: Path) -> int:
    return len(folder.parts)
