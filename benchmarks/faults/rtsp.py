"""RTSP servers that die, freeze, ask for passwords, and send what they should not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from itertools import pairwise

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Seen, expect, judge_live
from adae_edge.benchmarks.faults.watching import (
    BACK_S,
    STARTS_S,
    camera,
    stop,
    wait_to_notice,
    watching,
)
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.processes import peer, program

# Starts the command behind it with its log on the standard error output.
_LOUD = (
    "import logging, runpy, sys; logging.basicConfig(level=logging.INFO); "
    "del sys.argv[1:4]; runpy.run_module('adae_edge', run_name='__main__')"
)
_PAUSE = re.compile("is opened again after ([0-9.]+) s")
_SILENT_S = 300.0


@fault("1", "RTSP server killed")
def killed(lab: Lab) -> Seen:
    """It is told, the command goes on trying, and ends well when asked."""
    with camera() as one, watching(lab, one) as run:
        since = len(run.said)
        one.peer.kill()
        seconds, said = wait_to_notice(run, since=since)
        time.sleep(2)
        return stop(run, one, f"told after {seconds:.1f} s: {said}")


@fault("2", "RTSP server killed, and back after 6 s")
def back_after_6_s(lab: Lab) -> Seen:
    """Rows go on, with larger ids."""
    with camera() as one, watching(lab, one) as run:
        one.peer.kill()
        time.sleep(6)
        one.begin()
        recovered = run.wait_for_rows(1, BACK_S)
        run.wait_for_rows(10)
        seen = stop(run, one, "rows go on")
    seen.recovered_s = recovered
    return seen


@fault("3", "RTSP server killed ten times in a minute")
def killed_ten_times(lab: Lab) -> Seen:
    """As once: each time there are rows again within the pause in force and three seconds."""
    recoveries: list[tuple[float, float]] = []
    with camera() as one, lab.score(one.url, before=(sys.executable, "-c", _LOUD)) as run:
        run.wait_for_rows(10, STARTS_S)
        for _ in range(10):
            begun = time.monotonic()
            one.peer.kill()
            time.sleep(0.5)
            one.begin()
            seconds = run.wait_for_rows(1, BACK_S)
            recoveries.append((seconds, float(_PAUSE.findall(run.text)[-1])))
            time.sleep(max(0.0, 6 - (time.monotonic() - begun)))
        seen = stop(run, one, "")
    seen.recovered_s, pause = max(recoveries)
    beyond = max(seconds - pause for seconds, pause in recoveries)
    expect(beyond <= 3, f"it took {beyond:.1f} s more than the pause in force")
    seen.seen = (
        f"rows go on after each; the longest recovery is given, with a pause of {pause:.1f} s in "
        f"force; at most {beyond:.1f} s beyond a pause"
    )
    return seen


@fault("4", "RTSP server frozen for 14 s")
def frozen(lab: Lab) -> Seen:
    """It is told while it is frozen, and rows go on after it."""
    with camera() as one, watching(lab, one) as run:
        one.peer.freeze()
        seconds, said = wait_to_notice(run)
        time.sleep(max(0.0, 14 - seconds))
        one.peer.thaw()
        recovered = run.wait_for_rows(1, BACK_S)
        run.wait_for_rows(10)
        seen = stop(run, one, f"told after {seconds:.1f} s: {said}")
    seen.recovered_s = recovered
    return seen


@fault("5", "RTSP server frozen for ever")
def frozen_for_ever(lab: Lab) -> Seen:
    """It is told, and the command ends well when asked."""
    with camera() as one, watching(lab, one) as run:
        one.peer.freeze()
        seconds, said = wait_to_notice(run)
        time.sleep(10)
        return stop(run, one, f"told after {seconds:.1f} s: {said}")


@fault("17", "sound goes on, and the picture stops")
def picture_stops(lab: Lab) -> Seen:
    """The watchdog looks at pictures, not at packets."""
    with camera(sound=True) as one, watching(lab, one) as run:
        one.peer.tell(signal.SIGUSR1)
        seconds, said = wait_to_notice(run)
        one.peer.tell(signal.SIGUSR1)
        recovered = run.wait_for_rows(1, BACK_S)
        run.wait_for_rows(10)
        seen = stop(run, one, f"told after {seconds:.1f} s: {said}")
    seen.recovered_s = recovered
    return seen


@fault("17b", "picture stops for five minutes, with --triggered")
def triggered(lab: Lab) -> Seen:
    """Nothing is told, nothing is opened again, and the next picture is scored."""
    with camera() as one, lab.score(one.url, options=["--triggered"]) as run:
        run.wait_for_rows(10, STARTS_S)
        one.peer.tell(signal.SIGUSR1)
        time.sleep(1)
        told, before = len(run.events()), len(run.rows())
        time.sleep(_SILENT_S)
        expect(len(run.events()) == told, f"it said {run.events()[-1:]}")
        expect(len(run.rows()) == before, "there are rows without pictures")
        one.peer.tell(signal.SIGUSR1)
        recovered = run.wait_for_rows(1, BACK_S)
        run.wait_for_rows(10)
        expect(len(run.events()) == told, f"it said {run.events()[-1:]}")
        seen = stop(run, one, "nothing told, nothing opened again, and rows go on")
    seen.recovered_s = recovered
    return seen


def _other_after(lab: Lab, **options: object) -> Seen:
    """The server comes back and sends something else."""
    with camera() as one, watching(lab, one) as run:
        one.peer.kill()
        one.begin(**options)
        recovered = run.wait_for_rows(1, BACK_S)
        run.wait_for_rows(10)
        seen = stop(run, one, "rows go on")
    seen.recovered_s = recovered
    return seen


@fault("18", "another size after the reconnection")
def other_size(lab: Lab) -> Seen:
    """Frames of the new size are scored."""
    return _other_after(lab, size="320x240")


@fault("19", "another size in mid-stream")
def other_size_in_stream(lab: Lab) -> Seen:
    """Two H.264 streams joined: numbers of both are read."""
    parts = [
        numbers.write_clip(lab.folder / f"{size[0]}.h264", range(*span), size=size)
        for size, span in (((640, 360), (1, 601)), ((320, 240), (601, 751)))
    ]
    clip = lab.folder / "joined.h264"
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    with camera(clip=clip) as one, lab.score(one.url) as run:
        run.wait_for_rows(1, STARTS_S)
        run.wait_for("number of the second part", lambda: run.rows()[-1]["score"] > 610, 60)
        run.end()
    told = [int(row["score"]) for row in run.rows()]
    false = sum(not 0 < number <= 750 for number in told)
    doubled = sum(before == after for before, after in pairwise(told))
    return Seen(f"numbers {min(told)} to {max(told)}", None, 0, doubled, false)


@fault("20a", "colours of another format after the reconnection")
def other_chroma(lab: Lab) -> Seen:
    """4:4:4 in place of 4:2:0."""
    return _other_after(lab, chroma="444")


@fault("20b", "full-range colours after the reconnection")
def full_range(lab: Lab) -> Seen:
    """Black is 0 and white is 255."""
    return _other_after(lab, full_range=True)


@fault("21", "stream without key frame for 10 s")
def no_key_frame(lab: Lab) -> Seen:
    """Nothing is scored before the first one."""
    with camera(key=300) as one:
        first = [program("ffmpeg"), "-rtsp_transport", "tcp", "-i", one.url, "-f", "null", "-"]
        with peer(first):  # for which the first key frame is sent
            time.sleep(4)
            with lab.score(one.url) as run:
                recovered = run.wait_for_rows(1, BACK_S)
                run.wait_for_rows(10)
                seen = stop(run, one, f"the first row after {recovered:.1f} s")
    seen.recovered_s = recovered
    return seen


@fault("22a", "packets dropped")
def dropped(lab: Lab) -> Seen:
    """What rests on a frame that is missing is not scored."""
    return _noisy(lab, "noise=drop=eq(mod(n\\,45)\\,20)")


@fault("22b", "packets damaged")
def damaged(lab: Lab) -> Seen:
    """What a decoder patched up is not scored."""
    return _noisy(lab, "noise=amount=-(eq(mod(n\\,45)\\,20))*200")


def _noisy(lab: Lab, noise: str) -> Seen:
    """Serve a clip after ffmpeg's filter of bits."""
    whole = numbers.write_clip(lab.folder / "whole.h264", range(1, 601))
    clip = lab.folder / "noisy.h264"
    command = [program("ffmpeg"), "-v", "error", "-i", whole, "-c", "copy", "-bsf:v", noise]
    subprocess.run([*map(str, command), str(clip)], check=True)  # noqa: S603
    with camera(clip=clip) as one, lab.score(one.url) as run:
        run.wait_for_rows(1, STARTS_S)
        time.sleep(12)
        run.end()
    told = [int(row["score"]) for row in run.rows()]
    said = [line for _, line in run.said[:-1]]
    false = sum(not 0 < number <= 600 for number in told)
    doubled = sum(before == after for before, after in pairwise(told))
    seen = f"{len(told)} rows, {len(said)} sentences; the first: {said[0] if said else 'none'}"
    return Seen(seen, None, 0, doubled, false)


@fault("24a", "server that refuses UDP")
def tcp_only(lab: Lab) -> Seen:
    """TCP is what is asked for."""
    with camera(transports="tcp") as one, watching(lab, one) as run:
        return stop(run, one, "rows over TCP")


@fault("24b", "server that refuses TCP")
def udp_only(lab: Lab) -> Seen:
    """The way out is told, and works; no other transport is taken by itself."""
    with camera(transports="udp") as one:
        with lab.score(one.url) as run:
            seconds, said = wait_to_notice(run, STARTS_S)
            code = run.end()
        expect(code == 0 and "#udp" in said, f"exit code {code}: {said}")
        with lab.score(f"{one.url}#udp") as run:
            run.wait_for_rows(30, STARTS_S)
            return stop(run, one, f"told after {seconds:.1f} s: {said}; rows over UDP with #udp")


@fault("25", "scorer too slow for the rate")
def too_slow(lab: Lab) -> Seen:
    """The newest frame is scored, and what was skipped is counted."""
    slow = lab.folder / "slower.onnx"
    slow.write_bytes(numbers.model(60))
    with camera() as one, lab.score(one.url, model=slow) as run:
        run.wait_for_rows(40, 60)
        seen = stop(run, one, "")
    expect(run.skipped() > 0, f"nothing was skipped: {run.last_words}")
    seen.seen = f"{len(run.rows())} rows, {run.skipped()} skipped"
    return seen


@fault("26", "reader stopped for 5 s")
def reader_stopped(lab: Lab) -> Seen:
    """The backlog is not scored as fresh."""
    with camera() as one, watching(lab, one) as run:
        run.peer.freeze()
        time.sleep(5)
        run.peer.thaw()
        recovered = run.wait_for_rows(1, BACK_S)
        time.sleep(3)
        code = run.end()
    expect(code == 0, f"exit code {code}")
    seen = judge_live(run, one.base, f"{len(run.rows())} rows, {run.skipped()} skipped")
    seen.recovered_s = recovered
    return seen
