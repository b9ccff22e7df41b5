"""Attributes of a DICOM header, read without what pydicom does for one that is not there.

A slice is asked for forty attributes, of which it has ten. That took longer than decoding it.
"""

from __future__ import annotations

import functools
from typing import Any


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
