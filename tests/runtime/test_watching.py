"""A watched folder: what is complete, what comes, goes, is renamed; and no file twice."""

import errno
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import UsageError
from adae_edge.runtime.frame import Event, Frame
from adae_edge.runtime.sources import watch
from adae_edge.runtime.sources.registry import open_normals, open_source
from adae_edge.runtime.sources.source import Wanted
from tests.support.models import HANGS_S, a_contract


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL_S", 0.05)
    monkeypatch.setattr(watch, "PATIENCE_S", 0.3)
    monkeypatch.setattr(watch, "_LOOK_S", 0.01)


class Watcher:
    """Reads a watched folder in a thread of its own, and keeps what it gives."""

    def __init__(self, folder, **wanted):
        self.source = open_source(f"watch:{folder}", Wanted(**wanted))
        self._really_look, self.source._look = self.source._look, self._look
        self.items, self.looks = [], 0
        self._thread = threading.Thread(target=lambda: self.items.extend(self._each()))

    def _each(self):
        for item in self.source:
            self.items.append(item)
        return []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.source.stop()
        self._thread.join()

    @property
    def frames(self):
        return [Path(item.source).name for item in list(self.items) if isinstance(item, Frame)]

    @property
    def events(self):
        return [item for item in list(self.items) if isinstance(item, Event)]

    def until(self, condition):
        """Wait until something is true of what came; then let the folder be looked at again."""
        self._await(condition)
        self.look_again()

    def look_again(self):
        """Let a moment pass in which the folder is looked at twice, however slow the machine."""
        looks = self.looks
        time.sleep(0.4)
        self._await(lambda: self.looks > looks + 2)

    def _await(self, condition):
        last = time.monotonic() + HANGS_S
        while not condition():
            assert time.monotonic() < last, (self.frames, self.events)
            time.sleep(0.01)

    def _look(self, now):
        self.looks += 1
        return self._really_look(now)


def save(path, value=7):
    Image.new("L", (40, 30), value).save(path)
    return path


def test_what_is_there_comes_by_age_and_then_what_is_added(tmp_path):
    for age, name in ((10, "c.png"), (30, "a.png"), (20, "b.jpg")):
        stamp = time.time() - age
        os.utime(save(tmp_path / name), (stamp, stamp))
    with Watcher(tmp_path) as watched:
        watched.until(lambda: len(watched.frames) == 3)
        (tmp_path / "below").mkdir()
        save(tmp_path / "below" / "d.png")
        watched.until(lambda: len(watched.frames) == 4)
    assert watched.frames == ["a.png", "b.jpg", "c.png", "d.png"]
    assert not watched.events
    assert watched.source.endless
    assert not watched.source.live


def test_a_half_written_file_is_scored_once_when_it_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "PATIENCE_S", HANGS_S)  # whatever keeps the writer
    whole = save(tmp_path / "whole.bmp", 200).read_bytes()
    (tmp_path / "whole.bmp").unlink()
    with Watcher(tmp_path) as watched, (tmp_path / "slow.bmp").open("wb") as file:
        for start in range(0, len(whole), 300):
            file.write(whole[start : start + 300])
            file.flush()
            time.sleep(0.13)  # long enough to look complete
        file.close()
        watched.until(lambda: watched.frames)
    assert watched.frames == ["slow.bmp"]
    assert watched.items[0].pixels.min() == 200
    assert not watched.events


def test_a_file_that_stays_damaged_is_one_failure(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty.png").write_bytes(b"")
    with Watcher(tmp_path) as watched:
        watched.until(lambda: len(watched.events) == 2)
        save(tmp_path / "sound.png")
        watched.until(lambda: watched.frames)
    assert {event.kind for event in watched.events} == {"failure"}
    assert watched.frames == ["sound.png"]


def test_a_file_that_is_renamed_into_place_and_one_that_is_renamed_afterwards(tmp_path):
    with Watcher(tmp_path) as watched:
        save(tmp_path / ".part.png").rename(tmp_path / "1.png")
        watched.until(lambda: watched.frames)
        (tmp_path / "1.png").rename(tmp_path / "2.png")
        save(tmp_path / "3.png")
        watched.until(lambda: len(watched.frames) == 2)
    assert watched.frames == ["1.png", "3.png"]
    assert not watched.events


def test_a_new_picture_under_a_used_name_is_told_and_a_name_that_was_free_again_is_not(tmp_path):
    with Watcher(tmp_path) as watched:
        save(tmp_path / "1.png")
        watched.until(lambda: watched.frames)
        save(tmp_path / "1.png", 9)
        watched.until(lambda: watched.events)
        (tmp_path / "1.png").unlink()
        watched.look_again()
        save(tmp_path / "1.png", 80)
        watched.until(lambda: len(watched.frames) == 2)
    (event,) = watched.events
    assert event.kind == "note"
    assert "changed after it was scored" in event.detail
    assert watched.items[-1].pixels.max() == 80


def test_a_file_that_is_deleted_before_its_turn_is_told(tmp_path):
    for number in range(3):
        os.utime(save(tmp_path / f"{number}.png"), (number, number))
    source = open_source(f"watch:{tmp_path}")
    items = iter(source)
    assert next(items).source == str(tmp_path / "0.png")
    (tmp_path / "1.png").unlink()
    assert next(items).source == str(tmp_path / "2.png")
    gap = next(items)
    assert gap.kind == "gap"
    assert gap.detail == f"{tmp_path / '1.png'} was taken away before it was scored"
    source.stop()
    assert not list(items)


def test_a_folder_that_is_removed_and_comes_back(tmp_path):
    folder, kept = tmp_path / "frames", tmp_path / "kept"
    folder.mkdir()
    save(folder / "1.png")
    save(folder / "2.png", 3)
    with Watcher(folder) as watched:
        watched.until(lambda: len(watched.frames) == 2)
        folder.rename(kept)
        watched.until(lambda: watched.events)
        shutil.copytree(kept, tmp_path / "new")  # with other inodes, as after mounting it again
        save(tmp_path / "new" / "2.png", 90)
        save(tmp_path / "new" / "3.png")
        (tmp_path / "new").rename(folder)
        watched.until(lambda: len(watched.frames) == 4)
    assert [event.kind for event in watched.events] == ["lost", "live"]
    assert sorted(watched.frames) == ["1.png", "2.png", "2.png", "3.png"]
    assert "3.png" in watched.frames[2:]


def test_a_folder_whose_server_does_not_answer_is_looked_for(tmp_path, monkeypatch):
    folder, look, away = tmp_path / "watched", Path.stat, threading.Event()
    folder.mkdir()
    save(folder / "a.png")

    def stat(path, **how):
        if path == folder and away.is_set():
            raise OSError(errno.ESTALE, "Stale file handle")
        return look(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    with Watcher(folder) as watched:
        watched.until(lambda: watched.frames)
        away.set()
        watched.until(lambda: watched.events)
        away.clear()
        save(folder / "b.png")
        watched.until(lambda: len(watched.frames) == 2)
    assert [event.kind for event in watched.events] == ["lost", "live"]
    assert watched.frames == ["a.png", "b.png"]


def mounted(*arguments):
    """Mount something, or skip the test where this process may not."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this process may not mount: {done.stderr.strip()}")


def test_a_disk_that_is_unmounted_and_mounted_again_is_scored_once(tmp_path):
    disk, folder = tmp_path / "disk", tmp_path / "watched"
    disk.mkdir()
    folder.mkdir()
    mounted("-t", "tmpfs", "tmpfs", disk)
    try:
        save(disk / "a.png")
        mounted("--bind", disk, folder)
        with Watcher(folder) as watched:
            watched.until(lambda: watched.frames)
            subprocess.run(["umount", "--lazy", folder], check=True)
            watched.until(lambda: len(watched.events) == 1)  # an empty folder is left
            save(disk / "b.png")
            mounted("--bind", disk, folder)
            watched.until(lambda: "b.png" in watched.frames)
            subprocess.run(["umount", "--lazy", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert watched.frames == ["a.png", "b.png"]


def test_a_file_that_is_whole_after_it_was_told_as_damaged_is_scored(tmp_path):
    whole = save(tmp_path / "whole.png").read_bytes()
    (tmp_path / "whole.png").unlink()
    (tmp_path / "slow.png").write_bytes(whole[:50])
    with Watcher(tmp_path) as watched:
        watched.until(lambda: watched.events)
        with (tmp_path / "slow.png").open("ab") as file:
            file.write(whole[50:])
        watched.until(lambda: watched.frames)
    assert [event.kind for event in watched.events] == ["failure"]
    assert watched.frames == ["slow.png"]


def test_other_files_are_counted_once_and_hidden_ones_are_not_looked_at(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(watch, "is_scorable", lambda path: asked.append(path) or False)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"")
    with Watcher(tmp_path) as watched:
        watched.until(lambda: watched.source.left_out)
    assert watched.source.left_out == {".txt": 1}
    assert {path.name for path in asked} == {"notes.txt"}
    assert not watched.items


def test_what_is_kept_already_is_not_scored_again(tmp_path):
    for name in ("1.png", "2.png"):
        save(tmp_path / name)
    done = {(str(tmp_path / "1.png"), 0)}
    with Watcher(tmp_path, done=lambda *key: key in done) as watched:
        watched.until(lambda: watched.frames)
    assert watched.frames == ["2.png"]


def made_up(path):
    return Frame(str(path), 0, 0.0, np.zeros((3, 4, 1), np.uint8))


def test_ten_thousand_files_at_once_are_each_given_once(tmp_path, monkeypatch):
    monkeypatch.setattr(watch.Watch, "_decoded", lambda watched, path: [made_up(path)])
    save(tmp_path / "first.png")
    for number in range(9_999):
        os.link(tmp_path / "first.png", tmp_path / f"{number:05}.png")
    looks = []
    source = open_source(f"watch:{tmp_path}")
    find, source._present = source._present, lambda told: looks.append(1) or find(told)
    found = []
    for frame in source:
        found.append(frame.source)
        if len(found) == 10_000:
            source.stop()
    assert len(set(found)) == 10_000
    assert len(looks) < 10


def test_links_are_followed_as_in_a_folder(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "frames"
    outside.mkdir()
    folder.mkdir()
    save(outside / "1.png")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to("nowhere.png")
    with Watcher(folder) as watched:
        watched.until(lambda: watched.frames and watched.events)
    assert watched.frames == ["1.png"]
    (event,) = watched.events
    assert "gone.png is a link to a file that is not there" in event.detail


def test_there_must_be_a_folder_and_it_does_not_calibrate(tmp_path):
    with pytest.raises(UsageError, match=r"there is no folder .* to watch"):
        open_source(f"watch:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match="never ends"):
        open_normals(a_contract(), f"watch:{tmp_path}")


def test_it_stops_at_once_while_nothing_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL_S", HANGS_S)
    source = open_source(f"watch:{tmp_path}")
    threading.Timer(0.1, source.stop).start()
    assert list(source) == []
