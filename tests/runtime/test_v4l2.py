"""A camera of Video4Linux, the kernel's own test driver in a virtual machine."""

import json
import sys
from itertools import groupby

import pytest

from adae_edge.benchmarks.peers.machine import machine
from tests.support.peers import peers
from tests.support.streams import without_stalls

# What is done in the machine, whose Python is slow: everything in one process.
SCRIPT = """
import json, subprocess, time
from adae_edge.cli.surroundings import surroundings
from adae_edge.runtime import Frame
from adae_edge.runtime.sources.registry import open_source

def run(*command):
    subprocess.run(command, check=True, capture_output=True)

def control(setting):
    run("v4l2-ctl", "-d", "/dev/video0", "-c", setting)

def damage():
    # the driver forgets it where it has no buffer at that moment, as on a busy machine
    if "gap" not in events:
        control("inject_v4l2_buf_flag_error=1")

FAULTS = {
    **dict.fromkeys((5, 8, 12, 14), damage),
    10: lambda: run("date", "-s", "-1 hour"),
    15: lambda: control("disconnect=1"),
    30: lambda: control("inject_fatal_streaming_error=1"),
}
control("timestamp_source=1")
events, frames, refused = [], [], {}
with open_source("v4l2:///dev/video0?size=640x360&fps=10") as source:
    for item in source:
        if not isinstance(item, Frame):
            events.append(item.kind)
            continue
        frames.append((item.id, item.size, item.age, time.time() - item.time, item.video_time))
        FAULTS.get(len(frames), str)()
        if len(frames) == 45:
            source.stop()
for mode in ("size=600x350", "size=640x360&fps=23", "format=mjpeg"):
    with open_source(f"v4l2:///dev/video0?{mode}") as source:
        for item in source:
            # the source before may still be letting go of the device: then it is opened again
            if item.kind == "lost" and "busy" not in item.detail:
                refused[mode] = item.detail
                source.stop()
print(json.dumps([events, frames, refused, surroundings()["cameras"]]))
"""

# As late as a frame may come out of an emulated machine on a busy one.
LATE_S = 60


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machine")
    (folder / "script.py").write_text(SCRIPT)
    with peers(), machine(folder) as guest:
        said = guest.run(f"{sys.executable} {folder}/script.py")
    return json.loads(said.splitlines()[-1])


def test_a_camera_that_fails_comes_back_and_a_damaged_buffer_is_a_gap(seen):
    events, frames, _, _ = seen

    again = ["lost", "connecting", "live"]
    kinds = [kind for kind, _ in groupby(without_stalls(events))]  # gaps may be several
    assert kinds == [
        *("connecting", "live", "gap"),
        *again,
        *again,
    ]
    ids = [frame[0] for frame in frames]
    assert ids == sorted(set(ids))
    assert {tuple(frame[1]) for frame in frames} == {(360, 640)}


def test_times_are_the_drivers_and_follow_a_clock_that_is_set(seen):
    _, frames, _, _ = seen

    assert all(0 <= age < LATE_S for _, _, age, _, _ in frames)
    # the first frame after the clock was set may have been made before it
    assert all(0 <= since < LATE_S for _, _, _, since, _ in frames[:10] + frames[12:])
    drivers = [time for _, _, _, _, time in frames]
    assert drivers == sorted(set(drivers))


def test_a_mode_that_a_camera_lacks_is_refused_with_what_it_has(seen):
    _, _, refused, cameras = seen

    assert "600 x 350" in refused["size=600x350"]
    assert "the nearest are 640 x 360" in refused["size=600x350"]
    assert "does not give 23 frames a second" in refused["size=640x360&fps=23"]
    assert "doctor" in refused["format=mjpeg"]
    assert {"640x360", "1920x1080"} <= set(cameras["/dev/video0"]["modes"]["YUYV"])
