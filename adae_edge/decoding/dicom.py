"""Decoding DICOM files into 8-bit frames."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_file import DicomFile, open_dicom
from adae_edge.decoding.dicom_header import Header
from adae_edge.errors import FrameError


def decode_dicom(
    source: Path | BinaryIO, window: Window | None = None, name: str = ""
) -> Iterator[tuple[str, NDArray[np.uint8] | FrameError]]:
    """Decode the frames of a DICOM file one after another.

    Grey pictures pass through their VOI window (the first one, if there are several). Without any,
    8 stored bits are taken as they are, and more are refused: no rule that looks at one picture
    alone would scale the next one in the same way. Colour pictures come as RGB.

    Args:
        source: the file, or one that is open and can be sought, such as a member of an archive.
        window: in place of the file's own, in modality units.
        name: what sentences call the file; its path if not given.

    Yields:
        The SOP instance UID, with "/1", "/2" ... for the frames of a multi-frame file; and the
        frame, uint8 [H, W, C], C 1 or 3, or why this one of several cannot be decoded.

    Raises:
        FrameError: no DICOM file, damaged, of a kind that cannot be decoded, or without a window
            where one is needed.
        NoPicture: it holds something else than pictures.
    """
    yield from frames_of(open_dicom(source, name), window)


def frames_of(
    file: DicomFile, window: Window | None = None
) -> Iterator[tuple[str, NDArray[np.uint8] | FrameError]]:
    """Decode the frames of a file whose header was read, as ``decode_dicom`` does."""
    for number in range(file.frames):
        if file.frames == 1:
            yield file.uid, file.picture(number, window)
            return
        try:
            frame: NDArray[np.uint8] | FrameError = file.picture(number, window)
        except FrameError as error:
            frame = FrameError(f"frame {number + 1} of {error}")
        yield f"{file.uid}/{number + 1}", frame


def decode_one(path: Path, number: int, window: Window | None = None) -> NDArray[np.uint8]:
    """Decode one frame of a DICOM file by its number from 0, as ``decode_dicom`` does.

    Returns:
        uint8 [H, W, C], C 1 or 3.

    Raises:
        FrameError: as ``decode_dicom``, or there is no such frame.
    """
    file = _opened(path)
    if not 0 <= number < file.frames:
        raise FrameError(f"{path} has no frame {number + 1}")
    return file.picture(number, window)


def read_header(path: Path) -> Header:
    """Read what a file says of its frames, without decoding them.

    Raises:
        FrameError: no DICOM file, or damaged.
        NoPicture: it holds something else than pictures.
    """
    file = _opened(path)
    return Header(
        frames=file.frames,
        grey=file.grey,
        size=file.size,
        series=str(file.header.get("SeriesInstanceUID") or ""),
        orientations=file.orientations(),
    )


def _opened(path: Path) -> DicomFile:
    """The header of a file, which is kept for the next frame of the same one."""
    try:
        state = path.stat()
    except OSError:
        return open_dicom(path)  # which says why
    return _kept(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=4)
def _kept(path: Path, changed: int, size: int) -> DicomFile:
    """The header of a file as it is since it was changed."""
    return open_dicom(path)
