"""Made-up parts that lie anywhere and at any angle, as pictures from above."""

from pathlib import Path

import numpy as np

from tests.support.pictures import save

SHAPE = (96, 144)


def part(angle, centre=(0.5, 0.5), random=None, defect=None, shape=SHAPE):
    """A dark tapered bar with three teeth on a bright background.

    Args:
        angle: of the bar, radians.
        centre: of the bar, as parts of height and width.
        random: for light and noise; None gives neither.
        defect: along and across the bar in pixels from its centre, where a bright spot lies.
        shape: height and width of the picture.

    Returns:
        uint8 [H, W], and where the spot lies, row and column in pixels, or None.
    """
    row, column = centre[0] * shape[0], centre[1] * shape[1]
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = columns - column, rows - row
    along, across = cosine * x + sine * y, cosine * y - sine * x
    half = 8 - 3 * (along / 32)
    inside = smooth(32 - np.abs(along)) * smooth(half - np.abs(across))
    teeth = 0.5 + 0.5 * np.sin(along * 0.6)
    grey = 190 - inside * (110 + 30 * teeth)
    spot = None
    if defect is not None:
        distance = np.hypot(along - defect[0], across - defect[1])
        grey += smooth(4 - distance) * 70
        spot = (
            row + sine * defect[0] + cosine * defect[1],
            column + cosine * defect[0] - sine * defect[1],
        )
    if random is not None:
        grey = grey * random.uniform(0.95, 1.05) + random.normal(0, 2, shape)
    return np.rint(grey).clip(0, 255).astype(np.uint8), spot


def smooth(distance):
    """1 inside and 0 outside, over a pixel."""
    return np.clip(distance + 0.5, 0, 1)


def write_parts(folder: Path, count: int, anomalous: int, still: bool = False) -> Path:
    """A folder of parts at any angle, or of still ones, and of such with a spot."""
    random = np.random.default_rng(3)
    for index in range(count + anomalous):
        angle = random.uniform(0, 2 * np.pi)
        centre = random.uniform(0.42, 0.58, 2)
        if still:
            angle, centre = 0.3, (0.5, 0.5)
        kind = "normal" if index < count else "anomalous"
        defect = None if kind == "normal" else (random.uniform(-24, 24), random.uniform(-3, 3))
        pixels, _ = part(angle, centre, random, defect)
        save(folder / kind / f"{index:03}.png", pixels)
    return folder
