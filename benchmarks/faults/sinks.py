"""Disks that are full or read-only, files that others move, and readers that go away."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Row, Seen, expect, judge
from adae_edge.benchmarks.peers.numbers import write_clip
from adae_edge.benchmarks.peers.processes import MissingPeer

_FRAMES = range(1, 241)


@contextmanager
def small_disk(folder: Path, kilobytes: int = 32) -> Iterator[Path]:
    """A file system of so many kilobytes within the block."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    _mount(*options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S603, S607


def _mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)  # noqa: S603, S607
    if done.returncode:
        raise MissingPeer(f"this process may not mount: {done.stderr.strip()}")


def _whole_rows(path: Path) -> list[Row]:
    """The rows of a file of JSON Lines, which has no half one."""
    text = path.read_text()
    expect(text.endswith("\n") or not text, f"{path.name} ends with half a row")
    return [row for row in map(json.loads, text.splitlines()) if row.get("score") is not None]


@fault("40", "disk full under one sink of three, and room again")
def one_disk_full(lab: Lab) -> Seen:
    """The other two have every row; the exit code tells."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with small_disk(lab.folder / "disk") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(20 * 1024))
        sinks = (f"jsonl:{disk / 'full.jsonl'}", f"csv:{lab.folder / 'other.csv'}")
        with lab.score(clip, model=lab.slow, sinks=sinks) as run:
            run.wait_to_say("full.jsonl")
            filler.unlink()
            recovered = run.wait_to_say("again")
            code = run.end(None)
        kept = _whole_rows(disk / "full.jsonl")
    expect(code == 1, f"exit code {code}")
    csv_rows = len((lab.folder / "other.csv").read_text().splitlines()) - 1
    expect(csv_rows >= len(_FRAMES), f"{csv_rows} rows in the CSV file")
    told = f"{run.last_words.split('; ')[-1]}; it has {len(kept)}, exit code {code}"
    seen = judge(run.rows(), _FRAMES, f"the others go on: {told}")
    seen.recovered_s = recovered
    return seen


@fault("41", "disk full under all sinks")
def all_disks_full(lab: Lab) -> Seen:
    """A file's run ends with a sentence, and rows are whole."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with small_disk(lab.folder / "disk") as disk:
        full = disk / "full.jsonl"
        with lab.score(clip, rows=full) as run:
            code = run.end(None)
        rows = _whole_rows(full)
    expect(code == 1, f"exit code {code}")
    return judge(rows, range(1, len(rows) + 1), f"exit code 1: {run.last_words}")


@fault("42a", "folder read-only from the start")
def read_only(lab: Lab) -> Seen:
    """A sentence before anything is scored."""
    clip = write_clip(lab.folder / "clip.mp4", range(1, 31))
    with small_disk(lab.folder / "disk") as disk:
        _mount("-o", "remount,ro", str(disk))
        with lab.score(clip, sinks=(f"jsonl:{disk / 'rows.jsonl'}",)) as run:
            code = run.end(None)
    expect(code in (1, 2), f"exit code {code}")
    return judge(run.rows(), (), f"exit code {code}: {run.last_words}")


@fault("42b", "folder read-only in mid-run")
def read_only_later(lab: Lab) -> Seen:
    """A file that is open may still be written to, so every row is there."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with small_disk(lab.folder / "disk", 1024) as disk:
        sink = disk / "rows.jsonl"
        with lab.score(clip, model=lab.slow, rows=sink) as run:
            run.wait_for_rows(20)
            _mount("--bind", str(disk), str(disk))
            _mount("-o", "remount,bind,ro", str(disk))
            code = run.end(None)
        rows = _whole_rows(sink)
        subprocess.run(["umount", "-l", str(disk)], check=True)  # noqa: S603, S607
    expect(code == 0, f"exit code {code}: {run.last_words}")
    return judge(rows, _FRAMES, "the file that is open goes on, exit code 0")


@fault("43", "rows moved away by somebody else, as logrotate does", fast=True)
def moved_away(lab: Lab) -> Seen:
    """A new file begins under the name, or the old one goes on; together every row is there."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    moved = lab.folder / "rows.jsonl.1"
    with lab.score(clip, model=lab.slow) as run:
        run.wait_for_rows(20)
        run.rows_file.rename(moved)
        code = run.end(None)
    expect(code == 0, f"exit code {code}: {run.last_words}")
    new = run.rows()
    told = f"{len(run.rows(moved))} rows in the moved file, {len(new)} in a new one"
    return judge(run.rows(moved) + new, _FRAMES, told)


@fault("44", "one file named twice under two spellings; a file of something else", fast=True)
def named_twice(lab: Lab) -> Seen:
    """Each is refused with a sentence, and nothing is changed."""
    clip = write_clip(lab.folder / "clip.mp4", range(1, 31))
    again = f"jsonl:{lab.folder}/../{lab.folder.name}/rows.jsonl"
    with lab.score(clip, sinks=(again,)) as run:
        code = run.end(None)
    expect(code == 2, f"exit code {code} for one file named twice: {run.last_words}")
    told = run.last_words
    other = lab.folder / "letter.csv"
    other.write_text("Dear reader\n")
    with lab.score(clip, sinks=(f"csv:{other}",)) as run:
        code = run.end(None)
    expect(code in (1, 2), f"exit code {code} for a letter")
    expect(other.read_text() == "Dear reader\n", "the letter was changed")
    return judge(run.rows(), (), f"{told}; {run.last_words}")


@fault("45", "the reader of the pipe closes it", fast=True)
def reader_gone(lab: Lab) -> Seen:
    """It ends by itself, soon, without a traceback."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    reading, writing = os.pipe()
    with lab.score(clip, model=lab.slow, sinks=("terminal",), stdout=writing) as run:
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            pipe.readline()
        code = run.end(None)
    rows = run.rows()
    told = f"exit code {code}, {len(rows)} rows in the other sink: {run.last_words}"
    return judge(rows, range(1, len(rows) + 1), told)


@fault("53a", "SQLite locked by another process")
def sqlite_locked(lab: Lab) -> Seen:
    """Rows wait for the lock, or the sink says what it lacks."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    database = lab.folder / "rows.sqlite"
    with lab.score(clip, model=lab.slow, sinks=(f"sqlite:{database}",)) as run:
        run.wait_for_rows(20)
        locker = sqlite3.connect(database, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        run.wait_for_rows(10)
        locker.execute("ROLLBACK")
        locker.close()
        code = run.end(None)
    told = f"exit code {code}: {run.last_words}"
    return judge(run.rows(), _FRAMES, told)


@fault("53b", "SQLite database of another program", fast=True)
def sqlite_of_others(lab: Lab) -> Seen:
    """It is refused with a sentence and stays as it is."""
    clip = write_clip(lab.folder / "clip.mp4", range(1, 31))
    database = lab.folder / "rows.sqlite"
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE letters (words TEXT)")
    other.close()
    before = database.read_bytes()
    with lab.score(clip, sinks=(f"sqlite:{database}",)) as run:
        code = run.end(None)
    expect(code in (1, 2), f"exit code {code}: {run.last_words}")
    expect("there is no sink" not in run.text, run.last_words)
    expect(database.read_bytes() == before, "the database was changed")
    return judge(run.rows(), (), f"exit code {code}: {run.last_words}")
