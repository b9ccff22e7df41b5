"""The slices of NIfTI volumes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from adae_edge.decoding.images import is_nifti
from adae_edge.errors import FrameError, UsageError
from adae_edge.runtime.frame import Frame


class Volumes:
    """The slices of NIfTI volumes, from the feet up, those with hardly any brain left out as in training.

    Args:
        paths: each volume with its brain mask, or with None if it is skull-stripped.
    """

    live = False

    def __init__(self, paths: list[tuple[Path, Path | None]]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[Frame | FrameError]:
        from adae_edge.decoding.nifti import read_brain

        for path, mask in self._paths:
            try:
                brain = read_brain(path, mask)
            except FrameError as error:
                yield error
                continue
            for number in brain.shown.tolist():
                yield Frame(
                    str(path),
                    number,
                    time.time(),
                    brain.slices[number][..., None],
                    brain.mean,
                    brain.std,
                )


def open_volumes(path: Path, brain_mask: Path | None, modality: str | None) -> Volumes:
    """A volume or a folder of them, with their brain masks: one file, or a folder whose names say whose each is."""
    from adae_edge.decoding.volume_names import mask_of, modality_of, volumes_of

    files = _nifti_files(path)
    volumes = volumes_of(files, modality if any(map(modality_of, files)) else None)
    if not volumes:
        what = f"{modality} volumes" if modality else "volumes"
        raise UsageError(
            f"{path} gives no {what} by their names, and masks and other modalities are not scored"
        )
    if brain_mask is None:
        return Volumes([(volume, None) for volume in volumes])
    masks = _nifti_files(brain_mask)
    volumes = [volume for volume in volumes if volume not in masks]
    if not volumes:
        raise UsageError(
            f"{brain_mask} holds all volumes of {path} too: keep masks in a folder of their own"
        )
    if brain_mask.is_file() and len(volumes) == 1:
        return Volumes([(volumes[0], brain_mask)])
    pairs = [(volume, mask_of(volume, masks)) for volume in volumes]
    if missing := [volume for volume, mask in pairs if mask is None]:
        raise UsageError(
            f"{brain_mask} has no brain mask for {missing[0]}: its name would go on where the "
            "volume's ends"
        )
    return Volumes(pairs)


def _nifti_files(place: Path) -> list[Path]:
    if not place.exists():
        raise UsageError(f"there is no {place}: give a NIfTI volume or a folder of them")
    files = (
        sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    )
    if not (found := [file for file in files if is_nifti(file)]):
        raise UsageError(
            f"{place} gives no NIfTI volumes, and this model takes the slices of volumes alone"
        )
    return found
