"""Doors that stay shut: ports, passwords, paths and names."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect
from adae_edge.benchmarks.faults.watching import (
    BACK_S,
    STARTS_S,
    Camera,
    camera,
    stop,
    wait_to_notice,
    watching,
)
from adae_edge.benchmarks.peers.processes import free_port


@contextmanager
def socket_server(answer: Callable[[socket.socket], object], backlog: int = 5) -> Iterator[int]:
    """A port at which each connection is handed to ``answer`` in a thread of its own."""

    def accept() -> None:
        with suppress(OSError):  # when it is closed
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_politely, args=(answer, connection), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _politely(answer: Callable[[socket.socket], object], connection: socket.socket) -> None:
    with suppress(OSError), connection:
        answer(connection)


def _tried(lab: Lab, port: int) -> Seen:
    """Score what is no camera for some seconds: it is told, and ends well when asked."""
    with lab.score(f"rtsp://127.0.0.1:{port}/cam") as run:
        seconds, said = wait_to_notice(run, STARTS_S)
        time.sleep(4)
        expect(run.peer.process.poll() is None, f"it gave up: {run.last_words}")
        begun = time.monotonic()
        code = run.end()
        ended = time.monotonic() - begun
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    told = f"told after {seconds:.1f} s, start included: {said}; ended {ended:.1f} s after SIGTERM"
    return Seen(told, false=len(run.rows()))


@fault("6", "port closed")
def closed(lab: Lab) -> Seen:
    """Nobody listens."""
    return _tried(lab, free_port())


@fault("7", "port that accepts and says nothing")
def silent(lab: Lab) -> Seen:
    """The read time-out fires."""
    with socket_server(lambda connection: time.sleep(120)) as port:
        return _tried(lab, port)


@fault("8", "port that never accepts")
def never_accepts(lab: Lab) -> Seen:
    """Its queue is full, so that connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        try:
            return _tried(lab, port)
        finally:
            for one in waiting:
                one.close()


@fault("9", "port that sends random bytes")
def random_bytes(lab: Lab) -> Seen:
    """No frame is made of them."""

    def babble(connection: socket.socket) -> None:
        while True:
            connection.sendall(os.urandom(4096))
            time.sleep(0.01)

    with socket_server(babble) as port:
        return _tried(lab, port)


def _no_secret(run: Run, *secrets: str) -> None:
    """Raise WrongError where a password was printed or written."""
    everything = run.text + run.rows_file.read_text() if run.rows_file.exists() else run.text
    for secret in secrets:
        expect(secret not in everything, "the password was told")


@fault("10", "wrong password")
def wrong_password(lab: Lab) -> Seen:
    """The sentence says what it is, and has no password."""
    with camera(user="reader", password="right") as one:  # noqa: S106
        url = one.url.replace("//", "//reader:wr0ng@")
        with lab.score(url) as run:
            seconds, said = wait_to_notice(run, STARTS_S)
            time.sleep(3)
            seen = stop(run, one, f"told after {seconds:.1f} s: {said}")
    _no_secret(run, "wr0ng")
    expect("401" in run.text or "password" in run.text, f"it did not say why: {said}")
    return seen


@fault("11", "password with @ : / %")
def odd_password(lab: Lab) -> Seen:
    """It is given percent-encoded, as in every URL."""
    secret = "p@s:s/w%rd"  # noqa: S105
    with camera(user="reader", password=secret) as one:
        encoded = quote(secret, safe="")
        with lab.score(one.url.replace("//", f"//reader:{encoded}@")) as run:
            run.wait_for_rows(10, STARTS_S)
            seen = stop(run, one, "rows, and no password anywhere")
    _no_secret(run, secret, encoded)
    return seen


@fault("12a", "path unknown (404)")
def unknown_path(lab: Lab) -> Seen:
    """It is told and tried again."""
    with camera(path="/other") as one, lab.score(one.url) as run:
        seconds, said = wait_to_notice(run, STARTS_S)
        time.sleep(3)
        return stop(run, one, f"told after {seconds:.1f} s: {said}")


@fault("12b", "path that appears after 8 s")
def late_path(lab: Lab) -> Seen:
    """Rows begin when it is there."""
    with camera(path_after=8) as one, lab.score(one.url) as run:
        begun = time.monotonic()
        run.wait_for_rows(1, BACK_S)
        seconds = time.monotonic() - begun
        run.wait_for_rows(10)
        seen = stop(run, one, f"the first row after {seconds:.1f} s")
    seen.recovered_s = max(0.0, seconds - 8)
    return seen


@fault("23", "half a frame, then silence, at a relay")
def half_a_frame(lab: Lab) -> Seen:
    """The half frame is not scored, and the relay's next connection is."""
    blocked = threading.Event()

    def relay(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", one.port)) as server:
            back = threading.Thread(target=_copy, args=(connection, server, None), daemon=True)
            back.start()
            _copy(server, connection, None if blocked.is_set() else 100_000)
            blocked.set()
            time.sleep(60)

    with camera() as one, socket_server(relay) as port:
        through = Camera(port, one.base, one.options)
        with watching(lab, through) as run:
            seconds, said = wait_to_notice(run, 40)
            recovered = run.wait_for_rows(1, BACK_S)
            run.wait_for_rows(10)
            seen = stop(run, through, f"told after {seconds:.1f} s: {said}")
    seen.recovered_s = recovered
    return seen


def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
    """Copy bytes until the end or so many."""
    with suppress(OSError):
        while limit is None or limit > 0:
            data = source.recv(4096 if limit is None else min(4096, limit))
            if not data:
                return
            target.sendall(data)
            limit = None if limit is None else limit - len(data)
