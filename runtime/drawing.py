"""Draws scored frames for people: a line of text, the anomaly map and the boxes on the frame.

Colours are told apart by colour-blind people, too: blue and vermilion for the verdicts, grey where
there is none, and a map whose brightness rises with its values.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from adae_edge.errors import printable
from adae_edge.extras import needs
from adae_edge.placement import Axis, Placement
from adae_edge.runtime.frame import Frame, Scored

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
with needs("Drawing on frames", "camera"):
    import cv2

LEAST, MOST = 320, 1280  # pixels of a drawn frame's longer side
_GAP = 4  # pixels between the two halves of a pair
COLORS = {"normal": (0, 91, 150), "anomalous": (190, 70, 0), "uncalibrated": (96, 96, 96)}
_BOX, _EDGE = (86, 200, 255), (0, 0, 0)
_OPAQUE = 0.6  # of the map at its threshold
# The map's scale: 0 at the median of the frame's map, 1 at the threshold. Below the first of these
# nothing is drawn, and from the last on the colour stays.
_FROM, _TO = 0.5, 2.0
_DARKEST = 130  # of the 256 colours of the map, for what is just visible
# Standard deviations of a slice around its mean that are black and white.
_BLACK, _WHITE = -3.0, 5.0

Picture = NDArray[np.uint8]


class _Scale(NamedTuple):
    """Rows and columns of the drawn picture for one of the frame."""

    rows: float
    columns: float


_WHOLE = _Scale(1.0, 1.0)


def annotated(scored: Scored) -> Picture:
    """The frame with its map and boxes, under a line that says its score.

    Returns:
        uint8 [H, W, 3], RGB; H and W are even, as video encoders want them.

    Raises:
        FrameError: the frame's pixels cannot be had any more.
    """
    picture, scale = _sized(_rgb(scored.frame))
    return _even(_under_text(_marked(picture, scored, scale), scored))


def pair(scored: Scored, lines: Sequence[str] | None = None, tall: float = 1.0) -> Picture:
    """The frame as it is, and beside it with its map and boxes where the model has a map.

    Args:
        scored: the frame and its score.
        lines: the text above it, in place of its verdict, score, time and place.
        tall: how many times as high as wide the frame's pixels are; what is drawn has square ones.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        FrameError: the frame's pixels cannot be had any more.
    """
    picture, scale = _sized(_rgb(scored.frame), tall)
    halves = [picture]
    if scored.anomaly_map is not None:
        gap = np.zeros((len(picture), _GAP, 3), np.uint8)
        halves += [gap, _marked(picture, scored, scale)]
    return _under_text(np.concatenate(halves, axis=1), scored, lines)


def _rgb(frame: Frame) -> Picture:
    """The whole frame in colours, a slice by the mean and deviation of its volume."""
    pixels = frame.picture()
    if pixels.dtype != np.uint8:
        mean, std = frame.mean or 0.0, frame.std or 1.0
        scaled = (pixels - (mean + _BLACK * std)) / ((_WHITE - _BLACK) * std)
        pixels = np.where(pixels == 0, 0, scaled.clip(0, 1) * 255).astype(np.uint8)
    colors = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return np.ascontiguousarray(colors, np.uint8)


def _sized(picture: Picture, tall: float = 1.0) -> tuple[Picture, _Scale]:
    """The picture, enlarged or shrunk until text is readable on it, and by how much."""
    height, width = picture.shape[:2]
    rows, columns = max(tall, 1.0), max(1 / tall, 1.0)
    longer = max(height * rows, width * columns)
    factor = float(math.ceil(LEAST / longer)) if longer < LEAST else min(1.0, MOST / longer)
    scale = _Scale(rows * factor, columns * factor)
    if scale == _WHOLE:
        return picture, scale
    size = max(1, round(width * scale.columns)), max(1, round(height * scale.rows))
    how = cv2.INTER_NEAREST if factor > 1 else cv2.INTER_AREA
    if scale.rows != scale.columns and max(scale) > 1:
        how = cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8), scale


def _marked(picture: Picture, scored: Scored, scale: _Scale) -> Picture:
    """A copy of the picture with the map over it, and the boxes."""
    marked = picture.copy()
    _lay_map(marked, scored, scale)
    for box in scored.boxes or ():
        left, top = math.floor(box.left * scale.columns), math.floor(box.top * scale.rows)
        right = math.ceil((box.left + box.width) * scale.columns)
        bottom = math.ceil((box.top + box.height) * scale.rows)
        for color, grow in ((_EDGE, 3), (_BOX, 2), (_BOX, 1)):
            corners = (left - grow, top - grow), (right + grow - 1, bottom + grow - 1)
            cv2.rectangle(marked, *corners, color, 1)
    return marked


def _lay_map(picture: Picture, scored: Scored, scale: _Scale) -> None:
    """Lay the map over the part of the picture that it shows, brighter where it is higher."""
    if scored.anomaly_map is None or scored.placement is None:
        return
    heat, shown = _spread(_scaled(scored), scored.placement, scale, picture.shape[:2])

    # only the rows and columns with something to see are drawn
    seen = heat > _FROM
    across, down = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    if not len(across):
        return
    part = slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)
    heat = heat[part]
    level = ((heat - _FROM) / (_TO - _FROM)).clip(0, 1)
    colors = cv2.applyColorMap(
        np.asarray(_DARKEST + level * (255 - _DARKEST), np.uint8), cv2.COLORMAP_INFERNO
    )
    opaque = _OPAQUE * ((heat - _FROM) / (1 - _FROM)).clip(0, 1)
    under = picture[shown][part]
    under[:] = cv2.blendLinear(
        np.ascontiguousarray(under), cv2.cvtColor(colors, cv2.COLOR_BGR2RGB), 1 - opaque, opaque
    )


def map_in_frame(scored: Scored) -> NDArray[np.float32]:
    """The anomaly map in the frame's pixels, bilinear: float32 [H, W], 0 where it shows nothing.

    Raises:
        ValueError: there is no map.
    """
    if scored.anomaly_map is None or scored.placement is None:
        raise ValueError("a frame without a map")
    size = scored.frame.size
    values = np.zeros(size, np.float32)
    heat, shown = _spread(scored.anomaly_map, scored.placement, _WHOLE, size)
    values[shown] = heat
    return values


def _spread(
    values: NDArray[np.float32], place: Placement, scale: _Scale, size: tuple[int, ...]
) -> tuple[NDArray[np.float32], tuple[slice, slice]]:
    """A map in pixels of the picture of this size, and which part of the picture that is."""
    rows, columns = place
    top, bottom = _edges(rows.start, rows.length, scale.rows, size[0])
    left, right = _edges(columns.start, columns.length, scale.columns, size[1])

    # each pixel of the picture looks up its place in the map
    to_map = np.array(
        [
            [1 / (scale.columns * columns.step), 0, _first(left, columns, scale.columns)],
            [0, 1 / (scale.rows * rows.step), _first(top, rows, scale.rows)],
        ]
    )
    heat = cv2.warpAffine(
        values,
        to_map,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(heat, np.float32), (slice(top, bottom), slice(left, right))


def _scaled(scored: Scored) -> NDArray[np.float32]:
    """The map on a scale of 0 at its median to 1 at its threshold; without one, at its peak."""
    values = np.asarray(scored.anomaly_map, np.float32)
    threshold = float(values.max()) if scored.map_threshold is None else scored.map_threshold
    middle = float(np.median(values))
    if middle >= threshold:  # everything is anomalous, or nothing differs
        middle = float(values.min())
    span = max(threshold - middle, 1e-9 * max(1.0, abs(threshold)))
    return np.asarray((values - middle) / span, np.float32).clip(-_TO, 2 * _TO)


def _edges(start: int, length: int, factor: float, most: int) -> tuple[int, int]:
    """First pixel of the picture, and the one after the last, of a part of the frame."""
    first = min(round(start * factor), most - 1)
    return first, min(max(round((start + length) * factor), first + 1), most)


def _first(pixel: int, place: Axis, factor: float) -> float:
    """Where in the map the middle of a pixel of the picture lies."""
    return ((pixel + 0.5) / factor - place.origin) / place.step - 0.5


def _under_text(picture: Picture, scored: Scored, lines: Sequence[str] | None = None) -> Picture:
    """The picture under lines of text; it is wide enough for them."""
    lines = _lines(scored) if lines is None else lines
    height, width = picture.shape[:2]
    if width < LEAST:
        wide = np.zeros((height, LEAST, 3), np.uint8)
        left = (LEAST - width) // 2
        wide[:, left : left + width] = picture
        picture, width = wide, LEAST
    size = min(24, max(12, width // 40))
    line = round(size * 1.35)
    strip = np.empty((len(lines) * line + 4, width, 3), np.uint8)
    strip[:] = COLORS[scored.verdict]
    for number, text in enumerate(lines):
        _write(strip[2 + number * line :, 6:-6], text, size)
    return np.concatenate([strip, picture])


def _lines(scored: Scored) -> tuple[str, str]:
    """The verdict with its figures, and when and where."""
    frame = scored.frame
    verdict = scored.verdict.upper() if scored.verdict == "anomalous" else scored.verdict
    moment = np.datetime64(round(frame.time * 1000), "ms")
    when = str(moment).replace("T", " ")[:-2]  # tenths of a second
    shown = "" if frame.video_time is None else f"  at {frame.video_time:.2f} s"
    return (
        f"{verdict}  {scored.score:.4f}  threshold {scored.threshold:.4f}",
        f"{when}{shown}  {printable(frame.place)}",
    )


def _write(picture: Picture, text: str, size: int) -> None:
    """Write a line in white into the upper left corner, as far as it fits."""
    letters = [_letter(each, size) for each in _cut(text, size, picture.shape[1])]
    white = np.concatenate(letters, axis=1)[: len(picture), :, None]
    under = picture[: white.shape[0], : white.shape[1]]
    under[:] = under + (255 - under).astype(np.uint16) * white // 255


def _cut(text: str, size: int, width: int) -> str:
    """The text as far as it fits: of a long path the end is told."""
    if _length(text, size) <= width:
        return text
    head, _, tail = text.rpartition("  ")
    room = width - _length(f"{head}  …", size)
    first = bisect_left(range(len(tail)), -room, key=lambda at: -_length(tail[at:], size))
    return f"{head}  …{tail[first:]}"


def _length(text: str, size: int) -> int:
    return sum(_letter(each, size).shape[1] for each in text)


# Setting the letters of a line anew would take most of the time of an annotated picture.
@lru_cache(maxsize=2000)
def _letter(letter: str, size: int) -> NDArray[np.uint8]:
    """How white each pixel of a letter is, 0 to 255, [line's height, letter's width]."""
    font = _font(size)
    place = Image.new("L", (max(1, round(font.getlength(letter))), sum(font.getmetrics())))
    ImageDraw.Draw(place).text((0, 0), letter, fill=255, font=font)
    return np.asarray(place, np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # with a size it is
    return font


def _even(picture: Picture) -> Picture:
    """The picture with even sides; a black line is added where one is missing."""
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)))
