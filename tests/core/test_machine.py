"""CPU quotas of cgroups, in trees of files as the kernel shows them."""

import os

import pytest

from adae_edge.machine import available_threads, free_memory


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def v1(group, quota, period=100_000):
    folder = f"sys/fs/cgroup/cpu/{group}"
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


TREES = {
    "a service under systemd": (
        "0::/system.slice/edge.service\n",
        {"sys/fs/cgroup/system.slice/edge.service/cpu.max": "250000 100000\n"},
        3,
    ),
    "a slice above the service": (
        "0::/edge.slice/edge.service\n",
        {
            "sys/fs/cgroup/edge.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/edge.slice/edge.service/cpu.max": "400000 100000\n",
        },
        2,
    ),
    "less than one CPU": ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "20000 100000\n"}, 1),
    "a container's own cgroup": ("0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "a group that the container does not see": (
        "0::/system.slice/docker-1.scope\n",
        {"sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "no limit": (
        "0::/user.slice\n",
        {
            "sys/fs/cgroup/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
        },
        64,
    ),
    "version 1": (
        "4:memory:/x\n3:cpuset,cpuacct:/\n2:cpu,cpuacct:/docker/1\n0::/docker/1\n",
        {**v1("", -1), **v1("docker", 300_000), **v1("docker/1", 100_000, 50_000)},
        2,
    ),
    "another group's limit": ("0::/a\n", {"sys/fs/cgroup/b/cpu.max": "100000 100000\n"}, 64),
    "no cgroups": (None, {}, 64),
}


@pytest.mark.parametrize("tree", TREES)
def test_the_lowest_quota_above_the_process_counts(tmp_path, monkeypatch, tree):
    group, files, expected = TREES[tree]
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    write(tmp_path, files | ({"proc/self/cgroup": group} if group else {}))
    assert available_threads(tmp_path) == expected


def test_an_affinity_below_the_quota_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5})
    write(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"})
    assert available_threads(tmp_path) == 1


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {}, 4096),
        ("0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "5\n"}, 4096),
        ("0::/a\n", {"a/memory.max": "3000\n", "a/memory.current": "1000\n"}, 2000),
        ("0::/a\n", {"a/memory.max": "3000\n", "a/memory.current": "3001\n"}, 0),
        (
            "4:memory:/x\n",
            {"memory/x/memory.limit_in_bytes": "900", "memory/x/memory.usage_in_bytes": "400"},
            500,
        ),
    ],
)
def test_memory_is_free_as_far_as_system_and_cgroup_allow(tmp_path, group, files, expected):
    write(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  4 kB\n"})
    write(tmp_path, {"proc/self/cgroup": group})
    write(tmp_path, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert free_memory(tmp_path) == expected
    assert free_memory(tmp_path / "nowhere") is None
