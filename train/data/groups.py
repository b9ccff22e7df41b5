"""Which frames of a folder belong together, by their paths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np

from adae_edge.errors import DatasetError, UsageError
from adae_edge.train.data.dataset import Indices

FOLDER = "folder"


class GroupError(DatasetError):
    """A group that frames of a folder should have cannot be told from their paths."""


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
    names = []
    for index, path in enumerate(paths):
        match = pattern.search(path.as_posix())
        name = match[1] if match else None
        if name is None and index < normals:
            why = "needs each frame in a sub-folder" if rule == FOLDER else "finds none in it"
            raise GroupError(f"{path} has no group: --group {rule} {why}")
        # No name begins so, as no path holds a null character.
        names.append(f"\0{index}" if name is None else name)
    return np.unique(names, return_inverse=True)[1].astype(np.intp)


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
