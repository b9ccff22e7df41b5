"""A port for Prometheus that is taken, and scrapers that say or read nothing."""

from __future__ import annotations

import contextlib
import socket
import subprocess

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Seen, expect, judge
from adae_edge.benchmarks.peers.numbers import write_clip
from adae_edge.benchmarks.peers.processes import free_port, peer, program

_FRAMES = range(1, 241)
_SCRAPERS = 40


@fault("51a", "the port for Prometheus is taken", fast=True)
def port_taken(lab: Lab) -> Seen:
    """One sentence, and nothing is scored."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sink = f"prometheus:127.0.0.1:{taken.getsockname()[1]}"
        with lab.score(clip, sinks=[sink]) as run:
            code = run.end(None)
    expect(code == 1, f"exit code {code}")
    expect(len(run.said) == 1, f"it said {run.text}")
    said = run.last_words.replace(sink.rpartition(":")[2], "PORT")
    return judge(run.rows(), (), f"{said}; exit code {code}, nothing scored")


@fault("51b", "40 scrapers ask Prometheus' port, or not even that, and never read", fast=True)
def scrapers_that_never_read(lab: Lab) -> Seen:
    """Every frame is scored, and a scraper that reads gets its answer."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    # 30 frames a second, so that the scrapers come before the end on any machine
    as_a_camera = [program("ffmpeg"), "-re", "-i", clip, "-c", "copy", "-f", "nut", "-"]
    port = free_port()
    with contextlib.ExitStack() as opened:
        camera = peer(as_a_camera, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        frames = opened.enter_context(camera).process.stdout
        assert frames is not None
        opened.enter_context(frames)
        scored = lab.score("-", stdin=frames, sinks=[f"prometheus:{port}"])
        run = opened.enter_context(scored)
        run.wait_for_rows(5)
        for number in range(_SCRAPERS):
            silent = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            if number % 2:
                silent.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        code = run.end(None)
    expect(code == 0, f"exit code {code}: {run.last_words}")
    return judge(run.rows(), _FRAMES, f"scored as ever, exit code {code}")
