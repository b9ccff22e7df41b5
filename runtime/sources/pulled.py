"""What an archive has of a study or a series, pulled into the spool and then read as files are."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from adae_edge.errors import MissingExtra, SourceError, UsageError
from adae_edge.runtime.dicom.messages import FAILED
from adae_edge.runtime.dicom.pull_request import (
    DONE,
    LACKING,
    SERIES,
    UID,
    WHOLE,
    Peer,
    Request,
    Web,
)
from adae_edge.runtime.dicom.received import hash_of
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.query import bytes_of, minutes
from adae_edge.runtime.sources.files import Files
from adae_edge.runtime.sources.source import Source, Wanted, failure
from adae_edge.runtime.sources.volumes import Volumes

OPTIONS = {"limit": bytes_of, "keep": minutes}
_LIMIT, _KEEP_S = 10 * 1000**3, 24 * 60 * 60.0
# The path is this process's: a folder that the command is started in brings no modules of its own.
_PULLER = (
    "import sys; sys.path[:] = sys.argv[1:]\nimport adae_edge.runtime.dicom.puller as it; it.main()"
)
_ENDS_S = 5.0
_FILE = re.compile(r"/[0-9]{6}-[0-9a-f]{64}\.dcm$")


class Pulled(Source):
    """Pulls in a process of its own, and gives what was pulled as a folder of files gives it.

    The source of a frame is its series: the archive's name, the study's UID and its own.
    """

    spools = True

    def __init__(
        self, archive: str, reached: Peer | Web, uids: list[str], options: Any, wanted: Wanted
    ) -> None:
        """
        Args:
            archive: its name, for messages and as the beginning of sources.
            reached: how it is reached.
            uids: of the study, and of the series where one is wanted.
            options: by name, of those in ``OPTIONS``.
            wanted: the frames that the model takes, and where the spool is.

        Raises:
            UsageError: a UID is none, no spool is given, certificates do not go together, or other
                frames are wanted.
        """
        if not all(map(UID.fullmatch, uids)):
            raise UsageError(f"{archive} has no study that is called so: UIDs are digits and dots")
        if wanted.kind == "image":
            wanted.check_pictures(archive)
        else:
            wanted.check_series(archive)  # now, and not only when all was pulled
        if wanted.receiving is None:
            raise UsageError(f"{archive} is pulled into a spool: give --spool DIR")
        if not wanted.receiving.spool.absolute().parent.is_dir():
            parent = wanted.receiving.spool.parent
            raise UsageError(f"cannot write {wanted.receiving.spool}: there is no folder {parent}")
        if find_spec("pynetdicom") is None or find_spec("dicomweb_client") is None:
            raise MissingExtra("Pulling DICOM over the network", "pacs")
        receiving = wanted.receiving
        files = (receiving.cert, receiving.key, receiving.ca)
        cert, key, ca = ("" if path is None else str(path) for path in files)
        if bool(cert) != bool(key):
            raise UsageError("--tls-cert and --tls-key go together")
        if isinstance(reached, Peer) and reached.listen and ca and not cert:
            raise UsageError("by C-MOVE the archive calls back: give --tls-cert and --tls-key, too")
        self._wanted, self._study, self._archive = wanted, uids[0], archive
        self._request = Request(
            archive,
            reached,
            uids[0],
            uids[1] if len(uids) > 1 else "",
            str(wanted.receiving.spool),
            options.get("limit", _LIMIT),
            options.get("keep", _KEEP_S),
            cert,
            key,
            ca,
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._files: Files | Volumes | None = None
        self._whole = self._request.folder / WHOLE
        self._series: dict[str, str] = {}  # the UIDs of whole series, by their folders

    def __iter__(self) -> Iterator[Frame | Event]:
        """What was pulled, and first what was not."""
        self.moved_s = math.inf  # who pulls looks at the clock
        yield from self._pull()
        self.moved_s = 0.0
        if self._stopping or not self._series:
            return
        wanted = replace(
            self._wanted, done=lambda source, id_: self._wanted.done(self._source(source), id_)
        )
        self._files = (Volumes if wanted.kind == "modality" else Files)(str(self._whole), wanted)
        self._files.complete = "archive"
        for item in self._files:
            yield self._renamed(item)
        self.left_out = self._files.left_out

    def stop(self) -> None:
        """Ask the source to end soon, and end what pulls or decodes for it."""
        super().stop()
        if self._process is not None:
            self._process.kill()
        if self._files is not None:
            self._files.stop()

    def close(self) -> None:
        """End what pulls and what decodes; a second call does nothing."""
        if self._files is not None:
            self._files.close()
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _pull(self) -> Iterator[Event]:
        """Pull all, and give the failures of series that are not whole."""
        self._process = process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _PULLER, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{self._request.to_json()}\n".encode())
        process.stdin.flush()
        for line in process.stdout:
            kind, _, said = line.decode(errors="replace").rstrip("\n").partition(" ")
            if kind == SERIES:
                self._series[str(self._whole / hash_of(said))] = said
            elif kind == LACKING:
                series, _, why = said.partition(" ")
                place = self._place(series)
                yield failure(place, f"{place} is not scored: {why}")
            elif kind == FAILED:
                raise SourceError(said)
            elif kind == DONE:
                return
        if not self._stopping:
            late = process.wait() == -signal.SIGALRM
            why = "takes longer than two hours" if late else "has ended what pulls from it"
            raise SourceError(f"{self._archive} {why}; what came is kept")

    def _place(self, series: str) -> str:
        """What a series is called."""
        return f"{self._archive}/{self._study}/{series}"

    def _shown(self, text: str) -> str:
        """A text with series in place of their folders."""
        for folder, series in self._series.items():
            text = text.replace(folder, self._place(series))
        return text.replace(str(self._whole), f"{self._archive}/{self._study}")

    def _source(self, path: str) -> str:
        """The source of what a file holds."""
        return _FILE.sub("", self._shown(path))

    def _renamed(self, item: Frame | Event) -> Frame | Event:
        """A frame or an event of a file as one of its series."""
        if isinstance(item, Frame):
            about = {**item.about, "complete": "archive"}
            return replace(item, source=self._source(item.source), about=about)
        return replace(item, source=self._source(item.source), detail=self._shown(item.detail))
