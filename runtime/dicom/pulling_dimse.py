"""Pulls by DIMSE: C-FIND tells what there is, and C-GET or C-MOVE fetches it."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from adae_edge.errors import AdaeEdgeError, FrameError, SourceError
from adae_edge.extras import needs
from adae_edge.runtime.dicom.association import SYNTAXES
from adae_edge.runtime.dicom.encryption import client_encryption, encryption
from adae_edge.runtime.dicom.messages import FAILED, tell
from adae_edge.runtime.dicom.pull_request import Peer, Request
from adae_edge.runtime.dicom.pulling import (
    MOST_INSTANCES,
    MOST_SERIES,
    Archive,
    Keep,
)
from adae_edge.runtime.dicom.sockets import LimitedSocket, PacedSocket

with needs("Pulling DICOM over the network", "pacs"):
    from pydicom.dataset import Dataset
    from pydicom.uid import UID
    from pynetdicom import AE, StoragePresentationContexts, _config, build_context, build_role, evt
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext
    from pynetdicom.sop_class import (  # type: ignore[attr-defined]
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    )
    from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)
_NOT_ASKED, _CANNOT = 0xA900, 0xC000  # of C-STORE (PS3.4 B.2.3)
_NO_DESTINATION = 0xA801  # of C-MOVE (PS3.4 C.4.2.1.5)
_MOST_CONTEXTS = 128  # of an association (PS3.8 9.3.2.2)
_LISTED_AT_ONCE = 100  # UIDs of instances in one request
_PDU_BYTES = 2**17
_LOOK_S, _HANDSHAKE_S = 0.2, 10.0


class Dimse(Archive):
    """An archive that is asked by associations, one for each question."""

    def __init__(self, request: Request) -> None:
        """
        Args:
            request: what is pulled.

        Raises:
            UsageError: the certificates cannot be read.
        """
        assert isinstance(request.archive, Peer)
        _config.STORE_RECV_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        self._request, self._peer = request, request.archive
        self._encryption = client_encryption(request)
        self._silence = _Silence(request)
        self._entity = _Entity(self._peer.calling)
        self._entity.heard = self._silence.heard
        self._entity.maximum_pdu_size = _PDU_BYTES
        self._entity.connection_timeout = self._entity.acse_timeout = request.patience_s
        # Messages may take long, and _Silence looks whether anything comes.
        self._entity.dimse_timeout = self._entity.network_timeout = None

    def series(self) -> dict[str, int | None]:
        """The UIDs of the wanted series, and of how many instances it says that each has."""
        found: dict[str, int | None] = {}
        keys = {"SeriesInstanceUID": self._request.series, "NumberOfSeriesRelatedInstances": ""}
        for item in self._find("SERIES", keys, MOST_SERIES):
            count = item.get("NumberOfSeriesRelatedInstances")
            found[_uid(item, "SeriesInstanceUID")] = None if count in (None, "") else int(count)
        return found

    def instances(self, series: str, count: int | None) -> dict[str, str]:
        """The UIDs of a series' instances and of their SOP classes, "" where it does not say."""
        keys = {"SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
        return {
            _uid(item, "SOPInstanceUID"): str(item.get("SOPClassUID") or "")
            for item in self._find("IMAGE", keys, MOST_INSTANCES)
        }

    def fetch(self, series: str, lacking: Mapping[str, str], all_of_it: bool, keep: Keep) -> str:
        """Fetch instances of a series, as they were listed."""
        desk = _Desk(lacking, keep)
        by_get, why = self._peer.listen is None, ""
        for contexts in _offers(desk.kinds, by_get):
            fetch = partial(self._get if by_get else self._move, contexts)
            why = self._ask(series, all_of_it, desk, fetch)
            all_of_it = False
            if not desk.lacking:
                break
        return why

    def _ask(
        self, series: str, all_of_it: bool, desk: _Desk, fetch: Callable[[Dataset, _Desk], str]
    ) -> str:
        """Ask for a series, or for those of its instances that are lacking, some at once."""
        uids, why = sorted(desk.lacking), ""
        parts = [uids[at : at + _LISTED_AT_ONCE] for at in range(0, len(uids), _LISTED_AT_ONCE)]
        for part in [[]] if all_of_it else parts:
            query = _query(
                "IMAGE" if part else "SERIES",
                StudyInstanceUID=self._request.study,
                SeriesInstanceUID=series,
                **({"SOPInstanceUID": part} if part else {}),
            )
            why = fetch(query, desk) or why
            if desk.error is not None:
                raise desk.error
        return why

    def _find(self, level: str, keys: dict[str, str], most: int) -> Iterator[Dataset]:
        """What C-FIND gives at a level."""
        query = _query(level, StudyInstanceUID=self._request.study, **keys)
        model = StudyRootQueryRetrieveInformationModelFind
        with self._associated([build_context(model)]) as association:
            for number, (status, item) in enumerate(association.send_c_find(query, model)):
                code = self._code(status)
                if code in PENDING and item is not None:
                    if number >= most:
                        association.abort()
                        raise SourceError(f"{self._request.name} lists more than {most} of them")
                    yield item
                elif code != SUCCESS:
                    raise SourceError(f"{self._request.name} finds nothing: status {code:04X}")

    def _get(self, contexts: list[PresentationContext], query: Dataset, desk: _Desk) -> str:
        """Fetch by C-GET, for which this side takes the part of a storage provider."""
        model = StudyRootQueryRetrieveInformationModelGet
        kinds = {str(context.abstract_syntax) for context in contexts}
        roles = [build_role(kind, scp_role=True) for kind in sorted(kinds)]
        offered, handlers = [build_context(model), *contexts], [(evt.EVT_C_STORE, desk.store)]
        with self._associated(offered, roles, handlers) as association:
            return self._given(association.send_c_get(query, model), desk)

    def _move(self, contexts: list[PresentationContext], query: Dataset, desk: _Desk) -> str:
        """Fetch by C-MOVE to a receiver that is there as long as this lasts."""
        model = StudyRootQueryRetrieveInformationModelMove
        with (
            self._receiving(contexts, desk),
            self._associated([build_context(model)]) as association,
        ):
            return self._given(association.send_c_move(query, self._peer.calling, model), desk)

    def _given(self, responses: Iterator[tuple[Dataset, Dataset | None]], desk: _Desk) -> str:
        """Wait until all was sent; what the archive says where something was not."""
        for number, (status, _) in enumerate(responses):
            if desk.error is not None:
                return ""
            code = self._code(status)
            if code not in PENDING:
                failed = status.get("NumberOfFailedSuboperations") or 0
                if code == _NO_DESTINATION:
                    return f"it does not know {self._peer.calling} as a destination"
                return f"status {code:04X}, {failed} failed" if code or failed else ""
            if number > 2 * MOST_INSTANCES:
                break
        raise SourceError(f"{self._request.name} does not come to an end")

    def _code(self, status: Dataset) -> int:
        """The code of a status; raises SourceError where there is none."""
        if "Status" not in status:
            raise SourceError(f"{self._request.name} broke off before it had answered")
        return int(status.Status)

    @contextlib.contextmanager
    def _associated(
        self,
        contexts: list[PresentationContext],
        roles: list[Any] | None = None,
        handlers: list[Any] | None = None,
    ) -> Iterator[Association]:
        """An association within the block; raises SourceError where there is none."""
        opened = threading.Event()
        seen = [(evt.EVT_CONN_OPEN, lambda event: opened.set()), *(handlers or [])]
        tls = None if self._encryption is None else (self._encryption, self._peer.host)
        name = self._request.name
        try:
            association = self._entity.associate(
                self._peer.host,
                self._peer.port,
                contexts,
                self._peer.title,
                _PDU_BYTES,
                roles,
                tls_args=tls,
                evt_handlers=seen,
            )
        except OSError as error:
            raise SourceError(f"{name} cannot be reached: {error.strerror}") from error
        if not association.is_established:
            if association.is_rejected:
                answer: Any = association.acceptor.primitive
                raise SourceError(f"{name} refuses the association: {answer.reason_str}")
            if not opened.is_set():
                raise SourceError(f"{name} cannot be reached")
            if not association.rejected_contexts:
                raise SourceError(f"{name} does not answer as an archive does")
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        if contexts[0].abstract_syntax not in accepted:
            association.abort()
            asked = contexts[0].abstract_syntax
            raise SourceError(f"{name} does not offer {getattr(asked, 'name', asked)}")
        with self._silence.watched():
            try:
                yield association
            finally:
                if association.is_established:
                    association.release()

    @contextlib.contextmanager
    def _receiving(self, contexts: list[PresentationContext], desk: _Desk) -> Iterator[None]:
        """A receiver within the block; raises SourceError where it cannot listen."""
        assert self._peer.listen is not None
        place = self._peer.listen
        entity = AE(self._peer.calling)
        entity.require_called_aet, entity.require_calling_aet = True, [self._peer.title]
        entity.acse_timeout, entity.network_timeout = 10, self._request.patience_s
        entity.supported_contexts = contexts
        try:
            server = entity.make_server(
                place,
                evt_handlers=[(evt.EVT_C_STORE, desk.store)],
                server_class=ThreadedAssociationServer,
                request_handler=_handler(self._silence.heard, encryption(self._request)),
            )
        except OSError as error:
            where = f"{place[0]}:{place[1]}"
            raise SourceError(f"cannot listen at {where}: {error.strerror}") from error
        threading.Thread(target=server.serve_forever, args=(_LOOK_S,), daemon=True).start()
        try:
            yield
        finally:
            BaseServer.shutdown(server)  # pynetdicom's is for servers that it has started itself
            server.server_close()


class _Desk:
    """Keeps what comes of what was asked for.

    Attributes:
        kinds: the SOP classes that are asked for, without those that were not listed.
        lacking: the instances that did not come yet.
        error: what ended it; None while all is well.
    """

    def __init__(self, lacking: Mapping[str, str], keep: Keep) -> None:
        self.kinds = {kind for kind in lacking.values() if kind}
        self.error: AdaeEdgeError | None = None
        self.lacking, self._asked = set(lacking), frozenset(lacking)
        self._keep, self._lock = keep, threading.Lock()

    def store(self, event: evt.Event) -> int:
        """Keep an instance, and return the status of C-STORE."""
        path: Path | None = event.dataset_path
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        if path is None:
            return _CANNOT
        with self._lock:
            try:
                if self.error is None and uid not in self._asked:
                    raise FrameError("the archive gave an instance that was not asked for")
                if self.error is None:
                    self._keep(path, uid)
                    self.lacking.discard(uid)
                    event.assoc.dul.socket.kept()  # type: ignore[union-attr]
                    return SUCCESS
            except AdaeEdgeError as error:
                self.error = error
            finally:
                path.unlink(missing_ok=True)
        event.assoc.abort()  # whatever else it has is not wanted
        event.assoc.dimse.msg_queue.put((None, None))  # or C-GET would wait for more
        return _NOT_ASKED


class _Silence:
    """Ends this process when an archive is silent for too long within an association."""

    def __init__(self, request: Request) -> None:
        self._request, self._watching, self._heard_s = request, False, 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def heard(self) -> None:
        """Note that something came."""
        self._heard_s = time.monotonic()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within, something has to come now and then."""
        self.heard()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def _look(self) -> None:
        most_s = self._request.patience_s
        while True:
            time.sleep(_LOOK_S)
            if self._watching and time.monotonic() - self._heard_s > most_s:
                tell(FAILED, f"{self._request.name} has not answered for {most_s:g} s")
                os._exit(1)


class _Entity(AE):
    """Makes connections with limits, which tell when something comes."""

    heard: Callable[[], None]

    def _create_socket(self, assoc: Association, address: Any, tls_args: Any) -> LimitedSocket:
        """Called by ``associate``, which has no parameter for it."""
        limited = LimitedSocket(assoc, address=address)
        limited.heard = self.heard  # type: ignore[method-assign]
        limited.tls_args = tls_args
        return limited


def _handler(heard: Callable[[], None], tls: ssl.SSLContext | None) -> type[RequestHandler]:
    """What serves an association of the receiver, with a limited connection that tells."""

    class Handler(RequestHandler):
        def handle(self) -> None:
            """Shake hands here, in a thread of its own: a silent peer keeps no other one out."""
            if tls is not None:
                self.request.settimeout(_HANDSHAKE_S)
                try:
                    self.request = tls.wrap_socket(self.request, server_side=True)
                except OSError:
                    self.request.close()
                    return
            super().handle()

        def _create_association(self) -> Association:
            association = super()._create_association()
            association.dul.event_queue.get_nowait()  # of the socket that is replaced
            limited = PacedSocket(association, self.request)
            limited.heard = heard  # type: ignore[method-assign]
            association.dul.socket = limited
            return association

    return Handler


def _query(level: str, **keys: Any) -> Dataset:
    """The identifier of a question at a level (PS3.4 C.6.2)."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(query, name, value)
    return query


def _uid(item: Dataset, name: str) -> str:
    return str(item.get(name, ""))


def _offers(kinds: set[str], by_get: bool) -> list[list[PresentationContext]]:
    """The classes and transfer syntaxes that are taken, one offer after another while some lack.

    By C-GET each class and syntax has a context, so that nothing need be converted. By C-MOVE, and
    where that are too many or the classes are not known, one syntax is agreed on for a class, and
    what the archive cannot send so is asked for with others.
    """
    each = [build_context(kind, syntax) for kind in sorted(kinds) for syntax in SYNTAXES]
    if by_get and each and len(each) < _MOST_CONTEXTS:
        return [each]
    found = sorted(kinds or _common())[: _MOST_CONTEXTS - 1]
    native = [syntax for syntax in SYNTAXES if not UID(syntax).is_compressed]
    compressed = [syntax for syntax in SYNTAXES if syntax not in native]
    return [
        [build_context(kind, list(syntaxes)) for kind in found]
        for syntaxes in (SYNTAXES, native, compressed)
    ]


def _common() -> list[str]:
    """The SOP classes that are asked for where an archive does not say which it has."""
    return [str(context.abstract_syntax) for context in StoragePresentationContexts]
