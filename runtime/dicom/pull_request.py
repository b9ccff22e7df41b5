"""What the process that pulls is told when it starts, and with what its own lines begin."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from adae_edge.runtime.dicom.received import hash_of

# A whole series' UID; a series' UID and why it is not whole; and how many are whole, at the end.
SERIES, LACKING, DONE = "series", "lacking", "done"
UID = re.compile(r"[0-9.]{1,64}")
PULLED, WHOLE, SUFFIX = "pulled", "whole", ".dcm"


class Peer(NamedTuple):
    """An archive that speaks DIMSE.

    Attributes:
        title, host, port: where it is.
        calling: the own AE title.
        listen: where instances are received by C-MOVE, as (host, port); None for C-GET.
    """

    title: str
    host: str
    port: int
    calling: str
    listen: tuple[str, int] | None = None


class Web(NamedTuple):
    """An archive that speaks DICOMweb.

    Attributes:
        url: of the service, without a user.
        user, password: "" for none.
        token: of a bearer; "" for none.
    """

    url: str
    user: str = ""
    password: str = ""
    token: str = ""


@dataclass(frozen=True)
class Request:
    """What is pulled, from where and into what.

    Attributes:
        name: of the archive, for sentences.
        archive: how it is reached.
        study: its UID.
        series: the UID of the one series that is wanted; "" for all.
        spool: the folder that ``PULLED`` lies in.
        limit_bytes: what all of it may take.
        keep_s: how long what was pulled is kept.
        cert, key, ca: files, as in ``messages.Settings``; "" for none.
        patience_s: how long an archive may be silent.
    """

    name: str
    archive: Peer | Web
    study: str
    series: str
    spool: str
    limit_bytes: int
    keep_s: float
    cert: str = ""
    key: str = ""
    ca: str = ""
    patience_s: float = 60.0

    @property
    def folder(self) -> Path:
        """Where what is pulled by this request lies, with its whole series in ``WHOLE``."""
        name = hash_of(f"{self.name}\n{self.study}\n{self.series}")[:32]
        return Path(self.spool) / PULLED / name

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"archive": [*self.archive]})

    @staticmethod
    def from_json(text: str) -> Request:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        archive = fields["archive"]
        if len(archive) == len(Web._fields):
            return Request(**fields | {"archive": Web(*archive)})
        peer = Peer(*archive)
        listen = (str(peer.listen[0]), int(peer.listen[1])) if peer.listen else None
        return Request(**fields | {"archive": peer._replace(listen=listen)})
