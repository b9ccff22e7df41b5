"""What disturbed a run: CPUs that others had, quotas, clocks that fell; and its verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from adae_edge.benchmarks.figures import PARTS, spread
from adae_edge.benchmarks.gpus import Gpu
from adae_edge.machine import clock_mhz, cpu_cgroups, temperature_c

MOST_WAITING = 0.02
MOST_STOLEN = 0.02
MOST_SPREAD = 0.05
MOST_FALL = 0.05
MOST_DECODING = 0.5
MOST_MOVING = 0.5
MOST_LAUNCHED = 1.5  # times as long as a call with a quarter of the frames
_CALLS_A_PART = 10  # with fewer their median is chance
_LONG_QUEUE = 10  # from here on the rate is too high, and running longer is no help
_STEAL = 7  # its place among the times of /proc/stat
_OF_GUESTS = 8  # from here on they are counted in the others already


class Verdict(NamedTuple):
    """What is wrong with a run.

    Attributes:
        name: one of disturbed, throttled, oversubscribed, unstable, decode-bound, launch-bound
            and transfer-bound.
        because: the number that it rests on, in a sentence without a full stop.
        do: what to do about it.
    """

    name: str
    because: str
    do: str

    def __str__(self) -> str:
        return f"{self.name}: {self.because}; {self.do}"


@dataclass
class Conditions:
    """Under what a run was made; shares are of its wall time, and None is unknown.

    Attributes:
        seconds: how long it took.
        waiting: how much of it the thread that waited longest was ready and had no CPU.
        periods, throttled_periods: of the cgroup whose quota was reached most often, and in how
            many of them it was.
        throttled: for how much of the time, summed over the CPUs.
        pressure: for how much of the time some process of this machine waited for a CPU.
        stolen: how much of all CPUs' time the hypervisor gave to others.
        clock_mhz, temperature_c: before and after.
        gpus: of each GPU its name, its clocks before and after, and by what it was held back.
    """

    seconds: float
    waiting: float | None
    periods: int
    throttled_periods: int
    throttled: float
    pressure: float | None
    stolen: float | None
    clock_mhz: list[float | None]
    temperature_c: list[float | None]
    gpus: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types, shares rounded."""
        values = asdict(self)
        return {
            name: round(value, 5) if isinstance(value, float) else value
            for name, value in values.items()
        }


class _Quota(NamedTuple):
    """What a cgroup's cpu.stat counts."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_s: float = 0.0


class Watch:
    """Watches over this process's threads and this machine from its making to ``end``."""

    def __init__(self, root: Path = Path("/"), gpus: Sequence[Gpu] = ()) -> None:
        """
        Args:
            root: of the file system that has proc and sys, another one in tests.
            gpus: that compute.
        """
        self._root, self._gpus = root, [(gpu, gpu.state()) for gpu in gpus]
        self._folders = cpu_cgroups(root)
        # First of all: a quota that holds the process in between is then no waiting for others.
        self._quotas = self._throttling()
        self._waited = self._waiting()
        self._latest = dict(self._waited)
        self._pressure, self._ticks = self._pressure_s(), self._cpu_ticks()
        self._clock, self._temperature = clock_mhz(root), temperature_c(root)
        self._began = time.monotonic()

    def look(self) -> None:
        """Note how long each thread has waited, so that those count that end before the run."""
        self._latest.update(self._waiting())

    def end(self) -> Conditions:
        """What there was since it was made."""
        seconds = time.monotonic() - self._began
        self.look()
        waits = [ended - self._waited.get(thread, 0.0) for thread, ended in self._latest.items()]
        quota = self._most_throttled()
        pressure, ticks = self._pressure_s(), self._cpu_ticks()
        pressed = None
        if pressure is not None and self._pressure is not None:
            pressed = (pressure - self._pressure) / seconds
        return Conditions(
            seconds=seconds,
            waiting=max(waits) / seconds if waits else None,
            periods=quota.periods,
            throttled_periods=quota.throttled_periods,
            throttled=quota.throttled_s / seconds,
            pressure=pressed,
            stolen=_stolen(self._ticks, ticks),
            clock_mhz=[self._clock, clock_mhz(self._root)],
            temperature_c=[self._temperature, temperature_c(self._root)],
            gpus=[_gpu_since(before, gpu.state()) for gpu, before in self._gpus],
        )

    def _waiting(self) -> dict[str, float]:
        """How long each thread of this process has waited for a CPU, seconds."""
        waited = {}
        for path in self._root.glob("proc/self/task/[0-9]*/schedstat"):
            try:
                waited[path.parent.name] = int(path.read_text().split()[1]) / 1e9
            except (OSError, IndexError, ValueError):  # it has ended, or the kernel does not count
                continue
        return waited

    def _throttling(self) -> dict[Path, _Quota]:
        """What each cgroup of this process counts of its quota; both versions are read."""
        found = {}
        for folder in self._folders:
            try:
                lines = (folder / "cpu.stat").read_text().splitlines()
                counts = {name: int(value) for name, value in map(str.split, lines)}
            except (OSError, ValueError):
                continue
            seconds = counts.get("throttled_usec", 0) / 1e6 + counts.get("throttled_time", 0) / 1e9
            found[folder] = _Quota(
                counts.get("nr_periods", 0), counts.get("nr_throttled", 0), seconds
            )
        return found

    def _most_throttled(self) -> _Quota:
        """What was added in the cgroup that was throttled most."""
        nothing, added = _Quota(), [_Quota()]
        for folder, after in self._throttling().items():
            before = self._quotas.get(folder, nothing)
            pairs = zip(after, before, strict=True)
            periods, throttled, seconds = (now - then for now, then in pairs)
            added.append(_Quota(int(periods), int(throttled), seconds))
        return max(added, key=lambda quota: (quota.throttled_periods, quota.periods))

    def _pressure_s(self) -> float | None:
        """Seconds since the start for which some process waited for a CPU."""
        try:
            words = (self._root / "proc/pressure/cpu").read_text().split()
            return int(words[4].removeprefix("total=")) / 1e6
        except (OSError, IndexError, ValueError):
            return None

    def _cpu_ticks(self) -> list[int]:
        """How all CPUs spent their time, in ticks; [] where it is not told."""
        try:
            first = (self._root / "proc/stat").read_text().splitlines()[0]
            return [int(word) for word in first.split()[1:]]
        except (OSError, IndexError, ValueError):
            return []


def verdicts(
    conditions: Conditions,
    runs: int,
    parts: Sequence[float],
    threads: int,
    cpus: int,
    queue: int = 0,
) -> list[Verdict]:
    """What is wrong with a run, by what was seen of it.

    Each cause is named once. The time for which a quota held the process is not called disturbed,
    nor is any waiting of too many threads for each other. What something explains is not unstable.

    Args:
        conditions: what the watch saw.
        runs: how many calls it made.
        parts: the medians of its parts.
        threads: that it computed with at a time.
        cpus: that it may use, by affinity and quota, a part of one counted whole.
        queue: how many calls were due and not done at most; 0 in closed loop.
    """
    found = []
    if threads > cpus:
        found.append(
            Verdict(
                "oversubscribed",
                f"{threads} threads compute on {cpus} CPUs",
                f"give --threads, --streams and --processes whose product is at most {cpus}",
            )
        )
    oversubscribed = bool(found)
    found += _throttled(conditions)
    if not oversubscribed:
        found += _disturbed(conditions)
    if not found and runs >= PARTS * _CALLS_A_PART and (apart := spread(parts)) > MOST_SPREAD:
        found.append(
            Verdict(
                "unstable",
                f"the medians of {len(parts)} parts of the run are {apart:.1%} apart, and "
                f"{MOST_SPREAD:.0%} is the limit",
                "run longer, and look at the course of the run in --html"
                if queue < _LONG_QUEUE
                else f"give a lower --rate: {queue} frames waited at most",
            )
        )
    return found


def decode_bound(stages_ms: Mapping[str, float]) -> Verdict | None:
    """The verdict on a frame that is mostly waited for; None where it is not.

    Args:
        stages_ms: what a frame spends in each stage, as ``Course.stages_ms``.
    """
    whole = sum(stages_ms.values())
    share = (stages_ms["grab"] + stages_ms["decode"]) / whole if whole else 0.0
    if share <= MOST_DECODING:
        return None
    return Verdict(
        "decode-bound",
        f"grabbing and decoding take {share:.0%} of a frame's time",
        "give smaller frames or another format: a faster model would gain little",
    )


def gpu_bound(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Verdict | None:
    """The verdict on a call whose time is not the GPU's; None where it is, or cannot be told.

    Args:
        row: a measurement on a GPU, as ``measurements.row_of``.
        rows: all of the same sweep.
    """
    load = ("threads", "streams", "processes")
    alike = [each for each in rows if all(each[name] == row[name] for name in load)]
    alike = [each for each in alike if "rate" not in each and "tried" not in each]
    pixels, batch, ms = row["width"] * row["height"], row["batch"], row["p50_ms"]
    if ms is None or not any(each is row for each in alike):
        return None
    smaller = [
        each
        for each in alike
        if each["batch"] == batch
        and each["width"] * each["height"] * 4 <= pixels
        and each["p50_ms"]
    ]
    for each in sorted(smaller, key=lambda each: each["width"] * each["height"])[:1]:
        share = 1 - each["p50_ms"] / ms
        if share > MOST_MOVING:
            return Verdict(
                "transfer-bound",
                f"{share:.0%} of the time goes with frames of {each['width']}x{each['height']}",
                "give smaller frames: a faster network would gain little",
            )
    for each in alike:
        same = (each["width"], each["height"]) == (row["width"], row["height"])
        if same and each["batch"] >= 4 * batch and (each["p50_ms"] or ms * 2) < ms * MOST_LAUNCHED:
            return Verdict(
                "launch-bound",
                f"a batch of {each['batch']} takes {each['p50_ms'] / ms:.2f} times as long",
                "give larger batches, or an engine, whose runs are recorded",
            )
    return None


def _gpu_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What a GPU did during a run, of its states before and after."""
    clocks = [state["clock_mhz"] for state in (before, after)]
    return {"name": after["name"], "clock_mhz": clocks, "held_by": after["held_by"]}


def _throttled(conditions: Conditions) -> list[Verdict]:
    """The verdicts on quotas and clocks."""
    found = []
    if conditions.throttled_periods:
        found.append(
            Verdict(
                "throttled",
                f"a quota held the process in {conditions.throttled_periods} of "
                f"{conditions.periods} periods",
                "raise the cgroup's CPU quota, or give fewer --threads",
            )
        )
    clocks = [("the clock", conditions.clock_mhz)]
    clocks += [(f"the clock of {gpu['name']}", gpu["clock_mhz"]) for gpu in conditions.gpus]
    for of, (before, after) in clocks:
        if before and after and after < before * (1 - MOST_FALL):
            found.append(
                Verdict(
                    "throttled",
                    f"{of} fell from {before:.0f} to {after:.0f} MHz",
                    "cool the machine, raise its power limit, or measure when it is warm",
                )
            )
    for gpu in conditions.gpus:
        if gpu["held_by"]:
            found.append(
                Verdict(
                    "throttled",
                    f"{gpu['name']} is held back by {' and '.join(gpu['held_by'])}, at "
                    f"{gpu['clock_mhz'][1]} MHz",
                    "cool the GPU, or raise its power limit",
                )
            )
    return found


def _disturbed(conditions: Conditions) -> list[Verdict]:
    """The verdicts on what else ran."""
    if conditions.stolen is not None and conditions.stolen > MOST_STOLEN:
        return [
            Verdict(
                "disturbed",
                f"the hypervisor gave {conditions.stolen:.1%} of the CPUs to others, and "
                f"{MOST_STOLEN:.0%} is the limit",
                "measure when the host is quiet",
            )
        ]
    waiting = (conditions.waiting or 0.0) - conditions.throttled
    if waiting > MOST_WAITING:
        return [
            Verdict(
                "disturbed",
                f"a thread waited for a CPU {waiting:.1%} of the time, and "
                f"{MOST_WAITING:.0%} is the limit",
                "stop what else runs, or measure again when it is done",
            )
        ]
    return []


def _stolen(before: Sequence[int], after: Sequence[int]) -> float | None:
    """How much of all CPUs' time was given to other machines; None where it is not told."""
    passed = [now - then for now, then in zip(after, before, strict=False)]
    if len(passed) <= _STEAL or not sum(passed[:_OF_GUESTS]):
        return None
    return passed[_STEAL] / sum(passed[:_OF_GUESTS])
