"""DICOM associations, each in a process of its own.

The first process listens, accepts and forks, and reads nothing of what peers send. A forked one
shakes hands, receives, keeps each instance in the spool, and only then says so.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Any

from adae_edge.errors import SourceError, SpoolFull
from adae_edge.extras import needs
from adae_edge.runtime.dicom.commitment import SERVICE, Commitments
from adae_edge.runtime.dicom.encryption import encryption
from adae_edge.runtime.dicom.limits import limit_process
from adae_edge.runtime.dicom.messages import LISTENING, NOTE, STORED, Settings, tell
from adae_edge.runtime.dicom.received import Received
from adae_edge.runtime.dicom.sockets import PacedSocket

with needs("Receiving DICOM over the network", "pacs"):
    from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
    from pynetdicom.association import Association
    from pynetdicom.dimse import DIMSEServiceProvider
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
    from pynetdicom.transport import AssociationServer, RequestHandler

# What is decoded (PS3.5 annex A and PS3.6 table A-1), the first of a peer's that stands here.
SYNTAXES = (
    "1.2.840.10008.1.2.1",  # explicit VR, little endian
    "1.2.840.10008.1.2",  # implicit VR
    *(f"1.2.840.10008.1.2.4.{kind}" for kind in (201, 202, 90, 80, 70, 57)),  # lossless ones
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.1.99",  # deflated
    *(f"1.2.840.10008.1.2.4.{kind}" for kind in (203, 91, 81, 50, 51)),  # lossy ones
    "1.2.840.10008.1.2.2",  # explicit VR, big endian
)
SUCCESS, OUT_OF_RESOURCES, FAILURE, NOT_UNDERSTOOD = 0x0000, 0xA700, 0x0110, 0xC000
_PDU_BYTES = 2**17  # as is said to peers
_MOST_CHILDREN = 32
_HANDSHAKE_S, _REQUEST_S, _IDLE_S = 10.0, 10, 60
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SPENT, _AMISS = 1, 2  # exit codes of an association's process
_LOOK_S = 0.2


def serve(settings: Settings) -> None:
    """Receive until the standard input ends.

    Raises:
        UsageError: the certificates cannot be read, or no such spool can be made.
        SourceError: nobody can listen there.
        SinkError: the spool is another receiver's or cannot be written.
    """
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    spool = Received(Path(settings.spool))
    desk = _Desk(settings, spool)
    entity = AE(settings.title)
    entity.maximum_pdu_size = _PDU_BYTES
    entity.acse_timeout, entity.network_timeout = _REQUEST_S, _IDLE_S
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.callers)
    storage = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    for uid in settings.classes or storage:
        entity.add_supported_context(uid, list(settings.syntaxes or SYNTAXES))
    for service in (str(Verification), SERVICE):
        entity.add_supported_context(service)
    spool.prepare()
    try:
        server = entity.make_server(
            (settings.host, settings.port),
            evt_handlers=desk.handlers(),
            server_class=_Server,
            request_handler=_Handler,
            desk=desk,
        )
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        raise SourceError(f"cannot listen at {place}: {error.strerror}") from error
    tell(LISTENING)
    server.serve_forever(_LOOK_S)


class _Desk:
    """What all associations share, and in a forked process what belongs to its own one."""

    def __init__(self, settings: Settings, spool: Received) -> None:
        self.settings, self.spool, self.encryption = settings, spool, encryption(settings)
        self.commitments = Commitments(settings, spool)
        self.hosts = [ipaddress.ip_network(host) for host in settings.hosts]
        self._used = mmap(-1, 8)  # bytes in the spool, as all processes know it

    def handlers(self) -> list[Any]:
        """What pynetdicom calls for whatever happens in an association."""
        return [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self.commitments.ask),
            (evt.EVT_REJECTED, lambda event: tell(NOTE, f"{_name(event.assoc)} was rejected")),
            (evt.EVT_ABORTED, lambda event: tell(NOTE, f"{_name(event.assoc)} broke off")),
            (evt.EVT_ACCEPTED, _tell_unwanted),
        ]

    def count(self) -> None:
        """Delete what is done for long, and tell all processes how much there is."""
        with self.spool.alone():
            used = self.spool.weed(self.settings.limit_bytes, self.settings.keep_s)
            struct.pack_into("=q", self._used, 0, used)

    def _take_room(self, size: int) -> bool:
        """Take room for so many bytes, from what is done where there is no other; whether it is."""
        limit = self.settings.limit_bytes
        with self.spool.alone():
            (used,) = struct.unpack_from("=q", self._used)
            if used + size > limit:
                used = self.spool.weed(limit - size, self.settings.keep_s)
            fits: bool = used + size <= limit
            struct.pack_into("=q", self._used, 0, used + size * fits)
        return fits

    def _store(self, event: evt.Event) -> int:
        """Keep an instance, and return the status of C-STORE (PS3.4 B.2.3)."""
        path, uid = event.dataset_path, event.request.AffectedSOPInstanceUID  # type: ignore
        if path is None or not uid:
            return NOT_UNDERSTOOD
        try:
            if path in event.assoc.dimse.cut:  # type: ignore[attr-defined]
                raise SpoolFull("")
            self.spool.keep(path, str(uid), self._take_room)
        except SpoolFull:
            return self._full(event)
        except OSError as error:
            return self._full(event) if error.errno in _NO_ROOM else FAILURE
        tell(STORED)
        event.assoc.dul.socket.kept()  # type: ignore[union-attr]
        return SUCCESS

    def _full(self, event: evt.Event) -> int:
        tell(NOTE, f"there is no room for what {_name(event.assoc)} sends: it is refused")
        return OUT_OF_RESOURCES


class _Socket(PacedSocket):
    """Ends its process with its connection, where nothing was asked on it."""

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self.ended()

    def ended(self) -> None:
        """End the process of a peer that has gone before it asked for an association.

        pynetdicom would wait for its request.
        """
        if _unasked(self.assoc):
            os._exit(0)

    def too_slow(self) -> None:
        """Tell why the association of a peer ends."""
        tell(NOTE, f"{_name(self.assoc)} sends next to nothing: its association is ended")


class _Messages(DIMSEServiceProvider):
    """Receives messages; where the disk takes no more, the rest of the instance is let pass.

    Attributes:
        cut: files that lack what the disk did not take.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.cut: set[Path] = set()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take what a PDU holds; whatever is wrong with it ends the association."""
        try:
            for item in primitive.presentation_data_value_list:
                one = P_DATA()
                one.presentation_data_value_list.append(item)
                try:
                    super().receive_primitive(one)
                except OSError as error:
                    if error.errno not in _NO_ROOM or not self._let_pass():
                        raise
                    super().receive_primitive(one)
        except Exception:
            self.dul.event_queue.put("Evt19")  # as pynetdicom does for an invalid message

    def _let_pass(self) -> bool:
        """Let the rest of the present instance pass; False where none has begun."""
        message: Any = self.message
        if message._data_set_file is None:
            return False
        file, path = message._data_set_file, message._data_set_path
        self.cut.add(path)
        with suppress(OSError):
            file.close()
        with suppress(OSError):
            os.truncate(path, 0)
        message._data_set_file = _Nowhere(str(path))
        return True


class _Nowhere:
    """A file that takes everything and keeps nothing."""

    def __init__(self, name: str) -> None:
        self.name, self.file = name, self

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Handler(RequestHandler):
    """One association from the first byte to the last, in a forked process."""

    server: _Server

    def handle(self) -> None:
        """Shake hands, receive, and tell what is committed."""
        desk = self.server.desk
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(_HANDSHAKE_S)
        if desk.encryption is not None:
            try:
                self.request = desk.encryption.wrap_socket(self.request, server_side=True)
            except OSError as error:
                why = getattr(error, "reason", None) or "nothing came"
                tell(NOTE, f"{self.client_address[0]} agreed on no encryption: {why}")
                return
        association = self._create_association()
        association.dul.event_queue.get_nowait()  # of the socket that is replaced
        association.dul.socket = _Socket(association, client_socket=self.request)
        association.dimse = _Messages(association)
        association.start()
        while association.is_alive():
            association.join(_LOOK_S)
            transport = association.dul
            if transport.ident and not transport.is_alive() and _unasked(association):
                return  # a damaged request ended the one, and the other would wait for a sound one
        association.dul.join()
        desk.commitments.deliver()


class _Server(AssociationServer):
    """Accepts, and forks a process for each connection."""

    def __init__(self, *arguments: Any, desk: _Desk, **options: Any) -> None:
        self.desk, self._children, self._next_count = desk, dict[int, str](), 0.0
        super().__init__(*arguments, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept without shaking hands, which is the forked process's."""
        assert self.socket is not None
        return self.socket.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether an address may connect, and there is a process left for it."""
        self._reap()
        address = ipaddress.ip_address(client_address[0])
        address = getattr(address, "ipv4_mapped", None) or address  # where it listens at [::]
        if self.desk.hosts and not any(address in host for host in self.desk.hosts):
            tell(NOTE, f"{address} may not connect")
            return False
        if len(self._children) >= _MOST_CHILDREN:
            tell(NOTE, f"{_MOST_CHILDREN} associations are open, and one more was closed")
            return False
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Fork a process for a connection."""
        child = os.fork()
        if child:
            self._children[child] = str(client_address[0])
            request.close()
        else:
            self._be_child(request, client_address)

    def _be_child(self, request: Any, client_address: Any) -> None:
        code = _SPENT
        try:
            assert self.socket is not None
            self.socket.close()
            tempfile.tempdir = str(self.desk.spool.incoming())
            threading.excepthook = _end_process
            threading.Thread(target=_end_with_input, daemon=True).start()
            limit_process()
            self.finish_request(request, client_address)
            code = 0
        except Exception as error:
            code = _code_of(error)
        finally:
            os._exit(code)  # also where memory has run out

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell that no process could be forked."""
        tell(NOTE, f"{client_address[0]} cannot be served: {sys.exc_info()[1]}")

    def service_actions(self) -> None:
        """What is to be done now and then; called after each connection, and while none comes."""
        if select.select([sys.stdin], [], [], 0)[0]:
            os._exit(0)
        self._reap()
        if (now := time.monotonic()) >= self._next_count:
            self.desk.count()
            self._next_count = time.monotonic() + max(0.5, 20 * (time.monotonic() - now))

    def _reap(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            address = self._children.pop(child)
            self.desk.spool.forget_incoming(child)
            if status:
                what = _WHY.get(os.waitstatus_to_exitcode(status), _WHY[_SPENT])
                tell(NOTE, f"{address} {what}: its association is ended")


_WHY = {
    _SPENT: "took too much memory, or the disk is full",
    _AMISS: "sent what is no DICOM",
    -signal.SIGALRM: "took too long",
}


def _end_process(failed: threading.ExceptHookArgs) -> None:
    """End an association's process when one of its threads has failed."""
    code = _SPENT
    try:
        code = _code_of(failed.exc_value)
    finally:
        os._exit(code)  # also where memory has run out


def _code_of(error: BaseException | None) -> int:
    """With what an association's process ends, by what its thread failed with.

    pynetdicom raises where an answer is due on an association that a damaged PDU has ended.
    """
    spent = isinstance(error, MemoryError) or getattr(error, "errno", None) in _NO_ROOM
    return _SPENT if spent else _AMISS


def _end_with_input() -> None:
    """End this process when the standard input ends, which is when the scoring process does."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


def _unasked(association: Association) -> bool:
    """Whether the peer has not asked for the association yet."""
    return association.requestor.primitive is None


def _name(association: Association) -> str:
    """What a peer calls itself, and its address."""
    peer = association.requestor
    return f"{peer.ae_title or 'somebody'} at {peer.address}"


def _tell_unwanted(event: evt.Event) -> None:
    """Tell where a peer offers nothing that is taken."""
    if not event.assoc.accepted_contexts:
        tell(NOTE, f"{_name(event.assoc)} offers no SOP class in a transfer syntax that is taken")
