"""A clock that is set while cameras are scored, in a virtual machine."""

from __future__ import annotations

import time
from pathlib import Path

from adae_edge.benchmarks.faults.cameras import CAMERA, STARTS_S, camera_machine, control
from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect, seconds_of
from adae_edge.benchmarks.faults.watching import BACK_S
from adae_edge.benchmarks.peers import processes
from adae_edge.benchmarks.peers.machine import Machine
from adae_edge.benchmarks.peers.processes import SYSTEM_PYTHON, peer

_SYNTHETIC = "synthetic://?fps=5&size=320x180"
_SERVER = Path(processes.__file__).with_name("rtsp_server.py")
_LAUNCH = (
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=5/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10"
    " ! rtph264pay name=pay0 pt=96 config-interval=1 )"
)
_PORT = 8554  # of the machine, in which nothing else is
_AGE_S = 3.0  # an emulated machine on a busy host
_AFTER_S = 10.0
_LEAST = 10  # rows of each source in that time


@fault("56a", "clock set back an hour, and on again: a camera and made-up frames")
def set_clock(lab: Lab) -> Seen:
    """Ages, rates and events go on as before, times follow the clock, and a camera comes back."""
    with (
        camera_machine(lab) as guest,
        lab.score(CAMERA, _SYNTHETIC, before=guest.before) as run,
    ):
        run.wait_for_rows(40, STARTS_S)
        seen = _set_back_and_on(guest, run)
        begun = time.monotonic()
        control(guest, "disconnect=1")
        run.wait_to_say("is being opened again", BACK_S)
        run.wait_for_rows(30, BACK_S)
        seen.recovered_s = time.monotonic() - begun
        return _end(run, seen)


@fault("56b", "clock set back an hour, and on again: a camera over RTSP")
def set_clock_over_rtsp(lab: Lab) -> Seen:
    """The same where the sender has a clock of its own, which is not set at once."""
    with camera_machine(lab) as guest:
        guest.run("ip link set lo up")
        server = [*guest.before, SYSTEM_PYTHON, _SERVER, "--port", _PORT, "--launch", _LAUNCH]
        with (
            peer(server),
            lab.score(f"rtsp://127.0.0.1:{_PORT}/cam", before=guest.before) as run,
        ):
            run.wait_for_rows(40, STARTS_S)
            return _end(run, _set_back_and_on(guest, run))


def _set_back_and_on(guest: Machine, run: Run) -> Seen:
    """Set the clock back and on, and compare what follows with it."""
    told, rates = len(run.events()), []
    for hours in (-1, 1):
        before = len(run.rows())
        guest.run(f"date -s '{hours} hour'")
        time.sleep(_AFTER_S)
        now = float(guest.run("date +%s.%N"))
        rows = run.rows()[before:]
        for source in {row["source"] for row in run.rows()}:
            of_source = [row for row in rows if row["source"] == source]
            expect(len(of_source) >= _LEAST, f"{len(of_source)} rows of {source}")
            last = seconds_of(of_source[-1])
            expect(abs(now - last) < 2 * _AGE_S, f"{source} is {now - last:.1f} s off the clock")
            rates.append(f"{len(of_source) / _AFTER_S:.0f}")
    news = [event["detail"] for event in run.events()[told:]]
    expect(not news, f"it said {news}")
    return Seen(f"{', '.join(rates)} rows a second, times follow the clock, and no event")


def _end(run: Run, seen: Seen) -> Seen:
    """End the command; ages that cannot be are false, and ids that do not grow are doubled."""
    expect(run.end() == 0, f"it ended badly: {run.last_words}")
    rows = run.rows()
    seen.false = sum(not -0.1 <= row["age"] < _AGE_S for row in rows)
    for source in {row["source"] for row in rows}:
        ids = [int(row["frame"]) for row in rows if row["source"] == source]
        expect(ids == sorted(ids), f"ids of {source} do not grow")
        seen.doubled += len(ids) - len(set(ids))
    oldest = max(row["age"] for row in rows)
    seen.seen += f"; ages up to {oldest:.2f} s"
    return seen
