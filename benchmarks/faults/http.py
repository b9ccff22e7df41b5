"""HTTP cameras that send JPEGs one after the other, and what is wrong with them."""

from __future__ import annotations

import io
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

from PIL import Image

from adae_edge.benchmarks.faults.doors import socket_server
from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect
from adae_edge.benchmarks.faults.watching import BACK_S, STARTS_S, wait_to_notice
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.processes import Peer, free_port, program, start

_FRAMES = 600


def _begin(clip: object, port: int) -> Peer:
    """ffmpeg as a camera, which serves one reader."""
    server = [program("ffmpeg"), "-v", "error", "-re", "-stream_loop", -1, "-i", clip]
    url = f"http://127.0.0.1:{port}/cam.mjpg"
    return start([*server, "-c:v", "mjpeg", "-f", "mpjpeg", "-listen", 1, url])


def _seen(run: Run, seen: str) -> Seen:
    code = run.end()
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    told = [int(row["score"]) for row in run.rows()]
    false = sum(not 0 < number <= _FRAMES for number in told)
    return Seen(seen, doubled=sum(one == other for one, other in pairwise(told)), false=false)


@fault("27a", "HTTP camera gone, and back after 3 s")
def gone(lab: Lab) -> Seen:
    """As an RTSP server."""
    clip = numbers.write_clip(lab.folder / "clip.mp4", range(1, _FRAMES + 1))
    port = free_port()
    server = _begin(clip, port)
    try:
        with lab.score(f"http://127.0.0.1:{port}/cam.mjpg") as run:
            run.wait_for_rows(10, STARTS_S)
            since = len(run.said)
            server.kill()
            seconds, said = wait_to_notice(run, since=since)
            time.sleep(3)
            server = _begin(clip, port)
            recovered = run.wait_for_rows(1, BACK_S)
            run.wait_for_rows(10)
            seen = _seen(run, f"told after {seconds:.1f} s: {said}")
    finally:
        server.kill()
    seen.recovered_s = recovered
    return seen


def _jpegs() -> Iterator[bytes]:
    """JPEGs with numbers, 10 a second."""
    for number in range(1, _FRAMES + 1):
        buffer = io.BytesIO()
        Image.fromarray(numbers.picture(number)).convert("RGB").save(buffer, "JPEG")
        yield buffer.getvalue()
        time.sleep(0.1)


@contextmanager
def _http(kind: str, parts: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server of this content type within the block: its URL."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        parts(connection)

    with socket_server(answer) as port:
        yield f"http://127.0.0.1:{port}/cam.mjpg"


def _send(connection: socket.socket, boundary: str = "edge") -> None:
    for jpeg in _jpegs():
        head = f"--{boundary}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        connection.sendall(head.encode() + jpeg + b"\r\n")


def _looked_at(lab: Lab, url: str) -> Seen:
    """Score for some seconds: rows, or a sentence."""
    with lab.score(url) as run:
        run.wait_for("row or sentence", lambda: run.rows() or run.said, STARTS_S)
        time.sleep(8)
        rows, said = len(run.rows()), [line for _, line in run.said]
        return _seen(run, f"{rows} rows; {said[-1] if said else 'nothing said'}")


@fault("27b", "HTTP: content type wrong")
def content_type(lab: Lab) -> Seen:
    """It is told, or read all the same."""
    with _http("text/html", _send) as url:
        return _looked_at(lab, url)


@fault("27c", "HTTP: boundary wrong")
def boundary(lab: Lab) -> Seen:
    """It is told, or read all the same."""
    kind = "multipart/x-mixed-replace;boundary=other"
    with _http(kind, _send) as url:
        return _looked_at(lab, url)


@fault("27d", "HTTP: a part without an end")
def endless_part(lab: Lab) -> Seen:
    """Memory does not grow with it."""

    def babble(connection: socket.socket) -> None:
        connection.sendall(b"--edge\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0")
        while True:
            connection.sendall(bytes(65536))
            time.sleep(0.002)

    with (
        _http("multipart/x-mixed-replace;boundary=edge", babble) as url,
        lab.score(url) as run,
    ):
        time.sleep(6)
        before = resident_mb(run)
        time.sleep(10)
        after = resident_mb(run)
        expect(after - before < 100, f"memory grows: {before:.0f} to {after:.0f} MB")
        told = f"{before:.0f} MB, 10 s later {after:.0f} MB; {run.last_words}"
        return _seen(run, told)


@fault("27e", "HTTP: half a picture, and the end", fast=True)
def half_a_picture(lab: Lab) -> Seen:
    """The half is not scored, whether its length was told or not."""

    def stop_within(connection: socket.socket) -> None:
        told = next(lengths)
        for number, jpeg in zip(range(4), _jpegs(), strict=False):
            half = jpeg[: len(jpeg) // 2] if number == 3 else jpeg
            head = f"--edge\r\nContent-Type: image/jpeg{told.format(len(jpeg))}\r\n\r\n"
            connection.sendall(head.encode() + half + (b"" if number == 3 else b"\r\n"))

    lengths = itertools.cycle(["", "\r\nContent-Length: {}"])
    with (
        _http("multipart/x-mixed-replace;boundary=edge", stop_within) as url,
        lab.score(url) as run,
    ):
        run.wait_for_rows(9, BACK_S)
        return _seen(run, f"{len(run.rows())} rows; {run.last_words}")


def resident_mb(run: Run) -> float:
    """The memory that the command has now."""
    with open(f"/proc/{run.peer.process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096 / 1e6
