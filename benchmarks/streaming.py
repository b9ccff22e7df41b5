"""CPU time of scoring videos and folders of JPEGs, over that of decoding them alone, on one core.

python -m adae_edge.benchmarks.streaming OUT --model MODEL --video VIDEO

Every round measures everything once, in turn, so that a machine that slows down does so for all. A
video alone is decoded by PyAV and converted to RGB by its defaults; JPEGs alone are decoded as for
training. With ``--exact`` the sum stands beside: accurate decoding, and the bare graph. ffmpeg
makes the largest video and the JPEGs of those that are given.

With ``--wall`` the clock on the wall is read instead, on all cores, and JPEGs are decoded by two
threads, too. Nothing else may run meanwhile.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import av
import typer
from av.video.reformatter import VideoReformatter

from adae_edge.benchmarks.record import record
from adae_edge.decoding.images import decode_image
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime.batching import batch_of
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources.registry import open_for, open_source

ALONE = "decoding alone"
LARGE = "1920:1080"
_H264 = ("-c:v", "libx264", "-crf", "22", "-preset", "veryfast")
_CLOCKS = {False: "CPU time on one core", True: "time on the wall on all cores"}
FEW = 16  # whole frames that the bare graph is timed on, again and again

Work = Callable[[], float]  # does it once, and tells the milliseconds a frame


def main(
    out: Path,
    model: Annotated[list[Path], typer.Option()],
    video: Annotated[list[Path], typer.Option()],
    rounds: int = 7,
    jpegs: int = 2000,
    core: int = 0,
    wall: bool = False,
) -> None:
    """Measure, and write the table as OUT.json and OUT.md."""
    if hasattr(os, "sched_setaffinity") and not wall:
        os.sched_setaffinity(0, {core})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        works = {}
        for what, place in _inputs(video, folder, jpegs).items():
            works[what] = _works(place, model, folder / "rows.jsonl", wall)
        times = _measured(works, rounds)
    rows = [row for what, columns in times.items() for row in _rows(what, columns)]
    result = record(rounds=rounds, wall=wall, rows=rows)
    write_json(out.with_suffix(".json"), result)
    page = _page(result)
    write_atomically(out.with_suffix(".md"), page.encode())
    typer.echo(page)


def _inputs(videos: list[Path], folder: Path, jpegs: int) -> dict[str, Path]:
    """What is scored, by name: the videos, the last one at 1080p, and JPEGs of the first one."""
    places = {path.name: path for path in videos}
    large = folder / "large.mp4"
    _ffmpeg(videos[-1], f"scale={LARGE}", *_H264, str(large))
    places[f"{videos[-1].name} at 1080p"] = large
    for size, scale in (("own size", "iw:ih"), ("1080p", LARGE)):
        pictures = folder / size
        pictures.mkdir()
        how = "-frames:v", str(jpegs), "-pix_fmt", "yuvj420p", "-q:v", "3"
        _ffmpeg(videos[0], f"scale={scale}:out_range=full", *how, str(pictures / "%05d.jpg"))
        places[f"{jpegs} JPEGs of {videos[0].name}, {size}"] = pictures
    return places


def _ffmpeg(video: Path, scale: str, *arguments: str) -> None:
    command = ["ffmpeg", "-v", "error", "-stream_loop", "-1" if "-frames:v" in arguments else "0"]
    subprocess.run([*command, "-i", str(video), "-vf", scale, *arguments], check=True)  # noqa: S603


def _works(place: Path, models: Iterable[Path], rows: Path, wall: bool) -> dict[str, Work]:
    """What is measured for one input, by name."""
    timed = partial(_timed, time.perf_counter if wall else time.process_time)
    works: dict[str, Work] = {ALONE: lambda: timed(lambda: _decoded(place))}
    if not (wall or place.is_dir()):
        works["accurate decoding"] = lambda: timed(lambda: _accurate(place))
    for model in models:
        scored = partial(_scored, timed, model, place, rows)
        works[model.stem] = scored
        if not wall:
            works[f"{model.stem} --exact"] = partial(scored, exact=True)
            works[f"{model.stem}, graph"] = partial(timed, _bare_graph(model, place))
        elif place.is_dir():
            works[f"{model.stem} --jobs 2"] = partial(scored, jobs=2)
    return works


def _timed(clock: Callable[[], float], work: Callable[[], int]) -> float:
    """Milliseconds a frame of work that tells how many frames it did."""
    started = clock()
    count = work()
    return (clock() - started) / count * 1e3


def _decoded(place: Path) -> int:
    if place.is_dir():
        return sum(1 for path in place.iterdir() if decode_image(path).size)
    count, reformatter = 0, VideoReformatter()
    with av.open(str(place)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            count += 1
    return count


def _accurate(place: Path) -> int:
    with open_source(str(place)) as source:
        return sum(1 for item in source if isinstance(item, Frame))


def _scored(
    timed: Callable[[Callable[[], int]], float],
    model: Path,
    place: Path,
    rows: Path,
    exact: bool = False,
    jobs: int = 1,
) -> float:
    """Score by the command's own function, without what it takes to start."""
    sinks = (f"jsonl:{rows}",)
    request = StreamRequest(model, (str(place),), sinks, threads=1, exact=exact, jobs=jobs)
    rows.unlink(missing_ok=True)
    with open_stream(request, lambda event: None) as stream:
        return timed(lambda: stream.run().frames)


def _bare_graph(model: Path, place: Path) -> Callable[[], int]:
    """The graph on whole frames of an input, one by one."""
    scorer = Scorer(model, threads=1)
    batches = []
    with open_for(scorer.contract, str(place), exact=True) as source:
        for frame in source:
            if isinstance(frame, Frame):
                batches.append(batch_of([frame], scorer.contract.channels).arrays())
            if len(batches) == FEW:
                break

    def scored() -> int:
        for batch in batches:
            scorer.score(*batch)
        return len(batches)

    return scored


def _measured(works: dict[str, dict[str, Work]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds a frame of each work in each round."""
    times: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in columns} for what, columns in works.items()
    }
    for _ in range(rounds):
        for what, columns in works.items():
            for name, work in columns.items():
                times[what][name].append(work())
    return times


def _rows(what: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One row for each work: the median, and the median ratio to what it is compared with."""
    rows = []
    for name, each in times.items():
        row: dict[str, Any] = {"input": what, "work": name, "ms": round(statistics.median(each), 4)}
        over = [times[ALONE]]
        if name.endswith(" --exact"):
            graph = times[name.replace(" --exact", ", graph")]
            over = [times.get("accurate decoding", times[ALONE]), graph]
        if name.endswith(" --jobs 2"):
            over = [times[name.removesuffix(" --jobs 2")]]
        ratios = [one / sum(parts) for one, *parts in zip(each, *over, strict=True)]
        row |= {"ratio": round(statistics.median(ratios), 3)}
        rows.append(row | {"rounds_ms": [round(ms, 4) for ms in each]})
    return rows


def _page(result: dict[str, Any]) -> str:
    machine = result["machine"]
    lines = [
        "# Streaming beside decoding alone",
        "",
        f"    {result['command']}",
        "",
        f"{machine['cpu']}, {_CLOCKS[result['wall']]}. Milliseconds a frame, medians of "
        f"{result['rounds']} rounds that measure everything in turn. The ratio is to decoding "
        "alone; for `--exact` to accurate decoding and the bare graph together, and for `--jobs 2` "
        "to one job.",
        "",
        "| input | work | ms a frame | ratio |",
        "|---|---|---:|---:|",
    ]
    for row in result["rows"]:
        lines.append(f"| {row['input']} | {row['work']} | {row['ms']:.3f} | {row['ratio']:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
