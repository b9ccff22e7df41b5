"""Image and DICOM files whose paths match a pattern."""

from __future__ import annotations

from pathlib import Path

from adae_edge.decoding.folders import Listing, list_matching
from adae_edge.errors import UsageError
from adae_edge.runtime.sources.files import Files


class Glob(Files):
    """Image and DICOM files by a pattern such as "frames/*.png", in order of path."""

    def _find(self, place: str) -> Listing[Path]:
        listing = list_matching(place)
        if not (listing.files or listing.left_out or listing.unreadable):
            raise UsageError(f"nothing matches {place}")
        return listing


SOURCE = Glob
