"""What the receiver's process is told when it starts, and what it tells, a line at a time."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass

from adae_edge.errors import printable

# With what a line begins that the receiver writes; a sentence may follow.
LISTENING, STORED, NOTE, FAILED = "listening", "stored", "note", "failed"
_LONGEST = 1000  # letters of a sentence, so that a line is written whole or not at all


@dataclass(frozen=True)
class Settings:
    """How to receive, and from whom.

    Attributes:
        host, port: where to listen.
        title: the own AE title.
        spool: the folder of received instances.
        limit_bytes: what they may take, those that are scored included.
        keep_s: how long those that are scored are kept.
        callers: AE titles that may call; () for all.
        hosts: networks that they may call from, as "10.0.0.0/8"; () for all.
        classes: UIDs of the SOP classes that are taken; () for all of storage.
        syntaxes: UIDs of the transfer syntaxes that are taken; () for those that can be decoded.
        commit: where commitments are told, as (AE title, host, port); other peers are told on the
            association on which they asked.
        cert, key: files of the own certificate, which turn TLS on; "" for none.
        ca: file of those who sign certificates of peers, which turns their check on; "" for none.
    """

    host: str
    port: int
    title: str
    spool: str
    limit_bytes: int
    keep_s: float
    callers: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    syntaxes: tuple[str, ...] = ()
    commit: tuple[tuple[str, str, int], ...] = ()
    cert: str = ""
    key: str = ""
    ca: str = ""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Settings:
        """What ``to_json`` wrote."""
        fields = json.loads(text)
        lists = ("callers", "hosts", "classes", "syntaxes")
        fields |= {name: tuple(fields[name]) for name in lists}
        return Settings(**fields | {"commit": tuple(tuple(peer) for peer in fields["commit"])})


def tell(kind: str, sentence: str = "") -> None:
    """Write a line to the standard output, unless its reader is far behind; any process may."""
    line = f"{kind} {printable(sentence[:_LONGEST])}\n".encode(errors="backslashreplace")
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(sys.stdout.fileno(), line)
