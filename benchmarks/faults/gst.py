"""GStreamer's process dies, hangs and writes what it should not; a GenICam camera loses packets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect
from adae_edge.benchmarks.faults.watching import BACK_S, STARTS_S, wait_to_notice
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.processes import ARAVIS, MissingPeer, Peer, peer, program
from adae_edge.runtime import Frame
from adae_edge.runtime.sources.live import PATIENCE_S
from adae_edge.runtime.sources.registry import open_source

_FRAMES = 600
_ADDRESS = "127.0.0.1"
_GENICAM = f"gst:aravissrc camera-name={_ADDRESS}"
_STEP = 12  # grey levels from a point to its like in the next row, in a whole picture


@contextmanager
def _watching(lab: Lab) -> Iterator[Run]:
    """The command over a pipeline that shows numbered pictures at their times, after some rows."""
    program("gst-launch-1.0")
    options = ("-c:v", "mjpeg", "-q:v", 3, "-start_number", 1)
    numbers.write_clip(lab.folder / "%05d.jpg", range(1, _FRAMES + 1), options)
    caps = "image/jpeg,framerate=30/1"
    pipeline = f"multifilesrc location={lab.folder}/%05d.jpg index=1 caps={caps} ! jpegdec"
    with lab.score(f"gst:{pipeline} ! identity sync=true", before=()) as run:
        run.wait_for_rows(10, STARTS_S)
        yield run


def _child(run: Run) -> int:
    """The id of the command's GStreamer."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            is_gst = b"gst-launch" in (path / "cmdline").read_bytes()
            if is_gst and int(parent) == run.peer.process.pid:
                return int(path.name)
    raise RuntimeError("the command has no GStreamer")


def _again(run: Run, child: int, begun: float, seen: str) -> Seen:
    """Wait for rows of another process, and end the command."""
    run.wait_to_say("is being opened again", BACK_S)
    run.wait_for_rows(1, BACK_S)
    seconds = time.monotonic() - begun
    run.wait_for_rows(10)
    expect(not Path(f"/proc/{child}").exists(), "the old process is still there")
    other = _child(run)
    expect(run.end() == 0, f"it ended badly: {run.last_words}")
    expect(not Path(f"/proc/{other}").exists(), "its process outlived it")
    rows = run.rows()
    ids = [int(row["frame"]) for row in rows]
    expect(ids == sorted(set(ids)), "ids do not grow")
    told = [int(row["score"]) for row in rows]
    lost = max(0, ids[-1] - ids[0] + 1 - len(ids) - run.skipped())
    doubled = sum(before == after for before, after in pairwise(told))
    return Seen(seen, seconds, lost, doubled, sum(not 0 < number <= _FRAMES for number in told))


@fault("33a", "GStreamer's process dies")
def dies(lab: Lab) -> Seen:
    """It is told, and started again."""
    with _watching(lab) as run:
        child, since, begun = _child(run), len(run.said), time.monotonic()
        os.kill(child, signal.SIGKILL)
        seconds, said = wait_to_notice(run, since=since)
        return _again(run, child, begun, f"told after {seconds:.1f} s: {_last(said)}")


@fault("33b", "GStreamer's process hangs")
def hangs(lab: Lab) -> Seen:
    """It is told, killed, and started again."""
    with _watching(lab) as run:
        child, since, begun = _child(run), len(run.said), time.monotonic()
        os.kill(child, signal.SIGSTOP)
        seconds, said = wait_to_notice(run, since=since)
        return _again(run, child, begun, f"told after {seconds:.1f} s: {_last(said)}")


def _last(said: str) -> str:
    """A sentence without the pipeline that it begins with."""
    return said.rpartition("sync=true ")[2]


@fault("33c", "GStreamer writes no y4m")
def no_y4m(lab: Lab) -> Seen:
    """It is told, no frame is made of it, and the command ends well when asked."""
    program("gst-launch-1.0")
    pipeline = "videotestsrc is-live=true ! fdsink fd=1 y4menc name=unlinked"
    with lab.score(f"gst:{pipeline}") as run:
        seconds, said = wait_to_notice(run, STARTS_S)
        time.sleep(3)
        expect(run.end() == 0, f"it ended badly: {run.last_words}")
    return Seen(f"told after {seconds:.1f} s, start included: {said}", false=len(run.rows()))


@fault("33d", "GStreamer is not installed")
def not_installed(lab: Lab) -> Seen:
    """The command ends with its package's name."""
    environment = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    with lab.score("gst:videotestsrc is-live=true", env=environment) as run:
        code = run.end(None)
    expect(code != 0, "exit code 0")
    return Seen(f"exit code {code}: {run.last_words}", false=len(run.rows()))


@contextmanager
def _genicam(lost: int = 0) -> Iterator[Peer]:
    """A camera of Aravis that loses so many of a thousand packets."""
    inspect = program("gst-launch-1.0").replace("gst-launch", "gst-inspect")
    if subprocess.run([inspect, "aravissrc"], capture_output=True).returncode:  # noqa: S603
        raise MissingPeer(f"there is no aravissrc: apt-get install {ARAVIS}")
    command = [program("arv-fake-gv-camera-0.8"), "-i", _ADDRESS, "-r", lost]
    with peer(command) as camera:
        time.sleep(1)  # it says nothing when it is ready
        yield camera


@fault("34a", "GenICam camera that loses 5 % of its packets")
def nothing_whole(lab: Lab) -> Seen:
    """No picture comes whole, so that none is scored, and it is told."""
    with _genicam(50), lab.score(_GENICAM) as run:
        seconds, said = wait_to_notice(run, STARTS_S + PATIENCE_S)
        time.sleep(3)
        expect(run.end() == 0, f"it ended badly: {run.last_words}")
    return Seen(f"told after {seconds:.1f} s, start included: {said}", false=len(run.rows()))


@fault("34b", "GenICam camera that loses 0.3 % of its packets", fast=True)
def packets_lost(lab: Lab) -> Seen:
    """No torn picture is given: its pattern goes on from a row to the next, one point aside."""
    frames = torn = 0
    until = time.monotonic() + 60
    with _genicam(3), open_source(_GENICAM) as source:
        for item in source:
            if isinstance(item, Frame):
                grey = item.pixels[:, :, 1].astype(np.int16)
                steps = np.abs(grey[1:, :-1] - grey[:-1, 1:])
                frames, torn = frames + 1, torn + int(steps.max() > _STEP)
            if frames == 30 or time.monotonic() > until:
                source.stop()
    expect(frames >= 10, f"{frames} frames in a minute")
    return Seen(f"{frames} frames, and {torn} of them torn", false=torn)


@fault("34c", "GenICam camera gone, and back after 6 s")
def genicam_back(lab: Lab) -> Seen:
    """It is told, and rows go on."""
    with lab.score(_GENICAM) as run:
        with _genicam():
            run.wait_for_rows(10, STARTS_S)
            since = len(run.said)
        seconds, said = wait_to_notice(run, since=since)
        time.sleep(6)
        begun = time.monotonic()
        with _genicam():
            run.wait_for_rows(1, BACK_S)
            recovered = time.monotonic() - begun
            run.wait_for_rows(10)
            expect(run.end() == 0, f"it ended badly: {run.last_words}")
    ids = [int(row["frame"]) for row in run.rows()]
    expect(ids == sorted(set(ids)), "ids do not grow")
    lost = max(0, ids[-1] - ids[0] + 1 - len(ids) - run.skipped())
    return Seen(f"told after {seconds:.1f} s: {said}", recovered, lost)
