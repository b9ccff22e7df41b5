"""Writing files so that a crash, Ctrl-C or a full disk leaves the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from adae_edge.errors import AdaeEdgeError, UsageError


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
