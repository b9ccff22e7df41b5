"""Energy of a run, where the machine tells it without root: NVML, a Jetson's INA3221, RAPL."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from adae_edge.benchmarks.gpus import Gpu, gpus
from adae_edge.machine import first_line_of

IDLE_S = 1.0
_SAMPLE_S = 0.05
# Rails of a Jetson that hold all others: the board's input. An AGX has none, and each counts alone.
_INPUTS = ("VDD_IN", "POM_5V_IN")
_NOT_CONNECTED = "NC"


class Meter(Protocol):
    """Tells the energy that something has taken.

    Attributes:
        name: what it is of, for people.
    """

    name: str

    def joules(self) -> float:
        """Energy since some moment, joules; raises OSError where it is not told any more."""
        ...


class Rapl:
    """A package of the CPU, by its counter under /sys/class/powercap, which may begin anew."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: of the zone.

        Raises:
            OSError: it may not be read.
            ValueError: it does not hold what it should.
        """
        self._counter = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        self.name = f"RAPL {first_line_of(folder / 'name') or folder.name}"
        self._last = int(self._counter.read_text())
        self._passed = 0

    def joules(self) -> float:
        """As ``Meter``."""
        now = int(self._counter.read_text())
        self._passed += now - self._last if now >= self._last else now + self._range - self._last
        self._last = now
        return self._passed / 1e6


class Ina3221:
    """A rail of a Jetson, by the product of its voltage and its current, summed over time."""

    def __init__(self, folder: Path, channel: int) -> None:
        """
        Args:
            folder: of the sensor, with in1_input in mV and curr1_input in mA.
            channel: of the rail, 1 to 3.

        Raises:
            OSError, ValueError: as ``Rapl``.
        """
        self._files = folder / f"in{channel}_input", folder / f"curr{channel}_input"
        self.name = f"INA3221 {first_line_of(folder / f'in{channel}_label') or channel}"
        self._lock = threading.Lock()
        self._joules, self._then, self._watts = 0.0, time.monotonic(), self.watts()

    def watts(self) -> float:
        """The power now."""
        millivolts, milliamperes = (int(file.read_text()) for file in self._files)
        return millivolts * milliamperes / 1e6

    def joules(self) -> float:
        """As ``Meter``; called often, because it sums what it sees."""
        with self._lock:
            now, watts = time.monotonic(), self.watts()
            self._joules += (watts + self._watts) / 2 * (now - self._then)
            self._then, self._watts = now, watts
            return self._joules


class Nvml:
    """An NVIDIA GPU, by its own counter of energy."""

    def __init__(self, gpu: Gpu) -> None:
        """
        Args:
            gpu: whose energy it is.

        Raises:
            OSError: it does not count its energy.
        """
        self._gpu = gpu
        self.name = f"NVML {gpu.name}"
        self.joules()

    def joules(self) -> float:
        """As ``Meter``."""
        millijoules = self._gpu.asked("nvmlDeviceGetTotalEnergyConsumption")
        if millijoules is None:
            raise OSError(f"{self.name} does not tell its energy")
        return float(millijoules) / 1e3


@dataclass(frozen=True)
class Energy:
    """What a meter saw of a run.

    Attributes:
        name: of the meter.
        joules: that the run took, with what the machine takes idle.
        idle_watts: what it took before the run.
        seconds: of the run.
    """

    name: str
    joules: float
    idle_watts: float
    seconds: float

    def as_json(self, frames: int) -> dict[str, Any]:
        """JSON types, with what a frame takes beyond idling."""
        beyond = self.joules - self.idle_watts * self.seconds
        return {
            "meter": self.name,
            "watts": round(self.joules / self.seconds, 3),
            "idle_watts": round(self.idle_watts, 3),
            "joules_per_frame": round(beyond / frames, 9),
        }


def meters(root: Path = Path("/"), gpu: bool = False) -> tuple[list[Meter], list[str]]:
    """The meters of this machine.

    Args:
        root: of the file system that has sys, another one in tests.
        gpu: whether GPUs compute, and are asked.

    Returns:
        The meters, and in sentences which of them may not be read.
    """
    found: list[Meter] = []
    refused: list[str] = []

    def add(name: str, make: Callable[[], Meter]) -> None:
        try:
            found.append(make())
        except PermissionError:
            refused.append(f"{name} may not be read without root")
        except (OSError, ValueError):
            refused.append(f"{name} does not tell its energy")

    for folder in sorted(root.glob("sys/class/powercap/intel-rapl:[0-9]*")):
        if folder.name.count(":") == 1:  # the others are parts of a package
            add(f"RAPL {folder.name}", partial(Rapl, folder))
    for rail, folder, channel in _rails(root):
        add(f"INA3221 {rail}", partial(Ina3221, folder, channel))
    if gpu:
        cards, why_not = gpus()
        refused += why_not
        for card in cards:
            add(f"NVML {card.name}", partial(Nvml, card))
    return found, refused


def _rails(root: Path) -> list[tuple[str, Path, int]]:
    """Names, folders and channels of a Jetson's rails that are no part of another one."""
    found = []
    for folder in sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*")):
        for channel in (1, 2, 3):
            label = first_line_of(folder / f"in{channel}_label") or _NOT_CONNECTED
            if label != _NOT_CONNECTED:
                found.append((label, folder, channel))
    return [rail for rail in found if rail[0] in _INPUTS] or found


class Reading:
    """Reads meters: while the process idles when it is made, and then from ``begin`` to ``end``."""

    def __init__(self, watched: list[Meter], idle_s: float = IDLE_S) -> None:
        """
        Args:
            watched: the meters; with none nothing is waited for.
            idle_s: for how long this process idles before the run.
        """
        self._meters = watched
        self._idle_watts: list[float | None] = []
        self._stack = contextlib.ExitStack()
        if not watched:
            return
        with _sampled(watched):
            before, began = self._joules(), time.monotonic()
            time.sleep(idle_s)
            seconds = time.monotonic() - began
            spent = map(_difference, self._joules(), before)
            self._idle_watts = [joules and joules / seconds for joules in spent]

    def begin(self) -> None:
        """Count from here on."""
        self._stack.enter_context(_sampled(self._meters))
        self._before, self._began = self._joules(), time.monotonic()

    def end(self) -> list[Energy]:
        """What each meter that still tells it saw since ``begin``."""
        seconds = time.monotonic() - self._began
        spent = list(map(_difference, self._joules(), self._before))
        self._stack.close()
        return [
            Energy(meter.name, joules, idle, seconds)
            for meter, joules, idle in zip(self._meters, spent, self._idle_watts, strict=True)
            if joules is not None and idle is not None
        ]

    def _joules(self) -> list[float | None]:
        """What each meter tells; None of one that does not any more."""
        told: list[float | None] = []
        for meter in self._meters:
            try:
                told.append(meter.joules())
            except (OSError, ValueError):
                told.append(None)
        return told


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


@contextlib.contextmanager
def _sampled(watched: list[Meter]) -> Iterator[None]:
    """Read the meters that sum what they see, within, often enough."""
    summing = [meter for meter in watched if isinstance(meter, Ina3221)]
    if not summing:
        yield
        return
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            for meter in summing:
                with contextlib.suppress(OSError, ValueError):
                    meter.joules()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
