"""ZIP archives with DICOM files, read member by member and never unpacked to disk."""

from __future__ import annotations

import contextlib
import functools
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from adae_edge.decoding.dicom_bytes import HEAD, begins_as_dicom
from adae_edge.decoding.folders import Listing, is_foreign
from adae_edge.decoding.kinds import Member, is_dicom_name
from adae_edge.errors import FrameError, printable

# Nothing inflates to more than 1032 times its size, so sizes and counts are limits enough.
MOST_MEMBERS = 100_000
MOST_MB = 256  # of a member
_LONGEST_NAME = 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 2**20
_HEADER = 30  # bytes of a member before its name


def list_archive(path: Path) -> Listing[Member]:
    """Find the DICOM files in an archive, by their names or first bytes, in order of name.

    Other members are left out and counted, also pictures. A member whose name leads out of the
    archive, or that cannot be read, has a sentence in ``unreadable``.

    Raises:
        FrameError: it is no archive, a damaged one, or one that is made to inflate without end.
    """
    listing: Listing[Member] = Listing()
    with _refusing(str(path)):
        archive = _opened(path)
        names = set()
        for info in archive.infolist():
            if info.is_dir():
                continue
            member = Member(path, info.filename)
            try:
                if info.filename in names:
                    raise FrameError(f"{printable(str(member))} is there twice")
                names.add(info.filename)
                if any(map(is_foreign, _checked_steps(member))):
                    listing.left_out["hidden"] += 1
                elif is_dicom_name(info.filename) or begins_as_dicom(_start(archive, info, member)):
                    listing.files.append(member)
                else:
                    suffix = PurePosixPath(info.filename).suffix.lower()
                    listing.left_out[printable(suffix) or "without a suffix"] += 1
            except FrameError as error:
                listing.unreadable.append(str(error))
    listing.files.sort()
    return listing


def open_member(member: Member) -> BinaryIO:
    """A file of an archive, in memory and checked by its sum.

    Raises:
        FrameError: it is damaged, encrypted, too large, or no longer there.
    """
    name = str(member)
    with _refusing(name):
        archive = _opened(member.archive)
        info = archive.getinfo(member.name)
        if info.file_size > MOST_MB * 10**6:
            size = info.file_size / 1e6
            raise FrameError(
                f"{name} has {size:.0f} MB, and a file of an archive {MOST_MB} at most"
            )
        held = io.BytesIO()
        with _reading(archive, info, name) as file:
            while chunk := file.read(_CHUNK):  # the size that it declares is the most that comes
                held.write(chunk)
        held.seek(0)
        return held


def _opened(path: Path) -> zipfile.ZipFile:
    state = path.stat()
    return _kept(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=1)
def _kept(path: Path, changed: int, size: int) -> zipfile.ZipFile:
    """An archive as it is since it was changed, whose members lie one behind the other."""
    archive = zipfile.ZipFile(path)
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise FrameError(f"{path} has {len(members)} files, and {MOST_MEMBERS} are the most")
    end = 0
    for info in sorted(members, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise FrameError(f"{path} is refused: files in it overlap, as in a bomb")
        end = info.header_offset + _HEADER + info.compress_size
    if end > size:
        raise FrameError(f"{path} is cut short")
    return archive


def _checked_steps(member: Member) -> list[str]:
    """The folders and the file of a name; refuses one that would lead out if it were unpacked."""
    name = member.name
    steps = name.replace("\\", "/").split("/")
    if not steps[0] or name[1:2] == ":" or ".." in steps:  # absolute, or of a drive
        raise FrameError(f"{printable(str(member))} is refused: its name leads out of the archive")
    if len(name) > _LONGEST_NAME:
        shown = printable(f"{member.archive}/{name[:40]}")
        raise FrameError(f"{shown}... is refused: its name has {len(name)} letters")
    return [step for step in steps if step not in ("", ".")]


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo, member: Member) -> bytes:
    """The first bytes of a member, by which DICOM is told."""
    with _refusing(printable(str(member))), _reading(archive, info, str(member)) as file:
        return file.read(HEAD)


@contextlib.contextmanager
def _reading(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Iterator[BinaryIO]:
    """A member that is stored or deflated, to be read from its beginning."""
    if info.flag_bits & 1:
        raise FrameError(f"{name} is encrypted")
    if info.compress_type not in _METHODS:
        raise FrameError(f"{name} is compressed by another method than deflate")
    with archive.open(info) as file:
        yield file  # type: ignore[misc]


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn what zipfile raises on damaged archives into a FrameError."""
    try:
        yield
    except FrameError:
        raise
    except OSError as error:
        raise FrameError(f"{name} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise FrameError(f"{name} is no longer there") from error
    except Exception as error:  # zipfile raises many kinds
        raise FrameError(f"{name} cannot be read: the archive is damaged there") from error
