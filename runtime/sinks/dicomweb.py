"""Results as DICOM objects, to an archive by STOW-RS."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from adae_edge.errors import SinkError, UsageError, first_line
from adae_edge.extras import needs
from adae_edge.runtime.dicom.answers import Limited, hurry
from adae_edge.runtime.query import Parser, one_of
from adae_edge.runtime.sinks.objects import OPTIONS, Objects, Refused, Warned
from adae_edge.runtime.sinks.queued import Remote
from adae_edge.runtime.sinks.sink import ROWS, Keeping, Place
from adae_edge.runtime.sinks.target import Target

with needs("Sending DICOM over the web", "pacs"):
    import requests
    from dicomweb_client import DICOMwebClient
    from pydicom import dcmread
    from pydicom.dataset import Dataset

_CONNECT_S, _ANSWER_S = 5.0, 60.0
_MOST_READ = 2**20  # bytes of an answer
# What an archive answers about the object, and not about itself, the address or the user.
_OF_OBJECT = (400, 409, 413, 415, 422)
_OPTIONS: Mapping[str, Parser] = {"token": str, "insecure": one_of("yes"), **OPTIONS}
_PORTS = {"http": 80, "https": 443}


class DicomWeb(Objects):
    """An archive at dicomweb:https://, which is sent the results of each series."""

    def __init__(self, place: str, keeping: Keeping = ROWS) -> None:
        """
        Args:
            place: "https://[user:password@]host[:port]/path" of the service and options behind a
                "?": ``token``, ``insecure``, and those of ``Objects`` and ``Target``.
            keeping: as for ``Objects``.

        Raises:
            UsageError: the URL or an option is wrong.
            SinkError: the spool cannot be opened.
        """
        target = self._target(place)
        super().__init__(WebArchive(target), target, "dicomweb", keeping)

    @classmethod
    def check(cls, place: str) -> None:
        """Say what is wrong with the URL, an option or the certificates."""
        cls._target(place).encryption()

    @classmethod
    def where(cls, place: str) -> Place:
        """The service and its user."""
        return cls._target(place).where()

    @classmethod
    def _target(cls, place: str) -> Target:
        scheme = place.partition(":")[0]
        if scheme not in _PORTS:
            raise UsageError(f"dicomweb:{place} is no web service: give dicomweb:https://HOST/PATH")
        target = Target(place, _PORTS[scheme], _OPTIONS)
        if scheme == "http":
            target.check_unencrypted()
            if not (target.is_loopback or "insecure" in target.options):
                raise UsageError(
                    f"{target.shown} is not encrypted, and another machine: give https://, or "
                    "the option insecure=yes"
                )
        return target


class _Session(requests.Session):
    """Follows no redirect, and reads no more of an answer than one about an object has."""

    def __init__(self, name: str) -> None:
        super().__init__()
        hurry(self)
        self._name = name

    def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore
        """Ask; raises SinkError where the answer sends elsewhere, or later where it is too long."""
        answer = super().request(
            method, url, **options | {"stream": True, "allow_redirects": False}
        )
        if answer.is_redirect:
            answer.close()
            raise SinkError(f"{self._name} points to somewhere else: redirects are not followed")
        too_long = SinkError(f"{self._name} answers more than {_MOST_READ >> 20} MiB")
        too_slow = SinkError(f"{self._name} answers too slowly")
        answer.raw = Limited(answer.raw, _MOST_READ, too_long, too_slow)
        return answer


class WebArchive(Remote):
    """An archive that takes objects by STOW-RS (PS3.18 10.5). Redirects are not followed."""

    batch = 1

    def __init__(self, target: Target) -> None:
        """
        Args:
            target: where it is.
        """
        self._name = target.shown
        self._session = _Session(self._name)
        self._session.trust_env = False  # no proxies, and no passwords of ~/.netrc
        self._session.verify = target.options.get("ca", True)
        if token := target.options.get("token"):
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif target.user:
            self._session.auth = (target.user, target.password)
        self._client = DICOMwebClient(
            target.shown + target.path.rstrip("/"),
            session=self._session,
            timeout=(_CONNECT_S, _ANSWER_S),
        )
        self._client.set_http_retry_params(retry=False)

    def send(self, messages: Sequence[bytes]) -> None:
        """Store one object after the other."""
        for message in messages:
            instance = dcmread(io.BytesIO(message))
            try:
                answer = self._client.store_instances([instance])
            except requests.HTTPError as error:
                raise self._why_not(error.response) from error
            except requests.exceptions.SSLError as error:
                raise SinkError(f"{self._name} has a certificate that is not trusted") from error
            except requests.Timeout as error:
                raise SinkError(f"{self._name} does not answer") from error
            except SinkError:
                raise
            except requests.RequestException as error:
                raise SinkError(f"cannot reach {self._name}") from error
            except Exception as error:  # what the client makes of an answer that is none
                raise SinkError(
                    f"{self._name} answers what is no answer: {type(error).__name__}"
                ) from error
            self._check(answer, instance.SOPInstanceUID)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _why_not(self, answer: Any) -> SinkError:
        """What a status of a failure says."""
        status = answer.status_code
        if status in (401, 403):
            return SinkError(f"{self._name} refuses the user, the password or the token: {status}")
        if status in _OF_OBJECT:
            return Refused(f"{self._name} refuses an object by the status {status}")
        return SinkError(
            f"{self._name} answers {status} {first_line(answer.reason or '')}".rstrip()
        )

    def _check(self, answer: Dataset, uid: str) -> None:
        """Raise an error unless an answer says that the object is kept, and unchanged."""
        for item in answer.get("FailedSOPSequence") or ():
            reason = item.get("FailureReason") or 0
            raise Refused(f"{self._name} refuses an object by the status {reason:04X}")
        kept = [
            item
            for item in answer.get("ReferencedSOPSequence") or ()
            if item.get("ReferencedSOPInstanceUID") == uid
        ]
        if not kept:
            raise SinkError(f"{self._name} does not say that it keeps what it was sent")
        if reason := kept[0].get("WarningReason"):
            raise Warned(f"{self._name} keeps an object with a warning, the status {reason:04X}")


SINK = DicomWeb
