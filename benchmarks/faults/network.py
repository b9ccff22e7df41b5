"""Names that nobody knows, name servers that are silent, cables and slow links."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Seen, expect
from adae_edge.benchmarks.faults.watching import (
    BACK_S,
    STARTS_S,
    camera,
    stop,
    wait_to_notice,
    watching,
)
from adae_edge.benchmarks.peers.processes import MissingPeer, program

_NAME_SERVER = "127.0.0.77"
_HERE, _THERE = "10.213.77.1", "10.213.77.2"


@contextmanager
def _name_server(answers: bool) -> Iterator[None]:
    """A name server that knows no name, or that never answers."""

    over = threading.Event()

    def deny() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                query, asker = server.recvfrom(512)
                if answers:  # the same question, as an answer with the code of an unknown name
                    server.sendto(query[:2] + b"\x81\x83" + query[4:], asker)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        try:
            server.bind((_NAME_SERVER, 53))
        except OSError as error:
            raise MissingPeer(f"this process may not be a name server: {error}") from error
        server.settimeout(0.1)
        thread = threading.Thread(target=deny, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _named(lab: Lab, answers: bool) -> Seen:
    """Score a camera by its name in a mount namespace with a resolv.conf of its own."""
    resolv = lab.folder / "resolv.conf"
    resolv.write_text(f"nameserver {_NAME_SERVER}\n")
    own = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    before = (program("unshare"), "-m", "sh", "-c", own, "sh")
    with (
        _name_server(answers),
        lab.score("rtsp://camera.example:554/cam", before=before) as run,
    ):
        seconds, said = wait_to_notice(run, STARTS_S)
        time.sleep(8)
        threads = len(os.listdir(f"/proc/{run.peer.process.pid}/task"))  # noqa: PTH208
        begun = time.monotonic()
        code = run.end()
        ended = time.monotonic() - begun
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    told = f"told after {seconds:.1f} s: {said}; {threads} threads, ended after {ended:.1f} s"
    return Seen(told, false=len(run.rows()))


@fault("13", "name unknown")
def name_unknown(lab: Lab) -> Seen:
    """It is told and tried again."""
    return _named(lab, answers=True)


@fault("14", "name server silent")
def name_server_silent(lab: Lab) -> Seen:
    """What waits for it may be abandoned, and the command still ends when asked."""
    return _named(lab, answers=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run([program("ip"), *arguments], capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise MissingPeer(f"this process may not make networks: {done.stderr.strip()}")


@contextmanager
def _network() -> Iterator[tuple[str, str]]:
    """Another network namespace within the block: its name, and our end of the cable to it."""
    name = f"faults{os.getpid()}"
    ours, theirs = f"fa{os.getpid()}", f"fb{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        _ip("address", "add", f"{_HERE}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        _ip("-n", name, "address", "add", f"{_THERE}/30", "dev", theirs)
        _ip("-n", name, "link", "set", theirs, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield name, ours
    finally:
        _ip("netns", "delete", name)


@fault("15", "cable out for 15 s, and in again")
def cable_out(lab: Lab) -> Seen:
    """Silence is told, and rows go on."""
    with _network() as (name, cable):
        before = (program("ip"), "netns", "exec", name)
        with camera(before, address=_THERE) as one, watching(lab, one) as run:
            _ip("link", "set", cable, "down")
            seconds, said = wait_to_notice(run)
            time.sleep(max(0.0, 15 - seconds))
            _ip("link", "set", cable, "up")
            recovered = run.wait_for_rows(1, BACK_S)
            run.wait_for_rows(10)
            seen = stop(run, one, f"told after {seconds:.1f} s: {said}")
    seen.recovered_s = recovered
    return seen


@fault("16", "link slowed to 1 Mbit/s for 15 s")
def slow_link(lab: Lab) -> Seen:
    """Old frames are skipped, and none is told to be fresh."""
    with _network() as (name, _):
        before = (program("ip"), "netns", "exec", name)
        theirs = f"fb{os.getpid()}"
        with camera(before, address=_THERE) as one, watching(lab, one) as run:
            limit = ["tbf", "rate", "1mbit", "burst", "32kbit", "latency", "400ms"]
            shape = [*map(str, before), program("tc"), "qdisc"]
            subprocess.run([*shape, "add", "dev", theirs, "root", *limit], check=True)  # noqa: S603
            before_rows = len(run.rows())
            time.sleep(15)
            meanwhile = len(run.rows()) - before_rows
            subprocess.run([*shape, "del", "dev", theirs, "root"], check=True)  # noqa: S603
            recovered = run.wait_for_rows(1, BACK_S)
            run.wait_for_rows(30)
            seen = stop(run, one, f"{meanwhile} rows meanwhile; {run.last_words}")
    seen.recovered_s = recovered
    return seen
