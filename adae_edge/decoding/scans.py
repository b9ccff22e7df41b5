"""Scans of heads at a place: NIfTI volumes and DICOM series, each with its brain mask.

Training, calibration and scoring find them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from adae_edge.decoding.folders import list_folder
from adae_edge.decoding.kinds import is_dicom, is_nifti
from adae_edge.decoding.objects import BrainMask, Slices, slices_of
from adae_edge.decoding.planes import File, Plane
from adae_edge.decoding.segmentation import read_segmentation
from adae_edge.decoding.series import Found, Series, find_series, read_series
from adae_edge.decoding.volume_names import is_brain_mask, mask_of, modality_of, stem, volumes_of
from adae_edge.decoding.volumes import Volume
from adae_edge.errors import FrameError, UsageError


class Scan(NamedTuple):
    """A volume that can be read, and the brain mask that goes with it.

    Attributes:
        name: the volume's, for messages.
        read: reads it.
        read_mask: reads its mask; None where there is none.
        mask_beside: the name of a mask that was found beside the volume; "" where none was.
        series: the frames that it is read from; None where it is no DICOM series.
    """

    name: str
    read: Callable[[], Volume]
    read_mask: Callable[[], BrainMask] | None = None
    mask_beside: str = ""
    series: Series | None = None

    def slices(self, rule: str) -> Slices:
        """Read the volume and find its object, by one of ``contract.OBJECTS``.

        Raises:
            FrameError: the volume or the mask cannot be read, or as ``slices_of``.
        """
        volume = self.read()
        mask = None if self.read_mask is None or rule == "head" else self.read_mask()
        return slices_of(volume, rule, mask)


class SliceReader(Protocol):
    """Reads DICOM files, as ``Lender`` and ``PlaneWorkers`` do in other processes."""

    def planes(self, files: Iterable[File]) -> Iterator[list[Plane] | FrameError]:
        """What the frames of each file say of themselves, or why it has none, in order."""
        ...

    def values(self, wanted: Iterable[tuple[File, list[Plane]]]) -> Iterator[NDArray[Any]]:
        """The values of frames of files in order; raises FrameError."""
        ...

    def segments(
        self, path: Path, numbers: list[int] | None = None
    ) -> Iterator[tuple[Any, NDArray[Any] | None]]:
        """The frames of a segmentation, as ``segments_of`` gives them."""
        ...


def nifti_files(place: Path) -> list[Path]:
    """The NIfTI files at a place, which is one of them or a folder, in order of path."""
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    return [file for file in files if is_nifti(file) and file.is_file()]


def dicom_files(place: Path) -> list[Path]:
    """The DICOM files at a place, which is one of them or a folder, in order of path."""
    if place.is_dir():
        return list_folder(place, wanted=is_dicom).files
    return [place] if place.is_file() and is_dicom(place) else []


def nifti_scan(volume: Path, mask: Path | None, mask_beside: str = "") -> Scan:
    """The scan of a NIfTI file."""
    from adae_edge.decoding.nifti import read_mask, read_volume

    read = None if mask is None else partial(read_mask, mask)
    return Scan(str(volume), partial(read_volume, volume), read, mask_beside)


def nifti_scans(place: Path, brain_mask: Path | None, modality: str | None) -> list[Scan]:
    """The scans of the NIfTI files at a place.

    A mask is one file for one volume, or in a folder whose names say whose each is. Without one,
    the mask that lies beside a volume is its mask.

    Args:
        place: a file, or a folder of them at any depth.
        brain_mask: a mask, or a folder of masks.
        modality: which volumes are taken where names say what they show; None for all.

    Raises:
        UsageError: there are files, but no volumes of the modality, or a mask is missing.
        FrameError: a volume has several masks.
    """
    files = nifti_files(place)
    if not files:
        return []
    named = any(map(modality_of, files))
    volumes = volumes_of(files, modality if named else None)
    if not volumes:
        what = f"{modality} volumes" if modality else "volumes"
        raise UsageError(
            f"{place} gives no {what} by their names, and masks and other modalities are not scored"
        )
    if brain_mask is None:
        beside = {volume.parent for volume in volumes}
        masks = [mask for folder in beside for mask in folder.iterdir() if is_brain_mask(mask)]
        own = [
            mask_of(volume, [mask for mask in masks if mask.parent == volume.parent])
            for volume in volumes
        ]
        names = [mask.name if mask else "" for mask in own]
        return list(map(nifti_scan, volumes, own, names))

    masks = nifti_files(brain_mask)
    volumes = [volume for volume in volumes if volume not in masks]
    if not volumes:
        raise UsageError(
            f"{brain_mask} holds all volumes of {place} too: keep masks in a folder of their own"
        )
    if brain_mask.is_file() and len(volumes) == 1:
        return [nifti_scan(volumes[0], brain_mask)]
    own = [mask_of(volume, masks) for volume in volumes]
    for volume, mask in zip(volumes, own, strict=True):
        if mask is None:
            raise UsageError(
                f"{brain_mask} has no brain mask for {volume}: its name would go on where the "
                "volume's ends"
            )
    return list(map(nifti_scan, volumes, own))


def series_scans(
    files: Iterable[File],
    brain_mask: Path | None,
    found: Found,
    reader: SliceReader,
) -> Iterator[Scan]:
    """The scans of the DICOM series among files, one after another.

    A mask is a DICOM segmentation that names the slices that it marks or lies exactly on them, or a
    NIfTI file on the same grid: one for one series, or named after the folder of the series.

    Args:
        files: of any series.
        brain_mask: a mask, or a folder of masks.
        found: gets the series, and why others are none.
        reader: decodes the files.

    Raises:
        UsageError: there is no such mask.
    """
    masks = [] if brain_mask is None else nifti_files(brain_mask)
    marked = [] if brain_mask is None else dicom_files(brain_mask)
    mark = partial(read_segmentation, marked, read=reader.segments) if marked else None
    if brain_mask is not None and not masks and not marked:
        raise UsageError(f"{brain_mask} gives no brain masks: give NIfTI files or segmentations")
    find_series([file for file in files if file not in marked], reader.planes, found)
    for series in found.series:
        read = partial(read_series, series, reader.values)
        if brain_mask is None:
            yield Scan(series.name, read, series=series)
            continue
        try:
            mask = _mask_of_series(series, found, masks, mark)
        except FrameError as error:
            found.refused.append(error)
        else:
            yield Scan(series.name, read, mask, series=series)


def _mask_of_series(
    series: Series,
    found: Found,
    masks: list[Path],
    mark: Callable[[Series], BrainMask] | None,
) -> Callable[[], BrainMask]:
    """What reads the mask of a series.

    Raises:
        FrameError: there is none, or several.
    """
    from adae_edge.decoding.nifti import read_mask

    if mark is not None:
        return partial(mark, series)
    if len(masks) == len(found.series) == 1:
        return partial(read_mask, masks[0])
    folder = series.folder.name
    own = [mask for mask in masks if stem(mask) == folder or stem(mask).startswith(folder + "_")]
    if len(own) != 1:
        many = "more than one brain mask" if own else "no brain mask"
        raise FrameError(
            f"{series.name} has {many}: its name would begin with {folder}, as the folder's"
        )
    return partial(read_mask, own[0])
