"""Videos, pictures and pipes that are cut, empty, odd, or something else."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect, judge
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.numbers import write_clip
from adae_edge.benchmarks.peers.processes import program

_FRAMES = range(1, 91)
_CODECS = {
    "h264.mp4": ("-c:v", "libx264", "-bf", 2),
    "hevc.mkv": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", 8, "-b:v", "1M"),
    "av1.mkv": ("-c:v", "libaom-av1", "-cpu-used", 8, "-crf", 30),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", 4),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-q:v", 4),
    "10-bits.mp4": ("-c:v", "libx264", "-pix_fmt", "yuv420p10le"),
    "variable-rate.mkv": (
        *("-vf", "setpts='if(lt(N,30),N,30+(N-30)*3)/30/TB'"),
        *("-vsync", "passthrough", "-c:v", "libx264"),
    ),
}


def _ffmpeg(*arguments: object) -> None:
    command = [program("ffmpeg"), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)  # noqa: S603


def _whole_run(lab: Lab, *sources: object) -> tuple[Run, int]:
    """Score to the end: the run and its exit code."""
    with lab.score(*sources) as run:
        return run, run.end(None)


def _cut(lab: Lab, name: str, *options: object) -> Seen:
    """Half of a file: its first frames, and a sentence."""
    clip = write_clip(lab.folder / name, _FRAMES, ("-c:v", "libx264", "-bf", 0, *options))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    run, code = _whole_run(lab, clip)
    rows = run.rows()
    expect(code == 1, f"exit code {code}")
    seen = f"{len(rows)} rows, exit code 1: {run.said[0][1]}"
    return judge(rows, range(1, len(rows) + 1), seen)


@fault("35a", "video cut in half, mp4 with its index at the end")
def cut_mp4(lab: Lab) -> Seen:
    """Nothing can be read."""
    return _cut(lab, "cut.mp4")


@fault("35b", "video cut in half, mp4 with its index first", fast=True)
def cut_faststart(lab: Lab) -> Seen:
    """What is there is scored."""
    return _cut(lab, "cut.mp4", "-movflags", "faststart")


@fault("35c", "video cut in half, mkv")
def cut_mkv(lab: Lab) -> Seen:
    """What is there is scored."""
    return _cut(lab, "cut.mkv")


@fault("35d", "empty video; not a video; audio only")
def no_videos(lab: Lab) -> Seen:
    """A sentence for each, before anything is scored."""
    empty, text, sound = (lab.folder / f"{name}.mp4" for name in ("empty", "text", "sound"))
    empty.touch()
    text.write_text("Dear reader\n")
    _ffmpeg("-f", "lavfi", "-i", "sine=duration=1", sound)
    told = []
    for path in (empty, text, sound):
        run, code = _whole_run(lab, path)
        expect(code in (1, 2) and not run.rows(), f"{path.name}: exit code {code}")
        told.append(run.last_words.removeprefix("adae-edge: "))
    return Seen("; ".join(told))


@fault("36", "codecs: H.264, HEVC, VP9, AV1, MJPEG, MPEG-4; 10 bits; variable rate")
def codecs(lab: Lab) -> Seen:
    """Every frame of each, once."""
    total = Seen("")
    for name, options in _CODECS.items():
        folder = lab.folder / name.replace(".", "-")
        folder.mkdir()
        clip = write_clip(folder / name, range(1, 41), options)
        with lab.score(clip, rows=folder / "rows.jsonl") as run:
            code = run.end(None)
        expect(code == 0, f"{name}: exit code {code}, {run.last_words}")
        seen = judge(run.rows(), range(1, 41), "")
        total.lost += seen.lost
        total.doubled += seen.doubled
        total.false += seen.false
    total.seen = f"all 40 frames of each of {', '.join(_CODECS)}"
    return total


@fault("36b", "odd size; turned by 90 degrees")
def odd(lab: Lab) -> Seen:
    """Numbers are read at an odd size; a turned picture has none, so it is turned back before."""
    odd_size = lab.folder / "odd.mkv"
    pad = ("-vf", "format=rgb24,crop=639:359:0:0", "-c:v", "libx264rgb", "-pix_fmt", "rgb24")
    write_clip(odd_size, range(1, 41), (*pad, "-qp", 0))
    upright, turned = lab.folder / "upright.mp4", lab.folder / "turned.mp4"
    write_clip(upright, range(41, 81), ("-vf", "transpose=1", "-c:v", "libx264"))
    _ffmpeg("-i", upright, "-metadata:s:v", "rotate=90", "-c", "copy", turned)
    run, code = _whole_run(lab, odd_size, turned)
    expect(code == 0, f"exit code {code}: {run.last_words}")
    return judge(run.rows(), range(1, 81), "numbers are read, so it was turned and kept its size")


@fault("37a", "standard input closed in mid-frame", fast=True)
def pipe_closed(lab: Lab) -> Seen:
    """The whole frames are scored, and a sentence tells of the end."""
    stream = write_clip(lab.folder / "clip.y4m", range(1, 31), ())
    cut = lab.folder / "cut.y4m"
    cut.write_bytes(stream.read_bytes()[: stream.stat().st_size * 2 // 3 + 1000])
    with cut.open("rb") as content, lab.score("-", stdin=content) as run:
        code = run.end(None)
    rows = run.rows()
    expect(code == 1, f"exit code {code}: {run.last_words}")
    return judge(rows, range(1, 21), f"{len(rows)} rows, exit code 1: {run.said[0][1]}")


@fault("37b", "standard input empty; a terminal", fast=True)
def pipe_empty(lab: Lab) -> Seen:
    """A sentence for each."""
    told = []
    with lab.score("-") as run:
        code = run.end(None)
    expect(code in (1, 2), f"exit code {code} where it is empty")
    told.append(run.last_words.removeprefix("adae-edge: "))
    ours, theirs = os.openpty()
    with lab.score("-", stdin=theirs) as run:
        code = run.end(None, limit=20)
    os.close(ours)
    os.close(theirs)
    expect(code == 2, f"exit code {code} at a terminal")
    told.append(run.last_words.removeprefix("adae-edge: "))
    return Seen("; ".join(told), false=len(run.rows()))


def _picture(number: int) -> Image.Image:
    return Image.fromarray(np.repeat(numbers.picture(number, 1600, 1200)[..., None], 3, 2))


@fault("39", "pictures: damaged, 8193 wide, CMYK, progressive, turned by EXIF", fast=True)
def pictures(lab: Lab) -> Seen:
    """What cannot be decoded is told, the others are scored; shrunk while they are decoded."""
    folder = lab.folder / "pictures"
    folder.mkdir()
    _picture(1).save(folder / "1.jpg", quality=90)
    _picture(2).save(folder / "2.jpg", quality=90, progressive=True)
    _picture(3).convert("CMYK").save(folder / "3.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is at the right
    _picture(4).rotate(90, expand=True).save(folder / "4.jpg", quality=90, exif=exif)
    _picture(5).save(folder / "5.jpg", quality=90)
    damaged: Path = folder / "5.jpg"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    Image.fromarray(np.zeros((8, 8193, 3), np.uint8)).save(folder / "6.png")
    run, code = _whole_run(lab, folder)
    expect(code == 1, f"exit code {code}: {run.last_words}")
    said = [line for _, line in run.said if any(name in line for name in ("5.jpg", "6.png"))]
    expect(said, f"nothing was said of the damaged ones: {run.last_words}")
    return judge(run.rows(), range(1, 5), f"4 rows, exit code 1: {'; '.join(said)}")


def _folder(lab: Lab, count: int) -> Path:
    """A folder of numbered pictures."""
    folder = lab.folder / "pictures"
    folder.mkdir(exist_ok=True)
    for number in range(1, count + 1):
        _picture(number).save(folder / f"{number:03}.png")
    return folder


@fault("58a", "resume with a grown folder, a half row, and another model")
def resumed(lab: Lab) -> Seen:
    """What is kept is not scored again; another model is refused."""
    folder = _folder(lab, 30)
    run, code = _whole_run(lab, folder)
    expect(code == 0, f"exit code {code}: {run.last_words}")
    kept = run.rows_file.read_bytes().splitlines(keepends=True)
    run.rows_file.write_bytes(b"".join(kept[:20]) + kept[20][:30])
    _folder(lab, 40)
    with lab.score(folder, options=["--resume"]) as run:
        code = run.end(None)
    expect(code == 0, f"exit code {code}: {run.last_words}")
    with lab.score(folder, model=lab.slow, options=["--resume"]) as other:
        other_code = other.end(None)
    expect(other_code in (1, 2), f"another model: exit code {other_code}")
    return judge(run.rows(), range(1, 41), f"whole again; another model: {other.last_words}")


@fault("58b", "resume with a sink that is ahead of another", fast=True)
def resumed_apart(lab: Lab) -> Seen:
    """Each gets the rows that it lacks, and none twice."""
    folder, table = _folder(lab, 30), lab.folder / "rows.csv"
    for lines in (0, 0), (10, 20), (20, 5):
        for path, count in zip((lab.folder / "rows.jsonl", table), lines, strict=True):
            if count:
                path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:count]))
        with lab.score(folder, sinks=[f"csv:{table}"], options=["--resume"]) as run:
            code = run.end(None)
        expect(code == 0, f"exit code {code}: {run.last_words}")
        with table.open(newline="") as file:
            cells = [row for row in csv.DictReader(file) if row["score"]]
        seen = judge(run.rows(), range(1, 31), "both whole again, whichever was ahead")
        other = judge([row | {"score": float(row["score"])} for row in cells], range(1, 31), "")
        expect(seen == replace(other, seen=seen.seen), f"the table has {other}")
    return seen


def _put(number: int, path: Path) -> None:
    Image.fromarray(numbers.picture(number, 320, 240)).save(path)


@fault("38", "watched folder: half-written, renamed, deleted files; removed, back; 10 000 at once")
def watched(lab: Lab) -> Seen:
    """Each complete file once; what is gone before its turn is no row."""
    folder, aside = lab.folder / "watched", lab.folder / "aside"
    folder.mkdir()
    aside.mkdir()
    with lab.score(f"watch:{folder}") as run:
        time.sleep(3)
        # a file that is written in two halves, one that is renamed into place, one that goes
        _put(1, aside / "1.png")
        content = (aside / "1.png").read_bytes()
        with (folder / "1.png").open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.3)
            file.write(content[len(content) // 2 :])
        _put(2, aside / "2.png")
        (aside / "2.png").rename(folder / "2.png")
        _put(3, folder / "3.png")
        (folder / "3.png").unlink()
        run.wait_for("rows 1 and 2", lambda: len(run.rows()) >= 2, 30)
        # the folder goes and comes back
        shutil.rmtree(folder)
        time.sleep(2)
        folder.mkdir()
        _put(4, folder / "4.png")
        run.wait_for("row 4", lambda: len(run.rows()) >= 3, 30)
        # many at once
        for number in range(5, 10_005):
            _put(number, aside / f"{number}.png")
        for number in range(5, 10_005):
            (aside / f"{number}.png").rename(folder / f"{number}.png")
        run.wait_for("10003 rows", lambda: len(run.rows()) >= 10_003, 400)
        time.sleep(2)
        code = run.end()
    expect(code == 0, f"exit code {code} after SIGTERM: {run.last_words}")
    sent = [1, 2, *range(4, 10_005)]
    return judge(run.rows(), sent, f"{len(run.rows())} rows; {run.said[0][1]}")
