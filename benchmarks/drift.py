"""Is a change of light told, and are frames of the same kind never taken for one?

``python -m adae_edge.benchmarks.drift SET:DIR`` draws streams of frames with replacement from
normals that neither trained nor calibrated, shows their scores and their light to ``Drift``, and
prints how often it told a drift: for frames as they are, for darker and brighter ones, and with
anomalies among them. Beside stand what the scores alone tell, and the simplest watchers: of the
mean score, and of the mean grey level. All have limits for one false alarm in 100 streams of
100 000 frames. No limit and no window was chosen on these sets. That the share of white pixels is
watched was: bright digits move neither scores nor the mean grey level.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from adae_edge.benchmarks.inspection import open_parts
from adae_edge.benchmarks.record import record
from adae_edge.calibration import calibrate
from adae_edge.contract import Calibration
from adae_edge.errors import AdaeEdgeError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.light import with_light
from adae_edge.model import load_network
from adae_edge.runtime.drift import LOOK, SCORES, WINDOW, Drift, Reference
from adae_edge.runtime.frame import Frame, Scored
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.dataset import Frame as Pixels
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.loading import lights_of, score_frames
from adae_edge.train.request import TrainRequest, prepare

LONG = 100_000  # frames of a stream in which nothing may be told
SOON = 500  # frames within which a change has to be told
EXPOSURES = (0.9, 1.1)
SHARES = (0.05, 0.1, 0.2)  # of anomalies
# What the mean of 480 independent values deviates in standard errors at most, in 99 of 100 streams
# of 100 000: drawn from normal deviates, as the limits of ``Drift`` from uniform ones.
MEAN_LIMIT = 4.8

Values = NDArray[np.float64]
Part = tuple[str, Indices]
WATCHERS = ("drift", "scores alone", "mean score", "mean grey level")


@dataclass(frozen=True)
class Pool:
    """What streams are drawn from.

    Attributes:
        about: which frames, in words.
        calibration: by normals that did not train, what they scored and how light they were.
        trained: the calibration that the training left.
        scores: by what was done to the frames, of normals and of "anomalous" ones.
        lights: as ``scores``, [N, 2]: mean grey levels and shares of white pixels.
    """

    about: str
    calibration: Calibration
    trained: Calibration
    scores: dict[str, Values]
    lights: dict[str, Values]


class MeanWatcher:
    """Tells where the mean of the last 480 values is not that of n others."""

    def __init__(self, mean: float, spread: float, count: int) -> None:
        self._mean = mean
        self._limit = MEAN_LIMIT * spread * (1 / WINDOW + 1 / count) ** 0.5

    @classmethod
    def of(cls, quantiles: Sequence[float], count: int) -> MeanWatcher:
        """One for values with these quantiles."""
        values = np.interp(np.linspace(0, 1, LONG), np.linspace(0, 1, len(quantiles)), quantiles)
        return cls(float(values.mean()), float(values.std()), count)

    def first(self, values: Values) -> int | None:
        """The number of the frame at which it tells; None where it does not."""
        sums = np.concatenate([[0.0], np.cumsum(values)])
        means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
        told = np.flatnonzero(np.abs(means - self._mean) > self._limit)
        return int(told[0]) + WINDOW - 1 if len(told) else None


def main(
    data: Annotated[
        list[str], typer.Argument(help="mnist:DIR, elpv:DIR, cookies:DIR or screw:DIR; several.")
    ],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path("drift"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="For MNIST without the 0, in place of a training.")
    ] = None,
    streams: Annotated[int, typer.Option(help="Of 100 000 frames each.")] = 20,
    trials: Annotated[int, typer.Option(help="Of each change.")] = 200,
) -> None:
    """Draw streams, and count what is told."""
    results = {}
    for name in data:
        try:
            pool = open_digits(name, checkpoint) if name.startswith("mnist:") else open_set(name)
        except AdaeEdgeError as error:
            raise typer.BadParameter(str(error)) from error
        results[name.partition(":")[0]] = measure(pool, streams, trials)
        typer.echo(f"{name}: {results[name.partition(':')[0]]}")
    result = record(streams=streams, trials=trials, sets=results)
    page = as_markdown(result)
    typer.echo(page)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (page + "\n").encode())


def open_digits(name: str, checkpoint: Path | None) -> Pool:
    """MNIST without the 0; the normals of the test part are drawn from."""
    dataset = load_dataset(name, 0)
    parts = split(dataset.anomalous, 0)
    with tempfile.TemporaryDirectory() as place:
        if checkpoint is None:
            checkpoint = Path(place) / "digits.safetensors"
            prepare(TrainRequest(name, checkpoint, anomalous="0", recipe="default", epochs=3)).run()
        loaded = Checkpoint.load(checkpoint)
    about = "MNIST, the 0 anomalous, recipe default, three epochs, score l2"
    return pool_of(about, loaded, dataset, parts.calibration, parts.test)


def open_set(name: str) -> Pool:
    """A set of parts: half of the normals train, a quarter calibrates, a quarter is drawn from."""
    with tempfile.TemporaryDirectory() as place:
        parts = open_parts(name, Path(place) / "changed")
        used = np.unique(np.concatenate([*(np.concatenate(fold) for fold in parts.folds.values())]))
        normals = np.random.default_rng(0).permutation(used[~parts.dataset.anomalous[used]])
        known, own, rest = np.split(normals, [len(normals) // 2, 3 * len(normals) // 4])
        folder, out = Path(place) / "normals", Path(place) / "parts.safetensors"
        folder.mkdir()
        for index in known:
            (folder / parts.paths[index].name).symlink_to(parts.paths[index].resolve())
        prepare(TrainRequest(str(folder), out, recipe="linear", score="local", seed=0)).run()
        tested = np.concatenate([rest, used[parts.dataset.anomalous[used]]])
        about = f"{parts.about.split(',')[0]}, normals divided at random, score local"
        return pool_of(about, Checkpoint.load(out), parts.dataset, own, tested)


def pool_of(
    about: str, checkpoint: Checkpoint, dataset: Dataset, known: Indices, tested: Indices
) -> Pool:
    """Score the tested frames as they are, and the normals among them darker and brighter."""
    assert checkpoint.contract is not None
    model = load_network(checkpoint)
    normals = tested[~dataset.anomalous[tested]]
    shown = {
        "as they are": (dataset, normals),
        "anomalous": (dataset, tested[dataset.anomalous[tested]]),
    }
    for factor in EXPOSURES:
        exposed = replace(dataset, frames=[_exposed(dataset.frames[i], factor) for i in normals])
        shown[f"{factor:g}"] = exposed, np.arange(len(normals))
    calibration = calibrate(score_frames(model, dataset, known)[0])
    return Pool(
        about,
        with_light(calibration, lights_of(model, dataset, known)),
        checkpoint.contract.calibration,
        {what: score_frames(model, *frames)[0].astype(float) for what, frames in shown.items()},
        {what: np.array(lights_of(model, *frames)) for what, frames in shown.items()},
    )


def _exposed(frame: Pixels, factor: float) -> NDArray[np.uint8]:
    """A frame with another exposure: every grey level times a factor, 255 at most."""
    return (frame.astype(np.float32) * factor).round().clip(0, 255).astype(np.uint8)


class Trial:
    """Streams of a pool, shown to ``Drift`` and to the two simplest watchers."""

    def __init__(self, pool: Pool) -> None:
        known, self._pool = pool.calibration, pool
        assert known.greys is not None
        self._mean_score = MeanWatcher.of(known.quantiles, known.normals)
        self._mean_grey = MeanWatcher.of(known.greys, known.normals)
        self._random = np.random.default_rng(0)

    def places(self, count: int, what: str = "as they are") -> Part:
        """So many frames of one kind, drawn with replacement."""
        return what, self._random.integers(len(self._pool.scores[what]), size=count)

    def told(self, *parts: Part) -> dict[str, int | None]:
        """At which frame of these parts, one after another, each watcher tells; None for never."""
        scores, lights = self._drawn(*parts)
        return {
            **first_told(self._pool.calibration, scores, lights),
            "mean score": self._mean_score.first(scores),
            "mean grey level": self._mean_grey.first(lights[:, 0]),
        }

    def _drawn(self, *parts: Part) -> tuple[Values, Values]:
        """Scores and lights of these parts, one after another."""
        scores, lights = (
            np.concatenate([values[what][places] for what, places in parts])
            for values in (self._pool.scores, self._pool.lights)
        )
        return scores, lights

    def mixed(self, count: int, share: float) -> bool:
        """Whether ``Drift`` tells one where so large a share of the frames is anomalous."""
        (scores, lights), (bad, of_bad) = (
            self._drawn(self.places(count, what)) for what in ("as they are", "anomalous")
        )
        which = self._random.random(count) < share
        scores, lights = np.where(which, bad, scores), np.where(which[:, None], of_bad, lights)
        return first_told(self._pool.calibration, scores, lights)["drift"] is not None

    def change(self, what: str) -> dict[str, int | None]:
        """After how many frames of another kind each watcher tells, 500 at most."""
        before = WINDOW + int(self._random.integers(LOOK))
        told = self.told(self.places(before), self.places(SOON, what))
        return {
            name: None if place is None or place < before else place - before + 1
            for name, place in told.items()
        }


def first_told(calibration: Calibration, scores: Values, lights: Values) -> dict[str, int | None]:
    """At which frame a drift is told, and at which one of the scores."""
    drift, frame = Drift(calibration), Frame("drawn", 0, 0.0, np.zeros((1, 1, 1), np.uint8))
    told: dict[str, int | None] = {"drift": None, "scores alone": None}
    pairs = zip(scores.tolist(), lights.tolist(), strict=True)
    for number, (score, light) in enumerate(pairs):
        for event in drift.watch(Scored(frame, score, 0.0, light=light))[1]:
            told["drift"] = number if told["drift"] is None else told["drift"]
            if f"{WINDOW} {SCORES}" in event.detail:
                told["scores alone"] = number
                return told
    return told


def measure(pool: Pool, streams: int, trials: int) -> dict[str, Any]:
    """What is told of streams from a pool, as counts and frames."""
    trial = Trial(pool)
    same = [trial.told(trial.places(LONG)) for _ in range(streams)]
    changes = {
        f"{factor:g}": [trial.change(f"{factor:g}") for _ in range(trials)] for factor in EXPOSURES
    }
    return {
        "about": pool.about,
        "calibration_normals": pool.calibration.normals,
        "drawn_from": len(pool.scores["as they are"]),
        "anomalous": len(pool.scores["anomalous"]),
        "distance": _distance(pool.calibration, pool),
        "distance_as_trained": _distance(pool.trained, pool),
        "limits": [round(limit, 4) for limit in _scores_of(pool.calibration).limits(0.0)],
        "false": {name: sum(told[name] is not None for told in same) for name in WATCHERS},
        "told": {
            factor: {name: sum(told[name] is not None for told in found) for name in WATCHERS}
            for factor, found in changes.items()
        },
        "frames": {
            factor: {name: _median([told[name] for told in found]) for name in WATCHERS}
            for factor, found in changes.items()
        },
        "anomalies": {
            f"{share:g}": sum(trial.mixed(LONG // 5, share) for _ in range(streams))
            for share in SHARES
        },
    }


def _scores_of(calibration: Calibration) -> Reference:
    return Reference(calibration.quantiles, calibration.normals)


def _distance(calibration: Calibration, pool: Pool) -> float:
    """The KS distance of all normals that are drawn from, to those of a calibration."""
    reference = _scores_of(calibration)
    places = np.searchsorted(reference.edges, pool.scores["as they are"])
    counts = np.bincount(places, minlength=len(reference.edges) + 1)
    return round(reference.distances(counts.tolist())[0], 4)


def _median(delays: Sequence[int | None]) -> int | None:
    """The median of the delays of what was told."""
    known = [delay for delay in delays if delay is not None]
    return int(np.median(known)) if known else None


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    streams, trials = result["streams"], result["trials"]
    lines = [
        "# Drift",
        "",
        f"`{result['command']}`",
        "",
        "Streams are drawn with replacement from normals that neither trained nor calibrated.",
        f"*False*: of {streams} streams of {LONG} such frames, in how many a drift was told.",
        f"*Told*: of {trials} changes of every grey level by 10 %, how many within {SOON} frames,",
        "and in brackets the median of frames that it took. `drift` sees scores, mean grey levels",
        "and shares of white pixels. Beside it stand its scores alone, a watcher of the mean score",
        "and one of the mean grey level. Each has limits for one false alarm in 100 streams.",
        "*Distance* is the KS of all that is drawn from: to the normals that calibrated, and in",
        "brackets to those by which the training itself had calibrated.",
        "",
        "| set | normals | drawn from | distance | watcher | false | 10 % darker | 10 % brighter |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for name, row in result["sets"].items():
        for watcher in WATCHERS:
            distance = f"{row['distance']:.3f} ({row['distance_as_trained']:.3f})"
            cells = [name, row["calibration_normals"], row["drawn_from"], distance, watcher]
            cells.append(f"{row['false'][watcher]} of {streams}")
            for factor in row["told"]:
                frames = row["frames"][factor][watcher]
                told = f"{row['told'][factor][watcher]} of {trials}"
                cells.append(told if frames is None else f"{told} ({frames})")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", *(f"- `{name}`: {row['about']}." for name, row in result["sets"].items()), ""]
    lines += ["Anomalies among normals, in streams of 20 000 frames: in how many a drift was told."]
    shares = list(next(iter(result["sets"].values()))["anomalies"])
    heads = " | ".join(f"{float(share):.0%} anomalous" for share in shares)
    lines += ["", f"| set | {heads} |", f"|---|{'---:|' * len(shares)}"]
    for name, row in result["sets"].items():
        cells = [f"{row['anomalies'][share]} of {streams}" for share in shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
