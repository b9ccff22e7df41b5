"""From the stored values of a DICOM frame to 8-bit pictures, by the numbers of its header.

The order is the standard's (PS3.3 C.11 and C.7.6.3): modality rescale or LUT, then the VOI window
or LUT, then the inversion of MONOCHROME1. A number that is none, or that would make every value the
same, is refused by its name: no file becomes a black picture by its header.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window

GREY = ("MONOCHROME1", "MONOCHROME2")
# What pydicom gives as RGB, beside palettes.
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTES = ("Red", "Green", "Blue")

_Values = NDArray[np.float64]


class _Range(NamedTuple):
    """Values, and the lowest and the highest that there can be."""

    values: _Values
    low: float
    high: float


def check_layout(data: Any) -> None:
    """Refuse a header whose bits, samples and colours no decoder gives right.

    Raises:
        ValueError: it does, with the reason.
    """
    allocated, stored = int(data.BitsAllocated), int(data.BitsStored)
    high, samples = int(data.get("HighBit", stored - 1)), int(data.SamplesPerPixel)
    photometric = str(data.PhotometricInterpretation)
    if not 1 <= stored <= allocated <= 32:
        raise ValueError(f"it has {stored} bits stored of {allocated}")
    if high != stored - 1:
        raise ValueError(f"its highest bit is number {high}, and of {stored} it is {stored - 1}")
    if int(data.PixelRepresentation) not in (0, 1):
        raise ValueError(f"its pixel representation is {data.PixelRepresentation}")
    known = {**dict.fromkeys((*GREY, "PALETTE COLOR"), 1), **dict.fromkeys(COLOURS, 3)}
    if photometric not in known:
        raise ValueError(f"its colours are {photometric}, which are not read")
    if samples != known[photometric]:
        raise ValueError(f"{photometric} has not {samples} samples per pixel")
    if photometric not in GREY and int(data.PixelRepresentation):
        raise ValueError("its colours are signed")


def grey(
    data: Any, pixels: NDArray[np.generic], window: Window | None, little_endian: bool
) -> NDArray[np.uint8]:
    """Turn stored values [H, W] into a picture uint8 [H, W, 1], by modality and VOI transformation.

    pydicom's own functions serve scaled values, not pictures: a negative slope leaves them upside
    down, and indices beyond 255 into a VOI LUT of 8 bits wrap around.

    Args:
        data: the attributes that hold for the frame.
        pixels: as they are stored.
        window: in place of the file's own, in modality units.
        little_endian: the order of bytes in the file.

    Raises:
        ValueError: a number of the header is refused.
    """
    # stored values, and what their bits can hold
    bits, signed = int(data.BitsStored), int(data.PixelRepresentation) == 1
    low = -(2.0 ** (bits - 1)) if signed else 0.0
    stored = _Range(pixels.astype(np.float64), low, low + 2.0**bits - 1)

    # modality units
    modality = stored
    if data.get("ModalityLUTSequence"):
        lut = data.ModalityLUTSequence[0]
        modality = _looked_up(stored, lut, little_endian, "modality")
        bits = int(lut.LUTDescriptor[2])
    elif data.get("RescaleSlope") is not None and data.get("RescaleIntercept") is not None:
        modality = _rescaled(stored, data)

    # from black to white
    shown = modality
    if window is not None:
        shown = _windowed(modality, window, "LINEAR")
    elif data.get("VOILUTSequence"):
        shown = _looked_up(modality, data.VOILUTSequence[0], little_endian, "VOI")
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        own = Window(_number(data, "WindowCenter"), _number(data, "WindowWidth"))
        shown = _windowed(modality, own, str(data.get("VOILUTFunction") or "LINEAR"))
    elif bits > 8:
        raise ValueError(
            "it has no VOI window, so which values are black and white is unknown: --window says it"
        )
    part = np.clip((shown.values - shown.low) / (shown.high - shown.low), 0, 1)
    if data.PhotometricInterpretation == "MONOCHROME1":
        part = 1 - part
    return np.asarray(np.rint(part * 255).astype(np.uint8)[:, :, None])


def palette(data: Any, pixels: NDArray[np.generic], little_endian: bool) -> NDArray[np.uint8]:
    """Look a palette's indices [H, W] up, uint8 [H, W, 3], RGB (PS3.3 C.7.6.3.1.5 and 6).

    Raises:
        ValueError: a table is not what it declares.
    """
    channels = []
    for name in _PALETTES:
        descriptor = data[f"{name}PaletteColorLookupTableDescriptor"].value
        entries, first, bits = (int(number) for number in descriptor)
        entries = entries % 2**16 or 2**16
        content = bytes(data[f"{name}PaletteColorLookupTableData"].value)
        if bits not in (8, 16):
            raise ValueError(f"its palette has {bits} bits")
        wide = len(content) >= 2 * entries
        if not wide and not little_endian:  # bytes are swapped in pairs
            content = np.frombuffer(content, ">u2").astype("<u2").tobytes()
        kind = "u1" if not wide else "<u2" if little_endian else ">u2"
        table = np.frombuffer(content[: 2 * entries if wide else entries], kind)
        if len(table) < entries or (bits == 16 and not wide):
            raise ValueError("its palette is not as long as it declares")
        indices = np.clip(pixels.astype(np.int64) - first % 2**16, 0, entries - 1)
        channels.append(table.astype(np.uint16)[indices] >> (bits - 8))
    return np.stack(channels, axis=-1).astype(np.uint8)


def colour(data: Any, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Turn colours of any depth from 8 bits on into uint8 [H, W, 3]."""
    depth = int(data.BitsStored)
    if depth < 8:
        raise ValueError(f"its colours have {depth} bits")
    return (pixels.astype(np.uint32) >> (depth - 8)).astype(np.uint8)


def _number(data: Any, name: str) -> float:
    """A finite number of a header, the first where there are several."""
    value = float(np.ravel(data[name].value)[0])
    if not math.isfinite(value):
        raise ValueError(f"its {name} is {value:g}")
    return value


def _rescaled(stored: _Range, data: Any) -> _Range:
    """Stored values in modality units, by slope and intercept."""
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    low, high = sorted((stored.low * slope + intercept, stored.high * slope + intercept))
    if not 0 < high - low < math.inf:
        raise ValueError(f"its RescaleSlope of {slope:g} maps every value to the same")
    return _Range(stored.values * slope + intercept, low, high)


def _looked_up(modality: _Range, lut: Any, little_endian: bool, what: str) -> _Range:
    """Look values up in a LUT (PS3.3 C.11.1.1 and C.11.2.1.1).

    Whether the first value is signed follows from the values that are looked up, whatever the
    file's VR of it is.
    """
    entries, first, bits = (int(number) for number in lut.LUTDescriptor)
    entries = entries % 2**16 or 2**16
    first %= 2**16
    if modality.low < 0 and first >= 2**15:
        first -= 2**16
    table = lut.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2" if little_endian else ">u2")
    table = np.atleast_1d(np.asarray(table, np.float64))[:entries]
    if len(table) < entries or not 1 <= bits <= 16:
        raise ValueError(f"its {what} LUT is not as long as it declares")
    if table.max() >= 2**bits:
        raise ValueError(f"its {what} LUT has values of more than {bits} bits")
    if first > modality.high or first + entries - 1 < modality.low:
        raise ValueError(f"its {what} LUT begins at {first}, outside of its values")
    if table.min() == table.max():
        raise ValueError(f"its {what} LUT maps every value to the same")
    indices = np.clip(np.rint(modality.values) - first, 0, entries - 1).astype(np.intp)
    return _Range(table[indices], 0, 2**bits - 1)


def _windowed(modality: _Range, window: Window, function: str) -> _Range:
    """Map values through a window to 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    center, width = window
    if not (width >= 1 or (width > 0 and function != "LINEAR")):
        raise ValueError(f"its window is {width:g} wide")
    if center + width / 2 < modality.low or center - width / 2 > modality.high:
        raise ValueError(
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
    raise ValueError(f"its window has the unknown function {function}")
