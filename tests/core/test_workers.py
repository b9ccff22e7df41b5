"""Processes that decode: in order, within limits, and what dies or hangs there costs one file."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from adae_edge.contract import Window
from adae_edge.decoding import workers
from adae_edge.decoding.dicom import decode_dicom
from adae_edge.decoding.workers import Workers
from adae_edge.errors import DeviceError, FrameError, MissingExtra, NoPicture
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from tests.support.slices import write_slice

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"

# Runs in the process in place of the decoder, by the name of the file.
DANGEROUS = """
import os, signal, sys, time
from pathlib import Path
sys.path[:] = sys.argv[1:]
import numpy as np
from adae_edge.decoding import dicom, worker
worker.FRAME_S, worker.WAITING_S = 0.5, 30
sound, damaged = dicom.frames_of, []

def decode(file, *rest):
    path = Path(file.name)
    if path.name.startswith("crash") or (damaged and path.name.startswith("frail")):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name.startswith("damage"):
        damaged.append(path)
    while path.name.startswith("busy"):
        pass
    if path.name.startswith("idle") or (damaged and path.name.startswith("stuck")):
        worker._limit_time(0.5, 0.5)  # not 30 s, and on a busy machine frames of others take 0.5
        time.sleep(60)
    if path.name.startswith("large"):
        np.ones(10**9, np.uint8)
    if path.name.startswith("talk"):
        os.write(1, b"a decoder in C prints")
    if path.name.startswith("babble"):
        os.write(3, b"{]")
        os._exit(0)
    return sound(file, *rest)

dicom.frames_of = decode
worker.main()
"""


@pytest.fixture
def dangerous(monkeypatch):
    monkeypatch.setattr(workers, "_CODE", DANGEROUS)


@pytest.fixture
def folder(tmp_path):
    """Writes small slices of these names, each of another grey value."""

    def write(*names):
        for value, name in enumerate(names, 1):
            pixels = np.full((6, 8), value, np.uint8)
            write_slice(tmp_path / f"{name}.dcm", pixels, SOPInstanceUID=f"1.2.{value}")
        return tmp_path

    return write


def outcomes(place):
    """What a source gives, by the names of its files: a grey value, or a sentence."""
    with open_source(str(place)) as source:
        return [
            (Path(item.source).stem, int(item.pixels[0, 0, 0]))
            if isinstance(item, Frame)
            else (Path(item.source).stem, item.detail.replace(f"{item.source} ", ""))
            for item in source
        ]


@pytest.mark.parametrize("jobs", [1, 3])
def test_frames_are_those_of_this_process_in_the_order_of_asking(jobs):
    names = ["MR_small.dcm", "examples_ybr_color.dcm", "CT_small.dcm", "SC_rgb_rle_2frame.dcm"]
    paths, shown = [SHIPPED / name for name in names * 3], Window(300, 1000)
    with Workers(jobs) as pool:
        answers = [pool.frames(path, shown) for path in paths]
        for path, answer in zip(paths, answers, strict=True):
            for (origin, frame), (same, expected) in zip(
                answer, decode_dicom(path, shown), strict=True
            ):
                assert (origin.id, frame.dtype) == (same, np.uint8)
                assert np.array_equal(frame, expected)


def test_refusals_are_those_of_this_process(tmp_path):
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"broken")
    with Workers(1) as pool:
        for path in (broken, SHIPPED / "DICOMDIR", SHIPPED / "rtplan.dcm"):
            with pytest.raises(FrameError) as expected:
                list(decode_dicom(path))
            with pytest.raises(FrameError) as found:
                list(pool.frames(path))
            assert type(found.value) is type(expected.value)
            assert str(found.value) == str(expected.value)
        with pytest.raises(NoPicture):
            list(pool.frames(SHIPPED / "rtplan.dcm"))


def test_a_frame_that_is_refused_costs_itself(tmp_path):
    path = write_slice(tmp_path / "cut.dcm", np.zeros((3, 6, 8), np.uint8), NumberOfFrames=3)
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.save_as(path)
    path.write_bytes(path.read_bytes()[:-40])
    with Workers(1) as pool:
        kinds = [type(frame) for _, frame in pool.frames(path)]
    assert kinds == [type(frame) for _, frame in decode_dicom(path)]
    assert FrameError in kinds


@pytest.mark.usefixtures("dangerous")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "its decoder crashed (SIGSEGV)"),
        ("busy", "a frame takes more than 4.5 s of the processor"),
        ("idle", "a frame does not come within 30 s"),
        ("large", "it takes more than 400 MB of memory"),
        ("babble", "its decoder crashed (exit code 0)"),
    ],
)
def test_what_kills_or_hangs_costs_one_file_a_sentence(folder, name, reason):
    place = folder("a", name, "f", "g", f"{name}2", "z", "zz")
    refused = f"cannot be decoded: {reason}"
    expected = {"a": 1, name: refused, "f": 3, "g": 4, f"{name}2": refused, "z": 6, "zz": 7}
    assert outcomes(place) == sorted(expected.items())


@pytest.mark.usefixtures("dangerous")
@pytest.mark.parametrize("name", ["frail", "stuck"])
def test_a_file_is_not_blamed_for_what_another_one_did_to_the_process(folder, name):
    expected = {"damage": 1, "g": 2, name: 3}
    assert outcomes(folder(*expected)) == sorted(expected.items())


@pytest.mark.usefixtures("dangerous")
def test_what_a_decoder_prints_is_no_answer(folder, capfd):
    assert outcomes(folder("talk")) == [("talk", 1)]
    assert capfd.readouterr() == ("", "")


def test_pictures_start_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(workers.subprocess, "Popen", None)
    Image.new("L", (8, 6)).save(tmp_path / "frame.png")
    with open_source(str(tmp_path)) as source:
        assert len(list(source)) == 1


def test_few_files_start_few_processes(folder):
    place = folder("a")
    with Workers(16) as pool:
        list(pool.frames(place / "a.dcm"))
        list(pool.frames(place / "a.dcm"))
        assert len(pool._workers) == 1


def test_a_process_is_added_while_others_are_busy(folder):
    path = folder("a") / "a.dcm"
    with Workers(3) as pool:
        while len(pool._workers) < 3 or not all(each.is_ready() for each in pool._workers):
            answers = []
            while pool.has_room:
                answers.append(pool.frames(path))
            assert len(answers) <= 3 * workers._ASKED_BY_ALL
            assert [len(list(answer)) for answer in answers] == [1] * len(answers)


def test_a_second_process_starts_beside_the_first(folder):
    path = folder("a") / "a.dcm"
    with Workers(8) as pool:
        answers = [pool.frames(path), pool.frames(path)]
        assert not pool.has_room
        assert len(pool._workers) == 2
        assert [len(list(answer)) for answer in answers] == [1, 1]


def test_a_process_that_is_alone_is_asked_ahead(folder):
    path = folder("a") / "a.dcm"
    with Workers(1) as pool:
        list(pool.frames(path))
        answers = []
        while pool.has_room:
            answers.append(pool.frames(path))
        assert len(answers) == workers._ASKED_BY_ALL
        assert [len(list(answer)) for answer in answers] == [1] * len(answers)


def test_long_requests_are_not_asked_ahead(folder):
    path = folder("a") / "a.dcm"
    with Workers(1) as pool:
        list(pool.frames(path))
        answers = [pool.values(path, [0] * 2_000)]
        while pool.has_room:
            answers.append(pool.values(path, [0] * 2_000))
        assert len(answers) == workers._ASKED
        assert [len(list(answer)) for answer in answers] == [2_000] * len(answers)


def test_a_process_without_the_extra_says_so(monkeypatch):
    code = "import sys; sys.path[:] = sys.argv[1:]; sys.modules['pydicom'] = None\n"
    monkeypatch.setattr(workers, "_CODE", f"{code}{workers._CODE}")
    with Workers(1) as pool, pytest.raises(MissingExtra, match=r"adae-edge\[dicom\]"):
        list(pool.frames(SHIPPED / "MR_small.dcm"))


def test_a_process_that_does_not_start_is_a_failure_of_the_device(monkeypatch):
    monkeypatch.setattr(workers, "_CODE", "raise SystemExit(7)")
    with Workers(1) as pool, pytest.raises(DeviceError, match="does not start"):
        list(pool.frames(SHIPPED / "MR_small.dcm"))


def test_modules_of_the_working_directory_are_not_taken(folder, monkeypatch):
    """A CD may bring files that are named as modules are."""
    place = folder("a")
    for name in ("numpy", "json", "pydicom", "adae_edge"):
        (place / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(place)
    assert outcomes(place) == [("a", 1)]


@pytest.mark.usefixtures("dangerous")
def test_a_source_that_is_stopped_ends_at_once_and_blames_no_file(folder):
    source = open_source(str(folder("a", "idle")))
    items = []
    reader = threading.Thread(target=lambda: items.extend(source))
    began = time.monotonic()
    reader.start()
    while len(items) == 0 and time.monotonic() < began + 60:
        time.sleep(0.01)
    source.stop()
    reader.join(timeout=60)
    source.close()
    assert [Path(item.source).stem for item in items] == ["a"]


@pytest.mark.parametrize("at_work", [False, True])
def test_a_process_ends_with_the_one_that_started_it(folder, at_work):
    """While it works it ends by the limit of a frame, or when it has decoded it."""
    place = folder("a", "busy")
    code = f"""
import sys, time
from pathlib import Path
from adae_edge.decoding import workers
workers._CODE = {DANGEROUS!r}
pool = workers.Workers(1)
list(pool.frames(Path(sys.argv[1], "a.dcm")))
if {at_work}:
    pool.frames(Path(sys.argv[1], "busy.dcm"))
print(pool._workers[0]._process.pid, flush=True)
time.sleep(60)
"""
    command = [sys.executable, "-c", code, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        os.kill(worker, 0)
        process.kill()
    until = time.monotonic() + 60
    while Path(f"/proc/{worker}/cmdline").exists() and time.monotonic() < until:
        if not Path(f"/proc/{worker}/cmdline").read_bytes():
            break  # a zombie, whose new parent is slow
        time.sleep(0.05)
    assert time.monotonic() < until
