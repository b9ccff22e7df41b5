"""DICOMDIR, the index of a CD: the files that its records name, in their order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adae_edge.decoding.folders import Listing
from adae_edge.errors import FrameError, printable
from adae_edge.extras import needs

with needs("Reading DICOM files", "dicom"):
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.uid import MediaStorageDirectoryStorage

_FIRST = "OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity"
_NEXT = "OffsetOfTheNextDirectoryRecord"
_LOWER = "OffsetOfReferencedLowerLevelDirectoryEntity"


def list_dicomdir(path: Path) -> Listing[Path]:
    """Find the files that a DICOMDIR names, each once, patient by patient.

    A record that leads out of its folder, or to a file that is not there, has a sentence in
    ``unreadable``. Names are looked for in small letters, too, as some systems show those of a CD.

    Raises:
        FrameError: it is no DICOMDIR, a damaged one, or its records lead in a circle.
    """
    listing: Listing[Path] = Listing()
    for parts in dict.fromkeys(_named(path)):
        try:
            listing.files.append(_found(path, parts))
        except FrameError as error:
            listing.unreadable.append(str(error))
    return listing


def _named(path: Path) -> Iterator[tuple[str, ...]]:
    """The parts of each name that a record in use has, in the order of the records' tree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            index = pydicom.dcmread(path)
            kind = index.file_meta.get("MediaStorageSOPClassUID")
            records = {
                item.seq_item_tell: item for item in index.get("DirectoryRecordSequence", ())
            }
            first = int(index.get(_FIRST, 0))
        except Exception as error:  # pydicom raises many kinds on damaged files
            raise FrameError(f"{path} is no DICOMDIR, or a damaged one") from error
    if kind != MediaStorageDirectoryStorage:
        raise FrameError(f"{path} is no DICOMDIR: it does not say that it is an index")
    for record in _walk(path, records, first):
        name = record.get("ReferencedFileID") or ()
        if name and record.get("RecordInUseFlag") != 0:
            yield (name,) if isinstance(name, str) else tuple(map(str, name))


def _walk(path: Path, records: Mapping[int, Dataset], first: int) -> Iterator[Dataset]:
    """The records from the first one on: behind each those below it, and then the next one."""
    seen, left = set(), [first]
    while left:
        at = left.pop()
        if at == 0:
            continue
        if at in seen:
            raise FrameError(f"{path} is refused: its records lead in a circle")
        if at not in records:
            raise FrameError(
                f"{path} is damaged: a record leads to none; give the folder {path.parent} instead"
            )
        seen.add(at)
        yield records[at]
        left += [_offset(records[at], _NEXT), _offset(records[at], _LOWER)]


def _offset(record: Dataset, name: str) -> int:
    value: Any = record.get(name)
    return value if isinstance(value, int) else 0


def _found(path: Path, parts: tuple[str, ...]) -> Path:
    """The file that a record of a DICOMDIR names, which lies in its folder or below."""
    shown = printable("/".join(parts))
    if any(part in ("", ".", "..") or set(part) & set("/\\\0") for part in parts):
        raise FrameError(f"{path} names {shown}, which leads elsewhere than into its folder")
    for names in (parts, tuple(map(str.lower, parts))):
        file = path.parent.joinpath(*names)
        if file.is_file():
            if path.parent.resolve() not in file.resolve().parents:
                raise FrameError(f"{path} names {shown}, which is a link out of its folder")
            return file
    raise FrameError(f"{path} names {shown}, which is not there")
