"""Results as DICOM objects, to an archive by C-STORE."""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Sequence
from typing import Any

from adae_edge.errors import SinkError, UsageError, printable
from adae_edge.extras import needs
from adae_edge.runtime.dicom.sockets import LimitedSocket
from adae_edge.runtime.sinks.objects import OPTIONS, Objects, Refused, Warned
from adae_edge.runtime.sinks.queued import Remote
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Place
from adae_edge.runtime.sinks.target import Target

with needs("Sending DICOM over the network", "pacs"):
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pynetdicom import AE, _config
    from pynetdicom.association import Association

_CONNECT_S, _REQUEST_S, _ANSWER_S = 5.0, 10.0, 60.0
_MOST_READ = 2**20  # bytes of an archive in one association; its answers take a few hundred
# Of C-STORE (PS3.4 B.2.3, PS3.7 annex C): that an instance is there already, and what is the fault
# of the instance. Every other failure is one of the archive, such as a full disk.
_THERE_ALREADY = 0x0111
_OF_INSTANCE = {0x0117: "invalid", 0x0122: "of a class that it does not store"}
_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: no backslash


def _title(text: str) -> str:
    if not _TITLE.fullmatch(text):
        raise ValueError("an AE title of 1 to 16 letters")
    return text


class Dicom(Objects):
    """An archive at dicom://, which is sent the results of each series."""

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: "//AE@host[:port]" and options behind a "?": ``calling``, ``cert``, and those of
                ``Objects`` and ``Target``. ``ca`` turns TLS on.
            keeping: as for ``Objects``.

        Raises:
            UsageError: the URL or an option is wrong, or a certificate cannot be read.
            SinkError: the spool cannot be opened.
        """
        target = self._target(place)
        super().__init__(Archive(target), target, target.user, keeping)

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the URL, an option or the certificates."""
        _encryption(cls._target(place))

    @classmethod
    def where(cls, place: str) -> Place:
        """The archive and its title."""
        return cls._target(place).where()

    @classmethod
    def _target(cls, place: str) -> Target:
        target = Target(f"dicom:{place}", 104, {"calling": _title, "cert": str, **OPTIONS})
        if not _TITLE.fullmatch(target.user) or target.password or target.path.strip("/"):
            raise UsageError(f"{target.shown} has no AE title of 1 to 16 letters before its host")
        return target


class Archive(Remote):
    """An archive that takes objects by C-STORE, each on an association of its own.

    So what is negotiated is that object's class and syntax alone, and no connection is idle.
    """

    batch = 1

    def __init__(self, target: Target) -> None:
        """
        Args:
            target: where it is.

        Raises:
            UsageError: a certificate cannot be read.
        """
        _config.LOG_HANDLER_LEVEL = "none"
        self._target = target
        self._name = f"{printable(target.user)} at {target.shown.removeprefix('dicom://')}"
        self._encryption = _encryption(target)
        self._title = target.options.get("calling", "ADAE")

    def send(self, messages: Sequence[bytes]) -> None:
        """Store one object after the other."""
        for message in messages:
            self._store(dcmread(io.BytesIO(message)))

    def close(self) -> None:
        """Do nothing: no association is left open."""

    def _store(self, instance: Dataset) -> None:
        entity = _Entity(self._title)
        entity.connection_timeout = _CONNECT_S
        entity.acse_timeout = _REQUEST_S
        entity.dimse_timeout = entity.network_timeout = _ANSWER_S
        entity.add_requested_context(instance.SOPClassUID, instance.file_meta.TransferSyntaxUID)
        tls = (self._encryption, self._target.host) if self._encryption else None
        where = self._target.host, self._target.port
        association = entity.associate(*where, ae_title=self._target.user, tls_args=tls)
        if not association.is_established:
            raise self._why_not(association, instance)
        try:
            answer = association.send_c_store(instance)
        finally:
            association.release()
        if "Status" not in answer:
            raise SinkError(f"{self._name} does not answer, or ended the association")
        self._check(answer.Status)

    def _why_not(self, association: Association, instance: Dataset) -> SinkError:
        """Why there is no association."""
        if association.is_rejected:
            answer = association.acceptor.primitive
            reason = getattr(answer, "reason_str", "") if answer else ""
            return SinkError(f"{self._name} rejects the association: {reason or 'without reason'}")
        if association.rejected_contexts:
            kind = instance.SOPClassUID.name
            return Refused(f"{self._name} takes no object of the class {kind}")
        if association.acceptor.primitive is not None:
            return SinkError(f"{self._name} ended the association")
        trusted = ", or has a certificate that is not trusted" if self._encryption else ""
        return SinkError(f"cannot reach {self._name}{trusted}")

    def _check(self, status: int) -> None:
        """Raise an error for every status but those by which the archive has the object."""
        if status in (0x0000, _THERE_ALREADY):
            return
        shown = f"the status {status:04X}"
        if status == 0x0001 or 0xB000 <= status < 0xC000 or status == 0x0107:
            raise Warned(f"{self._name} keeps an object with a warning, {shown}")
        if status in _OF_INSTANCE or 0xA900 <= status < 0xAA00 or 0xC000 <= status < 0xD000:
            raise Refused(f"{self._name} refuses an object by {shown}")
        raise SinkError(f"{self._name} does not store: it answers {shown}")


class _Socket(LimitedSocket):
    """Reads no more than answers take, for the process that scores has no limit of memory."""

    _left = _MOST_READ

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or fewer where the peer has no more; raises OSError."""
        self._left -= nr_bytes
        if self._left < 0:
            raise OSError(f"an archive sends more than {_MOST_READ} bytes")
        return super().recv(nr_bytes)


class _Entity(AE):
    """Makes connections with limits."""

    def _create_socket(self, assoc: Association, address: Any, tls_args: Any) -> _Socket:
        """Called by ``associate``, which has no parameter for it."""
        limited = _Socket(assoc, address=address)
        limited.tls_args = tls_args
        return limited


def _encryption(target: Target) -> ssl.SSLContext | None:
    """TLS by the options; an AE's certificate bears no host's name, so an authority is named.

    Raises:
        UsageError: a certificate cannot be read, or no authority is named.
    """
    cert, authorities = target.options.get("cert"), target.options.get("ca")
    if authorities is None:
        if cert is not None:
            raise UsageError(f"{target.shown} has a certificate and no ca=FILE to trust")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    file = authorities
    try:
        context.load_verify_locations(authorities)
        if cert is not None:
            file = cert
            context.load_cert_chain(cert)
    except OSError as error:  # ssl's own among them
        reason = getattr(error, "reason", None) or error.strerror
        raise UsageError(f"cannot read certificates from {file}: {reason}") from error
    return context


SINK = Dicom
