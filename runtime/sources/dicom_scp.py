"""A DICOM storage provider: what modalities and archives send is scored as it comes."""

from __future__ import annotations

import ipaddress
import re
import select
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO
from urllib.parse import unquote, urlsplit

from adae_edge.decoding.rules import DICOM
from adae_edge.decoding.workers import Answer, Workers
from adae_edge.errors import FrameError, MissingExtra, NoPicture, SourceError, UsageError
from adae_edge.machine import available_threads
from adae_edge.runtime.dicom.messages import FAILED, LISTENING, NOTE, Settings
from adae_edge.runtime.dicom.received import CLAIMED, Received, hash_of
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.query import Parser, bytes_of, minutes, options_of
from adae_edge.runtime.sources.source import Source, Wanted, failure

PORT = 11112
_LIMIT, _KEEP_S = 10 * 1000**3, 24 * 60 * 60.0
_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: no backslash
_UID = re.compile(r"[0-9.]{1,64}")
# The path is this process's: a folder that the command is started in brings no modules of its own.
_RECEIVER = (
    "import sys; sys.path[:] = sys.argv[2:]\n"
    "import adae_edge.runtime.dicom.receiver as it; it.main()"
)
_LOOK_S = 0.5
_ENDS_S = 5.0
_AGAIN_S = 60.0  # until the same sentence is told again
_MOST_TOLD = 1000


class DicomScp(Source):
    """Receives in a process of its own, and gives the frames of each instance once.

    An instance is in the spool until the sinks keep all its results, also where this process is
    killed meanwhile.
    """

    endless = True
    answers = True

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//host:port/TITLE" and options behind a question mark.
            wanted: the frames that the model takes, and how to receive.

        Raises:
            UsageError: the address or an option is wrong, no spool is given, or other frames are
                wanted.
        """
        self.name = f"dicom-scp:{place}"
        wanted.check_pictures(self.name)
        if wanted.receiving is None:
            raise UsageError(f"{self.name} keeps what it receives in a spool: give --spool DIR")
        if find_spec("pynetdicom") is None:  # imported by the receiver's process alone
            raise MissingExtra("Receiving DICOM over the network", "pacs")
        self._window, self._done = wanted.window, wanted.done
        self._workers = Workers(wanted.jobs or available_threads())
        self._settings = _settings(self.name, wanted)
        self._spool = Received(wanted.receiving.spool)
        self._receiver: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}  # instances of which results are not kept yet
        self._told: dict[str, float] = {}
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Frame | Event]:
        """Frames of what comes, and what is to be told of peers, until it is stopped."""
        receiver = self._start()
        assert receiver.stdout is not None
        lines = _Lines(receiver.stdout)
        while not self._stopping:
            self.moved_s = time.monotonic()
            for line in lines.come(_LOOK_S):
                yield from self._heard(line)
            if lines.ended:
                raise SourceError(f"{self.name}: the receiver has ended")
            if lines.begun:
                yield from self._take_all()

    def stop(self) -> None:
        """Ask the source to end soon, and end what decodes for it."""
        super().stop()
        self._workers.stop()

    def settle(self, results: Mapping[str, int]) -> None:
        """Let go of instances all of whose results are kept."""
        with self._lock:
            for source, count in results.items():
                if source in self._open:
                    self._open[source].kept += count
                    self._settle(source)

    def close(self) -> None:
        """End the receiver and what decodes; a second call does nothing."""
        self._workers.close()
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        assert receiver.stdin is not None
        assert receiver.stdout is not None
        receiver.stdin.close()
        try:
            receiver.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            receiver.kill()
            receiver.wait()
        receiver.stdout.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._receiver = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _RECEIVER, self._settings.to_json(), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self._receiver

    def _heard(self, line: str) -> Iterator[Event]:
        """What is to be told of a line of the receiver."""
        kind, _, sentence = line.partition(" ")
        if kind == FAILED:
            raise SourceError(sentence)
        if kind == LISTENING:
            yield self._event("live", f"{self.name} takes instances")
        if kind == NOTE and self._is_news(sentence):
            yield self._event("note", f"{self.name}: {sentence}")

    def _is_news(self, sentence: str) -> bool:
        """Whether something was not told lately; strangers may cause many sentences."""
        now = time.monotonic()
        self._told = {text: when for text, when in self._told.items() if when > now - _AGAIN_S}
        if sentence in self._told or len(self._told) >= _MOST_TOLD:
            return False
        self._told[sentence] = now
        return True

    def _take_all(self) -> Iterator[Frame | Event]:
        """The frames of all new instances; decoding is asked for ahead, so no process waits."""
        asked: deque[tuple[str, str, Answer]] = deque()
        for name in self._spool.waiting():
            while asked and not self._workers.has_room:
                yield from self._give(*asked.popleft())
            if self._stopping:
                return
            path = self._spool.claim(name)
            if path is not None:
                place = f"{self.name}/{name.partition('-')[2]}"
                asked.append((name, place, self._workers.frames(path, self._window)))
        while asked:
            yield from self._give(*asked.popleft())

    def _give(self, name: str, place: str, answer: Answer) -> Iterator[Frame | Event]:
        """The frames of an instance, and what is to be told of it."""
        if self._spool.others(name):
            detail = f"{place} is an instance that came before with other bytes: both are scored"
            yield self._event("note", detail)
        with self._lock:
            self._open[place] = _Open(name)
        for item in self._frames(name, place, answer):
            if self._stopping and isinstance(item, Event):
                return  # what decodes was ended, and the instance is claimed anew at the next start
            with self._lock:
                self._open[place].given += 1
            yield item
        with self._lock:
            self._open[place].whole = True
            self._settle(place)

    def _frames(self, name: str, place: str, answer: Answer) -> Iterator[Frame | Event]:
        """The frames of an instance whose results are not kept yet, and failures of others."""
        try:
            for origin, pixels in answer:
                uid = origin.id
                if hash_of(uid.partition("/")[0]) != name.partition("-")[0]:
                    raise FrameError(f"{place} holds another instance than its sender named")
                if isinstance(pixels, FrameError):
                    yield failure(place, self._shown(pixels, name, place))
                elif not self._done(place, uid):
                    yield Frame(place, uid, time.time(), pixels, decoding=DICOM)
        except NoPicture:
            self.left_out["without a picture"] += 1
        except FrameError as error:
            yield failure(place, self._shown(error, name, place))

    def _shown(self, error: FrameError, name: str, place: str) -> str:
        """What is wrong with an instance, by its name for people."""
        return str(error).replace(str(self._spool.folder / CLAIMED / name), place)

    def _settle(self, place: str) -> None:
        one = self._open[place]
        if one.whole and one.kept >= one.given:
            del self._open[place]
            self._spool.settle(one.name)

    def _event(self, kind: str, detail: str) -> Event:
        return Event(self.name, time.time(), kind, detail)


@dataclass
class _Open:
    """An instance by its name in the spool, of which results are not kept yet.

    Attributes:
        given: how many results it has so far.
        kept: how many of them every sink keeps.
        whole: whether no more are given.
    """

    name: str
    given: int = 0
    kept: int = 0
    whole: bool = False


class _Lines:
    """Lines of a process as they come.

    Attributes:
        begun: whether it listens.
        ended: whether no more come.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._rest = stream, b""
        self.begun = self.ended = False

    def come(self, seconds: float) -> list[str]:
        """Wait for some lines, at most so long."""
        if not select.select([self._stream], [], [], seconds)[0]:
            return []
        came = self._stream.read1(2**16)  # type: ignore[attr-defined]
        self.ended = not came
        *lines, self._rest = (self._rest + came).split(b"\n")
        texts = [line.decode(errors="replace") for line in lines]
        self.begun |= LISTENING in texts or f"{LISTENING} " in texts
        return texts


def _settings(name: str, wanted: Wanted) -> Settings:
    """What the receiver is told, by the source's name and what goes with it."""
    try:
        parts = urlsplit(name)
        host, port = parts.hostname or "127.0.0.1", parts.port or PORT
    except ValueError as error:
        raise UsageError(f"{name} is no URL: {error}") from error
    title = unquote(parts.path.removeprefix("/"))
    if parts.netloc != name.removeprefix("dicom-scp://").split("/")[0] or not _TITLE.fullmatch(
        title
    ):
        raise UsageError(f"{name} has no AE title: give dicom-scp://HOST:PORT/TITLE")
    known = {
        "limit": bytes_of,
        "keep": minutes,
        "callers": _list_of(_TITLE, "AE titles of 1 to 16 letters, with commas between them"),
        "hosts": _networks,
        "classes": _list_of(_UID, "UIDs with commas between them"),
        "syntaxes": _list_of(_UID, "UIDs with commas between them"),
        "commit": _peers,
    }
    options = options_of(name, parts.query, known)
    receiving = wanted.receiving
    assert receiving is not None
    cert, key, ca = ("" if path is None else str(path) for path in receiving[1:])
    if bool(cert) != bool(key) or (ca and not cert):
        raise UsageError("--tls-cert and --tls-key go together, and --tls-ca goes with them")
    return Settings(
        host,
        port,
        title,
        str(receiving.spool),
        options.pop("limit", _LIMIT),
        options.pop("keep", _KEEP_S),
        cert=cert,
        key=key,
        ca=ca,
        **options,
    )


def _list_of(pattern: re.Pattern[str], takes: str) -> Parser:
    """A parser of texts with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(unquote(part) for part in text.split(","))
        if not all(pattern.fullmatch(part) for part in parts):
            raise ValueError(takes)
        return parts

    return parse


def _networks(text: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(part)) for part in text.split(","))
    except ValueError as error:
        raise ValueError("addresses or networks as 10.0.0.0/8, with commas between them") from error


def _peers(text: str) -> tuple[tuple[str, str, int], ...]:
    found = []
    for part in text.split(","):
        title, _, place = unquote(part).partition(":")
        host, _, port = place.rpartition(":")
        if not (_TITLE.fullmatch(title) and host and port.isdecimal() and int(port) < 2**16):
            raise ValueError("TITLE:HOST:PORT, with commas between them")
        found.append((title, host, int(port)))
    return tuple(found)


SOURCE = DicomScp
