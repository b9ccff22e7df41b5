"""What a DICOM header says; this file does without pydicom, except where there is a header.

A slice is asked for forty attributes, of which it has ten. That took longer than decoding it.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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


def value_of(data: Any, keyword: str) -> Any:
    """The value of an attribute of a pydicom data set, or None where it has none."""
    tag = _tag(keyword)
    return data[tag].value if tag in data.keys() else None  # noqa: SIM118  which is slower


@functools.cache
def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword  # is there where a header is
    from pydicom.tag import BaseTag

    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return BaseTag(tag)
