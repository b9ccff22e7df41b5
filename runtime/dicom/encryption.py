"""TLS of associations, for those who call and for those who are called."""

from __future__ import annotations

import ssl

from adae_edge.errors import UsageError
from adae_edge.runtime.dicom.messages import Settings
from adae_edge.runtime.dicom.pull_request import Request


def encryption(settings: Settings | Request) -> ssl.SSLContext | None:
    """TLS for those who call, with certificates of theirs where an authority is named.

    Raises:
        UsageError: a file of certificates cannot be read.
    """
    if not settings.cert:
        return None
    return _with_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)


def client_encryption(settings: Settings | Request) -> ssl.SSLContext | None:
    """TLS for those who are called, where an own certificate or an authority is named.

    An AE's certificate bears no host's name, so that none is compared.

    Raises:
        UsageError: a file of certificates cannot be read.
    """
    if not (settings.cert or settings.ca):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _with_certificates(context, settings)


def _with_certificates(context: ssl.SSLContext, settings: Settings | Request) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = f"{settings.cert} and {settings.key}"
    try:
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
        if settings.ca:
            files = settings.ca
            context.load_verify_locations(settings.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl's own among them
        reason = getattr(error, "reason", None) or error.strerror
        raise UsageError(f"cannot read certificates from {files}: {reason}") from error
    return context
