"""Names of hosts, of which some are this machine's own."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether it is this machine, so that nothing goes over a wire."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def one_name(host: str) -> str:
    """The host's name, which for this machine is "localhost" however it is spelled."""
    return "localhost" if is_loopback(host) else host
