"""Starts peers as processes of their own, and ends them by their ids."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SYSTEM_PYTHON = "/usr/bin/python3"  # has gi, which a virtual environment lacks
_STARTS_S = 300  # some 2 on a machine that has nothing else to do
_PORTS = range(10_000, 32_768)


class MissingPeer(Exception):
    """A peer is not installed, or this process may not do what it needs; says which."""


# Which Debian package has a program.
PACKAGES = {
    "arv-fake-gv-camera-0.8": "aravis-tools",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "ffmpeg": "ffmpeg",
    "gst-launch-1.0": "gstreamer1.0-tools",
    "ip": "iproute2",
    "mosquitto": "mosquitto",
    "mosquitto_sub": "mosquitto-clients",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "qemu-system-x86_64": "qemu-system-x86",
    "echoscu": "dcmtk",
    "storescp": "dcmtk",
    "storescu": "dcmtk",
    "tc": "iproute2",
    "unshare": "util-linux",
    "v4l2-ctl": "v4l-utils",
}
# What is needed beside a program: of GenICam cameras, and of the virtual machine.
ARAVIS, KERNEL = "libaravis-0.8-0", "linux-image-amd64"
# What the RTSP server needs beside a program.
RTSP_SERVER = {"python3-gi", "gir1.2-gst-rtsp-server-1.0"} | {
    f"gstreamer1.0-plugins-{kind}" for kind in ("base", "good", "bad", "ugly")
}


def program(name: str) -> str:
    """The path of a program.

    Raises:
        MissingPeer: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise MissingPeer(f"there is no {name}: apt-get install {PACKAGES[name]}")
    return found


@functools.cache
def check_rtsp_server() -> None:
    """Raise MissingPeer where the RTSP server cannot be started."""
    test = "import gi; gi.require_version('GstRtspServer', '1.0')"
    result = subprocess.run([SYSTEM_PYTHON, "-c", test], capture_output=True)  # noqa: S603
    if result.returncode:
        packages = "python3-gi gir1.2-gst-rtsp-server-1.0"
        raise MissingPeer(f"there is no RTSP server: apt-get install {packages}")
    launch = program("gst-launch-1.0")
    for element, package in (("x264enc", "ugly"), ("rtph264pay", "good"), ("appsrc", "base")):
        found = subprocess.run(  # noqa: S603
            [launch.replace("gst-launch", "gst-inspect"), element], capture_output=True
        )
        if found.returncode:
            raise MissingPeer(
                f"there is no {element}: apt-get install gstreamer1.0-plugins-{package}"
            )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at, below those that systems give to connections."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Peer:
    """A process that is ended by its id.

    Attributes:
        process: may be sent signals.
    """

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        self.process = process

    def kill(self) -> None:
        """End it at once, with what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def freeze(self) -> None:
        """Let it hold its connections and say nothing."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after ``freeze``."""
        os.killpg(self.process.pid, signal.SIGCONT)

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


def start(arguments: Sequence[object], **options: Any) -> Peer:
    """Start a process in a session of its own; it writes nowhere unless ``options`` say so."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | options
    options = {"stderr": options["stdout"]} | options
    return Peer(
        subprocess.Popen([*map(str, arguments)], start_new_session=True, **options)  # noqa: S603
    )


@contextmanager
def peer(arguments: Sequence[object], **options: Any) -> Iterator[Peer]:
    """A process within the block, as ``start`` starts it."""
    started = start(arguments, **options)
    try:
        yield started
    finally:
        started.kill()


def wait_for_port(port: int, of: Peer, address: str = "127.0.0.1") -> None:
    """Wait until somebody listens at a port.

    Raises:
        RuntimeError: the process ended, or too much time went by.
    """
    deadline = time.monotonic() + _STARTS_S
    while time.monotonic() < deadline and of.process.poll() is None:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    of.kill()
    raise RuntimeError(f"{of.process.args!r} listens at no port {port}")


def start_rtsp_server(
    port: int, options: Mapping[str, object] | None = None, before: Sequence[object] = ()
) -> Peer:
    """Start ``rtsp_server.py`` at a port and wait until it listens.

    Args:
        port: 0 is no port: take ``free_port``.
        options: of the server by their long names without the hyphens; True for a flag.
        before: what starts the command, as ``ip netns exec``.

    Raises:
        MissingPeer: a package is missing.
    """
    check_rtsp_server()
    arguments = [*before, SYSTEM_PYTHON, Path(__file__).with_name("rtsp_server.py")]
    arguments += ["--port", port]
    for name, value in (options or {}).items():
        arguments += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    server = start(arguments, stderr=sys.stderr if os.environ.get("PEERS_TALK") else None)
    wait_for_port(port, server, str((options or {}).get("address", "127.0.0.1")))
    return server


@contextmanager
def rtsp_server(port: int | None = None, **options: object) -> Iterator[tuple[Peer, str]]:
    """An RTSP server within the block, and the URL of its picture, as ``start_rtsp_server``."""
    port = port or free_port()
    server = start_rtsp_server(port, options)
    scheme = "rtsps" if "certificate" in options else "rtsp"
    try:
        yield server, f"{scheme}://127.0.0.1:{port}{options.get('path', '/cam')}"
    finally:
        server.kill()
