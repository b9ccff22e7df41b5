"""Reading files with a limit, and writing them whole.

A crash, Ctrl-C or a full disk leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from adae_edge.errors import ModelFileError, UsageError, WriteError

T = TypeVar("T")


def real_path(path: Path) -> Path:
    """The path without links in it; of links in a circle, which nothing can open, one of them."""
    return Path(os.path.realpath(path))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, whole or not at all.

    Raises:
        UsageError: the folder does not exist, or the path is a folder or a device.
        WriteError: the data cannot be written, for example because the disk is full.
    """
    path = real_path(path)  # a link stays a link
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"cannot write {path}: it is there, and no file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except FileNotFoundError as error:
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}") from error
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(path: Path | None, folder: bool = False) -> None:
    """Refuse a place that cannot be written, before the work whose result it is to take.

    Args:
        path: a file, or a folder that is made if it is not there; None for neither.
        folder: which of these.

    Raises:
        UsageError: it is there and of the other kind, or a file's folder is not there.
        WriteError: it may not be written.
    """
    if path is None:
        return
    try:
        if path.exists() and path.is_dir() != folder:
            raise UsageError(f"cannot write {path}: it is {'no folder' if folder else 'a folder'}")
        place = real_path(path) if folder else real_path(path).parent
        if real_path(path).is_symlink():
            raise UsageError(f"cannot write {path}: its links lead in a circle")
        while folder and not place.exists():
            place = place.parent
        if not place.is_dir():
            raise UsageError(f"cannot write {path}: there is no folder {place}")
        try:
            with tempfile.TemporaryFile(dir=place):  # /proc and /sys let root write no file either
                pass
        except OSError as error:
            raise WriteError(f"cannot write {path}: {place} is read-only") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def write_json(path: Path, value: Any) -> None:
    """Replace a file by a value of JSON types, indented; raises as ``write_atomically``."""
    write_atomically(path, (json.dumps(value, indent=2) + "\n").encode())


def read_checked(
    path: str | Path, what: str, max_bytes: int, too_large: str, check: Callable[[bytes], T]
) -> T:
    """Read a file of limited size and return what ``check`` makes of its bytes.

    Args:
        path: the file.
        what: kind of file that it should be, for the sentence if there is none.
        max_bytes: its size at the most.
        too_large: says so.
        check: raises ModelFileError for what it refuses.

    Raises:
        UsageError: there is no such file.
        ModelFileError: it cannot be read, is too large, or is refused; of the class that ``check``
            raises.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UsageError(f"there is no {what} {path}")
        if path.stat().st_size > max_bytes:
            raise ModelFileError(f"{path} is refused: {too_large}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return check(data)
    except ModelFileError as error:
        raise type(error)(f"{path} is refused: {error}") from error
