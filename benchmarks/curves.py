"""How times follow frame size, batch, side, threads, source, and the length of a run.

python -m adae_edge.benchmarks.curves FOLDER [--seconds 2] [--minutes 10] [--json FILE]

Each point is a run of ``adae-edge bench``, whose JSON stays in FOLDER. A point that is there is not
measured again, so that a run that was cut off goes on where it ended. Networks are those of
Appendix A with random weights, which do not change the time, and take colour frames of any size.
The long run tells the medians of its tenths: of ten minutes the first beside the last.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from adae_edge.benchmarks.against.contenders import exported
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.record import record
from adae_edge.contract import Form
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.machine import available_threads
from adae_edge.train.settings import NETWORKS

SIDES = (32, 64, 128, 256)
SIZES = ("32x32", "320x240", "640x480", "1280x720", "1920x1080", "3840x2160")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CAMERA = "640x480"
_FRAMES = 300  # of each source
_KEPT = (
    "width",
    "height",
    "batch",
    "threads",
    "runs",
    "min_ms",
    "p50_ms",
    "p99_ms",
    "frames_per_s",
    "peak_memory_mb",
    "parts_p50_ms",
    "stages_ms",
)


@dataclass(frozen=True)
class Point:
    """A run of ``adae-edge bench``.

    Attributes:
        curve: the curve that it belongs to.
        at: its place on the curve, for people.
        arguments: of the command, the model first.
    """

    curve: str
    at: str
    arguments: tuple[str, ...]

    @property
    def file(self) -> str:
        """The name of its JSON."""
        return f"{self.curve}-{self.at}.json".replace(" ", "-")


def main(
    folder: Annotated[Path, typer.Argument(help="Where models, sources and points are kept.")],
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each point.")] = 2.0,
    minutes: Annotated[float, typer.Option(min=0.002, help="Of the long run.")] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="All points together.")] = None,
) -> None:
    """Measure the points that are missing, and print all."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in NETWORKS:
        for side in SIDES:
            path = folder / f"{name}{side}.onnx"
            if not path.exists():
                write_atomically(path, exported(name, 3, Form(), side).data)
    _write_sources(folder)
    for point in points(seconds, minutes):
        rows.append(_measured(folder, point))
        typer.echo(as_text(rows[-1]))
    if json_file is not None:
        write_json(json_file, record(seconds=seconds, minutes=minutes, points=rows))


def points(seconds: float, minutes: float) -> Iterator[Point]:
    """Every point of every curve, the long run last."""

    def point(curve: str, at: object, model: str, *arguments: str, took: float = seconds) -> Point:
        return Point(curve, str(at), (f"{model}.onnx", *arguments, "--seconds", f"{took:g}"))

    for size in SIZES:
        yield point("size", size, "a32", "--size", size, "--batch", "1")
    for name in NETWORKS:
        for batch in BATCHES:
            at = f"{name} {batch}"
            yield point("batch", at, f"{name}32", "--size", "32x32", "--batch", str(batch))
        for side in SIDES:
            at = f"{name} {side}"
            yield point("side", at, f"{name}{side}", "--size", _CAMERA, "--batch", "1")
    for threads in range(1, available_threads() + 1):
        at = f"{threads} of {available_threads()}"
        options = ("--batch", "64", "--threads", str(threads))
        yield point("threads", at, "b32", "--size", "32x32", *options)
    for name, source in {
        "synthetic": f"synthetic://?frames={_FRAMES}&size={_CAMERA}",
        "video": "clip.mp4",
        "JPEG": "jpeg",
        "PNG": "png",
    }.items():
        yield Point("source", name, ("a32.onnx", source))  # to its end
    yield point(
        "length", f"{minutes:g} min", "a32", "--size", _CAMERA, "--batch", "1", took=60 * minutes
    )


def _measured(folder: Path, point: Point) -> dict[str, Any]:
    """A point's figures as JSON types, from its file or measured now."""
    file = folder / point.file
    result = _read(file)
    if result is None:
        command = [sys.executable, "-m", "adae_edge", "bench", *point.arguments]
        command += ["--json", point.file]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
        if done.returncode or (result := _read(file)) is None:
            typer.echo(done.stderr, err=True, nl=False)
            raise typer.Exit(done.returncode or 1)
    (row,) = result["measurements"]
    return {
        "curve": point.curve,
        "at": point.at,
        "command": result["command"],
        **{name: row[name] for name in _KEPT if name in row},
        "verdicts": [verdict["name"] for verdict in row["verdicts"]],
    }


def _read(file: Path) -> dict[str, Any] | None:
    """A result of ``bench``; None where there is none."""
    try:
        return dict(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None


def _write_sources(folder: Path) -> None:
    """Write the made-up frames as a video and as two folders of pictures, unless they are there."""
    made = f"synthetic://?frames={_FRAMES}&size={_CAMERA}"
    if not (folder / "clip.mp4").exists():
        command = [sys.executable, "-m", "adae_edge", "score", "a32.onnx", made, "--to"]
        done = subprocess.run(  # noqa: S603
            [*command, "video:new.mp4"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            typer.echo(done.stderr, err=True, nl=False)
            raise typer.Exit(done.returncode)
        (folder / "new.mp4").rename(folder / "clip.mp4")
    for kind in ("jpeg", "png"):
        (folder / kind).mkdir(exist_ok=True)
        for number in range(_FRAMES):
            path = folder / kind / f"{number:04}.{kind}"
            if not path.exists():
                _picture(number).save(path)


def _picture(number: int) -> Image.Image:
    """A frame that compresses as a photograph may: small noise, enlarged."""
    width, height = map(int, _CAMERA.split("x"))
    small = random_frames(1, (width // 16, height // 16), 3)[0]
    return Image.fromarray(small).rotate(number).resize((width, height), Image.Resampling.BICUBIC)


def as_text(row: Mapping[str, Any]) -> str:
    """A point as a line for the terminal."""
    line = f"{row['curve']:8} {row['at']:12} {row['p50_ms']:10.3f} ms p50"
    line += f" {row['frames_per_s']:10.0f} frames/s"
    if row["curve"] == "length":
        first, *_, last = row["parts_p50_ms"]
        line += f", first tenth {first:.3f} ms, last {last:.3f} ms"
    return f"{line} {', '.join(row['verdicts'])}".rstrip()


if __name__ == "__main__":
    typer.run(main)
