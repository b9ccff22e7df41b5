"""What disturbs a run is seen and named, and nothing else is."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from adae_edge.benchmarks.watch import Conditions, Watch, gpu_bound, verdicts
from adae_edge.machine import clock_mhz, clocks_fixed, cpu_quota, power_mode
from tests.core.test_machine import v1, write

RESULTS = Path(__file__).parents[2] / "docs" / "results"
QUIET = Conditions(2.0, 0.004, 20, 0, 0.0, 0.1, 0.0, [3000.0, 2950.0], [40.0, 60.0])
STEADY = [1.0, 1.01, 1.02, 1.0, 1.03, 1.0, 1.0, 1.0, 1.0, 1.01]

# Works for a while under a watch, after what ``before`` does, and prints what it saw.
WORK = """
import json, sys, time
from adae_edge.benchmarks.watch import Watch
watch = Watch()
until = time.monotonic() + 1.5
while time.monotonic() < until:
    pass
seen = watch.end()
print(json.dumps(seen.as_json()))
"""


def names(conditions=QUIET, runs=1000, parts=STEADY, threads=2, cpus=2, **changed):
    conditions = Conditions(**{**vars(conditions), **changed})
    return [verdict.name for verdict in verdicts(conditions, runs, parts, threads, cpus)]


def test_nothing_is_wrong_with_a_quiet_run():
    assert names() == []
    assert names(waiting=None, pressure=None, stolen=None, clock_mhz=[None, None]) == []


def test_each_cause_has_its_own_verdict_and_no_other():
    uneven = [1.0] * 9 + [1.06]
    assert names(waiting=0.021) == ["disturbed"]
    assert names(waiting=0.5, parts=uneven) == ["disturbed"]
    assert names(stolen=0.03, waiting=0.03) == ["disturbed"]
    assert names(throttled_periods=1) == ["throttled"]
    assert names(throttled_periods=9, throttled=0.4, waiting=0.4, parts=uneven) == ["throttled"]
    assert names(throttled_periods=1, throttled=0.03, waiting=0.4) == ["throttled", "disturbed"]
    assert names(clock_mhz=[3000.0, 2840.0]) == ["throttled"]
    assert names(threads=3, waiting=0.4, parts=uneven) == ["oversubscribed"]
    assert names(parts=uneven) == ["unstable"]
    assert names(parts=uneven, runs=99) == []


def test_a_verdict_has_its_number_and_what_to_do():
    told = verdicts(Conditions(**{**vars(QUIET), "waiting": 0.314}), 1000, STEADY, 1, 2)
    assert str(told[0]) == (
        "disturbed: a thread waited for a CPU 31.4% of the time, and 2% is the limit; "
        "stop what else runs, or measure again when it is done"
    )
    uneven = [1.0] * 9 + [9.0]
    assert verdicts(QUIET, 1000, uneven, 1, 2)[0].do.startswith("run longer")
    assert verdicts(QUIET, 1000, uneven, 1, 2, queue=98)[0].do == (
        "give a lower --rate: 98 frames waited at most"
    )
    assert "4 threads compute on 2 CPUs" in str(verdicts(QUIET, 1000, STEADY, 4, 2)[0])


def tree(wait_ns, pressure_us, steal, throttled, quota_file):
    files = {
        "proc/self/cgroup": "2:cpu:/a\n" if quota_file == "v1" else "0::/a\n",
        "proc/self/task/7/schedstat": f"900 {wait_ns} 3\n",
        "proc/self/task/8/schedstat": "900 1000 3\n",
        "proc/pressure/cpu": f"some avg10=0.00 avg60=0.00 avg300=0.00 total={pressure_us}\n",
        "proc/stat": f"cpu  100 0 0 {900 - steal} 0 0 0 {steal} 50 0\ncpu0 1 2 3\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "53500\n",
    }
    if quota_file == "v1":
        stat = f"nr_periods 10\nnr_throttled {throttled}\nthrottled_time {throttled * 10**9}\n"
        return files | v1("a", 50_000) | {"sys/fs/cgroup/cpu/a/cpu.stat": stat}
    stat = f"usage_usec 5\nnr_periods 10\nnr_throttled {throttled}\nthrottled_usec {throttled}\n"
    return files | {
        "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/a/cpu.stat": stat,
    }


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_watch_tells_what_was_added_since(tmp_path, monkeypatch, version):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    write(tmp_path, tree(5 * 10**8, 10**6, 0, 1, version))
    watch = Watch(tmp_path)
    write(tmp_path, {"proc/self/task/9/schedstat": f"900 {2 * 10**9} 1\n"})  # begins and ends
    watch.look()
    (tmp_path / "proc/self/task/9/schedstat").unlink()
    write(tmp_path, tree(15 * 10**8, 3 * 10**6, 90, 4, version))
    files = {"sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2000000\n"}
    write(tmp_path, files)
    ticks = (tmp_path / "proc/stat").read_text().replace("cpu  100", "cpu  1000")
    (tmp_path / "proc/stat").write_text(ticks)
    now[0] += 10
    seen = watch.end()
    assert (seen.seconds, seen.waiting) == (10, pytest.approx(0.2))  # of the thread that has ended
    assert (seen.periods, seen.throttled_periods) == (0, 3)
    assert seen.throttled == pytest.approx(0.3 if version == "v1" else 3e-7)
    assert seen.pressure == pytest.approx(0.2)
    assert seen.stolen == pytest.approx(90 / 900)
    assert seen.clock_mhz == [2400, 2000]
    assert seen.temperature_c == [53.5, 53.5]
    assert json.loads(json.dumps(seen.as_json()))["throttled_periods"] == 3
    assert cpu_quota(tmp_path) == 0.5


@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_quota_that_holds_the_process_while_it_looks_is_no_disturbance(tmp_path, monkeypatch, at):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    held = [0]  # milliseconds, as both counters have them

    def tell():
        stat = f"nr_periods {held[0]}\nnr_throttled {held[0]}\nthrottled_usec {held[0] * 1000}\n"
        waits = {"proc/self/task/7/schedstat": f"900 {held[0] * 10**6} 3\n"}
        write(tmp_path, tree(0, 0, 0, 0, "v2") | {"sys/fs/cgroup/a/cpu.stat": stat} | waits)

    class Held(Watch):
        """Held back by the quota for 80 ms between its first look and its second one."""

        looks = 0

        def look_and_wait(self, name):
            found = getattr(super(), name)()
            self.looks += 1
            if self.looks == (1 if at == "begin" else 3):
                held[0] += 80
                tell()
            return found

        def _waiting(self):
            return self.look_and_wait("_waiting")

        def _throttling(self):
            return self.look_and_wait("_throttling")

    tell()
    watch = Held(tmp_path)
    held[0] += 1600
    tell()
    clock[0] += 2
    seen = watch.end()
    assert seen.throttled_periods >= 1600
    assert [told.name for told in verdicts(seen, 1000, STEADY, 1, 2)] == ["throttled"]


def test_a_machine_that_tells_nothing_is_no_reproach(tmp_path):
    seen = Watch(tmp_path).end()
    assert (seen.waiting, seen.pressure, seen.stolen) == (None, None, None)
    assert verdicts(seen, 1000, STEADY, 2, 2) == []
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 2596.144\n")
    assert clock_mhz(tmp_path) == 2596.144


def test_the_power_mode_of_a_jetson_is_read_from_what_nvpmodel_prints():
    # a Thor: github.com/anduril/jetpack-nixos/pull/460; the others have the same form
    assert power_mode("NV Power Mode: MAXN\n0\n") == "MAXN (0)"
    assert power_mode("NV Power Mode: MAXN_SUPER\n2\n") == "MAXN_SUPER (2)"
    assert power_mode("NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0\n") == "15W (0)"
    assert power_mode("command failed") is None


def test_clocks_are_fixed_if_they_are_held_at_what_the_power_mode_allows(tmp_path):
    # what jetson_clocks --show prints of an Orin Nano as MinFreq and MaxFreq, at 25W and then held
    assert clocks_fixed(tmp_path) is None
    for lowest, fixed in ((729600, False), (1344000, True)):
        for cpu in range(6):
            folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            limits = {"scaling_min_freq": lowest, "scaling_max_freq": 1344000}
            limits["cpuinfo_max_freq"] = 1728000  # of MAXN_SUPER
            write(tmp_path, {f"{folder}/{name}": f"{khz}\n" for name, khz in limits.items()})
        assert clocks_fixed(tmp_path) is fixed


class Card:
    """In place of a GPU: its states, one after the other."""

    def __init__(self, *states):
        self._states = iter(states)

    def state(self):
        clock, held_by = next(self._states)
        return {"name": "H100", "clock_mhz": clock, "held_by": held_by}


def test_a_gpu_that_is_held_back_is_named(tmp_path):
    cards = [Card((1980, []), (1980, [])), Card((1980, []), (1600, ["heat"]))]
    seen = Watch(tmp_path, cards).end()
    told = verdicts(seen, 1000, STEADY, 1, 2)
    assert [verdict.name for verdict in told] == ["throttled", "throttled"]
    assert told[0].because == "the clock of H100 fell from 1980 to 1600 MHz"
    assert told[1].because == "H100 is held back by heat, at 1600 MHz"
    untold = Watch(tmp_path, [Card((None, []), (None, []))]).end()
    assert verdicts(untold, 1000, STEADY, 1, 2) == []
    assert json.loads(json.dumps(seen.as_json()))["gpus"][1]["clock_mhz"] == [1980, 1600]


def rows(*measured):
    load = {"threads": 16, "streams": 1, "processes": 1}
    names = ("width", "height", "batch", "p50_ms")
    return [load | dict(zip(names, row, strict=True)) for row in measured]


def test_launches_and_transfers_are_named_by_what_was_measured_on_an_h100():
    speed = json.loads((RESULTS / "gpu-h100.json").read_text())["speed"]
    batches = (1, 64, 256, 1024, 4096)
    measured = rows(*((32, 32, batch, speed[f"a1-32 batch {batch}"]["p50"]) for batch in batches))
    told = [gpu_bound(row, measured) for row in measured]
    assert [verdict and verdict.name for verdict in told] == ["launch-bound"] * 2 + [None] * 3
    assert told[0].because == "a batch of 64 takes 1.05 times as long"
    # the table of bench in the same file
    table = rows(
        (32, 32, 1, 1.086), (32, 32, 64, 0.777), (640, 480, 1, 0.811), (640, 480, 64, 2.474)
    )
    told = [gpu_bound(row, table) for row in table]
    assert [verdict and verdict.name for verdict in told] == [
        "launch-bound",
        None,
        None,
        "transfer-bound",
    ]
    assert told[3].because == "69% of the time goes with frames of 32x32"
    other_load = [dict(table[0], streams=2), *table[1:]]
    assert gpu_bound(other_load[0], other_load) is None
    assert gpu_bound(dict(table[0], rate=30), table) is None


def seen_by_work(before=None):
    done = subprocess.run(
        [sys.executable, "-c", WORK], capture_output=True, text=True, check=True, preexec_fn=before
    )
    return Conditions(**json.loads(done.stdout))


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no counts of the scheduler")
def test_a_busy_neighbour_on_the_same_cpu_is_named():
    cpu = {min(os.sched_getaffinity(0))}

    def pinned():
        os.sched_setaffinity(0, cpu)

    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=pinned)
    try:
        seen = seen_by_work(pinned)
    finally:
        busy.kill()
        busy.wait()
    assert seen.waiting > 0.2
    # whatever quota and clock this machine has
    seen = replace(seen, throttled_periods=0, throttled=0.0, clock_mhz=[None, None])
    assert [verdict.name for verdict in verdicts(seen, 1000, STEADY, 1, 1)] == ["disturbed"]


def test_a_quota_that_is_reached_is_named():
    group = Path("/sys/fs/cgroup/cpu") / f"adae-edge-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("5000")
    except OSError:
        pytest.skip("quotas of cgroups cannot be set here")
    try:
        seen = seen_by_work(lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
    finally:
        group.rmdir()
    assert seen.throttled_periods > 0
    told = [verdict.name for verdict in verdicts(seen, 1000, STEADY, 1, 1)]
    assert told[0] == "throttled"
    assert set(told) <= {"throttled", "disturbed"}  # by what else runs on this machine
