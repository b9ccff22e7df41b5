"""From the stored values of a DICOM frame to 8-bit pictures, by the numbers of its header.

The order is the standard's (PS3.3 C.11 and C.7.6.3): modality rescale or LUT, then the VOI window
or LUT, then the inversion of MONOCHROME1. A number that is none, or that would make every value the
same, is refused by its name: no file becomes a black picture by its header.

What a stored value becomes follows from the header alone. So values of up to 16 bits go through one
table of all of them, which is kept until a header says something else.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.dicom_bytes import Refused
from adae_edge.decoding.dicom_header import value_of
from adae_edge.decoding.dicom_pixels import Layout

_TABLE_BYTES = 2  # of the widest values that have a table

_Values = NDArray[np.float64]


class _Range(NamedTuple):
    """Values, and the lowest and the highest that there can be."""

    values: _Values
    low: float
    high: float


class _Lut(NamedTuple):
    """A LUT of a header: its entries, <u2, the first value that it is for, and its bits."""

    entries: bytes
    first: int
    bits: int


class _Modality(NamedTuple):
    """What a header says of stored values.

    Attributes:
        bits: how many bits of them count.
        signed: whether they may be negative.
        padding: the lowest and highest value that is no part of the picture, or None.
        rescale: a LUT, a slope and an intercept, or None for neither.
    """

    bits: int
    signed: bool
    padding: tuple[int, int] | None
    rescale: _Lut | tuple[float, float] | None


class _Shown(NamedTuple):
    """What a header says of values in modality units.

    Attributes:
        voi: a LUT, a window and its function, or None for neither.
        inverted: whether the lowest value is white.
    """

    voi: _Lut | tuple[Window, str] | None
    inverted: bool


def grey(
    layout: Layout, data: Any, pixels: NDArray[np.generic], window: Window | None
) -> NDArray[np.uint8]:
    """Turn stored values [H, W] into a picture uint8 [H, W, 1], by modality and VOI transformation.

    pydicom's own functions serve scaled values, not pictures: a negative slope leaves them upside
    down, and indices beyond 255 into a VOI LUT of 8 bits wrap around. Padding becomes black.

    Args:
        layout: of the file's frames.
        data: the attributes that hold for the frame.
        pixels: as they are stored.
        window: in place of the file's own, in modality units.

    Raises:
        Refused: a number of the header is refused.
    """
    with _damaged_header():
        modality, shown = _modality(layout, data), _shown(layout, data, window)
    if pixels.dtype.itemsize > _TABLE_BYTES:
        if not isinstance(shown.voi, _Lut):  # whose ends may be the same, and it is checked alone
            ends = np.array(layout.value_range)
            _picture_of_all(modality._replace(padding=None), shown, ends)
        return _picture(modality, shown, pixels)[:, :, None]
    table = _table(modality, shown, pixels.dtype.itemsize)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return table.take(native.view(f"u{pixels.dtype.itemsize}"))[:, :, None]


def modality_values(layout: Layout, data: Any, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Turn stored values [H, W] into modality units.

    Args:
        layout: of the file's frames.
        data: the attributes that hold for the frame.
        pixels: as they are stored.

    Returns:
        float32 [H, W], NaN where there is padding; or the stored integers of up to 16 bits where
        these are the values, which takes half the room.

    Raises:
        Refused: a number of the header is refused.
    """
    width = pixels.dtype.itemsize
    with _damaged_header():
        modality = _modality(layout, data)
    if width > _TABLE_BYTES:
        return _values(modality, pixels)
    native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    low, high = layout.value_range
    same = _keeps(modality) and native.dtype.kind == ("i" if layout.signed else "u")
    if same and low <= native.min() and native.max() <= high:
        return native
    return _table_of_values(modality, width).take(native.view(f"u{width}"))


def are_stored(layout: Layout, data: Any) -> bool:
    """Whether the stored values of a frame are its values, by the attributes that hold for it.

    Raises:
        Refused: a number of the header is refused.
    """
    with _damaged_header():
        return _keeps(_modality(layout, data))


def _keeps(modality: _Modality) -> bool:
    """Whether values in modality units are the stored ones."""
    return modality.rescale in (None, (1, 0)) and modality.padding is None


@functools.lru_cache(maxsize=16)
def _table_of_values(modality: _Modality, width: int) -> NDArray[np.float32]:
    """What each stored value of so many bytes becomes, float32 [256 or 65536]."""
    return _values(modality, np.arange(256**width, dtype=f"u{width}"))


def _values(modality: _Modality, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Stored values of any shape in modality units, float32, NaN where there is padding."""
    values = _in_units(modality, pixels).values.astype(np.float32)
    padded = _padded(modality, pixels)
    if padded is not None:
        values[padded] = np.nan
    return values


@functools.lru_cache(maxsize=16)
def _table(modality: _Modality, shown: _Shown, width: int) -> NDArray[np.uint8]:
    """What each stored value of so many bytes becomes, uint8 [256 or 65536]."""
    return _picture_of_all(modality, shown, np.arange(256**width, dtype=f"u{width}"))


def _picture_of_all(
    modality: _Modality, shown: _Shown, values: NDArray[np.generic]
) -> NDArray[np.uint8]:
    """What all values that there can be, or the ends of them, become; refuses a single grey."""
    picture = _picture(modality, shown, values)
    if int(picture.max()) - int(picture.min()) <= 1:  # a grey between two is rounded to both
        raise Refused("its header shows every value as the same grey")
    return picture


def _picture(modality: _Modality, shown: _Shown, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Stored values of any shape as they are shown, uint8."""
    units = _in_units(modality, pixels)
    visible = units
    if isinstance(shown.voi, _Lut):
        visible = _looked_up(units, shown.voi, "VOI")
    elif shown.voi is not None:
        visible = _windowed(units, *shown.voi)
    part = np.clip((visible.values - visible.low) / (visible.high - visible.low), 0, 1)
    if shown.inverted:
        part = 1 - part
    picture = np.rint(part * 255).astype(np.uint8)
    padded = _padded(modality, pixels)
    if padded is not None:
        picture[padded] = 0
    return np.asarray(picture)


@contextlib.contextmanager
def _damaged_header() -> Iterator[None]:
    """Say that the header is damaged, and not the pixels, where its numbers cannot be read."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        raise Refused("its header is damaged") from error


def _modality(layout: Layout, data: Any) -> _Modality:
    """What a header says of stored values."""
    rescale: _Lut | tuple[float, float] | None = None
    if value_of(data, "ModalityLUTSequence"):
        rescale = _lut(data.ModalityLUTSequence[0], layout.little_endian, "modality")
    elif _has(data, "RescaleSlope", "RescaleIntercept"):
        rescale = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    padding, value = None, value_of(data, "PixelPaddingValue")
    if value is not None:
        value = int(value)
        limit = value_of(data, "PixelPaddingRangeLimit")
        padding = value, value if limit is None else int(limit)
    return _Modality(layout.stored, layout.signed, padding, rescale)


def _shown(layout: Layout, data: Any, window: Window | None) -> _Shown:
    """What a header says of values in modality units; a window that is given comes first."""
    voi: _Lut | tuple[Window, str] | None = None
    if window is not None:
        voi = window, "LINEAR"
    elif value_of(data, "VOILUTSequence"):
        voi = _lut(data.VOILUTSequence[0], layout.little_endian, "VOI")
    elif _has(data, "WindowWidth", "WindowCenter"):
        own = Window(_number(data, "WindowCenter"), _number(data, "WindowWidth"))
        voi = own, str(value_of(data, "VOILUTFunction") or "LINEAR")
    else:
        bits = layout.stored
        if value_of(data, "ModalityLUTSequence"):
            bits = int(data.ModalityLUTSequence[0].LUTDescriptor[2])
        if bits > 8:
            raise Refused(
                "it has no VOI window, so which values are black and white is unknown: "
                "--window says it"
            )
    return _Shown(voi, layout.photometric == "MONOCHROME1")


def _in_units(modality: _Modality, pixels: NDArray[np.generic]) -> _Range:
    """Stored values in modality units; bits beyond those that count are left out."""
    low = -(2.0 ** (modality.bits - 1)) if modality.signed else 0.0
    span = 2**modality.bits
    values = pixels.astype(np.int64) & (span - 1)
    if modality.signed:
        values[values >= span // 2] -= span
    stored = _Range(values.astype(np.float64), low, low + span - 1)
    if modality.rescale is None:
        return stored
    if isinstance(modality.rescale, _Lut):
        return _looked_up(stored, modality.rescale, "modality")
    slope, intercept = modality.rescale
    low, high = sorted((stored.low * slope + intercept, stored.high * slope + intercept))
    if not 0 < high - low < math.inf:
        raise Refused(f"its RescaleSlope of {slope:g} maps every value to the same")
    return _Range(stored.values * slope + intercept, low, high)


def _padded(modality: _Modality, pixels: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2), or None where there is none.

    Padding may use bits that do not count, so all of a value are compared.
    """
    if modality.padding is None:
        return None
    span = 256**pixels.dtype.itemsize
    if not all(-span // 2 <= value < span for value in modality.padding):
        return None  # a decoder that gives fewer bytes has no such value
    first, last = (value % span for value in modality.padding)
    values = pixels.astype(np.int64) % span
    if modality.signed:
        first, last = ((value + span // 2) % span for value in (first, last))
        values = (values + span // 2) % span
    return np.asarray((values >= min(first, last)) & (values <= max(first, last)))


def _has(data: Any, *names: str) -> bool:
    """Whether a header says all of these numbers."""
    return all(value_of(data, name) is not None for name in names)


def _number(data: Any, name: str) -> float:
    """A finite number of a header, the first where there are several."""
    value = float(np.ravel(data[name].value)[0])
    if not math.isfinite(value):
        raise Refused(f"its {name} is {value:g}")
    return value


def _lut(item: Any, little_endian: bool, what: str) -> _Lut:
    """Read a LUT (PS3.3 C.11.1.1 and C.11.2.1.1)."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count % 2**16 or 2**16
    table = item.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2" if little_endian else ">u2")
    entries = np.atleast_1d(np.asarray(table, np.int64))[:count]
    if len(entries) < count or not 1 <= bits <= 16:
        raise Refused(f"its {what} LUT is not as long as it declares")
    if entries.max() >= 2**bits:
        raise Refused(f"its {what} LUT has values of more than {bits} bits")
    if entries.min() == entries.max():
        raise Refused(f"its {what} LUT maps every value to the same")
    return _Lut(entries.astype("<u2").tobytes(), first % 2**16, bits)


def _looked_up(units: _Range, lut: _Lut, what: str) -> _Range:
    """Look values up in a LUT.

    Whether the first value is signed follows from the values that are looked up, whatever the
    file's VR of it is.
    """
    entries, first = np.frombuffer(lut.entries, "<u2").astype(np.float64), lut.first
    if units.low < 0 and first >= 2**15:
        first -= 2**16
    if first > units.high or first + len(entries) - 1 < units.low:
        raise Refused(f"its {what} LUT begins at {first}, outside of its values")
    indices = np.clip(np.rint(units.values) - first, 0, len(entries) - 1).astype(np.intp)
    return _Range(entries[indices], 0, 2**lut.bits - 1)


def _windowed(modality: _Range, window: Window, function: str) -> _Range:
    """Map values through a window to 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window
    if not (width >= 1 or (width > 0 and function != "LINEAR")):
        raise Refused(f"its window is {width:g} wide")
    if center + width / 2 < modality.low or center - width / 2 > modality.high:
        raise Refused(
            f"its window, {width:g} around {center:g}, lies outside of its values, "
            f"{modality.low:g} to {modality.high:g}"
        )
    values = modality.values
    if function == "LINEAR" and width == 1:
        return _Range(np.asarray(values > center - 0.5, np.float64), 0, 1)
    if function == "LINEAR":
        return _Range((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    if function == "LINEAR_EXACT":
        return _Range((values - center) / width + 0.5, 0, 1)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # 0 then
            return _Range(1 / (1 + np.exp(-4 * (values - center) / width)), 0, 1)
    raise Refused(f"its window has the unknown function {function}")
