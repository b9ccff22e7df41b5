"""Which frames of a folder belong together, by their paths or by a file that lists them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.data.dataset import Indices

FOLDER = "folder"
_LISTS = (".csv", ".txt")
_LONGEST = 64 * 2**20  # bytes of a list


class GroupError(DatasetError):
    """A group that frames of a folder should have cannot be told from their paths or the list."""


def is_list(rule: str) -> bool:
    """Whether a rule names a file that lists the groups, and is no expression."""
    return Path(rule).suffix.lower() in _LISTS or Path(rule).is_file()


def groups_in(file: Path, paths: Sequence[PurePath], normals: int) -> Indices:
    """Number the groups of frames as a file lists them, in lines of "path,group".

    A first line that says just that, and empty lines, are passed over.

    Args:
        file: the list, in UTF-8.
        paths: of the frames' files, below the folder of the data set; normals first.
        normals: how many of them are normals, each of which must be listed. An anomalous frame
            that is not stands alone.

    Returns:
        int [N], from 0; frames of one name have one number.

    Raises:
        GroupError: the file cannot be read, a line is something else, a path is listed twice or is
            none of the data set, or a normal is not listed.
    """
    listed = _listed(file)
    places = [path.as_posix() for path in paths]
    if unknown := sorted(listed.keys() - set(places)):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise GroupError(f"{file} lists {unknown[0]}{more}, which the data set does not have")
    if missing := sorted(set(places[:normals]) - listed.keys()):
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise GroupError(f"{file} does not list the normal frame {missing[0]}{more}")
    return _numbered([listed.get(place) for place in places])


def _listed(file: Path) -> dict[str, str]:
    """The group of each path in the file; raises as ``groups_in``."""
    groups: dict[str, str] = {}
    try:
        if file.stat().st_size > _LONGEST:
            raise GroupError(f"{file} is too large for a list of groups")
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text, strict=True, skipinitialspace=True)
            for cells in lines:
                cells = [cell.strip() for cell in cells]
                if not any(cells) or (lines.line_num == 1 and cells == ["path", "group"]):
                    continue
                if len(cells) != 2 or not all(cells):
                    raise GroupError(f"{file}, line {lines.line_num}, is not path,group")
                path = PurePath(cells[0]).as_posix()
                if path in groups:
                    raise GroupError(f"{file} lists {path} twice")
                groups[path] = cells[1]
    except OSError as error:
        raise GroupError(f"cannot read the groups in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise GroupError(f"{file} is no text in UTF-8") from error
    except csv.Error as error:
        raise GroupError(f"{file}, line {lines.line_num}, is no line of a CSV file") from error
    return groups


def groups_of(paths: Sequence[PurePath], normals: int, rule: str) -> Indices:
    """Number the groups of frames.

    Args:
        paths: of the frames' files, below ``normal/`` or ``anomalous/``; normals first.
        normals: how many of them are normals, which must have a group. An anomalous frame without
            one stands alone.
        rule: a regular expression whose first parentheses match a group's name, or the word
            "folder" for the first sub-folder.

    Returns:
        int [N], from 0; frames of one name have one number.

    Raises:
        UsageError: the rule is no regular expression, or has no parentheses.
        GroupError: a normal has no group.
    """
    pattern = _pattern(rule)
    names: list[str | None] = []
    for index, path in enumerate(paths):
        match = pattern.search(path.as_posix())
        name = match[1] if match else None
        if name is None and index < normals:
            why = "needs each frame in a sub-folder" if rule == FOLDER else "finds none in it"
            raise GroupError(f"{path} has no group: --group {rule} {why}")
        names.append(name)
    return _numbered(names)


def _numbered(names: Sequence[str | None]) -> Indices:
    """Number names, int [N] from 0; None is a group of its own each time."""
    # No name begins so, as no path holds a null character.
    unique = [f"\0{index}" if name is None else name for index, name in enumerate(names)]
    return np.unique(unique, return_inverse=True)[1].astype(np.intp)


def _pattern(rule: str) -> re.Pattern[str]:
    """Compile the rule; raises as ``groups_of``."""
    if rule == FOLDER:
        return re.compile("^([^/]+)/")
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UsageError(f"--group {rule} is no regular expression: {error}") from error
    if not pattern.groups:
        raise UsageError(
            f"--group {rule} needs parentheses around what names a group, as in (part[0-9]+)"
        )
    return pattern
