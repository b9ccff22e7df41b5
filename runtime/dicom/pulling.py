"""Pulls a study or a series from an archive into the spool, by whatever protocol it speaks."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from adae_edge.errors import FrameError, SourceError
from adae_edge.runtime.dicom.messages import tell
from adae_edge.runtime.dicom.pull_request import DONE, LACKING, SERIES, UID, Request
from adae_edge.runtime.dicom.pulled import PulledFolder

MOST_SERIES, MOST_INSTANCES = 10_000, 100_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Keeps a file in the spool as the instance of this UID; FrameError where it is another one.
Keep = Callable[[Path, str], None]


class Archive(ABC):
    """Something that lists what it has of a study, and gives it."""

    @abstractmethod
    def series(self) -> dict[str, int | None]:
        """The UIDs of the wanted series, and of how many instances it says that each has.

        Raises:
            SourceError: the archive cannot be asked.
        """

    @abstractmethod
    def instances(self, series: str, count: int | None) -> dict[str, str]:
        """The UIDs of a series' instances and of their SOP classes, "" where it does not say.

        Raises:
            SourceError: the archive cannot be asked.
        """

    @abstractmethod
    def fetch(self, series: str, lacking: Mapping[str, str], all_of_it: bool, keep: Keep) -> str:
        """Fetch instances of a series, as they were listed.

        Args:
            series: its UID.
            lacking: the instances that are wanted.
            all_of_it: whether they are the whole series.
            keep: is given each one as a file in the folder of temporary files.

        Returns:
            What the archive says where it gives fewer, as the end of a sentence; "" for nothing.

        Raises:
            FrameError: what it gives is not what was asked for.
            SourceError: the archive cannot be asked, or there is no room.
        """


def pull(request: Request, connect: Callable[[Request], Archive]) -> None:
    """Have every wanted series whole in the spool, and tell which are.

    Raises:
        SourceError: the archive cannot be asked or has no such study, or there is no room.
        SinkError: the spool is in use, or cannot be written.
    """
    archive = connect(request)
    listed = archive.series()
    if not listed:
        raise SourceError(f"{request.name} has no {_what(request)}")
    _check_uids(request, listed)
    folder = PulledFolder(request)
    folder.keep_only(listed)
    whole = 0
    for series, count in listed.items():
        try:
            _pull_series(request, archive, folder, series, count)
        except FrameError as error:
            folder.doubt(series)
            tell(LACKING, f"{series} {error}")
        else:
            tell(SERIES, series)
            whole += 1
    tell(DONE, str(whole))


def _pull_series(
    request: Request, archive: Archive, folder: PulledFolder, series: str, count: int | None
) -> None:
    """Have one series whole; raises FrameError where the archive does not give it so."""
    listed = archive.instances(series, count)
    _check_uids(request, listed)
    if count is not None and count != len(listed):
        raise FrameError(f"the archive counts {count} instances, and lists {len(listed)}")
    if not listed:
        raise FrameError("the archive lists no instances")
    store = folder.begin(series, listed)
    if lacking := {uid: kind for uid, kind in listed.items() if not store.has(uid)}:
        why = archive.fetch(series, lacking, len(lacking) == len(listed), store.keep)
        if left := sum(not store.has(uid) for uid in listed):
            given = len(listed) - left
            raise FrameError(
                f"the archive gave {given} of {len(listed)} instances{why and ': '}{why}"
            )
    store.finish()


def _check_uids(request: Request, listed: Iterable[str]) -> None:
    if not all(map(UID.fullmatch, listed)):
        raise SourceError(f"{request.name} lists a UID that is none")


def _what(request: Request) -> str:
    return f"series {request.series} of this study" if request.series else f"study {request.study}"
