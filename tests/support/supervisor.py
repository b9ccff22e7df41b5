"""A supervisor that speaks systemd's datagram protocol, as far as a service meets it."""

import os
import signal
import socket
import subprocess
import time

from tests.support.models import BUFFERED, HANGS_S


class Supervisor:
    """Starts a service, hears what it tells, and starts it again where it ends or falls silent.

    Attributes:
        told: the assignments that it was sent, in order, as pairs.
        starts: how often the service was started.
    """

    def __init__(self, command, folder, watchdog_s=None, abstract=False):
        self._command, self._folder, self._watchdog_s = command, folder, watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = f"adae-edge-{os.getpid()}-{time.monotonic_ns()}"
        self.address = f"@{path}" if abstract else str(folder / "notify")
        self._socket.bind(f"\0{path}" if abstract else self.address)
        self._socket.settimeout(0.05)
        self.told, self.starts, self.process = [], 0, None

    def __enter__(self):
        self._start()
        return self

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._socket.close()

    def until(self, reached):
        """Supervise until ``reached()``; fails where that does not come."""
        deadline = time.monotonic() + HANGS_S
        while not reached():
            assert time.monotonic() < deadline, self.errors
            self._hear()
            silent = self._watchdog_s and time.monotonic() - self._signed > self._watchdog_s
            if silent and self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)  # as systemd does in the end
            if self.process.poll() is not None:
                self._start()

    def until_told(self, *pair, more=1):
        """Supervise until this was told so many times more."""
        before = self.told.count(pair)
        self.until(lambda: self.told.count(pair) >= before + more)

    def end(self, number=signal.SIGTERM):
        """Stop the service as ``systemctl stop`` does; its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(HANGS_S)
        self._hear()
        return code

    @property
    def errors(self):
        """What the service wrote on its standard error output, in all its lives."""
        return (self._folder / "errors").read_text()

    def _start(self):
        self.starts += 1
        self._signed = float("inf")  # until it is ready
        environment = BUFFERED | {"NOTIFY_SOCKET": self.address}
        if self._watchdog_s:
            environment["WATCHDOG_USEC"] = str(int(self._watchdog_s * 1e6))
        with (self._folder / "errors").open("a") as errors:
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment,
                stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip

    def _hear(self):
        """Take what was told, and wait a moment for more."""
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except TimeoutError:
                return
            pairs = [tuple(line.split("=", 1)) for line in text.split("\n")]
            self.told += pairs
            if {("READY", "1"), ("WATCHDOG", "1")} & set(pairs):
                self._signed = time.monotonic()
