"""The machine that figures are of, as far as the system tells."""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

# The lowest and the highest clock that are allowed, on a Jetson by its power mode.
_CLOCK_LIMITS = ("scaling_min_freq", "scaling_max_freq")
# The limit and the use of a cgroup's memory, in both versions.
_MEMORY_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def machine() -> dict[str, Any]:
    """Describe this machine: JSON types only, None for what the system does not tell."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "usable_cpus": available_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "quota_cpus": cpu_quota(),
        "smt": {"1": True, "0": False}.get(
            first_line_of(Path("/sys/devices/system/cpu/smt/active")) or ""
        ),
        "governor": first_line_of(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "clock_mhz": clock_mhz(),
        "clocks_fixed": clocks_fixed(),
        "power_mode": power_mode(),
        "board": first_line_of(Path("/proc/device-tree/model")),
        "temperature_c": temperature_c(),
    }


def available_threads(root: Path = Path("/")) -> int:
    """How many CPUs this process may use, at least 1.

    The lower of its affinity and of the quotas of its cgroups.

    Args:
        root: of the file system that has proc and sys, another one in tests.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    for quota, period in _cgroup_quotas(root):
        count = min(count, max(1, math.ceil(quota / period)))
    return count


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many CPUs' time the cgroups of this process give it; None without a limit."""
    return min((quota / period for quota, period in _cgroup_quotas(root)), default=None)


def cpu_cgroups(root: Path = Path("/")) -> list[Path]:
    """The folders of this process's cgroup and of those above it that tell of CPU time."""
    return _cgroups(root, "cpu")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process may still take, by system and cgroups; None if unknown."""
    free = []
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        pass
    for folder in _cgroups(root, "memory"):
        for most, used in _MEMORY_FILES:
            try:
                left = int((folder / most).read_text()) - int((folder / used).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
            free.append(max(0, left))
    return min(free, default=None)


def _cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroup and of those above it, of one controller.

    Both versions of cgroups are read.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            top = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
        else:
            continue
        # In a container that sees its own cgroup alone, "group" may be a place outside: the top is
        # then its own.
        parts = [part for part in group.split("/") if part]
        folders += [top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return folders


def clock_mhz(root: Path = Path("/")) -> float | None:
    """The highest clock, MHz, at which one of the CPUs runs now; None where nothing tells it."""
    known = root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    clocks = [int(line) / 1000 for path in known if (line := first_line_of(path) or "").isdecimal()]
    if not clocks:
        try:
            lines = (root / "proc/cpuinfo").read_text().splitlines()
        except OSError:
            return None
        clocks = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return max(clocks, default=None)


def temperature_c(root: Path = Path("/")) -> float | None:
    """The highest temperature that a zone of this machine tells, in degrees Celsius; or None."""
    told = [first_line_of(path) or "" for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    return max((int(text) / 1000 for text in told if text.lstrip("-").isdecimal()), default=None)


def printed_by(name: str, *arguments: str) -> str | None:
    """What a program prints, or None where it is not installed or does not answer."""
    program = shutil.which(name)
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603
            [program, *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def power_mode(printed: str | None = None) -> str | None:
    """The power mode of a Jetson, as "MAXN_SUPER (2)"; None on other machines.

    Args:
        printed: what ``nvpmodel -q`` prints; None asks it, where it is installed.
    """
    if printed is None:
        printed = printed_by("nvpmodel", "-q")
    if printed is None:
        return None
    match = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", printed)
    return f"{match[1]} ({match[2]})" if match else None


def clocks_fixed(root: Path = Path("/")) -> bool | None:
    """Whether each CPU's clock is held at the highest that its power mode allows; None if unknown.

    That is what jetson_clocks does.
    """
    folders = list(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    pairs = [[first_line_of(folder / name) for name in _CLOCK_LIMITS] for folder in folders]
    return all(lowest == highest for lowest, highest in pairs) if pairs else None


def _cgroup_quotas(root: Path) -> list[tuple[int, int]]:
    """Quotas and periods, microseconds, of this process's cgroup and of those above it.

    A cgroup without a limit gives nothing.
    """
    quotas = []
    for folder in cpu_cgroups(root):
        version_2 = first_line_of(folder / "cpu.max")
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        text = version_2 or " ".join(first_line_of(folder / name) or "" for name in names)
        try:
            quota, period = map(int, text.split())
        except ValueError:  # no such file, or "max"
            continue
        if quota > 0:
            quotas.append((quota, period))
    return quotas


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def first_line_of(path: Path) -> str | None:
    """The first line of a file of the system; None where it cannot be read."""
    try:
        return path.read_text().splitlines()[0].strip("\0 ")
    except (OSError, IndexError, ValueError):
        return None
