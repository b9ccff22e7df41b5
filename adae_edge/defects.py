"""Synthetic defects for normal pictures: spots, scratches, smears, pastes, blur, missing parts.

Each is a shape, somewhere in the picture, and a filling that stands there in place of the picture.
They are rehearsed, and no more than like real ones. The same generator gives the same defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_PLACES = 8  # that are drawn where one of them is chosen

Picture = NDArray[np.uint8]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Spoiled:
    """A picture with a defect.

    Attributes:
        picture: uint8 [H, W, C].
        mask: bool [H, W], where the defect lies; elsewhere the picture is as it was.
    """

    picture: Picture
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class _Site:
    """Where a defect lies, and what it may be filled from.

    Attributes:
        picture: the untouched one, uint8 [H, W, C].
        other: another normal picture, uint8 [H', W', C].
        top, left, height, width: the box around the defect, pixels.
        level: grey levels that the defect adds, above or below 0.
        angle: direction of the defect's length in radians, from the rows' towards the columns'.
        random: for further choices.
    """

    picture: Picture
    other: Picture
    top: int
    left: int
    height: int
    width: int
    level: float
    angle: float
    random: np.random.Generator

    @property
    def before(self) -> Weights:
        """What stands in the box: float32 [h, w, C]."""
        return _box(self.picture, self.top, self.left, self.height, self.width)

    @property
    def length(self) -> int:
        """The longer side of the box, pixels."""
        return max(self.height, self.width)


@dataclass(frozen=True)
class Kind:
    """A kind of defect.

    Attributes:
        plural: its name in a sentence.
        has_contrast: whether it adds grey levels; another one is as strong as what it is made of.
        shape: from length in pixels, angle in radians and generator to weights [h, w], 0 to 1.
        filling: what stands there where the weight is 1, float32 [h, w, C].
    """

    plural: str
    has_contrast: bool
    shape: Callable[[int, float, np.random.Generator], Weights]
    filling: Callable[[_Site], Weights]


def pixels_of(size: float, picture: Picture) -> int:
    """The length of a defect of this size, a part of the shorter side: pixels, 1 at least."""
    height, width = picture.shape[:2]
    return max(1, round(size * min(int(height), int(width))))


def grey_levels(contrast: float, picture: Picture) -> float:
    """A contrast in grey levels, 1 at least.

    Args:
        contrast: in standard deviations of the picture's own grey levels.
        picture: uint8 [H, W, C].
    """
    return max(1.0, contrast * float(picture.mean(axis=2).std()))


def spoil(
    picture: Picture,
    kind: str,
    size: float,
    contrast: float,
    other: Picture,
    random: np.random.Generator,
) -> Spoiled:
    """Put one defect into a copy of a picture.

    Equal generators give the same place and the same shape at each contrast.

    Args:
        picture: uint8 [H, W, C].
        kind: one of ``KINDS``.
        size: of the defect's longest diameter, as a part of the picture's shorter side, up to 1.
        contrast: in standard deviations of the picture; a kind that adds no grey levels ignores it.
        other: another normal picture, uint8 [H', W', C], to paste from.
        random: decides about place, angle, shape and sign.
    """
    defect = KINDS[kind]
    # A shape and a place where it fits.
    angle = float(random.uniform(0, np.pi))
    weights = defect.shape(pixels_of(size, picture), angle, random)
    height, width = weights.shape
    top, left = _place(picture, height, width, random)

    # The filling, in place of what is there.
    before = _box(picture, top, left, height, width)
    level = _signed(grey_levels(contrast, picture), float(before.mean()), random)
    site = _Site(picture, other, top, left, height, width, level, angle, random)
    mixed = before + weights[:, :, None] * (defect.filling(site) - before)

    # A copy of the picture with it.
    spoiled = picture.copy()
    rows, columns = slice(top, top + height), slice(left, left + width)
    spoiled[rows, columns] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    mask = np.zeros(picture.shape[:2], bool)
    mask[rows, columns] = weights > 0
    return Spoiled(spoiled, mask)


def _box(picture: Picture, top: int, left: int, height: int, width: int) -> Weights:
    """A part of a picture as float32 [h, w, C]."""
    return picture[top : top + height, left : left + width].astype(np.float32)


def _place(
    picture: Picture, height: int, width: int, random: np.random.Generator
) -> tuple[int, int]:
    """Top and left of a box in the picture: half of them anywhere, half where most is to be seen.

    So a part on an empty background has its share of the defects.
    """
    tops = random.integers(0, picture.shape[0] - height + 1, _PLACES)
    lefts = random.integers(0, picture.shape[1] - width + 1, _PLACES)
    places = [(int(top), int(left)) for top, left in zip(tops, lefts, strict=True)]
    if random.random() < 0.5:
        return places[0]
    spreads = [_box(picture, top, left, height, width).std() for top, left in places]
    return places[int(np.argmax(spreads))]


def _signed(level: float, mean: float, random: np.random.Generator) -> float:
    """The level, brighter or darker by chance; the other way where the grey levels would end."""
    brighter = bool(random.random() < 0.5)
    room = 255 - mean if brighter else mean
    if room < level and room < 127.5:
        brighter = not brighter
    return level if brighter else -level


# The shapes.


def _axes(length: int, angle: float) -> tuple[Weights, Weights]:
    """Along and across the defect, in pixels from its centre: float32 [length, length] each."""
    steps = np.arange(length, dtype=np.float32) - (length - 1) / 2
    rows, columns = steps[:, None], steps[None, :]
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def _ellipse(length: int, angle: float, ratio: float) -> Weights:
    """An ellipse with a soft edge of a pixel and a half at the most; ratio is width by length."""
    along, across = _axes(length, angle)
    ratio = max(ratio, min(1, 1.5 / length))  # a narrower one would pass between the pixels
    radius: Weights = np.hypot(along, across / ratio) / (length / 2)
    softness = min(1.5, length / 4)
    weights: Weights = np.clip((1 - radius) * (length / 2) / softness, 0, 1).astype(np.float32)
    return weights


def _blob(length: int, angle: float, random: np.random.Generator) -> Weights:
    """An ellipse, at least half as wide as it is long."""
    return _trimmed(_ellipse(length, angle, float(random.uniform(0.5, 1))))


def _line(length: int, angle: float, random: np.random.Generator) -> Weights:
    """A line, a fifteenth as wide as it is long and a pixel at least, and slightly bent."""
    along, across = _axes(length, angle)
    bend = float(random.uniform(-0.3, 0.3))
    distance = np.abs(across - bend * along**2 / length)
    half = max(1, length / 15) / 2
    weights = np.clip(half + 0.5 - distance, 0, 1) * (np.abs(along) <= length / 2)
    return _trimmed(weights.astype(np.float32))


def _streak(length: int, angle: float, random: np.random.Generator) -> Weights:
    """A narrow ellipse that fades from one end to the other."""
    along, _ = _axes(length, angle)
    fading = np.clip(0.65 + 0.7 * along / length, 0, 1)
    return _trimmed((_ellipse(length, angle, 0.35) * fading).astype(np.float32))


def _trimmed(weights: Weights) -> Weights:
    """The box around all that is above 0."""
    rows = np.flatnonzero(weights.any(axis=1))
    columns = np.flatnonzero(weights.any(axis=0))
    return weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# The fillings.


def _shifted_level(site: _Site) -> Weights:
    """The picture, brighter or darker."""
    return site.before + np.float32(site.level)


def _dragged(site: _Site) -> Weights:
    """The picture averaged along the defect, over half its length, under a film of grey levels."""
    rows = site.top + np.arange(site.height)[:, None]
    columns = site.left + np.arange(site.width)[None, :]
    last_row, last_column = site.picture.shape[0] - 1, site.picture.shape[1] - 1
    steps = np.linspace(-site.length / 4, site.length / 4, 9)
    total = np.zeros_like(site.before)
    for step in steps:
        row = (rows + round(step * np.sin(site.angle))).clip(0, last_row)
        column = (columns + round(step * np.cos(site.angle))).clip(0, last_column)
        total += site.picture[row, column]
    return total / np.float32(len(steps)) + np.float32(site.level)


def _blurred(site: _Site) -> Weights:
    """The picture out of focus: Gaussian, a sixth of the defect's length, a pixel at least."""
    sigma = max(1.0, site.length / 6)
    margin = int(3 * sigma) + 1
    top, left = max(0, site.top - margin), max(0, site.left - margin)
    bottom, right = site.top + site.height + margin, site.left + site.width + margin
    around = site.picture[top:bottom, left:right]
    image = Image.fromarray(around if around.shape[2] == 3 else around[:, :, 0])
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).reshape(around.shape)
    return _box(blurred, site.top - top, site.left - left, site.height, site.width)


def _background(site: _Site) -> Weights:
    """One level: the picture's darkest or brightest twentieth, whichever is farther from here."""
    dark, bright = np.quantile(site.picture, (0.05, 0.95), axis=(0, 1))
    here = site.before.mean(axis=(0, 1))
    farther = dark if abs(here - dark).sum() > abs(here - bright).sum() else bright
    return np.broadcast_to(farther.astype(np.float32), site.before.shape)


def _pasted(site: _Site) -> Weights:
    """A box of the same size from elsewhere: half of them from the other picture, if it fits."""
    source = site.other if site.random.random() < 0.5 else site.picture
    if source.shape[0] < site.height or source.shape[1] < site.width:
        source = site.picture
    tops = site.random.integers(0, source.shape[0] - site.height + 1, _PLACES)
    lefts = site.random.integers(0, source.shape[1] - site.width + 1, _PLACES)
    distances = np.hypot(tops - site.top, lefts - site.left)
    apart = np.flatnonzero(distances >= site.length)
    chosen = apart[0] if len(apart) else int(distances.argmax())
    return _box(source, int(tops[chosen]), int(lefts[chosen]), site.height, site.width)


# What each is, docs/running.md says.
KINDS = {
    "spot": Kind("spots", True, _blob, _shifted_level),
    "scratch": Kind("scratches", True, _line, _shifted_level),
    "smear": Kind("smears", True, _streak, _dragged),
    "paste": Kind("pasted pieces", False, _blob, _pasted),
    "blur": Kind("blurred places", False, _blob, _blurred),
    "missing": Kind("missing parts", False, _blob, _background),
}
