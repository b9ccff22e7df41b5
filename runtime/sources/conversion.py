"""Makes RGB pixels of the frames that PyAV decodes, shrinks them meanwhile, and turns them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import FrameError, first_line
from adae_edge.extras import needs
from adae_edge.runtime.frame import Whole
from adae_edge.runtime.sources.turning import Matrix, matrix_of, turned
from adae_edge.stopwatch import stage

with needs("Reading a video", "camera"):
    from av.error import FFmpegError
    from av.sidedata.sidedata import SideDataContainer
    from av.video.reformatter import Interpolation, VideoReformatter

# Without these flags pixels are a grey level too dark. A shrunk pixel is the mean over its area.
_ACCURATE = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
_WHOLE, _SHRUNK = Interpolation.BILINEAR | _ACCURATE, Interpolation.AREA | _ACCURATE


class Conversion:
    """Makes RGB pixels of decoded frames of one stream, accurately, and shrinks them meanwhile."""

    def __init__(self, shrinking: Shrinking | None) -> None:
        """
        Args:
            shrinking: how far frames are shrunk; None leaves them whole.
        """
        self._shrinking = shrinking
        self._reformatter, self._to_show = VideoReformatter(), VideoReformatter()
        self._matrix: Matrix | None = None
        self._rotation: int | None = None

    def rgb(self, frame: Any) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
        """Convert a frame of PyAV.

        Returns:
            uint8 [H, W, 3], turned as its display matrix says, and height and width before it was
            shrunk; None where it was not.

        Raises:
            FrameError: it is turned by an angle that is no multiple of 90 degrees.
            FFmpegError, ValueError: FFmpeg cannot convert it.
        """
        size = whole = frame.height, frame.width
        if self._shrinking is not None:
            size = self._shrinking.size(*whole)
        height, width = size
        how = _WHOLE if size == whole else _SHRUNK
        with stage("convert"):
            rgb = self._reformatter.reformat(
                frame, width, height, format=_form(frame), interpolation=how, threads=1
            )
            pixels, sideways = np.asarray(rgb.to_ndarray(), np.uint8), False
        if frame.key_frame or frame.rotation != self._rotation:
            # frame.side_data would hold the frame, which holds it: memory that stays for minutes.
            data: Any = SideDataContainer(frame)  # type: ignore[call-arg]
            self._matrix, self._rotation = matrix_of(data), frame.rotation
        if self._matrix is not None:
            pixels, sideways = turned(pixels, self._matrix)
        if size == whole:
            return pixels, None
        return pixels, whole[::-1] if sideways else whole

    def whole(self, frame: Any) -> Whole | None:
        """The way to the pixels of a frame that was just shrunk, if it is to be kept.

        It has a scaler of its own, because another thread shows what this one decodes.
        """
        size, matrix = (frame.height, frame.width), self._matrix
        if self._shrinking is None or not self._shrinking.keep:
            return None
        if self._shrinking.size(*size) == size:
            return None

        def make() -> NDArray[np.uint8]:
            try:
                rgb = self._to_show.reformat(
                    frame, format=_form(frame), interpolation=_WHOLE, threads=1
                )
            except (FFmpegError, ValueError) as error:
                raise FrameError(f"cannot be shown: {first_line(error)}") from error
            pixels = np.asarray(rgb.to_ndarray(), np.uint8)
            return pixels if matrix is None else turned(pixels, matrix)[0]

        return Whole(make, sum(plane.buffer_size for plane in frame.planes))


def _form(frame: Any) -> str:
    """FFmpeg's name of the form of RGB that it makes fastest of a frame."""
    return "rgb24" if frame.format.is_rgb else "gbrp"  # planes take half the time of pixels
