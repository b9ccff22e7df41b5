"""The slices of NIfTI volumes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from adae_edge.decoding.kinds import is_nifti
from adae_edge.decoding.rules import VOLUMES
from adae_edge.errors import FrameError, UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources.source import Source, Wanted, failure

_log = logging.getLogger(__name__)


class Volumes(Source):
    """The slices of NIfTI volumes from the feet up, but those with hardly any brain."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: path of a volume, or of a folder of them at any depth.
            wanted: the frames that the model takes, with the brain masks if there are any.

        Raises:
            UsageError: there are no such volumes, a mask is missing, or pictures are wanted.
        """
        if wanted.window is not None:
            raise UsageError(
                "--window is for DICOM files, and this model takes the slices of volumes"
            )
        if wanted.kind != "modality":
            raise UsageError(f"{place} gives slices of volumes, and this model takes pictures")
        self._masked, self._done = wanted.brain_mask is not None, wanted.done
        self._paths = _paired(Path(place), wanted.brain_mask, wanted.modality)

    def __iter__(self) -> Iterator[Frame | Event]:
        """The slices of each volume, or the failure of a volume that cannot be read."""
        from adae_edge.decoding.nifti import read_brain

        for path, mask in self._paths:
            try:
                brain = read_brain(path, mask)
            except FrameError as error:
                yield failure(str(path), error)
                continue
            if mask is not None and not self._masked:
                detail = f"{path} has its brain mask beside it, {mask.name}, which is used"
                yield Event(str(path), time.time(), "note", detail)
            _log.info("%s: %d slices are shown", path, len(brain.shown))
            for number in brain.shown.tolist():
                if self._done(str(path), number):
                    continue
                pixels = brain.values[number][..., None]
                yield Frame(
                    str(path),
                    number,
                    time.time(),
                    pixels,
                    brain.mean,
                    brain.std,
                    decoding=VOLUMES,
                )


def _paired(
    path: Path, brain_mask: Path | None, modality: str | None
) -> list[tuple[Path, Path | None]]:
    """Each volume with its brain mask, or with None where volumes are skull-stripped.

    A mask is one file for one volume, or in a folder whose names say whose each is. Without one,
    the mask that lies beside a volume is its mask, as in the training.
    """
    from adae_edge.decoding.volume_names import is_brain_mask, mask_of, modality_of, volumes_of

    files = _nifti_files(path)
    named = any(map(modality_of, files))
    volumes = volumes_of(files, modality if named else None)
    if not volumes:
        what = f"{modality} volumes" if modality else "volumes"
        raise UsageError(
            f"{path} gives no {what} by their names, and masks and other modalities are not scored"
        )
    if brain_mask is None:
        beside = {volume.parent for volume in volumes}
        masks = [mask for folder in beside for mask in folder.iterdir() if is_brain_mask(mask)]
        return [(volume, mask_of(volume, _in(volume.parent, masks))) for volume in volumes]

    masks = _nifti_files(brain_mask)
    volumes = [volume for volume in volumes if volume not in masks]
    if not volumes:
        raise UsageError(
            f"{brain_mask} holds all volumes of {path} too: keep masks in a folder of their own"
        )
    if brain_mask.is_file() and len(volumes) == 1:
        return [(volumes[0], brain_mask)]
    pairs = [(volume, mask_of(volume, masks)) for volume in volumes]
    unmasked = [volume for volume, mask in pairs if mask is None]
    if unmasked:
        raise UsageError(
            f"{brain_mask} has no brain mask for {unmasked[0]}: its name would go on where the "
            "volume's ends"
        )
    return pairs


def _in(folder: Path, files: list[Path]) -> list[Path]:
    return [file for file in files if file.parent == folder]


def _nifti_files(place: Path) -> list[Path]:
    """The NIfTI files at a place, which is one of them or a folder."""
    if not place.exists():
        raise UsageError(f"there is no {place}: give a NIfTI volume or a folder of them")
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.is_file())
    else:
        files = [place]
    volumes = [file for file in files if is_nifti(file)]
    if not volumes:
        raise UsageError(
            f"{place} gives no NIfTI volumes, and this model takes the slices of volumes alone"
        )
    return volumes


SOURCE = Volumes
