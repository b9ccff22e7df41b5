"""Pulls by DICOMweb: QIDO-RS tells what there is, and WADO-RS fetches it.

dicomweb-client asks and reads the lists. It would parse each instance whole in memory, and has no
limits; so instances are read here from its session's answers, piece by piece, into a file.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import IO, Any

from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.extras import needs
from adae_edge.runtime.dicom.answers import Limited, hurry
from adae_edge.runtime.dicom.pull_request import Request, Web
from adae_edge.runtime.dicom.pulling import (
    MOST_INSTANCES,
    MOST_SERIES,
    Archive,
    Keep,
)

with needs("Pulling DICOM over the network", "pacs"):
    import requests
    from dicomweb_client import DICOMwebClient

_STUDY, _SERIES, _INSTANCE, _CLASS, _COUNT = (
    "0020000D",
    "0020000E",
    "00080018",
    "00080016",
    "00201209",
)
_DICOM, _PARTS = "application/dicom", "multipart/related"
_ACCEPT = f'{_PARTS}; type="{_DICOM}"; transfer-syntax=*'
_PAGE = 1000  # instances in one list
_MOST_LISTED_BYTES, _MOST_INSTANCE_BYTES = 2**24, 2**32
_MOST_HEADER_BYTES = 2**12  # and of what stands before the part
_PIECE = 2**16


class DicomWeb(Archive):
    """An archive that is asked by HTTP."""

    def __init__(self, request: Request) -> None:
        """
        Args:
            request: what is pulled.

        Raises:
            UsageError: the URL is none.
        """
        assert isinstance(request.archive, Web)
        self._request, self._web = request, request.archive
        self._session = _Session(request, request.archive)
        try:
            self._client = DICOMwebClient(
                self._web.url, self._session, permissive_uid=True, timeout=request.patience_s
            )
        except ValueError as error:
            raise UsageError(f"{request.name} is no URL of DICOMweb") from error
        self._client.set_http_retry_params(retry=False)

    def series(self) -> dict[str, int | None]:
        """The UIDs of the wanted series, and of how many instances it says that each has."""
        filters = {"SeriesInstanceUID": self._request.series} if self._request.series else {}
        with self._session.told():
            try:
                items = self._client.search_for_series(
                    self._request.study,
                    fields=["NumberOfSeriesRelatedInstances"],
                    search_filters=filters,
                    limit=MOST_SERIES,
                )
                found = {
                    _text(item, _SERIES): None if _COUNT not in item else int(_text(item, _COUNT))
                    for item in items
                    if _text(item, _STUDY, self._request.study) == self._request.study
                }
            except _Missing:
                return {}
        wanted = self._request.series
        return {uid: count for uid, count in found.items() if wanted in ("", uid)}

    def instances(self, series: str, count: int | None) -> dict[str, str]:
        """The UIDs of a series' instances and of their SOP classes, "" where it does not say."""
        found: dict[str, str] = {}
        with self._session.told():
            while count is None or len(found) < count:
                before = len(found)
                items = self._client.search_for_instances(
                    self._request.study, series, limit=_PAGE, offset=before
                )
                for item in items:
                    found[_text(item, _INSTANCE)] = _text(item, _CLASS, "")
                if len(found) == before:
                    break
                if len(found) > MOST_INSTANCES:
                    raise SourceError(f"{self._request.name} lists too many instances")
        return found

    def fetch(self, series: str, lacking: Mapping[str, str], all_of_it: bool, keep: Keep) -> str:
        """Fetch instances of a series, as they were listed."""
        missing = 0
        for uid in lacking:
            path = f"/studies/{self._request.study}/series/{series}/instances/{uid}"
            with self._session.told(), tempfile.NamedTemporaryFile(delete=False) as file:
                try:
                    with self._session.get(
                        f"{self._web.url}{path}",
                        headers={"Accept": _ACCEPT},
                        stream=True,
                        timeout=self._request.patience_s,
                    ) as answer:
                        copy_instance(answer.headers, answer.iter_content(_PIECE), file)
                    file.flush()
                    keep(Path(file.name), uid)
                except _Missing:
                    missing += 1
                finally:
                    Path(file.name).unlink(missing_ok=True)
        return f"it does not find {missing}" if missing else ""


class _Missing(Exception):
    """The archive says that there is no such thing."""


class _Session(requests.Session):
    """Requests with the archive's credentials, which go to it alone, and answers with limits."""

    def __init__(self, request: Request, web: Web) -> None:
        super().__init__()
        hurry(self)
        self.trust_env = False  # no credentials of .netrc, and no proxy that nobody named
        self._name = request.name
        if request.ca:
            self.verify = request.ca
        if request.cert:
            self.cert = (request.cert, request.key)
        if web.token:
            self.headers["Authorization"] = f"Bearer {web.token}"
        elif web.user:
            self.auth = (web.user, web.password)

    def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore
        """Ask; raises SourceError or _Missing where the status says that there is nothing."""
        (options.get("headers") or {}).pop("Host", None)  # dicomweb-client's lacks the port
        listing = not options.get("stream")
        answer = super().request(
            method, url, **options | {"stream": True, "allow_redirects": False}
        )
        if (error := self._refusal(answer)) is not None:
            answer.close()
            raise error
        most = _MOST_LISTED_BYTES if listing else _MOST_INSTANCE_BYTES
        what = "lists more" if listing else "gives an instance of more"
        too_long = SourceError(f"{self._name} {what} than {most >> 20} MiB")
        too_slow = SourceError(f"{self._name} answers too slowly")
        answer.raw = Limited(answer.raw, most, too_long, too_slow)
        return answer

    def _refusal(self, answer: requests.Response) -> Exception | None:
        """What is wrong by the status of an answer; None where nothing is."""
        status = answer.status_code
        if status == 404:
            return _Missing()
        if status in (401, 403):
            return SourceError(f"{self._name} refuses the credentials: HTTP {status}")
        if answer.is_redirect:
            return SourceError(
                f"{self._name} sends elsewhere, which is not followed: HTTP {status}"
            )
        if not 200 <= status < 300:
            return SourceError(f"{self._name} does not give it: HTTP {status}")
        return None

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Within, what goes wrong on the way or in an answer becomes a SourceError."""
        try:
            yield
        except requests.exceptions.SSLError as error:
            why = "with a certificate that is trusted"
            raise SourceError(f"{self._name} does not answer {why}") from error
        except requests.exceptions.JSONDecodeError as error:
            raise SourceError(f"{self._name} lists in what is no JSON") from error
        except requests.exceptions.RequestException as error:
            silent = isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error)
            why = "does not answer" if silent else "cannot be reached, or broke off"
            raise SourceError(f"{self._name} {why}") from error
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise SourceError(f"{self._name} lists in what is no DICOM JSON") from error


def copy_instance(headers: Mapping[str, str], pieces: Iterator[bytes], file: IO[bytes]) -> None:
    """Copy the instance of an answer, which is the answer itself or its only part (RFC 2046).

    Args:
        headers: of the answer.
        pieces: of its body.
        file: gets the instance.

    Raises:
        FrameError: the answer holds none, more than one, or ends too early.
        OSError: the file takes no more.
    """
    kind = Message()
    kind["Content-Type"] = headers.get("Content-Type", "")
    boundary = kind.get_boundary()
    if kind.get_content_type() == _DICOM:
        for piece in pieces:
            file.write(piece)
        return
    if kind.get_content_type() != _PARTS or not boundary:
        raise FrameError("the archive gave an answer that is no DICOM")

    # what stands before the part
    limit, came = b"\r\n--" + boundary.encode(errors="replace"), b"\r\n"
    while (begin := came.find(b"\r\n\r\n", came.find(limit) + 1)) < 0 or limit not in came[:begin]:
        if len(came) > _MOST_HEADER_BYTES or not (piece := next(pieces, b"")):
            raise FrameError("the archive gave an answer without a part")
        came += piece

    # the part, of which the last bytes may be the beginning of its end
    came = came[begin + 4 :]
    while (end := came.find(limit)) < 0:
        file.write(came[: -len(limit)])
        came = came[-len(limit) :] + (piece := next(pieces, b""))
        if not piece:
            raise FrameError("the archive's answer ended in the middle of an instance")
    file.write(came[:end])

    # and whether it is the last one
    came = came[end + len(limit) :]
    while len(came) < 2 and (piece := next(pieces, b"")):
        came += piece
    if came[:2] != b"--":
        raise FrameError("the archive gave more than one instance in an answer")


def _text(item: Any, tag: str, default: str | None = None) -> str:
    """The first value of an attribute in DICOM JSON; ``default`` where there is none."""
    values = item.get(tag, {}).get("Value")
    if not values and default is not None:
        return default
    return str(values[0])
