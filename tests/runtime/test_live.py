"""Live sources: their states, the newest frame, and how they are opened again."""

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from adae_edge.benchmarks.peers import processes
from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.runtime import Frame
from adae_edge.runtime.sources import gst, live
from adae_edge.runtime.sources.address import Address
from adae_edge.runtime.sources.clock import Clock
from adae_edge.runtime.sources.live import Capture, Captured, Gap, Live
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted
from tests.support.clips import ffmpeg
from tests.support.models import HANGS_S
from tests.support.peers import peer, peers, rtsp_server
from tests.support.streams import without_stalls


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(live, "_PAUSES_S", (0.0, 0.02))


class Scripted(Capture):
    """Plays a list: what to give, an error to raise, an event that hangs until it is set and ends.

    What can be called is, and gives what it returns.
    """

    def __init__(self, *script):
        self.script, self.closed = list(script), False

    def open(self):
        if self.script and isinstance(self.script[0], SourceError):
            raise self.script[0]

    def read(self):
        step = self.script.pop(0) if self.script else None
        if isinstance(step, threading.Event):
            step.wait(HANGS_S)
            step = None
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    def close(self):
        self.closed = True


def picture(value=0, shape=(4, 5, 3), **known):
    return Captured(np.full(shape, value, np.uint8), time.time(), **known)


def events_and_frames(captures, enough, **limits):
    """What a source over these captures gives until ``enough`` says so."""
    left = iter(captures)
    source = Live("camera:7", lambda: next(left, Scripted()), **limits)
    events, frames = [], []
    for item in source:
        (frames if isinstance(item, Frame) else events).append(item)
        if enough(events, frames):
            source.stop()
    return events, frames


def lost(times):
    return lambda events, frames: [event.kind for event in events].count("lost") == times


def test_the_end_of_a_live_stream_is_a_disconnection_and_numbers_go_on():
    captures = [Scripted(picture(1)), Scripted(picture(2, shape=(9, 8, 1)))]

    events, frames = events_and_frames(captures, lost(2))

    assert [event.kind for event in events][:6] == [
        "connecting",
        "live",
        "lost",
        "connecting",
        "live",
        "lost",
    ]
    assert "closed by the other side" in events[2].detail
    assert "5 x 4" in events[1].detail
    assert "8 x 9" in events[4].detail
    assert [frame.id for frame in frames] == [0, 1]
    assert [frame.pixels.shape for frame in frames] == [(4, 5, 3), (9, 8, 1)]
    assert all(capture.closed for capture in captures)


def test_a_camera_that_cannot_be_opened_is_tried_again_and_told_once_with_its_reason():
    refused = [Scripted(SourceError("is refused")) for _ in range(4)]

    events, frames = events_and_frames([*refused, Scripted(picture())], lambda _, frames: frames)

    assert [event.kind for event in events] == ["connecting", "lost", "connecting", "live"]
    assert events[1].detail == "camera:7 is refused"
    assert len(frames) == 1


def test_a_camera_that_hangs_is_given_up_and_hanging_ones_are_bounded():
    release = threading.Event()
    hanging = [Scripted(release) for _ in range(10)]

    events, _ = events_and_frames(
        hanging, lambda events, _: "4 attempts hang" in events[-1].detail, silence_s=0.05
    )

    assert "silent for 0.05 seconds" in events[1].detail
    assert sum(len(capture.script) == 0 for capture in hanging) == 4
    release.set()
    for thread in threading.enumerate():
        if thread.name == "camera:7":
            thread.join(HANGS_S)
    assert all(capture.closed for capture in hanging if not capture.script)


def test_a_picture_that_stops_is_stalled_and_then_lost():
    capture = Scripted(picture(), threading.Event())

    events, _ = events_and_frames([capture], lost(1), silence_s=2, stall_s=0.1)

    assert [event.kind for event in events] == ["connecting", "live", "stalled", "lost"]


def test_the_newest_frame_is_given_and_the_others_are_counted():
    many = [picture(number, old=number < 3) for number in range(9)]
    source = Live("camera:7", lambda: Scripted(*many, threading.Event()))
    reader = live._Reader(Scripted(*many), "camera:7", 5)
    reader.start()
    reader.join(HANGS_S)

    _, frame, over = reader.take(0)

    assert over is not None
    assert (frame.id, frame.skipped, int(frame.pixels[0, 0, 0])) == (13, 8, 8)
    assert reader.take(0)[1] is None
    assert source.endless


def all_are_counted(frames):
    """Whether each id from 0 on has a frame or is counted as skipped before one."""
    return [frame.id for frame in frames] == [
        sum(1 + earlier.skipped for earlier in frames[:place]) + frame.skipped
        for place, frame in enumerate(frames)
    ]


def test_an_old_frame_that_is_the_last_before_a_failure_is_counted_as_skipped():
    last = [picture(), picture(old=True), picture(old=True), SourceError("does not answer")]
    captures = [Scripted(*last), Scripted(SourceError("is refused")), Scripted(picture())]

    _, frames = events_and_frames(captures, lambda _, frames: len(frames) == 2)

    assert [frame.id for frame in frames] == [0, 3]
    assert all_are_counted(frames)


def test_a_frame_that_comes_while_its_reader_is_given_up_is_given(monkeypatch):
    decided, end = threading.Event(), threading.Event()
    gap = lambda: decided.wait(HANGS_S) and Gap(2, "lost two")  # noqa: E731
    hanging = Scripted(picture(0), gap, picture(1), picture(2, old=True), end)
    captures = [hanging, Scripted(), Scripted(picture(3))]
    give_up = live._Reader.give_up

    def meanwhile(reader, reason):
        if not decided.is_set():  # frames come after the watchdog has decided
            decided.set()
            while reader.number < 3:
                time.sleep(0.001)
        give_up(reader, reason)

    monkeypatch.setattr(live._Reader, "give_up", meanwhile)

    events, frames = events_and_frames(captures, lambda _, frames: len(frames) == 3, silence_s=0.5)

    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [0, 1, 3]
    assert all_are_counted(frames)
    end.set()
    assert [event.kind for event in events][:4] == ["connecting", "live", "gap", "lost"]
    assert "silent for 0.5 " in events[3].detail


class Sticky(Scripted):
    """Fails to close, and to be interrupted."""

    def close(self):
        raise RuntimeError("open rtsp://bob:s3cret@host/cam")

    def interrupt(self):
        raise ProcessLookupError


def test_a_camera_that_cannot_be_let_go_of_is_lost_and_opened_again(capsys):
    captures = [Sticky(picture(1)), Scripted(picture(2))]

    events, frames = events_and_frames(captures, lost(2))

    assert [frame.id for frame in frames] == [0, 1]
    assert "closed by the other side" in events[2].detail
    assert "s3cret" not in capsys.readouterr().err


def test_a_camera_waits_for_a_thread_where_the_system_has_none(monkeypatch):
    start, refused = threading.Thread.start, []

    def refuse(thread):
        if isinstance(thread, live._Reader) and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)

    events, frames = events_and_frames([Scripted(picture(n)) for n in range(3)], lost(2))

    assert "no more threads" in events[1].detail
    assert [frame.id for frame in frames] == [0]


def test_gaps_and_frames_that_cannot_be_given_are_events():
    capture = Scripted(Gap(3, "lost three"), FrameError("it is too large"), picture())

    events, frames = events_and_frames([capture], lost(1))

    assert [(event.kind, event.frames) for event in events][1:3] == [("gap", 3), ("gap", 1)]
    assert "too large" in events[2].detail
    assert len(frames) == 1


def test_a_library_that_raises_what_it_likes_is_a_reason_and_shows_no_password(caplog):
    caplog.set_level("DEBUG")
    capture = Scripted(picture(), ValueError("open rtsp://bob:s3cret@host/cam"))

    events, _ = events_and_frames([capture], lost(1))

    assert "ValueError" in events[-1].detail
    assert "s3cret" not in events[-1].detail + caplog.text


def test_times_are_the_senders_or_arrival_less_the_smallest_delay():
    clock = Clock()
    assert clock.moment(None, None, 1000.5) == (1000.5, False)
    times = [clock.moment(n / 10, None, 1000 + n / 10 + late).time for n, late in LATE]
    assert times == pytest.approx([1000.05, 1000.1, 1000.2, 1000.3], abs=1e-6)
    assert clock.moment(0.4, 999.98, 1000.5).time == pytest.approx(1000.38)


LATE = [(0, 0.05), (1, 0.0), (2, 0.04), (3, 0.3)]


def test_a_backlog_is_old_and_what_follows_it_is_not():
    clock = Clock()
    for n in range(10):
        assert not clock.moment(n / 10, None, 100 + n / 10).old
    backlog = [clock.moment(n / 10, None, 106 + n / 1000) for n in range(10, 60)]
    assert all(moment.old for moment in backlog[:40])
    assert backlog[10].time == pytest.approx(102, abs=0.01)
    assert not clock.moment(6.1, None, 106.1).old


def test_a_frame_without_a_time_has_that_of_the_one_before_and_not_its_arrival():
    clock = Clock()
    clock.moment(1.0, 1000.0, 1001.05)
    assert clock.moment(1.1, 1000.0, 1006.0) == (pytest.approx(1001.1), True)
    assert clock.moment(None, 1000.0, 1006.001) == (pytest.approx(1001.1), True)
    assert clock.moment(1.2, 1000.0, 1006.002) == (pytest.approx(1001.2), True)


def test_a_way_that_has_become_longer_for_good_leaves_no_frame_out():
    clock = Clock()
    for n in range(10):
        clock.moment(n / 10, None, 100 + n / 10)
    later = [clock.moment(n / 10, None, 103 + n / 10).old for n in range(10, 40)]
    assert not any(later[1:])


@pytest.mark.parametrize("password", ["p@s:s/w%rd", "p%40s%3As%2Fw%25rd", "plain"])
def test_a_password_of_any_letters_reaches_the_server_and_no_message(password):
    address = Address(f"rtsp://bob:{password}@camera:554/1")
    encoded = "plain" if password == "plain" else "p%40s%3As%2Fw%25rd"
    assert address.url == f"rtsp://bob:{encoded}@camera:554/1"
    assert address.shown == "rtsp://***@camera:554/1"
    for secret in (password, encoded, "bob"):
        assert secret not in address.hide(f"{address.url}: refused for {secret}")


def test_a_frozen_server_is_noticed_and_a_new_one_found():
    with rtsp_server() as (server, url):
        source = open_source(url)
        events, numbers = [], []
        for item in source:
            if isinstance(item, Frame):
                numbers.append(item.id)
                assert abs(time.time() - item.time) < 5
                if len(numbers) == 10:
                    server.kill()
            else:
                events.append(item)
            if events[-1].kind == "lost":
                source.stop()
    kinds = without_stalls([event.kind for event in events])
    assert kinds == ["connecting", "live", "lost"]
    assert numbers == sorted(set(numbers))


def test_a_wrong_password_is_told_without_it(caplog):
    caplog.set_level("DEBUG")
    with rtsp_server(user="bob", password="r1ght@:/%") as (_, url):
        right, wrong = (
            open_source(url.replace("//", f"//bob:{word}@")) for word in ("r1ght@:/%", "wr0ng")
        )
        for item in right:
            if isinstance(item, Frame):
                break
        said = []
        for item in wrong:
            said.append(item.detail)
            if item.kind == "lost":
                wrong.stop()
    assert "401" in said[-1]
    assert "wr0ng" not in caplog.text + "".join(said) + wrong.name
    assert "r1ght" not in caplog.text + right.name


@pytest.mark.parametrize("spec", ["rtsp://", "http://:80/", "rtsp://camera/1#tls"])
def test_an_impossible_url_is_refused(spec):
    with pytest.raises(UsageError):
        open_source(spec)


def first_of(spec, enough):
    """Events and frames of a source until ``enough`` says so."""
    events, frames = [], []
    with open_source(spec) as source:
        for item in source:
            (frames if isinstance(item, Frame) else events).append(item)
            if enough(events, frames):
                source.stop()
    return events, frames


RED = "videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=64,height=48"


@pytest.mark.parametrize("ending", ["", ",colorimetry=1:4:0:0", " ! y4menc ! fdsink"])
def test_a_pipeline_gives_its_colours_whatever_their_range(ending):
    with peers():
        processes.program("gst-launch-1.0")

    events, frames = first_of(f"gst:{RED}{ending}", lambda _, frames: len(frames) == 3)

    assert without_stalls([event.kind for event in events]) == ["connecting", "live"]
    assert [frame.id for frame in frames] == sorted({frame.id for frame in frames})
    assert np.abs(frames[0].pixels[5, 5] - np.array([255, 0, 0])).max() <= 2


@pytest.mark.parametrize(
    ("pipeline", "says"),
    [
        (f"{RED} ! identity eos-after=3", "ended"),
        ("nosuchelement", 'no element "nosuchelement"'),
        (
            "rtspsrc location=rtsp://bob:s3cret@127.0.0.1:9/1 user-pw=s3cret ! decodebin",
            "Could not open",
        ),
        ("fakesrc num-buffers=3 ! fakesink name=y4menc y4menc", "ended"),
    ],
)
def test_a_pipeline_that_dies_is_lost_with_its_words_and_no_password(pipeline, says):
    with peers():
        processes.program("gst-launch-1.0")

    events, _ = first_of(f"gst:{pipeline}", lost(1))

    assert says in events[-1].detail
    assert "s3cret" not in "".join(event.detail for event in events)


def test_a_pipeline_that_complains_for_months_fills_no_disk_and_its_last_words_are_heard(
    monkeypatch,
):
    with peers():
        processes.program("gst-launch-1.0")
    monkeypatch.setenv("GST_DEBUG", "5")  # some hundred kilobytes a second, on its error output
    monkeypatch.setattr(gst, "_MOST_BYTES", 50_000)
    sizes, bound = [], gst._Pipeline._bound_complaints

    def measured(pipeline):
        bound(pipeline)
        sizes.append(os.fstat(pipeline._complaints.fileno()).st_size)

    monkeypatch.setattr(gst._Pipeline, "_bound_complaints", measured)

    events, _ = first_of(f"gst:{RED} ! identity error-after=40", lost(1))

    assert len(sizes) > 20
    assert max(sizes[-10:]) < 50_000
    assert "Failed after iterations as requested" in events[-1].detail


def test_a_pipeline_that_writes_nothing_is_killed_when_its_source_is_stopped():
    with peers():
        processes.program("gst-launch-1.0")
    source = open_source("gst:fakesrc ! fakesink y4menc name=unheard")
    threading.Timer(0.5, source.stop).start()

    assert [item.kind for item in source] == ["connecting"]

    deadline = time.monotonic() + HANGS_S
    while running("name=unheard") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running("name=unheard")


def running(word):
    """Processes of others whose command line has this word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path] if word.encode() in path.read_bytes().split(b"\0") else []
    return found


@pytest.mark.parametrize("spec", ["gst:", "gst:videotestsrc 'open", "csi://front", "csi:0?x=1"])
def test_an_impossible_pipeline_is_refused(spec):
    with pytest.raises(UsageError):
        open_source(spec)


def test_without_gstreamer_its_package_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="gstreamer1"):
        open_source("gst:videotestsrc")


@pytest.mark.parametrize(
    ("spec", "kind", "says"),
    [
        ("v4l2:///dev/video987", SourceError, "there is no device /dev/video987"),
        ("v4l2://video0", UsageError, "give its path"),
        ("v4l2:///dev/null?size=big", UsageError, "WIDTHxHEIGHT"),
        ("v4l2:///dev/null?format=a,b", UsageError, "mjpeg or yuyv422"),
    ],
)
def test_an_impossible_device_is_one_sentence(spec, kind, says):
    with pytest.raises(kind, match=says):
        open_source(spec)


@pytest.mark.parametrize(("path", "says"), [("/dev/null", "cannot be opened"), ("/", "directory")])
def test_what_is_no_camera_is_told(path, says):
    events, _ = first_of(f"v4l2://{path}", lost(1))
    assert says in events[-1].detail


def clip_over_http(port, tmp_path):
    """An HTTP camera that shows a made-up clip for ever to one client."""
    clip = tmp_path / "clip.mp4"
    if not clip.exists():
        ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", 50, clip)
    how = ("-c:v", "mjpeg", "-f", "mpjpeg", "-listen", "1")
    url = f"http://127.0.0.1:{port}/cam.mjpg"
    return processes.start([peer("ffmpeg"), "-re", "-stream_loop", "-1", "-i", clip, *how, url])


def test_an_http_camera_that_is_killed_is_lost_and_found_again(tmp_path):
    port = processes.free_port()
    cameras = [clip_over_http(port, tmp_path)]
    events, ids = [], []
    try:
        with open_source(f"http://127.0.0.1:{port}/cam.mjpg") as source:
            for item in source:
                if isinstance(item, Frame):
                    ids.append(item.id)
                    assert item.pixels.shape == (48, 64, 3)
                    if len(cameras) == 1 and len(ids) == 5:
                        cameras[0].kill()
                    elif len(cameras) == 2:
                        source.stop()
                else:
                    events.append(item)
                    if len(ids) >= 5 and len(cameras) == 1 and item.kind == "lost":
                        cameras.append(clip_over_http(port, tmp_path))
    finally:
        for camera in cameras:
            camera.kill()
    kinds = without_stalls([event.kind for event in events])
    assert kinds.count("live") == 2
    assert kinds[-1] == "live"
    assert ids == sorted(set(ids))


def test_a_server_that_freezes_is_stalled_and_lost_and_its_successor_may_be_of_another_size():
    port = processes.free_port()
    shapes, before, kinds, successors = [], [], [], []
    with rtsp_server(port) as (server, url), open_source(url) as source:
        for item in source:
            if isinstance(item, Frame):
                shapes.append(item.pixels.shape)
                if len(shapes) == 5:
                    server.freeze()
                    before, kinds = kinds, []
                elif shapes[-1] != shapes[0]:
                    source.stop()
            else:
                kinds.append(item.kind)
                if kinds == ["stalled", "lost", "connecting"]:
                    server.kill()
                    successors += [processes.start_rtsp_server(port, {"size": "320x240"})]
    for successor in successors:
        successor.kill()
    assert without_stalls(before) == ["connecting", "live"]
    assert kinds[:3] == ["stalled", "lost", "connecting"]
    assert kinds[-1] == "live"
    assert set(shapes) == {(360, 640, 3), (240, 320, 3)}


def test_a_triggered_camera_may_be_silent_and_is_lost_by_its_connection_alone():
    silence = threading.Event()
    captures = [Scripted(picture(1), silence, picture(2), SourceError("was cut off")), Scripted()]
    limits = {"silence_s": 0.05, "patience_s": 0.5, "stall_s": 0.05}
    left = iter(captures)
    source = Live("camera:7", lambda: next(left, Scripted()), **limits)
    source.triggered = True
    threading.Timer(1.0, silence.set).start()
    told = []
    for item in source:
        told.append(item if isinstance(item, Frame) else item.kind)
        if told[-1] == "lost":
            source.stop()
    assert [one if isinstance(one, str) else one.id for one in told] == [
        *("connecting", "live", 0, "lost"),
    ]


def test_a_triggered_pipeline_loses_no_frame_while_it_is_opened():
    with peers():
        processes.program("gst-launch-1.0")
    size = "video/x-raw,format=I420,width=640,height=360,framerate=4/1"
    pipeline = f"videotestsrc is-live=true num-buffers=8 ! {size}"
    seen = []
    with open_source(f"gst:{pipeline}", Wanted(triggered=True)) as source:
        for item in source:
            seen.append(item)
            if not isinstance(item, Frame) and item.kind == "lost":
                source.stop()
    frames = [item for item in seen if isinstance(item, Frame)]
    assert sum(1 + frame.skipped for frame in frames) == 8


def test_a_triggered_camera_may_be_silent_once_it_answers_and_not_before(monkeypatch):
    from adae_edge.runtime.sources import av

    monkeypatch.setattr(av, "_TIMES_S", (60, 0.5))
    told = []
    with rtsp_server() as (server, url), open_source(url) as first:
        items = iter(first)  # it has the server know what it sends
        next(item for item in items if isinstance(item, Frame))
        server.tell(signal.SIGUSR1)
        threading.Timer(5, server.tell, [signal.SIGUSR1]).start()
        with open_source(url, Wanted(triggered=True)) as source:
            for item in source:
                told.append("frame" if isinstance(item, Frame) else item.kind)
                if told.count("frame") == 3:
                    break
    assert told == ["connecting", "live", *3 * ["frame"]]

    monkeypatch.setattr(av, "_TIMES_S", (2, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/1"
        with open_source(address, Wanted(triggered=True)) as source:
            for item in source:
                told.append(item.kind)
                if told[-1] == "lost":
                    source.stop()
    assert told[-2:] == ["connecting", "lost"]


def test_a_triggered_camera_that_hangs_as_it_is_opened_is_lost():
    hang = threading.Event()
    capture = Scripted()
    capture.open = lambda: hang.wait(HANGS_S)
    source = Live("camera:7", lambda: capture, patience_s=0.1)
    source.triggered = True
    told = []
    for item in source:
        told.append(item)
        if item.kind == "lost":
            source.stop()
    hang.set()
    assert "gave no frame for 0.1" in told[-1].detail


def test_open_source_says_to_a_source_whether_it_is_triggered(tmp_path):
    wanted = Wanted(triggered=True)
    with open_source("http://127.0.0.1:9/", wanted) as source:
        assert source.triggered
    with open_source("http://127.0.0.1:9/") as source:
        assert not source.triggered
