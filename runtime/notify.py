"""Tells the service manager that started this process how it is, by systemd's datagrams."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping

_WAIT_S = 1.0  # for a manager that does not read


class Notifier:
    """Speaks to systemd, or to whatever else set ``NOTIFY_SOCKET``; without one it is silent.

    Attributes:
        watchdog_s: seconds within which the manager wants a sign of life; None where it wants none.
    """

    def __init__(
        self, complain: Callable[[str], object], environment: Mapping[str, str] = os.environ
    ) -> None:
        """
        Args:
            complain: called with a sentence when the manager cannot be reached for the first time.
            environment: what names the manager.
        """
        self._complain = complain
        self._lost = False
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = self._address and mine and microseconds.isdecimal() and int(microseconds)
        self.watchdog_s = int(microseconds) / 1e6 if watched else None

    def tell(self, **news: object) -> None:
        """Send assignments such as READY=1; a manager that cannot be reached stops nothing."""
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(str(value).split())}" for name, value in news.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
                there.settimeout(_WAIT_S)
                there.sendto(text.encode(), self._address)
        except OSError as error:
            if not self._lost:
                self._complain(f"the service manager cannot be reached: {error}")
            self._lost = True
