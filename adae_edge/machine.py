"""The machine that figures are of, as far as the system tells."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Describe this machine: JSON types only, None for what the system does not tell."""
    return {
        "cpu": _cpu_name(),
        "cpus": os.cpu_count(),
        "usable_cpus": available_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "board": _first_line("/proc/device-tree/model"),
        "temperature_c": _temperature(),
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


def _cgroup_quotas(root: Path) -> list[tuple[int, int]]:
    """Quotas and periods, microseconds, of this process's cgroup and of those above it.

    Both versions of cgroups are read; a cgroup without a limit gives nothing.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            top, names = root / "sys/fs/cgroup", ["cpu.max"]
        elif "cpu" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # In a container that sees its own cgroup alone, "group" may be a place outside: the top is
        # then its own.
        parts = [part for part in group.split("/") if part]
        for depth in range(len(parts) + 1):
            try:
                folder = top.joinpath(*parts[:depth])
                quota, period = " ".join((folder / name).read_text() for name in names).split()
                if int(quota) > 0:
                    quotas.append((int(quota), int(period)))
            except (OSError, ValueError):  # no such file, or "max"
                continue
    return quotas


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().splitlines()[0].strip("\0 ")
    except (OSError, IndexError):
        return None


def _temperature() -> float | None:
    millidegrees = _first_line("/sys/class/thermal/thermal_zone0/temp") or ""
    return int(millidegrees) / 1000 if millidegrees.lstrip("-").isdecimal() else None
