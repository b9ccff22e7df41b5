"""Energy from files and a library that are made up after their documentation, not recorded."""

import os
import sys
import time
from types import SimpleNamespace

import pytest

from adae_edge.benchmarks import power
from adae_edge.benchmarks.power import Energy, Reading, meters
from tests.core.test_machine import write

RAPL = "sys/class/powercap/intel-rapl:0"
INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def rapl(uj, folder=RAPL):
    return {
        f"{folder}/name": "package-0\n",
        f"{folder}/energy_uj": f"{uj}\n",
        f"{folder}/max_energy_range_uj": "262143328850\n",
    }


def ina(millivolts, milliamperes):
    return {
        f"{INA}/in1_label": "VDD_IN\n",
        f"{INA}/in1_input": f"{millivolts}\n",
        f"{INA}/curr1_input": f"{milliamperes}\n",
        f"{INA}/in2_label": "VDD_CPU_GPU_CV\n",
        f"{INA}/in2_input": "5000\n",
        f"{INA}/curr2_input": "1000\n",
    }


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.s)
    return now


def test_a_package_is_counted_also_where_its_counter_begins_anew(tmp_path):
    write(tmp_path, rapl(262143000000) | rapl(5, f"{RAPL}:0"))  # a part of the package
    (meter,), refused = meters(tmp_path)
    assert (meter.name, refused, meter.joules()) == ("RAPL package-0", [], 0)
    write(tmp_path, rapl(262143328850))
    assert meter.joules() == pytest.approx(0.32885)
    write(tmp_path, rapl(2_000_000))
    assert meter.joules() == pytest.approx(2.32885)


def test_a_jetsons_input_is_summed_over_time(tmp_path, clock):
    write(tmp_path, ina(5000, 1000))
    (meter,), _ = meters(tmp_path)  # the other rails are parts of the input
    assert meter.name == "INA3221 VDD_IN"
    clock.s += 2
    assert meter.joules() == pytest.approx(10)
    write(tmp_path, ina(5000, 3000))
    clock.s += 1
    assert meter.joules() == pytest.approx(10 + (5 + 15) / 2)


def test_what_a_frame_takes_is_without_what_idling_takes(tmp_path, clock, monkeypatch):
    write(tmp_path, rapl(0))
    (meter,), _ = meters(tmp_path)

    def idle(seconds):
        clock.s += seconds
        write(tmp_path, rapl(4_000_000))

    monkeypatch.setattr(time, "sleep", idle)
    reading = Reading([meter], 2.0)
    reading.begin()
    write(tmp_path, rapl(34_000_000))
    clock.s += 5
    (energy,) = reading.end()
    assert energy == Energy("RAPL package-0", pytest.approx(30), 2.0, 5)
    assert energy.as_json(100) == {
        "meter": "RAPL package-0",
        "watts": 6.0,
        "idle_watts": 2.0,
        "joules_per_frame": 0.2,
    }


def test_without_meters_nothing_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waited"))
    reading = Reading(meters(tmp_path)[0])
    reading.begin()
    assert reading.end() == []


def test_a_file_that_may_not_be_read_is_told_in_a_sentence(tmp_path, monkeypatch):
    write(tmp_path, rapl(1))

    def refused(folder):
        raise PermissionError(13, os.strerror(13), str(folder))

    monkeypatch.setattr(power, "Rapl", refused)
    assert meters(tmp_path) == ([], ["RAPL intel-rapl:0 may not be read without root"])
    monkeypatch.undo()
    (tmp_path / RAPL / "max_energy_range_uj").unlink()
    assert meters(tmp_path) == ([], ["RAPL intel-rapl:0 does not tell its energy"])


def test_a_meter_that_is_gone_loses_its_figure_and_not_the_run(tmp_path):
    write(tmp_path, rapl(1))
    reading = Reading(meters(tmp_path)[0], 0.01)
    reading.begin()
    (tmp_path / RAPL / "energy_uj").unlink()
    assert reading.end() == []


class NotSupported(Exception):
    """What pynvml raises."""


def consumption(handle):
    if handle == 1:
        raise NotSupported
    return 1_000_000  # mJ


# What is asked of the module pynvml, made up after its documentation.
PYNVML = SimpleNamespace(
    NVMLError=NotSupported,
    nvmlInit=lambda: None,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda index: index,
    nvmlDeviceGetName=lambda handle: (b"NVIDIA H100", "Tesla K80")[handle],
    nvmlDeviceGetTotalEnergyConsumption=consumption,
)


def test_a_gpu_counts_its_own_energy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", PYNVML)
    assert meters(tmp_path) == ([], [])
    (meter,), refused = meters(tmp_path, gpu=True)
    assert (meter.name, meter.joules()) == ("NVML NVIDIA H100", 1000)
    assert refused == ["NVML 1 does not tell its energy"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install 'adae-edge[power]'" in meters(tmp_path, gpu=True)[1][0]
