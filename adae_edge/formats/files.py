"""Files: written so that a crash, Ctrl-C or a full disk leaves the old one or the new one, and read with a limit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from adae_edge.errors import AdaeEdgeError, ModelFileError, UsageError

T = TypeVar("T")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, whole or not at all.

    Raises:
        UsageError: the folder does not exist, or the path is a folder or a device.
        AdaeEdgeError: the data cannot be written, for example because the disk is full.
    """
    path = path.resolve()  # a link stays a link
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is there, and no file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except FileNotFoundError:
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}") from None
    except OSError as error:
        raise AdaeEdgeError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read_checked(
    path: str | Path, what: str, max_bytes: int, too_large: str, check: Callable[[bytes], T]
) -> T:
    """What ``check`` makes of a file's bytes, which are not read if they are too many.

    Args:
        path: the file.
        what: kind of file that it should be, for the sentence if there is none.
        max_bytes: its size at the most.
        too_large: says so.
        check: raises ModelFileError for what it refuses.

    Raises:
        UsageError: there is no such file.
        ModelFileError: it cannot be read, is too large, or is refused.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UsageError(f"there is no {what} {path}")
        if path.stat().st_size > max_bytes:
            raise ModelFileError(f"{path} is refused: {too_large}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return check(data)
    except ModelFileError as error:
        raise ModelFileError(f"{path} is refused: {error}") from None
