"""Energy, clocks and modes from samples that others recorded; on the devices nobody has tried it.

Each sample has its source beside it. What is not recorded follows the documentation.
"""

import os
import sys
import time
from types import SimpleNamespace

import pytest

from adae_edge.benchmarks import power, tegrastats
from adae_edge.benchmarks.gpus import gpus
from adae_edge.benchmarks.markdown import powered
from adae_edge.benchmarks.power import Energy, Reading, meters
from adae_edge.errors import UsageError
from tests.core.test_machine import write

RAPL = "sys/class/powercap/intel-rapl:0"
INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


# A Haswell's package: github.com/intel/thermal_daemon/issues/45.
RANGE_UJ = 262143999938
# An AGX Orin has two sensors with these rails, and no channel for its whole input:
# github.com/alumet-dev/alumet/issues/212 and jtop/core/power.py of github.com/rbonghi/jetson_stats.
AGX = {
    "1-0040/hwmon/hwmon1": ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"],
    "1-0041/hwmon/hwmon2": ["NC", "VDDQ_VDD2_1V8AO", "NC"],
}


def rapl(uj, folder=RAPL):
    return {
        f"{folder}/name": "package-0\n",
        f"{folder}/energy_uj": f"{uj}\n",
        f"{folder}/max_energy_range_uj": f"{RANGE_UJ}\n",
    }


def ina(millivolts, milliamperes):
    """An Orin NX or Nano, in the units of kernel.org/doc/Documentation/hwmon/ina3221.rst."""
    return {
        f"{INA}/in1_label": "VDD_IN\n",
        f"{INA}/in1_input": f"{millivolts}\n",
        f"{INA}/curr1_input": f"{milliamperes}\n",
        f"{INA}/in2_label": "VDD_CPU_GPU_CV\n",
        f"{INA}/in2_input": "5000\n",
        f"{INA}/curr2_input": "1000\n",
        f"{INA}/in3_label": "VDD_SOC\n",
        f"{INA}/in7_label": "sum of shunt voltages\n",
    }


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.s)
    return now


def test_a_package_is_counted_also_where_its_counter_begins_anew(tmp_path):
    write(tmp_path, rapl(RANGE_UJ - 328850) | rapl(5, f"{RAPL}:0"))  # a part of the package
    (meter,), refused = meters(tmp_path)
    assert (meter.name, refused, meter.joules()) == ("RAPL package-0", [], 0)
    write(tmp_path, rapl(RANGE_UJ))
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


def test_the_input_of_an_orin_nx_has_the_power_that_was_recorded_of_it(tmp_path):
    # docs/power.md of github.com/ARK-Electronics/ark_jetson_kernel: 5.016 V and 6.05 A, 30.3 W
    write(tmp_path, ina(5016, 6050))
    (meter,), refused = meters(tmp_path)
    assert (round(meter.watts(), 1), refused) == (30.3, [])


def test_a_board_without_a_rail_for_its_input_tells_each_rail(tmp_path):
    for folder, labels in AGX.items():
        for channel, label in enumerate(labels, 1):
            place = f"sys/bus/i2c/drivers/ina3221/{folder}"
            write(tmp_path, {f"{place}/in{channel}_label": f"{label}\n"})
            if label != "NC":  # reading these fails: No data available
                write(tmp_path, {f"{place}/in{channel}_input": "19864\n"})
                write(tmp_path, {f"{place}/curr{channel}_input": "180\n"})
    found, refused = meters(tmp_path)
    rails = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert [meter.name for meter in found] == [f"INA3221 {rail}" for rail in rails]
    assert refused == []
    assert found[0].watts() == pytest.approx(3.576, abs=1e-3)


def test_rails_in_a_log_of_tegrastats():
    # A TX2: github.com/FindHao/tx-utils/issues/3. An AGX Orin: the form of JetPack 6.
    tx2 = (
        "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@42.5C "
        "thermal@41.9C VDD_SYS_GPU 153/158 VDD_4V0_WIFI 633/527 VDD_IN 3140/3208 "
        "VDD_SYS_DDR 557/601"
    )
    rails = tegrastats.rails(f"{tx2}\n{tx2.replace('3140/', '3240/')}\n")
    assert rails["VDD_IN"] == [3.14, 3.24]
    assert list(rails) == ["VDD_SYS_GPU", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_DDR"]
    agx = (
        "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU "
        "[90%@2201,100%@2201] EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] tj@77.281C "
        "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW"
    )
    rails = tegrastats.rails(agx)
    assert rails == {"VDD_GPU_SOC": [3.15], "VDD_CPU_CV": [14.312], "VIN_SYS_5V0": [4.968]}
    without_root = (
        "RAM 1689/3825MB (lfb 339x4MB) SWAP 0/1913MB (cached 0MB) CPU [3%@345,off] GPU@50C"
    )
    with pytest.raises(UsageError, match="tells it to root alone"):
        tegrastats.rails(without_root)


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
    """What pynvml raises; of a Jetson's GPU for all but its name.

    github.com/HazyResearch/intelligence-per-watt/issues/40
    """


def refusing(*arguments):
    raise NotSupported("Not Supported")


def nvml(**told):
    """The module pynvml with GPU 0 an H100, as nvidia-smi told of it in docs/results/gpu-h100.json.

    Names and units are those of docs.nvidia.com/deploy/nvml-api. GPU 1 is a Jetson's.
    """
    h100 = {
        "GetName": lambda: b"NVIDIA H100 80GB HBM3",
        "GetClockInfo": lambda clock: 345,
        "GetMaxClockInfo": lambda clock: 1980,
        "GetEnforcedPowerLimit": lambda: 700_000,  # mW
        "GetTemperature": lambda sensor: 49,
        "GetTotalEnergyConsumption": lambda: 1_000_000,  # mJ
        "GetCurrentClocksEventReasons": lambda: 0x1,  # idle
        **told,
    }

    def of(name):
        def ask(handle, *arguments):
            if handle == 1:
                return "Orin (nvgpu)" if name == "GetName" else refusing()
            return h100[name](*arguments)

        return ask

    return SimpleNamespace(
        NVMLError=NotSupported,
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.159.04",
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        **{f"nvmlDevice{name}": of(name) for name in h100},
    )


def test_a_gpu_counts_its_own_energy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert meters(tmp_path) == ([], [])
    (meter,), refused = meters(tmp_path, gpu=True)
    assert (meter.name, meter.joules()) == ("NVML NVIDIA H100 80GB HBM3", 1000)
    assert refused == ["NVML Orin (nvgpu) does not tell its energy"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install 'adae-edge[power]'" in meters(tmp_path, gpu=True)[1][0]
    no_driver = SimpleNamespace(NVMLError=NotSupported, nvmlInit=refusing)
    monkeypatch.setitem(sys.modules, "pynvml", no_driver)
    assert meters(tmp_path, gpu=True) == ([], ["NVML cannot be used: Not Supported"])


def test_the_state_of_a_gpu_is_told_as_far_as_it_tells_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    h100, orin = (gpu.state() for gpu in gpus()[0])
    assert h100 == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "580.159.04",
        "clock_mhz": 345,
        "most_clock_mhz": 1980,
        "power_limit_w": 700,
        "temperature_c": 49,
        "held_by": [],
    }
    assert orin["name"] == "Orin (nvgpu)"
    assert orin.pop("held_by") == []
    assert set(orin.values()) == {"Orin (nvgpu)", "580.159.04", None}
    result = {"machine": {"power_mode": "MAXN_SUPER (2)", "clocks_fixed": True}}
    assert powered(result | {"gpus": [h100, orin | {"held_by": []}]}) == [
        "power mode MAXN_SUPER (2), clocks fixed",
        "NVIDIA H100 80GB HBM3, driver 580.159.04, 345 MHz of 1980, at most 700 W, 49 degrees",
        "Orin (nvgpu), driver 580.159.04",
    ]


def test_what_holds_a_gpus_clock_back_is_told_by_the_bits_of_nvml(monkeypatch):
    for bits, reasons in {
        0x1 | 0x2 | 0x100: [],  # idle, clocks that were set, a display's
        0x4: ["its power limit"],
        0x20 | 0x40: ["heat", "heat, by its hardware"],
        0x8 | 0x80: ["a slowdown of its hardware", "its power supply"],
    }.items():
        monkeypatch.setitem(
            sys.modules, "pynvml", nvml(GetCurrentClocksEventReasons=lambda bits=bits: bits)
        )
        assert gpus()[0][0].held_by() == reasons
