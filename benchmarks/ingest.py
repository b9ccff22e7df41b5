"""How fast DICOM comes in: our receiver against dcmtk's storescp, and the time of a report.

python -m adae_edge.benchmarks.ingest --json FILE

Four storescu send at once to an empty folder of the same disk, from the same cores, and every
receiver takes its turn in each round. Ours answers when an instance and its name are on the disk;
storescp, as it comes, leaves that to the system. dcmtk waits to fill its packets unless TCP_NODELAY
is set, which costs it much over loopback, so both settings are tried, for both ends.

Beside it stand the disk's own time to keep a file of that size, and the time of a DICOM report on a
series of 400 slices, which all are anomalous.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydicom
import typer

from adae_edge.benchmarks.paired import Ratio
from adae_edge.benchmarks.peers import heads
from adae_edge.benchmarks.peers.processes import free_port, program
from adae_edge.benchmarks.peers.receiver import receiver
from adae_edge.benchmarks.record import record
from adae_edge.formats.files import write_json
from adae_edge.runtime import Scorer
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.runtime.sinks.results import REPORT, Gathered, Reports
from adae_edge.runtime.sources.registry import open_for

SENDERS = 4
SIDE = 256  # pixels of 16 bits
SLICES = 400  # of the series that is reported
MOST_REPORT_S = 3.0
OURS, DCMTK = "receiver", "storescp --fork +xa"
DEFAULT, NO_DELAY = "default", "TCP_NODELAY=1"
GOALS = {DEFAULT: Ratio(OURS, DCMTK, at_least=1.3), NO_DELAY: Ratio(OURS, DCMTK, at_least=0.2)}
_STARTS_S = 10.0

Rates = dict[str, list[float]]


def main(
    each: Annotated[int, typer.Option(min=1, help="Instances of each association.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything takes its turn.")] = 3,
    cores: Annotated[str, typer.Option(help="Cores of all processes.")] = "0,1",
    json_file: Annotated[Path | None, typer.Option("--json", help="File of the results.")] = None,
) -> None:
    """Measure, and print what came of it."""
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    with tempfile.TemporaryDirectory(dir=json_file and json_file.absolute().parent) as name:
        folder = Path(name)
        sent = _write(folder / "sent", each)
        rates: dict[str, Rates] = {setting: {OURS: [], DCMTK: []} for setting in GOALS}
        disk_ms: list[float] = []
        for turn in range(rounds):
            disk_ms += _disk_ms(folder, sent[0][0].read_bytes())
            for setting, found in rates.items():
                for what, opened in {OURS: _ours, DCMTK: _dcmtk}.items():
                    found[what].append(_rate(folder / f"{turn}", sent, setting, opened))
        report_s, of_processor_s = zip(*_report_s(folder / "reported"), strict=True)
    settings = {setting: _compared(found, GOALS[setting]) for setting, found in rates.items()}
    figures = record(
        associations=SENDERS,
        instances=each * SENDERS,
        bytes=len(_slice(0)),
        cores=cores,
        settings=settings,
        fsync_ms=_quartiles(disk_ms),
        report={
            "slices": SLICES,
            "seconds": report_s,
            "of_processor_s": of_processor_s,
            "met": max(report_s) <= MOST_REPORT_S,
        },
    )
    if json_file:
        write_json(json_file, figures)
    typer.echo(json.dumps({name: figures[name] for name in ("settings", "fsync_ms", "report")}))


def _compared(rates: Rates, goal: Ratio) -> dict[str, Any]:
    """Instances a second of each round, and the ratio within rounds with its quartiles."""
    ratios = np.array(rates[goal.of]) / np.array(rates[goal.to])
    return {
        "rates": {what: [round(rate, 1) for rate in found] for what, found in rates.items()},
        "ratio": _quartiles(ratios),
        "goal": goal.goal,
        "met": goal.met(float(np.median(ratios))),
    }


def _quartiles(values: Any) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(values, [25, 50, 75])]


def _slice(number: int) -> bytes:
    """The pixels of an MR slice's size, different for each."""
    return np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE), np.uint16).tobytes()


def _write(folder: Path, each: int) -> list[list[Path]]:
    """Write what each association sends: slices of a head, with noise for pixels."""
    folder.mkdir()
    paths = heads.write_series(folder, "1.2.826.0.1.3680043.8.498.8.1", SENDERS * each, seed=0)
    for number, path in enumerate(paths):
        data = pydicom.dcmread(path)
        data.Rows = data.Columns = SIDE
        data.PixelData = _slice(number)
        data.save_as(path)
    return [paths[place::SENDERS] for place in range(SENDERS)]


def _disk_ms(folder: Path, content: bytes, times: int = 30) -> list[float]:
    """How long it takes to write a file and have it on the disk, ms."""
    took = []
    for _ in range(times):
        with (folder / "kept").open("wb") as file:
            begun = time.perf_counter()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - begun) * 1e3)
    return took


def _rate(
    folder: Path,
    sent: list[list[Path]],
    setting: str,
    opened: Callable[[Path, Mapping[str, str]], Any],
) -> float:
    """Instances a second of all associations together.

    Raises:
        RuntimeError: not all of them arrived.
    """
    setting_of = {"TCP_NODELAY": "1"} if setting == NO_DELAY else {}
    environment = {**os.environ, **setting_of}
    folder.mkdir()
    with opened(folder, environment) as (port, kept):
        command = [program("storescu"), "-aec", "ADAE", "127.0.0.1", str(port)]
        begun = time.perf_counter()
        senders = [
            subprocess.Popen([*command, *map(str, files)], env=environment)  # noqa: S603
            for files in sent
        ]
        codes = [sender.wait() for sender in senders]
        seconds = time.perf_counter() - begun
        arrived, wanted = sum(1 for _ in kept.iterdir()), sum(map(len, sent))
    shutil.rmtree(folder)
    if any(codes) or arrived != wanted:
        raise RuntimeError(f"{arrived} of {wanted} arrived, and storescu ended with {codes}")
    return wanted / seconds


@contextmanager
def _ours(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[int, Path]]:
    """Our receiver within the block: its port, and where it keeps what it gets."""
    with receiver(folder) as one:
        yield one.port, one.spool / "new"


@contextmanager
def _dcmtk(folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[int, Path]]:
    """dcmtk's within the block."""
    port, kept = free_port(), folder / "kept"
    kept.mkdir()
    words = [program("storescp"), "--fork", "+xa", "-od", str(kept), str(port)]
    echo = [program("echoscu"), "-aec", "ADAE", "127.0.0.1", str(port)]
    with subprocess.Popen(words, env=environment) as process:  # noqa: S603
        deadline = time.monotonic() + _STARTS_S
        while subprocess.run(echo, capture_output=True).returncode:  # noqa: S603
            if time.monotonic() > deadline:
                raise RuntimeError("storescp does not listen")
            time.sleep(0.05)
        try:
            yield port, kept
        finally:
            process.terminate()


def _report_s(folder: Path, times: int = 3) -> list[tuple[float, float]]:
    """How long it takes to make and encode the report of a series, s: on the wall, of the CPU."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(heads.model())
    (folder / "series").mkdir()
    heads.write_series(folder / "series", "1.2.826.0.1.3680043.8.498.8.2", SLICES, seed=0)
    took = []
    with Scorer(folder / "model.onnx") as scorer:
        for _ in range(times):
            gathered, end = Gathered(), None
            for item in open_for(scorer.contract, str(folder / "series")):
                if isinstance(item, Frame):
                    mean, std = np.array([[item.mean], [item.std]], np.float32)
                    score = scorer.score(item.pixels[None], mean, std)[0]
                    scored = Scored(
                        item,
                        float(score),
                        -100.0,
                        model="0",
                        contract=scorer.contract,
                        file="model.onnx",
                    )
                    gathered.add(scored)
                elif item.kind == "series":
                    end = item.series
            assert end is not None
            assert len(gathered.slices) == SLICES
            begun, worked = time.perf_counter(), time.process_time()
            objects, missing = Reports((REPORT,), None, folder / "noted").of(gathered, end)
            passed = time.perf_counter() - begun, time.process_time() - worked
            took.append((round(passed[0], 3), round(passed[1], 3)))
            if missing or not objects:
                raise RuntimeError(f"there is no report: {missing}")
    return took


if __name__ == "__main__":
    typer.run(main)
