"""Cameras on the ribbon connector of a Jetson, read by NVIDIA's GStreamer element.

Nobody has tried this on a Jetson yet: ``docs/cameras.md`` says how.
"""

from __future__ import annotations

from adae_edge.errors import UsageError
from adae_edge.runtime.query import options_of, rate, size
from adae_edge.runtime.sources.gst import Gst
from adae_edge.runtime.sources.source import Wanted


class Csi(Gst):
    """A CSI camera by its number, as in "csi://0?size=1280x720&fps=30"."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//", the sensor's number, and behind "?" the options ``size`` and ``fps``.
            wanted: the frames that the model takes.

        Raises:
            UsageError: it is no number, an option is impossible, or as ``Gst``.
        """
        spec = f"csi:{place}"
        sensor, _, query = place.partition("?")
        if not (sensor.startswith("//") and sensor[2:].isdecimal()):
            raise UsageError(f"there is no camera {spec}: give the sensor's number, as in csi://0")
        options = options_of(spec, query, {"size": size, "fps": rate})
        caps = "video/x-raw(memory:NVMM)"
        if "size" in options:
            caps += ",width={},height={}".format(*options["size"])
        if "fps" in options:
            caps += f",framerate={round(options['fps'] * 1000)}/1000"
        pipeline = f"nvarguscamerasrc sensor-id={sensor[2:]} ! '{caps}' ! nvvidconv"
        super().__init__(f"{pipeline} ! video/x-raw,format=I420", wanted)
        self.name = spec


SOURCE = Csi
