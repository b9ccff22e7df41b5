"""``adae-edge record``: frames of any source as files, and the page to weed them."""

import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import WriteError
from adae_edge.runtime.record import record
from adae_edge.runtime.sources.registry import open_source
from tests.support.models import command, run
from tests.support.pictures import noise, save


def frames_in(folder):
    return sorted(folder.glob("*.png"))


def test_frames_are_kept_bit_by_bit_and_in_full_size(tmp_path):
    done = run("record", "synthetic://?frames=5&size=64x48", "frames", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("recorded 5 frames into frames: 5 of 64 x 48 pixels\n")
    made = [frame.pixels for frame in open_source("synthetic://?frames=5&size=64x48")]
    kept = [np.asarray(Image.open(path)) for path in frames_in(tmp_path / "frames")]
    np.testing.assert_array_equal(kept, made)


def test_a_second_recording_is_added_and_replaces_nothing(tmp_path):
    record("synthetic://?frames=3&size=16x16", tmp_path)
    first = [path.read_bytes() for path in frames_in(tmp_path)]
    record("synthetic://?frames=2&size=16x16&seed=7", tmp_path)
    assert [path.name for path in frames_in(tmp_path)] == [f"{n:06}.png" for n in range(1, 6)]
    assert [path.read_bytes() for path in frames_in(tmp_path)[:3]] == first
    assert (tmp_path / "contact-sheet.html").read_text().count("<img") == 5


def test_a_frame_that_equals_the_one_before_is_left_out(tmp_path):
    one = noise(9, 9, 3)
    other = 255 - one
    for number, pixels in enumerate((one, one, other, one)):
        save(tmp_path / f"{number}.png", pixels)
    done = record(str(tmp_path), tmp_path / "frames")
    assert (done.frames, done.copies) == (3, 1)


def test_frames_of_a_camera_lie_apart(tmp_path):
    begun = time.monotonic()
    done = record("synthetic://?fps=100&size=16x16", tmp_path, frames=3, every=0.2)
    assert done.frames == 3
    assert time.monotonic() - begun >= 0.4


def test_frames_are_not_recorded_where_they_are_watched(tmp_path):
    (tmp_path / "frames").mkdir()
    save(tmp_path / "frames" / "a.png", noise(9, 9, 3))
    done = run("record", "watch:frames", "frames/more", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "frames/more is a part of" in done.stderr
    assert [path.name for path in (tmp_path / "frames").iterdir()] == ["a.png"]


def test_a_recording_of_hours_says_so_before_it_begins(tmp_path):
    process = subprocess.Popen(
        command("record", "synthetic://?size=16x16", tmp_path / "f", "--every", "99999s"),
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr.readline().startswith("1000 frames, 99999 s apart, take 27,777.5 hours")
    while not frames_in(tmp_path / "f"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_oddest_frame_stands_first_on_the_page(tmp_path):
    for number in range(9):
        save(tmp_path / f"{number}.png", np.full((20, 20), 100 + number, np.uint8))
    save(tmp_path / "4.png", np.full((20, 20), 250, np.uint8))
    done = record(str(tmp_path), tmp_path / "frames")
    shown = re.findall(r'<img src="([^"]+)"', done.page.read_text())
    assert len(shown) == 9
    assert shown[0] == "000005.png"


def test_the_page_is_no_frame_for_those_who_read_the_folder(tmp_path):
    record("synthetic://?frames=3&size=16x16", tmp_path)
    source = open_source(str(tmp_path))
    assert len(list(source)) == 3
    assert source.left_out


def test_the_first_signal_ends_a_recording_and_keeps_it(tmp_path):
    line = [*command("record", "synthetic://?fps=50&size=16x16", "frames"), "--every", "0s"]
    process = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(frames_in(tmp_path / "frames")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    count = len(frames_in(tmp_path / "frames"))
    assert said.startswith(f"recorded {count} frames")
    assert (tmp_path / "frames" / "contact-sheet.html").read_text().count("<img") == count


def test_a_damaged_picture_is_told_and_the_others_are_recorded(tmp_path):
    save(tmp_path / "1.png", noise(9, 9, 3))
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    save(tmp_path / "3.png", 255 - noise(9, 9, 3))
    done = run("record", tmp_path, "frames", cwd=tmp_path)
    assert done.returncode == 1
    assert "2.png" in done.stderr
    assert len(frames_in(tmp_path / "frames")) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nothing.mp4", "frames"), 2, "there is no source nothing.mp4"),
        (("synthetic://?frames=1", "file"), 2, "file"),
        (("synthetic://?frames=1", "frames", "--every", "soon"), 2, "--every takes a time"),
        (("empty", "frames"), 1, "no"),
    ],
)
def test_what_cannot_be_recorded_leaves_nothing(tmp_path, arguments, code, sentence):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    done = run("record", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "frames").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_ends_it_with_a_sentence_and_whole_files(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for number in range(2):
        save(tmp_path / f"{number}.png", np.full((8, 8), number, np.uint8))
    save(tmp_path / "2.png", noise(200, 200, 3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(WriteError, match=r"000003\.png"):
            record(str(tmp_path), tmp_path / "frames")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == ["000001.png", "000002.png", "contact-sheet.html"]
