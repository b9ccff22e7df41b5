"""NVIDIA GPUs as NVML tells of them: what they are, and what holds their clocks back."""

from __future__ import annotations

from typing import Any

# Why a clock is held back, by the bits of nvmlClocksEventReasons. The others are what one asks for:
# an idle GPU, or clocks that were set.
_HELD_BY = {
    0x04: "its power limit",
    0x08: "a slowdown of its hardware",
    0x20: "heat",
    0x40: "heat, by its hardware",
    0x80: "its power supply",
}
_SM, _CORE = 1, 0  # NVML_CLOCK_SM and NVML_TEMPERATURE_GPU


class Gpu:
    """A GPU.

    Attributes:
        name: what its maker calls it.
    """

    def __init__(self, library: Any, index: int) -> None:
        """
        Args:
            library: the module pynvml, initialised.
            index: of the GPU.
        """
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        name = self.asked("nvmlDeviceGetName")
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def asked(self, function: str, *arguments: int) -> Any:
        """What a function of NVML tells of this GPU; None where it does not, as on a Jetson."""
        try:
            return getattr(self._library, function)(self._handle, *arguments)
        except (self._library.NVMLError, AttributeError):
            return None

    def state(self) -> dict[str, Any]:
        """What the GPU does now, as JSON types; None for what it does not tell."""
        try:
            driver = self._library.nvmlSystemGetDriverVersion()
        except self._library.NVMLError:
            driver = None
        limit_mw = self.asked("nvmlDeviceGetEnforcedPowerLimit")
        return {
            "name": self.name,
            "driver": driver.decode() if isinstance(driver, bytes) else driver,
            "clock_mhz": self.asked("nvmlDeviceGetClockInfo", _SM),
            "most_clock_mhz": self.asked("nvmlDeviceGetMaxClockInfo", _SM),
            "power_limit_w": None if limit_mw is None else limit_mw / 1e3,
            "temperature_c": self.asked("nvmlDeviceGetTemperature", _CORE),
            "held_by": self.held_by(),
        }

    def held_by(self) -> list[str]:
        """What holds its clock back now, in words."""
        bits = self.asked("nvmlDeviceGetCurrentClocksEventReasons") or 0
        return [reason for bit, reason in _HELD_BY.items() if bits & bit]


def gpus() -> tuple[list[Gpu], list[str]]:
    """The GPUs of this machine, and in a sentence why they cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return [], ["NVML needs an extra that is not installed: pip install 'adae-edge[power]'"]
    try:
        pynvml.nvmlInit()
        return [Gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())], []
    except pynvml.NVMLError as error:
        return [], [f"NVML cannot be used: {error}"]
