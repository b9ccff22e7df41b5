"""Made-up frames, for which no camera and no file is needed.

"synthetic://?frames=100" gives so many as fast as they are taken. "synthetic://" is like a camera:
it gives 30 frames a second, for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.query import count, options_of, rate, size
from adae_edge.runtime.sources.source import Source, Wanted

_OPTIONS = {"fps": rate, "size": size, "frames": count, "seed": count}
_FPS = 30.0
_BITS = 32
_BLOCK = 8  # pixels of a field of the pattern
_STEP = 3  # pixels that the pattern moves from a frame to the next
_LOOK_S = 0.05


class Synthetic(Source):
    """A pattern of coloured fields that moves, with the frame's number in a strip at the top."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//?" and the options ``fps``, ``size``, ``frames`` and ``seed`` with "&" between
                them. With ``fps`` it is live, and so it is without ``frames``.
            wanted: the frames that the model takes.

        Raises:
            UsageError: an option is impossible, or other frames are wanted.
        """
        spec = f"synthetic:{place}"
        wanted.check_pictures(spec)
        start, _, query = place.partition("?")
        if start not in ("", "//"):
            raise UsageError(f"{spec} has a place, and frames are made up as synthetic://?frames=9")
        options = options_of(spec, query, _OPTIONS)
        self.name = spec
        self._frames: int | None = options.get("frames")
        self._fps: float | None = options.get("fps", _FPS if self._frames is None else None)
        self.live = self._fps is not None
        self._width, self._height = options.get("size", (640, 360))
        self._pattern = _pattern(self._width, self._height, options.get("seed", 0))
        self._done = wanted.done

    @property
    def endless(self) -> bool:
        """Whether it was given no number of frames."""
        return self._frames is None

    def __iter__(self) -> Iterator[Frame | Event]:
        """The frames, each at its time if it is live; what nobody took in time is skipped."""
        if self._fps is not None:
            yield from self._timed(self._fps)
            return
        for number in range(self._frames or 0):
            if self._stopping:
                return
            if not self._done(self.name, number):
                yield self._frame(number, time.time())

    def _timed(self, fps: float) -> Iterator[Frame]:
        started, number = time.monotonic(), 0
        while self._frames is None or number < self._frames:
            due = started + number / fps
            while (left := due - time.monotonic()) > 0 and not self._stopping:
                time.sleep(min(left, _LOOK_S))
            if self._stopping:
                return
            newest = int((time.monotonic() - started) * fps)
            if self._frames is not None:
                newest = min(newest, self._frames - 1)
            skipped = max(0, newest - number)
            number += skipped
            late = time.monotonic() - (started + number / fps)
            yield self._frame(number, time.time() - late, skipped)
            number += 1

    def _frame(self, number: int, captured: float, skipped: int = 0) -> Frame:
        start = number * _STEP % self._width
        pixels = self._pattern[:, start : start + self._width].copy()
        strip, block = _strip(self._height, self._width)
        if block:
            bits = np.array([number >> bit & 1 for bit in range(_BITS)], np.uint8) * 255
            pixels[:strip, : block * _BITS] = bits.repeat(block)[:, None]
        return Frame(self.name, number, captured, pixels, skipped=skipped)


def number_of(pixels: NDArray[np.uint8]) -> int:
    """The number, modulo 2**32, of a made-up frame of any size that is at least 32 pixels wide.

    Args:
        pixels: uint8 [H, W, C], as large as it was made; it may have been compressed meanwhile.
    """
    height, width, _ = pixels.shape
    strip, block = _strip(height, width)
    bits = pixels[strip // 2, block // 2 : block * _BITS : block].mean(axis=-1) > 127
    return sum(1 << bit for bit in range(_BITS) if bits[bit])


def _strip(height: int, width: int) -> tuple[int, int]:
    """Height of the strip with the number, and width of a bit in it; 0 where there is no room."""
    return max(1, height // 8), width // _BITS


def _pattern(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Coloured fields, uint8 [H, 2 W, 3], whose right half is their left half."""
    random = np.random.default_rng(seed)
    across, down = -(-width // _BLOCK), -(-height // _BLOCK)
    fields = random.integers(40, 216, (down, across, 3), np.uint8)
    half = fields.repeat(_BLOCK, axis=0)[:height].repeat(_BLOCK, axis=1)[:, :width]
    return np.concatenate([half, half], axis=1)


SOURCE = Synthetic
