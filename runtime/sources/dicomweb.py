"""A study or a series of an archive that speaks DICOMweb: dicomweb:URL/studies/STUDY[...]."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from adae_edge.errors import UsageError, without_password
from adae_edge.runtime.dicom.pull_request import Web
from adae_edge.runtime.hosts import is_loopback
from adae_edge.runtime.query import one_of, options_of
from adae_edge.runtime.sources.pulled import OPTIONS, Pulled
from adae_edge.runtime.sources.source import Wanted

_RESOURCE = re.compile(r"(.*)/studies/([^/]+)(?:/series/([^/]+))?/?")


class DicomWeb(Pulled):
    """Pulls by QIDO-RS and WADO-RS."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "https://[user:password@]host[:port]/path/studies/STUDY[/series/SERIES]" and
                options behind a question mark, among them ``token`` for a bearer's.
            wanted: the frames that the model takes, and where the spool is.

        Raises:
            UsageError: the URL or an option is wrong, or as ``Pulled``.
        """
        spec = without_password(f"dicomweb:{place}")
        try:
            parts = urlsplit(place)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise UsageError(f"{spec} is no URL: {error}") from error
        resource = _RESOURCE.fullmatch(parts.path)
        if parts.scheme not in ("http", "https") or not host or not resource or parts.fragment:
            raise UsageError(
                f"{spec} is no series: give dicomweb:https://HOST/PATH/studies/STUDY[/series/SERIES]"
            )
        known = OPTIONS | {"token": unquote, "insecure": one_of("yes")}
        options = options_of(spec, parts.query, known)
        if parts.scheme == "http" and not (is_loopback(host) or "insecure" in options):
            raise UsageError(
                f"{spec} is not encrypted, and another machine: give https://, or insecure=yes "
                "behind the question mark"
            )
        receiving = wanted.receiving
        if parts.scheme == "http" and receiving and any(receiving[1:4]):
            raise UsageError(
                f"{spec} is not encrypted: leave out --tls-cert, --tls-key and --tls-ca"
            )
        shown = f"[{host}]" if ":" in host else host
        url = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{resource[1]}"
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        web = Web(url, user, password, options.get("token", ""))
        super().__init__(
            f"dicomweb:{url}", web, [*filter(None, resource.groups()[1:])], options, wanted
        )


SOURCE = DicomWeb
