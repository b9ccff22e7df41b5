"""Cameras that are unplugged, lose buffers, fail and are busy: vivid in a virtual machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect, seconds_of
from adae_edge.benchmarks.faults.watching import BACK_S, wait_to_notice
from adae_edge.benchmarks.peers.machine import Machine, machine
from adae_edge.benchmarks.peers.processes import Peer, peer

_FPS = 15
CAMERA = f"v4l2:///dev/video0?size=640x360&fps={_FPS}"
STARTS_S = 300
_AGE_S = 2.0
_CLOCK_S = 0.02
_CONTROL = "v4l2-ctl -d /dev/video0 -c"
_BEGINS = "timestamp_source=1"  # frames have the time of their begin, and not of an end to come
_DRIVER = "/sys/bus/platform/drivers/vivid"


@contextmanager
def camera_machine(lab: Lab) -> Iterator[Machine]:
    """A machine whose driver gives frames the time at which they begin."""
    with machine(lab.folder) as guest:
        control(guest, _BEGINS)
        yield guest


@contextmanager
def _watching(lab: Lab, source: str = CAMERA) -> Iterator[tuple[Machine, Run]]:
    """The command over the camera of a machine, after its first rows."""
    with camera_machine(lab) as guest, lab.score(source, before=guest.before) as run:
        run.wait_for_rows(10, STARTS_S)
        yield guest, run


def control(guest: Machine, setting: str) -> None:
    """Set one of the driver's controls."""
    guest.run(f"{_CONTROL} {setting}")


def _stop(run: Run, seen: str) -> Seen:
    """End the command and judge its rows.

    A row is false where its time is not the driver's, or its age cannot be; and it is doubled where
    another one has the same time of the driver.
    """
    code = run.end()
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    rows = run.rows()
    ids = [int(row["frame"]) for row in rows]
    expect(ids == sorted(ids), "ids do not grow")
    times = [seconds_of(row) - row["video_time"] for row in rows]
    clock = sorted(times)[len(times) // 2]  # what makes a time of day of the driver's time
    bad = [
        row
        for row, day in zip(rows, times, strict=True)
        if abs(day - clock) > _CLOCK_S or not 0 <= row["age"] < _AGE_S
    ]
    if bad:
        seen += f"; the first false row: {bad[0]}, median {clock}"
    return Seen(
        seen,
        lost=max(0, ids[-1] - ids[0] + 1 - len(set(ids)) - run.skipped()),
        doubled=len(rows) - min(len(set(ids)), len({row["video_time"] for row in rows})),
        false=len(bad),
    )


def _recovered(run: Run, seen: str, begun: float) -> Seen:
    """Wait for rows again and end the command; counts the seconds since ``begun``."""
    run.wait_for_rows(1, BACK_S)
    seconds = time.monotonic() - begun
    run.wait_for_rows(10)
    result = _stop(run, seen)
    result.recovered_s = seconds
    return result


@fault("28", "camera unplugged")
def unplugged(lab: Lab) -> Seen:
    """It is told, and looked for, and the command ends well when asked."""
    with _watching(lab) as (guest, run):
        since = len(run.said)
        guest.run(f"echo vivid.0 > {_DRIVER}/unbind")
        seconds, said = wait_to_notice(run, since=since)
        time.sleep(5)
        return _stop(run, f"told after {seconds:.1f} s: {said}; {run.last_words}")


@fault("29a", "camera unplugged, and plugged in again after 6 s")
def plugged_in_again(lab: Lab) -> Seen:
    """Rows go on, with larger ids."""
    with _watching(lab) as (guest, run):
        since = len(run.said)
        guest.run(f"echo vivid.0 > {_DRIVER}/unbind")
        wait_to_notice(run, since=since)
        time.sleep(6)
        begun = time.monotonic()
        guest.run(f"echo vivid.0 > {_DRIVER}/bind && {_CONTROL} {_BEGINS}")
        return _recovered(run, f"rows go on: {run.last_words}", begun)


@fault("29b", "camera disconnected for a moment")
def disconnected(lab: Lab) -> Seen:
    """The driver's own fault: the device answers with an error until it is closed."""
    with _watching(lab) as (guest, run):
        since = len(run.said)
        begun = time.monotonic()
        control(guest, "disconnect=1")
        seconds, said = wait_to_notice(run, since=since)
        return _recovered(run, f"told after {seconds:.1f} s: {said}", begun)


@fault("30a", "camera drops half of its buffers")
def drops_half(lab: Lab) -> Seen:
    """The others are scored, at the times at which they were captured."""
    with _watching(lab) as (guest, run):
        control(guest, "percentage_of_dropped_buffers=50")
        before = len(run.rows())
        time.sleep(8)
        rows = len(run.rows()) - before
        expect(rows > _FPS, f"{rows} rows in 8 s")
        return _stop(run, f"{rows} rows in 8 s")


@fault("30b", "camera drops all buffers for 14 s")
def drops_all(lab: Lab) -> Seen:
    """It is told, and rows go on afterwards."""
    with _watching(lab) as (guest, run):
        since = len(run.said)
        control(guest, "percentage_of_dropped_buffers=100")
        seconds, said = wait_to_notice(run, since=since)
        time.sleep(max(0.0, 14 - seconds))
        control(guest, "percentage_of_dropped_buffers=0")
        begun = time.monotonic()
        return _recovered(run, f"told after {seconds:.1f} s: {said}; {run.last_words}", begun)


@fault("31a", "fatal streaming error")
def fatal_error(lab: Lab) -> Seen:
    """It is told, and the camera is opened again."""
    with _watching(lab) as (guest, run):
        since = len(run.said)
        begun = time.monotonic()
        control(guest, "inject_fatal_streaming_error=1")
        seconds, said = wait_to_notice(run, since=since)
        return _recovered(run, f"told after {seconds:.1f} s: {said}", begun)


@fault("31b", "buffers marked as damaged")
def damaged_buffers(lab: Lab) -> Seen:
    """They are not scored, a gap is told, and rows go on without the camera being opened again."""
    with _watching(lab) as (guest, run):
        before, begun = len(run.events()), time.monotonic()
        for _ in range(3):
            control(guest, "inject_v4l2_buf_flag_error=1")
        seen = _recovered(run, "", begun)
        told = [f"{event['event']}: {event['detail']}" for event in run.events()[before:]]
    seen.seen = "; ".join(told)
    return seen


@fault("32a", "camera busy, and free after 8 s")
def busy(lab: Lab) -> Seen:
    """It is told, and rows begin when it is free."""
    with camera_machine(lab) as guest:
        reader = [*guest.before, "v4l2-ctl", "-d", "/dev/video0", "--stream-mmap"]
        with peer(reader) as other, lab.score(CAMERA, before=guest.before) as run:
            _, said = wait_to_notice(run, STARTS_S)
            time.sleep(8)
            _end(other)
            begun = time.monotonic()
            return _recovered(run, f"told: {said}", begun)


def _end(other: Peer) -> None:
    """End a process in the machine, and wait for it."""
    other.process.terminate()
    other.process.wait(20)


@fault("32b", "camera without the size, the rate and the format that are asked for")
def no_such_mode(lab: Lab) -> Seen:
    """Each is told, and no frame in another mode is scored."""
    sentences, rows = [], 0
    with machine(lab.folder) as guest:
        for options in ("size=333x222", "size=640x360&fps=23", "size=640x360&format=mjpeg"):
            source = f"v4l2:///dev/video0?{options}"
            with lab.score(source, before=guest.before) as run:
                _, said = wait_to_notice(run, STARTS_S)
                time.sleep(3)
                rows += len(run.rows())
                expect(run.end() == 0, f"it ended badly: {run.last_words}")
            sentences.append(said)
    return Seen("; ".join(sentences), false=rows)


@fault("32c", "no such camera when the command starts")
def no_such_device(lab: Lab) -> Seen:
    """The command ends with a sentence."""
    with (
        machine(lab.folder) as guest,
        lab.score("v4l2:///dev/video7", before=guest.before) as run,
    ):
        code = run.end(None)
    expect(code == 1, f"exit code {code}")
    return Seen(f"exit code {code}: {run.last_words}", false=len(run.rows()))
