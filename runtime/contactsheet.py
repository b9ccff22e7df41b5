"""One picture of a rehearsal: normal frames, the same with defects, and the model's maps."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adae_edge.defects import Picture
from adae_edge.runtime.rehearse import SIZES, Defect, Example

_SIDE = 150  # pixels of a thumbnail's longer side
_GAP = 6
_LINE = 14  # pixels of a line of text
_FOUND, _MISSED, _INK = (0, 130, 60), (200, 40, 40), (40, 40, 40)

Color = tuple[int, int, int]
Values = NDArray[np.float32]


class ContactSheet:
    """A row of pictures for each kind and contrast, each made from one normal frame.

    It shows the normal frame with its map, and for each size the spoiled frame with its map. The
    box around a defect is green where it is found and red where it is missed. All maps have one
    scale: black is the median of the normal frames' maps and white their largest value or more.
    """

    def __init__(self) -> None:
        self._rows: list[list[Image.Image | Values]] = [[]]
        self._normal_maps: list[Values] = []

    def add(self, example: Example) -> None:
        """Take the next example; those of a row come in the order of their sizes."""
        row = self._rows[-1]
        normal, spoiled = example.maps or (None, None)
        if not row:
            row.append(_tile(_thumbnail(example.normal), ["normal"]))
            if normal is not None:
                self._normal_maps.append(_small_map(normal))
                row.append(self._normal_maps[-1])
        row.append(_spoiled(example))
        if spoiled is not None:
            row.append(_small_map(spoiled))
        if example.defect.size == SIZES[-1]:
            self._rows.append([])

    def png(self) -> bytes:
        """The bytes of a PNG file of all complete rows."""
        rows = self._rows[:-1]
        width, height = _SIDE + _GAP, _SIDE + 2 * _LINE + _GAP
        sheet = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), "white")
        for row_number, row in enumerate(rows):
            for number, item in enumerate(row):
                tile = item if isinstance(item, Image.Image) else self._map_tile(item)
                sheet.paste(tile, (width * number, height * row_number))
        png = io.BytesIO()
        sheet.save(png, format="PNG")
        return png.getvalue()

    def _map_tile(self, values: Values) -> Image.Image:
        """A map on the scale of all normal ones."""
        normal = np.concatenate([a_map.ravel() for a_map in self._normal_maps])
        black, white = float(np.median(normal)), float(normal.max())
        scaled = (values - black) / max(white - black, 1e-9)
        grey = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
        return _tile(Image.fromarray(grey), ["map"])


def _spoiled(example: Example) -> Image.Image:
    """The spoiled frame with a box around its defect, and what became of it."""
    color = _FOUND if example.found else _MISSED
    verdict = "found" if example.found else "missed"
    lines = [_named(example.defect), f"{verdict}, score {example.score:.4g}"]
    image = _thumbnail(example.spoiled.picture)

    mask = example.spoiled.mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    factor = _SIDE / max(mask.shape)
    left, top = columns[0] * factor - 4, rows[0] * factor - 4
    right, bottom = (columns[-1] + 1) * factor + 4, (rows[-1] + 1) * factor + 4
    box = max(left, 0), max(top, 0), min(right, image.width - 1), min(bottom, image.height - 1)
    ImageDraw.Draw(image).rectangle(box, outline=color)
    return _tile(image, lines, color)


def _named(defect: Defect) -> str:
    """A defect in a line: its kind, its size, and its contrast if it has one."""
    contrast = "" if defect.contrast is None else f", contrast {defect.contrast:g}"
    return f"{defect.kind} {defect.size * 100:g} %{contrast}"


def _thumbnail(picture: Picture) -> Image.Image:
    """A small RGB picture of a frame uint8 [H, W, 1 or 3]."""
    image = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0])
    return _small(image.convert("RGB"))


def _small_map(values: Values) -> Values:
    """A map as large as a thumbnail, float32 [h, w]."""
    return np.asarray(_small(Image.fromarray(values)))


def _small(image: Image.Image) -> Image.Image:
    factor = _SIDE / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)


def _tile(image: Image.Image, lines: list[str], color: Color = _INK) -> Image.Image:
    """A thumbnail in a square, with lines of text under it."""
    tile = Image.new("RGB", (_SIDE, _SIDE + 2 * _LINE), "white")
    tile.paste(image)
    for number, line in enumerate(lines):
        ImageDraw.Draw(tile).text((1, _SIDE + 1 + number * _LINE), line, fill=color)
    return tile
