"""CPU time of scoring DICOM slices, and of volumes of them, over pydicom's reading and decoding.

python -m adae_edge.benchmarks.archive OUT --model MODEL --series DIR --window 100,200

The slices of a series are an archive, repeated under other names, as they are and as JPEG 2000
without loss. Each round measures everything once, in turn, so that a machine that slows down does
so for all. The time is that of the processor, of this process and of those that decode for it. What
both take to start is left out: a short archive is scored, too, and the difference counts.

A volume has slices of 512 x 512 pixels, made of the series by interpolation. Its time is that from
the files to the frames of a model of whole heads: where each slice lies, the volume, the head in
it, and its field of view.

Beside it stands the time on the wall of two processes that decode on two cores, over that of one on
one core. Nothing else may run meanwhile.
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydicom
import typer
from PIL import Image
from pydicom.uid import JPEG2000Lossless, generate_uid

from adae_edge.benchmarks.paired import Ratio
from adae_edge.benchmarks.record import peak_memory_mb, record
from adae_edge.contract import Window
from adae_edge.decoding.kinds import is_dicom
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.opening import StreamRequest, open_stream
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted

ALONE = "pydicom alone"
ONE, TWO = "one process, one core", "two processes, two cores"
FEW = 32  # slices of the short archive
SIDE = 512  # pixels of a volume's slices
MODEL_OF_HEADS = Wanted(kind="modality", object="head", field_of_view=220.0, jobs=1)
GOALS = {
    "uncompressed": Ratio("scored", ALONE, at_most=2.0),
    "JPEG 2000": Ratio("scored", ALONE, at_most=1.15),
}
OF_VOLUMES = Ratio("made into frames", ALONE, at_most=1.5)
FASTER = Ratio(ONE, TWO, at_least=1.7)

Work = Callable[[Path], float]  # does an archive once, and tells the seconds that it took


def main(
    out: Path,
    model: Annotated[Path, typer.Option()],
    series: Annotated[Path, typer.Option()],
    window: Annotated[str, typer.Option(help="CENTER,WIDTH, where slices have none.")] = "",
    slices: int = 1000,
    volume: Annotated[int, typer.Option(help="Slices of the volume.")] = 400,
    rounds: int = 7,
    cores: str = "0,1",
) -> None:
    """Measure, and write the tables as OUT.json and OUT.md."""
    # what is measured
    first, second = (int(core) for core in cores.split(","))
    shown = Window(*map(float, window.split(","))) if window else None
    scored = partial(_scored, model, shown)
    works: dict[str, Work] = {
        ALONE: lambda archive: _timed(_cpu_s, {first}, lambda: _read(archive)),
        "scored": lambda archive: _timed(_cpu_s, {first}, lambda: scored(archive, 1)),
        ONE: lambda archive: _timed(time.perf_counter, {first}, lambda: scored(archive, 1)),
        TWO: lambda archive: _timed(time.perf_counter, {first, second}, lambda: scored(archive, 2)),
    }
    of_volumes: dict[str, Work] = {
        ALONE: works[ALONE],
        OF_VOLUMES.of: lambda archive: _timed(_cpu_s, {first}, lambda: _frames(archive)),
    }

    # everything in turn
    with tempfile.TemporaryDirectory() as name:
        archives = _archives(series, Path(name), slices)
        plan: list[tuple[str, Path, Path, dict[str, Work], tuple[Ratio, ...]]] = [
            (form, *archives[form], works, (GOALS[form], FASTER)) for form in archives
        ]
        plan += [
            (form, *found, of_volumes, (OF_VOLUMES,))
            for form, found in _volumes(series, Path(name), volume).items()
        ]
        times: dict[str, dict[str, list[float]]] = {
            form: {work: [] for work in done} for form, _, _, done, _ in plan
        }
        for _ in range(rounds):
            for form, short, whole, done, _ in plan:
                more = sum(1 for _ in whole.iterdir()) - sum(1 for _ in short.iterdir())
                for work, run in done.items():
                    times[form][work].append((run(whole) - run(short)) / more * 1e3)

    # what came of it
    rows = [_row(form, times[form], ratio) for form, *_, asked in plan for ratio in asked]
    largest = max(peak_memory_mb(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
    result = record(slices=slices, volume=volume, rounds=rounds, mb=round(largest), rows=rows)
    write_json(out.with_suffix(".json"), result)
    page = _page(result)
    write_atomically(out.with_suffix(".md"), page.encode())
    typer.echo(page)


def _archives(series: Path, folder: Path, slices: int) -> dict[str, tuple[Path, Path]]:
    """A short and a whole archive of each form: links to the slices of a series."""
    plain = sorted(path for path in series.rglob("*") if path.is_file() and is_dicom(path))
    packed = []
    for number, path in enumerate(plain):
        data = pydicom.dcmread(path)
        data.compress(JPEG2000Lossless, generate_instance_uid=False)
        packed.append(folder / f"{number}.dcm")
        data.save_as(packed[-1])
    archives = {}
    for form, files in zip(GOALS, (plain, packed), strict=True):
        for count in (FEW, slices):
            (folder / f"{form}-{count}").mkdir()
            for number in range(count):
                link = folder / f"{form}-{count}" / f"{number:06}.dcm"
                link.symlink_to(files[number % len(files)].resolve())
        archives[form] = folder / f"{form}-{FEW}", folder / f"{form}-{slices}"
    return archives


def _volumes(series: Path, folder: Path, slices: int) -> dict[str, tuple[Path, Path]]:
    """A short and a whole volume of each form, which the slices of a series are enlarged to."""
    files = sorted(path for path in series.rglob("*") if path.is_file() and is_dicom(path))
    headers = [pydicom.dcmread(path) for path in files]
    stack = [
        np.asarray(
            Image.fromarray(header.pixel_array.astype(np.int32)).resize((SIDE, SIDE)), np.float64
        )
        for header in headers
    ]
    found = {}
    for form in GOALS:
        short, whole = (folder / f"{form}-volume-{count}" for count in (FEW, slices))
        for place in (short, whole):
            place.mkdir()
        for number, at in enumerate(np.linspace(0, len(stack) - 1, slices)):
            low, part = int(at), at % 1
            values = stack[low] * (1 - part) + stack[min(low + 1, len(stack) - 1)] * part
            data = copy.deepcopy(headers[0])
            data.Rows = data.Columns = SIDE
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            data.ImagePositionPatient, data.PixelSpacing = [0, 0, number * 0.5], [0.5, 0.5]
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            data.PixelData = np.rint(values).clip(0, 2**15 - 1).astype("<i2").tobytes()
            if form != "uncompressed":
                data.compress(JPEG2000Lossless, generate_instance_uid=False)
            data.save_as(whole / f"{number:06}.dcm")
            if number < FEW:
                (short / f"{number:06}.dcm").symlink_to(whole / f"{number:06}.dcm")
        found[f"volume, {form}"] = short, whole
    return found


def _frames(archive: Path) -> None:
    """Make a volume into the frames of a model of whole heads."""
    with open_source(str(archive), MODEL_OF_HEADS) as source:
        shown = sum(isinstance(item, Frame) for item in source)
    if not shown:
        raise typer.BadParameter("the series gives no volume")


def _timed(clock: Callable[[], float], cores: set[int], work: Callable[[], object]) -> float:
    """Seconds of work by a clock, on these cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    started = clock()
    work()
    return clock() - started


def _cpu_s() -> float:
    """Seconds of the processor that this process took, and those that it started and that ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _read(archive: Path) -> None:
    """Read and decode the slices by pydicom alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(archive.iterdir()):
            pydicom.dcmread(path).pixel_array  # noqa: B018


def _scored(model: Path, window: Window | None, archive: Path, jobs: int) -> None:
    """Score by the command's own function, rows into a file."""
    with tempfile.TemporaryDirectory() as name:
        sinks = (f"jsonl:{Path(name, 'rows.jsonl')}",)
        request = StreamRequest(model, (str(archive),), sinks, threads=1, jobs=jobs, window=window)
        with open_stream(request, lambda event: None) as stream:
            summary = stream.run()
    if summary.frames != sum(1 for _ in archive.iterdir()):
        raise typer.BadParameter(f"{summary.frames} slices were scored: is there a window?")


def _row(form: str, times: dict[str, list[float]], asked: Ratio) -> dict[str, Any]:
    """One line of the tables: medians of both, and the median of the ratio in each round."""
    ratio = statistics.median(
        of / to for of, to in zip(times[asked.of], times[asked.to], strict=True)
    )
    return {
        "form": form,
        "of": asked.of,
        "to": asked.to,
        "of_ms": round(statistics.median(times[asked.of]), 4),
        "to_ms": round(statistics.median(times[asked.to]), 4),
        "ratio": round(ratio, 3),
        "goal": asked.goal,
        "met": asked.met(ratio),
        "rounds_ms": {name: [round(ms, 4) for ms in times[name]] for name in (asked.of, asked.to)},
    }


def _page(result: dict[str, Any]) -> str:
    lines = [
        "# An archive of DICOM slices",
        "",
        f"    {result['command']}",
        "",
        f"{result['machine']['cpu']}. Milliseconds a slice, medians of {result['rounds']} rounds "
        "that measure everything in turn. `scored` over `pydicom alone` is time of the processor, "
        "of all processes; the others are times on the wall. Volumes have "
        f"{result['volume']} slices of {SIDE} x {SIDE}. The largest process took "
        f"{result['mb']} MB.",
        "",
        "| slices | work | ms a slice | over | ms a slice | ratio | goal |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['form']} | {row['of']} | {row['of_ms']:.3f} | {row['to']} | "
            f"{row['to_ms']:.3f} | {row['ratio']:.2f} | {row['goal']} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
