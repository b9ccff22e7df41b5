"""Gives hostile DICOM files to a source of frames, and tells what each one cost.

    python -m adae_edge.benchmarks.hostile OUT [--mutations 10000] [--seed 0]

A hostile file stands between two sound ones in a folder, which are to be scored whatever it does.
With ``--mutations`` sound files of pydicom's, compressed in every way, are damaged, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from adae_edge.benchmarks.hostile_files import write_all, write_sound
from adae_edge.benchmarks.mutations import mutated
from adae_edge.benchmarks.record import peak_memory_mb, record
from adae_edge.contract import Window
from adae_edge.decoding.workers import Workers
from adae_edge.errors import AdaeEdgeError, FrameError, NoPicture
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted

LONGEST_S, MOST_MB = 5.0, 500
_LARGEST = 2**18  # bytes of a file that is damaged
_SHOWN = Window(2048, 4096)
_DEAD = {
    "crashed": "its decoder crashed",
    "too long": "a frame ",
    "too large": "it takes more than",
}


def main() -> int:
    """Run, and write the tables; exit code 1 if a sound file was lost or a limit passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--mutations", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(_measured(given.one)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(what, path) for what, path in write_all(Path(folder)).items()]
    print(table := _table(rows))
    figures: dict[str, Any] = {"inputs": rows}
    if given.mutations:
        figures["mutations"] = damaged = _damaged(given.mutations, given.seed)
        table += f"\n\n## Damaged files\n\n{_damaged_words(damaged)}"
        print(_damaged_words(damaged))
    given.out.mkdir(parents=True, exist_ok=True)
    options = f"OUT --mutations {given.mutations} --seed {given.seed}"
    page = f"# Hostile DICOM files\n\n    python -m {__spec__.name} {options}\n\n{table}\n"
    write_atomically(given.out / "hostile.md", page.encode())
    write_json(given.out / "hostile.json", record(**figures))
    bad = any(
        row["others"] is False or row["processor_s"] > LONGEST_S or row["mb"] > MOST_MB
        for row in rows
    )
    return int(bad or bool(given.mutations and (damaged["lost"] or damaged["mb"] > MOST_MB)))


def _row(what: str, path: Path) -> dict[str, Any]:
    """What a source makes of an input, in a process of its own, between sound files."""
    place = path
    if path.suffix == ".dcm":
        write_sound(path.with_name("a.dcm"))
        write_sound(path.with_name("z.dcm"))
        place = path.parent
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-m", __spec__.name, "-", "--one", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        words = f"exit code {ran.returncode}: {ran.stderr.strip().splitlines()[-1:]}"
        return {"what": what, "words": words, "others": False, "processor_s": 0.0, "mb": 0.0}
    found = json.loads(ran.stdout)
    words = found["words"].replace(str(path), "it").replace(str(path.parent), "its folder")
    return {"what": what, **found, "words": words}


def _measured(place: Path) -> dict[str, Any]:
    """What a source gives, what that took of the processor, and the largest process's memory."""
    words, scored = [], []
    try:
        with open_source(str(place), Wanted(window=_SHOWN, jobs=1)) as source:
            for item in source:
                if isinstance(item, Frame):
                    scored.append(Path(item.source).name)
                elif item.kind != "series":
                    words.append(item.detail)
    except AdaeEdgeError as error:
        words.append(str(error))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    others = {"a.dcm", "z.dcm"} <= set(scored) if place.is_dir() else None
    if "m.dcm" in scored:
        words.append("scored")
    return {
        "words": "; ".join(words),
        "others": others,
        "processor_s": round(sum(each.ru_utime + each.ru_stime for each in used), 1),
        "mb": round(max(peak_memory_mb(), used[1].ru_maxrss * 1024 / 1e6)),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| input | what is said | processor, s | largest process, MB | sound files beside it |",
        "|---|---|---:|---:|---|",
    ]
    for row in rows:
        words = row["words"][:160].replace("|", "/")
        others = {True: "scored", False: "**lost**", None: ""}[row["others"]]
        lines.append(
            f"| {row['what']} | {words} | {row['processor_s']} | {row['mb']:.0f} | {others} |"
        )
    return "\n".join(lines)


def _damaged(count: int, seed: int) -> dict[str, Any]:
    """Damage sound files, and decode each between two sound ones by the same process.

    Returns:
        Counts of what became of them, the most time that one took of the processor and by the
        clock, and the memory of the largest process.
    """
    outcomes, died, lost, longest, most = Counter[str](), [], 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder, Workers(1) as pool:
        sound = _sound_files(pool)
        beside, path = Path(folder, "z.dcm"), Path(folder, "m.dcm")
        write_sound(beside)
        list(pool.frames(beside))
        for number in range(count):
            random = np.random.default_rng((seed, number))
            source = sound[number % len(sound)]
            path.write_bytes(mutated(source.read_bytes(), random)[0])
            began, used_before = time.monotonic(), _processor_s()
            outcome, words = _outcome(pool, path)
            outcomes[outcome] += 1
            if outcome in _DEAD:
                died.append({"number": number, "file": source.name, "words": words})
            longest = max(longest, time.monotonic() - began)
            most = max(most, _processor_s() - used_before)
            lost += _outcome(pool, beside)[0] != "frames"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "count": count,
        "seed": seed,
        "files": [file.name for file in sound],
        "outcomes": dict(outcomes),
        "died": died,
        "lost": lost,
        "processor_s": round(most, 2),
        "longest_s": round(longest, 2),
        "mb": round(used.ru_maxrss * 1024 / 1e6),
    }


def _processor_s() -> float:
    """What the processes that this one started have taken of the processor so far, s."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = ended.ru_utime + ended.ru_stime
    own = os.getpid()
    for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def _sound_files(pool: Workers) -> list[Path]:
    """Files of pydicom's with compressed pixels that are decoded, and are not large."""
    sound = []
    package = importlib.util.find_spec("data_store")  # pydicom-data, which has more of them
    places = [Path(pydicom.__file__).parent / "data" / "test_files"]
    if package is not None:
        places += [Path(place, "data") for place in package.submodule_search_locations or ()]
    for path in sorted(path for place in places for path in place.glob("*.dcm")):
        if path.stat().st_size > _LARGEST:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        syntax = head.get("file_meta", {}).get("TransferSyntaxUID")
        if syntax is None or not syntax.is_transfer_syntax or not syntax.is_compressed:
            continue
        if _outcome(pool, path)[0] == "frames":
            sound.append(path)
    return sound


def _outcome(pool: Workers, path: Path) -> tuple[str, str]:
    """What a file gives: one of "frames", "skip", "sentence" and the keys of ``_DEAD``."""
    try:
        frames = [frame for _, frame in pool.frames(path, _SHOWN)]
    except NoPicture:
        return "skip", ""
    except FrameError as error:
        words = str(error).replace(str(path), "it")
        dead = (name for name, beginning in _DEAD.items() if f": {beginning}" in words)
        return next(dead, "sentence"), words
    refused = [str(frame) for frame in frames if isinstance(frame, FrameError)]
    return ("sentence", refused[0]) if len(refused) == len(frames) else ("frames", "")


def _damaged_words(damaged: dict[str, Any]) -> str:
    """What became of the damaged files, in a paragraph."""
    names = {"frames": "gave frames", "sentence": "a sentence", "skip": "no picture"}
    found = damaged["outcomes"].items()
    counts = ", ".join(f"{count} {names.get(name, name)}" for name, count in found)
    return (
        f"{len(damaged['files'])} files of pydicom's with compressed pixels, damaged "
        f"{damaged['count']} times: {counts}. Of the sound files that the same process was given "
        f"between them, {damaged['lost']} were lost. No damaged file took more than "
        f"{damaged['processor_s']} s of the processor and {damaged['longest_s']} s by the clock, "
        f"which tells how busy the machine was, too. The largest process had {damaged['mb']} MB."
    )


if __name__ == "__main__":
    sys.exit(main())
