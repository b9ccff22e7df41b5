"""What a DICOM header says; this file does without pydicom, except where there is a header.

A slice is asked for forty attributes, of which it has ten. That took longer than decoding it.
"""

from __future__ import annotations

import functools
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.decoding.dicom_bytes import HEAD

_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # tags
# Representations whose values follow from their bytes alone, where these are ASCII; and the longest
# that are kept. An escape would change the character set.
_PLAIN = frozenset({"AS", "CS", "DA", "DS", "IS", "LO", "SH", "TM", "UI"})
_LONGEST = 256
_ESCAPE = b"\x1b"


class Header(NamedTuple):
    """What a DICOM file says of its frames.

    Attributes:
        frames: how many there are.
        grey: whether they are grey.
        size: their rows and columns.
        series: the series instance UID, or "".
        orientations: of the whole file or of each frame, as far as they are given: float64 [2, 3],
            the directions of rows and columns in the patient, of length 1.
    """

    frames: int
    grey: bool
    size: tuple[int, int]
    series: str
    orientations: list[NDArray[np.float64]]


def read_attributes(file: BinaryIO) -> Any:
    """What stands in a DICOM file before its pixels, as a pydicom data set; it stops there.

    Where a file says how it is written, dcmread's guesses are left out, which take as long as
    reading it does.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.uid import UID

    if file.read(HEAD).endswith(b"DICM"):
        meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
        syntax = value_of(meta, "TransferSyntaxUID")
        if isinstance(syntax, UID) and not syntax.is_private and syntax.is_transfer_syntax:
            written = syntax.is_implicit_VR, syntax.is_little_endian
            data = read_dataset(file, *written, stop_when=lambda tag, *_: tag in _PIXELS)
            if data.original_encoding == written:
                data.file_meta = FileMetaDataset(meta)
                return data
    file.seek(0)
    return dcmread(file, stop_before_pixels=True, force=True)


def value_of(data: Any, keyword: str) -> Any:
    """The value of an attribute of a pydicom data set, or None where it has none."""
    element = element_of(data, keyword)
    if element is None:
        return None
    value = element.value
    if element.is_raw and value and len(value) <= _LONGEST:
        vr = element.VR or _entry(keyword)[1]
        if vr in _PLAIN and value.isascii() and _ESCAPE not in value:
            return _converted(element.tag, vr, value, element.is_little_endian)
    return data[element.tag].value


def element_of(data: Any, keyword: str) -> Any:
    """An element of a pydicom data set as it was read, or None where it has none."""
    tag = _entry(keyword)[0]
    return data.get_item(tag) if tag in data.keys() else None  # noqa: SIM118  which is slower


@functools.lru_cache(maxsize=1024)
def _converted(tag: Any, vr: str, value: bytes, little_endian: bool) -> Any:
    """What pydicom makes of the bytes of a value; the slices of a series have most in common."""
    from pydicom.dataelem import RawDataElement, convert_raw_data_element

    raw = RawDataElement(tag, vr, len(value), value, 0, False, little_endian)
    return convert_raw_data_element(raw).value


@functools.cache
def _entry(keyword: str) -> tuple[int, str]:
    """The tag of an attribute and its value representation, by pydicom's dictionary."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword  # is there where a header is
    from pydicom.tag import BaseTag

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return BaseTag(tag), dictionary_VR(tag)
