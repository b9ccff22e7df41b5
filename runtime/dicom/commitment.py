"""Storage commitment (PS3.4 annex J): a peer asks which instances are kept, and is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from adae_edge.extras import needs
from adae_edge.runtime.dicom.encryption import client_encryption
from adae_edge.runtime.dicom.messages import NOTE, Settings, tell
from adae_edge.runtime.dicom.received import Received

with needs("Receiving DICOM over the network", "pacs"):
    from pydicom.dataset import Dataset
    from pynetdicom import AE, build_role, evt
    from pynetdicom.association import Association
    from pynetdicom.sop_class import (  # type: ignore[attr-defined]
        StorageCommitmentPushModel,
        StorageCommitmentPushModelInstance,
    )

SERVICE = str(StorageCommitmentPushModel)
_SUCCESS, _BAD_ARGUMENT, _NO_SUCH_ACTION, _NO_SUCH_INSTANCE = 0, 0x0115, 0x0123, 0x0112
_CONNECT_S = 10
_PAUSES_S = (0, 1, 4, 16, 64, 256)


class Commitments:
    """What the peer of one association asked for."""

    def __init__(self, settings: Settings, spool: Received) -> None:
        """
        Args:
            settings: say which peers are called back; the others are told on their association.
            spool: where instances are kept.
        """
        self._settings, self._spool = settings, spool
        self._peers = {title: (host, port) for title, host, port in settings.commit}
        self._waiting: list[tuple[str, int, Dataset]] = []

    def ask(self, event: evt.Event) -> tuple[int, None]:
        """Take a request, and return the status of N-ACTION; the peer is told afterwards."""
        if event.action_type != 1:
            return _NO_SUCH_ACTION, None
        try:
            asked = event.action_information
            transaction = asked.TransactionUID
            items = [
                (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
                for item in asked.ReferencedSOPSequence
            ]
        except Exception:  # pydicom raises many kinds on damaged data
            return _BAD_ARGUMENT, None
        uids = {uid for _, uid in items}
        kept = self._spool.holds(uids)
        if kept == uids:
            self._spool.note_commitment(uids)
        kind, report = _report(transaction, items, kept)
        title = event.assoc.requestor.ae_title
        if title in self._peers:
            self._waiting.append((title, kind, report))
        else:
            here = event.assoc, kind, report
            threading.Thread(target=_send, args=here, daemon=True).start()
        return _SUCCESS, None

    def deliver(self) -> None:
        """Call back the peers that are told so, after they released their association."""
        for pause in _PAUSES_S if self._waiting else ():
            time.sleep(pause)
            self._waiting = [each for each in self._waiting if not self._call(*each)]
            if not self._waiting:
                return
        for title in {title for title, _, _ in self._waiting}:
            tell(NOTE, f"{title} could not be told which instances are kept")

    def _call(self, title: str, kind: int, report: Dataset) -> bool:
        """Tell a peer on an association of our own; whether it has understood."""
        entity = AE(self._settings.title)
        entity.add_requested_context(StorageCommitmentPushModel)
        entity.connection_timeout = _CONNECT_S
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        host, port = self._peers[title]
        encryption = client_encryption(self._settings)
        tls = None if encryption is None else (encryption, host)
        called = entity.associate(host, port, ae_title=title, ext_neg=[role], tls_args=tls)
        if not called.is_established:
            return False
        told = _send(called, kind, report)
        called.release()
        return told


def _report(
    transaction: str, items: Sequence[tuple[str, str]], kept: set[str]
) -> tuple[int, Dataset]:
    """The event type and the information of N-EVENT-REPORT (PS3.4 J.3.3)."""
    report, good, bad = Dataset(), list[Dataset](), list[Dataset]()
    report.TransactionUID = transaction
    for class_uid, uid in items:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, uid
        if uid not in kept:
            item.FailureReason = _NO_SUCH_INSTANCE
        (good if uid in kept else bad).append(item)
    if good:
        report.ReferencedSOPSequence = good
    if bad:
        report.FailedSOPSequence = bad
    return (2 if bad else 1), report


def _send(association: Association, kind: int, report: Dataset) -> bool:
    """Tell a peer which instances are kept; whether it has understood."""
    try:
        status, _ = association.send_n_event_report(
            report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
    except (RuntimeError, ValueError):  # the association has ended, or offers no such thing
        return False
    return "Status" in status and status.Status == _SUCCESS
