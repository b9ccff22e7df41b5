"""Scores of frames that are shrunk while they are decoded, beside those of whole frames.

python -m adae_edge.benchmarks.shrunk OUT --model MODEL --video VIDEO

JPEGs are made of the videos by ffmpeg: 1000 of them in all, at the videos' own size and at 1920 x
1080. A decision is taken at the model's own threshold, and at the median of the scores, where most
frames lie near.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge.benchmarks.record import record
from adae_edge.contract import Contract
from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import UsageError
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources.registry import open_for

JPEGS = 1000
LARGE = "1920:1080"


def main(
    out: Path,
    model: Annotated[list[Path], typer.Option()],
    video: Annotated[list[Path], typer.Option()],
    jpegs: int = JPEGS,
) -> None:
    """Compare scores, and write the table as OUT.json and OUT.md.

    Raises:
        UsageError: a model's frames are never shrunk.
    """
    scorers = {path.stem: Scorer(path, threads=1) for path in model}
    for name, scorer in scorers.items():
        if Shrinking.by(scorer.contract) is None:
            raise UsageError(f"{name} takes whole frames alone")
    with tempfile.TemporaryDirectory() as folder:
        places = {path.name: path for path in video}
        each = jpegs // (2 * len(video))
        for path in video:
            for size, scale in (("", "iw:ih"), (", 1920x1080", LARGE)):
                name = f"JPEGs of {path.name}{size}"
                places[name] = _jpegs(path, Path(folder) / f"{len(places)}", scale, each)
        rows = []
        for name, scorer in scorers.items():
            for what, place in places.items():
                rows.append({"model": name, "frames": what, **compare(scorer, place)})
                typer.echo(_line(rows[-1]))
    result = record(rows=rows)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), _page(result).encode())


def compare(scorer: Scorer, place: Path) -> dict[str, Any]:
    """How far scores and decisions differ between shrunk and whole frames of a source."""
    shrunk, sizes = _scores(scorer, place, exact=False)
    whole, _ = _scores(scorer, place, exact=True)
    moved = np.abs(shrunk - whole) / np.abs(whole)
    decisions = {
        name: int(((shrunk > level) != (whole > level)).sum())
        for name, level in (("threshold", scorer.threshold), ("median", float(np.median(whole))))
    }
    return {
        "count": len(whole),
        "sizes": sizes,
        "largest_percent": round(100 * float(moved.max()), 4),
        "median_percent": round(100 * float(np.median(moved)), 4),
        "decisions_changed": decisions,
    }


def _scores(scorer: Scorer, place: Path, exact: bool) -> tuple[NDArray[np.float32], list[str]]:
    """The scores of every frame, and the sizes to which frames were shrunk."""
    contract: Contract = scorer.contract
    scores, sizes = [], set()
    with open_for(contract, str(place), exact=exact) as source:
        for frame in source:
            if isinstance(frame, Frame):
                scores.append(scorer.score(*batch_of([frame], contract.channels).arrays())[0])
                height, width = frame.pixels.shape[:2]
                sizes.add(f"{width}x{height}")
    return np.array(scores), sorted(sizes)


def _jpegs(video: Path, folder: Path, scale: str, count: int) -> Path:
    """Write a video's first frames as JPEGs into a new folder."""
    folder.mkdir()
    command = ["ffmpeg", "-v", "error", "-i", str(video), "-frames:v", str(count)]
    command += ["-vf", f"scale={scale}:out_range=full", "-pix_fmt", "yuvj420p", "-q:v", "3"]
    subprocess.run([*command, str(folder / "%05d.jpg")], check=True)  # noqa: S603
    return folder


def _line(row: dict[str, Any]) -> str:
    changed = row["decisions_changed"]
    return (
        f"| {row['model']} | {row['frames']} | {row['count']} | {', '.join(row['sizes'])} "
        f"| {row['largest_percent']:.3f} | {row['median_percent']:.3f} "
        f"| {changed['threshold']} | {changed['median']} |"
    )


def _page(result: dict[str, Any]) -> str:
    lines = [
        "# Shrunk frames",
        "",
        f"    {result['command']}",
        "",
        "By how much scores move when frames are shrunk while they are decoded, in percent of the "
        "scores of whole frames, and how many decisions change.",
        "",
        "| model | frames | count | shrunk to | largest | median | decisions at the threshold "
        "| at the median |",
        "|---|---|---:|---|---:|---:|---:|---:|",
        *map(_line, result["rows"]),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
