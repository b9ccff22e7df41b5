"""Sources of frames: image files and folders, DICOM files, NIfTI volumes, video files, a camera.

A source yields frames in order. A file that cannot be decoded is yielded as the FrameError that says
why, so that the others are still scored. Files give every frame; a camera gives the newest one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Contract
from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.frames import IMAGE_SUFFIXES, decode_image, is_dicom, is_nifti, to_channels

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


@dataclass(frozen=True)
class Frame:
    """One frame and where it came from.

    Attributes:
        source: the file's path, or camera:N.
        id: number of the frame or slice in its source from 0, or the SOP instance UID of a DICOM file.
        time: when it was captured or decoded, seconds since 1970, UTC.
        pixels: uint8 [H, W, C], C 1 (grey) or 3 (RGB), or a slice float32 [H, W, 1]; may be read-only.
        mean, std: of the brain in a slice's volume; None for pictures.
    """

    source: str
    id: int | str
    time: float
    pixels: NDArray[np.uint8 | np.float32]
    mean: float | None = None
    std: float | None = None

    def inputs(self, channels: int) -> list[NDArray[Any]]:
        """What ``Scorer.score`` takes for this frame alone, in the model's number of channels."""
        statistics = [value for value in (self.mean, self.std) if value is not None]
        return [to_channels(self.pixels, channels)[None], *(np.array([value], np.float32) for value in statistics)]


class Source(Protocol):
    """Yields frames; ``live`` says whether it waits for time to pass, as a camera does."""

    live: bool

    def __iter__(self) -> Iterator[Frame | FrameError]: ...


def open_for(
    contract: Contract, spec: str, window: tuple[float, float] | None = None, brain_mask: Path | None = None
) -> Source:
    """Open a source for a model: its kind of frames and modality, and its window where no other one is given.

    Raises:
        As ``open_source``.
    """
    return open_source(spec, window or contract.window, contract.kind, brain_mask, contract.modality)


def open_source(
    spec: str,
    window: tuple[float, float] | None = None,
    kind: str = "image",
    brain_mask: Path | None = None,
    modality: str | None = None,
) -> Source:
    """Open a source by its name on the command line.

    Args:
        spec: a path of an image, a DICOM file, a video or a folder of images and DICOM files; or a
            camera, "camera:0" or "0". For kind "modality" a NIfTI volume or a folder of them.
        window: centre and width for DICOM files, in place of their own.
        kind: of the frames, as in the contract.
        brain_mask: for NIfTI volumes that are not skull-stripped, a mask or a folder of masks.
        modality: which volumes are taken, where names say what they show; None for all. Masks never are.

    Raises:
        UsageError: there is no such path, it may not be read, or it gives no frames of this kind.
        SourceError: the camera or the video cannot be opened.
        MissingExtra: the package that this source needs is not installed.
    """
    if not spec:
        raise UsageError("the source is empty: give a file, a folder or camera:0")
    if kind == "modality":
        if window is not None:
            raise UsageError("--window is for DICOM files, and this model takes the slices of volumes")
        return _volumes(Path(spec), brain_mask, modality)
    if brain_mask is not None:
        raise UsageError("a brain mask goes with a model for the slices of volumes, and this one takes pictures")
    number = spec.removeprefix("camera:")
    if number.isdecimal():
        from adae_edge.runtime.capture import Camera

        return Camera(int(number))
    path = Path(spec)
    try:
        if path.is_dir():
            return Files(sorted(file for file in path.rglob("*") if file.is_file() and _scorable(file)), spec, window)
        if not path.is_file():
            raise UsageError(f"there is no source {spec}: give a file, a folder or camera:0")
    except OSError as error:
        raise UsageError(f"{spec} cannot be opened: {error.strerror}") from None
    if is_nifti(path):
        raise UsageError(f"{spec} is a volume, and this model takes pictures")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from adae_edge.runtime.capture import Video

        return Video(path)
    return Files([path], spec, window)


class Files:
    """Image and DICOM files, each frame once, in order of path."""

    live = False

    def __init__(self, paths: list[Path], spec: str, window: tuple[float, float] | None = None) -> None:
        if not paths:
            raise SourceError(f"there are no images and no DICOM files in {spec}")
        self._paths = paths
        self._window = window

    def __iter__(self) -> Iterator[Frame | FrameError]:
        for path in self._paths:
            try:
                if is_dicom(path):
                    from adae_edge.dicom import Window, decode_dicom

                    window = Window(*self._window) if self._window else None
                    for uid, pixels in decode_dicom(path, window):
                        yield Frame(str(path), uid, time.time(), pixels)
                else:
                    yield Frame(str(path), 0, time.time(), decode_image(path))
            except FrameError as error:
                yield error


class Volumes:
    """The slices of NIfTI volumes, from the feet up, those with hardly any brain left out as in training.

    Args:
        paths: each volume with its brain mask, or with None if it is skull-stripped.
    """

    live = False

    def __init__(self, paths: list[tuple[Path, Path | None]]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[Frame | FrameError]:
        from adae_edge.nifti import read_brain

        for path, mask in self._paths:
            try:
                brain = read_brain(path, mask)
            except FrameError as error:
                yield error
                continue
            for number in brain.shown.tolist():
                yield Frame(str(path), number, time.time(), brain.slices[number][..., None], brain.mean, brain.std)


def _volumes(path: Path, brain_mask: Path | None, modality: str | None) -> Volumes:
    """A volume or a folder of them, with their brain masks: one file, or a folder whose names say whose each is."""
    from adae_edge.nifti import mask_of, modality_of, volumes_of

    files = _nifti_files(path)
    volumes = volumes_of(files, modality if any(map(modality_of, files)) else None)
    if not volumes:
        what = f"{modality} volumes" if modality else "volumes"
        raise UsageError(f"{path} gives no {what} by their names, and masks and other modalities are not scored")
    if brain_mask is None:
        return Volumes([(volume, None) for volume in volumes])
    masks = _nifti_files(brain_mask)
    volumes = [volume for volume in volumes if volume not in masks]
    if not volumes:
        raise UsageError(f"{brain_mask} holds all volumes of {path} too: keep masks in a folder of their own")
    if brain_mask.is_file() and len(volumes) == 1:
        return Volumes([(volumes[0], brain_mask)])
    pairs = [(volume, mask_of(volume, masks)) for volume in volumes]
    if missing := [volume for volume, mask in pairs if mask is None]:
        raise UsageError(
            f"{brain_mask} has no brain mask for {missing[0]}: its name would go on where the volume's ends"
        )
    return Volumes(pairs)


def _nifti_files(place: Path) -> list[Path]:
    if not place.exists():
        raise UsageError(f"there is no {place}: give a NIfTI volume or a folder of them")
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    if not (found := [file for file in files if is_nifti(file)]):
        raise UsageError(f"{place} gives no NIfTI volumes, and this model takes the slices of volumes alone")
    return found


def _scorable(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)
