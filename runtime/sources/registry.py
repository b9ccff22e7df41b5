"""Opens a source by its name on the command line."""

from __future__ import annotations

from pathlib import Path

from adae_edge.contract import Contract
from adae_edge.decoding.images import is_nifti
from adae_edge.errors import UsageError
from adae_edge.runtime.sources.files import Files, is_scorable
from adae_edge.runtime.sources.source import Source
from adae_edge.runtime.sources.volumes import open_volumes

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


def open_for(
    contract: Contract,
    spec: str,
    window: tuple[float, float] | None = None,
    brain_mask: Path | None = None,
) -> Source:
    """Open a source for a model: its kind of frames and modality, and its window where no other one is given.

    Raises:
        As ``open_source``.
    """
    return open_source(
        spec, window or contract.window, contract.kind, brain_mask, contract.modality
    )


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
        modality: which volumes are taken, where names say what they show; None for all. Masks never
            are.

    Raises:
        UsageError: there is no such path, it may not be read, or it gives no frames of this kind.
        SourceError: the camera or the video cannot be opened.
        MissingExtra: the package that this source needs is not installed.
    """
    if not spec:
        raise UsageError("the source is empty: give a file, a folder or camera:0")
    if kind == "modality":
        if window is not None:
            raise UsageError(
                "--window is for DICOM files, and this model takes the slices of volumes"
            )
        return open_volumes(Path(spec), brain_mask, modality)
    if brain_mask is not None:
        raise UsageError(
            "a brain mask goes with a model for the slices of volumes, and this one takes pictures"
        )
    number = spec.removeprefix("camera:")
    if number.isdecimal():
        from adae_edge.runtime.sources.camera import Camera

        return Camera(int(number))
    path = Path(spec)
    try:
        if path.is_dir():
            return Files(
                sorted(file for file in path.rglob("*") if file.is_file() and is_scorable(file)),
                spec,
                window,
            )
        if not path.is_file():
            raise UsageError(f"there is no source {spec}: give a file, a folder or camera:0")
    except OSError as error:
        raise UsageError(f"{spec} cannot be opened: {error.strerror}") from None
    if is_nifti(path):
        raise UsageError(f"{spec} is a volume, and this model takes pictures")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        from adae_edge.runtime.sources.video import Video

        return Video(path)
    return Files([path], spec, window)
