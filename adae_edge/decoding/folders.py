"""What lies in a folder: the files with frames, and what is left out, the same for every stage."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Generic, TypeVar

from adae_edge.decoding.kinds import IMAGE_SUFFIXES, is_dicom
from adae_edge.errors import printable

# What file managers and file servers leave beside pictures; their files are thumbnails, too.
_FOREIGN = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"})
_KINDS_SHOWN = 8
Place = TypeVar("Place")


@dataclass
class Listing(Generic[Place]):
    """The files beneath a folder, or in an archive.

    Attributes:
        files: with frames by their names or first bytes, in order of path.
        left_out: how many others there are, by what they are called.
        unreadable: a sentence for each folder and each link that cannot be followed.
    """

    files: list[Place] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def sort_in(
        self: Listing[Path],
        path: Path,
        wanted: Callable[[Path], bool],
        hidden: bool,
        masking: bool = False,
    ) -> None:
        """Put a file where it belongs; hidden ones and masks are left out."""
        if hidden or is_foreign(path.name):
            self.left_out["hidden"] += 1
        elif path.is_symlink() and not path.exists():
            self.unreadable.append(f"{path} is a link to a file that is not there")
        elif not path.is_file() or not wanted(path):
            self.left_out[printable(path.suffix.lower()) or "without a suffix"] += 1
        elif masking:
            self.left_out["masks"] += 1
        else:
            self.files.append(path)


def walk(
    folder: Path, failed: Callable[[str], object] = lambda sentence: None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder beneath one, through links, but each real folder once; the folder first.

    Args:
        folder: where to begin.
        failed: told a sentence for each folder that may not be read.

    Yields:
        A folder, the names of its sub-folders, of which the caller may take some out, and those of
        its files; foreign folders are among them.
    """

    def tell(error: OSError) -> None:
        failed(f"{error.filename} may not be read: {(error.strerror or 'it went away').lower()}")

    seen = set()
    for name, folders, files in os.walk(folder, onerror=tell, followlinks=True):
        place = Path(name)
        try:
            status = place.stat()
        except OSError as error:
            tell(error)
            continue
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort(key=lambda below: (Path(name, below).is_symlink(), below))
        yield place, folders, files


def list_folder(
    folder: Path,
    masks: Iterable[Path] = (),
    wanted: Callable[[Path], bool] | None = None,
) -> Listing[Path]:
    """Find the files beneath a folder, through links, but each real folder once.

    Args:
        folder: the folder.
        masks: folders beneath it whose files are left out as masks.
        wanted: whether a file is one with frames; pictures and DICOM files by default.
    """
    listing, masks = Listing[Path](), set(masks)
    wanted = wanted or is_scorable
    for place, _, names in walk(folder, listing.unreadable.append):
        foreign = any(map(is_foreign, place.relative_to(folder).parts))
        masking = not masks.isdisjoint((place, *place.parents))
        for name in names:
            listing.sort_in(place / name, wanted, foreign, masking)
    listing.files.sort()
    return listing


def list_matching(pattern: str) -> Listing[Path]:
    """Find the pictures and DICOM files whose paths match a pattern.

    Args:
        pattern: a path whose parts may have ``*``, ``?`` and ``[...]``, and of which ``**`` is any
            number of folders. What exists by its very name is no pattern.
    """
    listing, parts = Listing[Path](), Path(pattern).parts
    fixed = 0
    while fixed < len(parts) - 1 and (
        not is_pattern(parts[fixed]) or Path(*parts[: fixed + 1]).exists()
    ):
        fixed += 1
    root, wanted = Path(*parts[:fixed]), parts[fixed:]
    for place, folders, names in walk(root, listing.unreadable.append):
        here = place.relative_to(root).parts
        if "**" not in wanted[: len(here) + 1]:
            deeper = wanted[len(here) : -1]
            folders[:] = [name for name in folders if deeper and fnmatchcase(name, deeper[0])]
        foreign = any(map(is_foreign, here))
        for name in names:
            if _matches((*here, name), wanted):
                listing.sort_in(place / name, is_scorable, foreign)
    listing.files.sort()
    return listing


def is_pattern(path: str) -> bool:
    """Whether a path has letters that stand for others."""
    return not {"*", "?", "["}.isdisjoint(path)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a pattern."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def is_scorable(path: Path) -> bool:
    """Whether a file in a folder is a picture by its name, or DICOM."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left there by a file manager."""
    return name.startswith(".") or name.lower() in _FOREIGN


def left_out_words(left_out: Mapping[str, int]) -> str:
    """What is left out in words, as in "left out 3 files: 2 .mp4, 1 hidden"; "" for nothing."""
    if not left_out:
        return ""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{count} {kind}" for kind, count in ordered]
    if len(kinds) > _KINDS_SHOWN:
        kinds[_KINDS_SHOWN:] = [f"{len(kinds) - _KINDS_SHOWN} more kinds"]
    total = sum(left_out.values())
    return f"left out {total} file{'s' * (total > 1)}: {', '.join(kinds)}"
