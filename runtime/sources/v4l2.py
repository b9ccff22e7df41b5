"""Linux cameras by their device, such as a USB camera at /dev/video0, read by PyAV."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import struct
import time
from pathlib import Path
from typing import Any

from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import SourceError, UsageError
from adae_edge.runtime.query import options_of, rate, size
from adae_edge.runtime.sources.av import DEVICE, Reception
from adae_edge.runtime.sources.live import Live
from adae_edge.runtime.sources.source import Wanted


def _format(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{1,16}", text):
        raise ValueError("FFmpeg's name of a format, such as mjpeg or yuyv422")
    return text


_GET_FORMAT, _CAPTURE = 0xC0005604, 1  # of linux/videodev2.h, without the structure's size
_RATE = 0.01  # part by which the rate may differ, as 29.97 from 30
_OPTIONS = {"size": size, "fps": rate, "format": _format}


class V4l2(Live):
    """A camera by its device, as in "v4l2:///dev/video0?size=640x360&fps=30&format=mjpeg"."""

    def __init__(self, place: str, wanted: Wanted) -> None:
        """
        Args:
            place: "//", the path of the device, and behind "?" the options ``size``, ``fps`` and
                ``format``; what is not given is the driver's choice.
            wanted: the frames that the model takes.

        Raises:
            UsageError: an option is impossible, or other frames are wanted.
            SourceError: there is no such device.
        """
        name = f"v4l2:{place}"
        wanted.check_pictures(name)
        path, _, query = place.removeprefix("//").partition("?")
        options = options_of(name, query, _OPTIONS)
        if not path.startswith("/"):
            raise UsageError(f"{name} has no device: give its path, as in v4l2:///dev/video0")
        if not Path(path).exists():
            raise SourceError(f"there is no device {path}")
        super().__init__(name, lambda: _Device(path, options, wanted.shrinking))


class _Device(Reception):
    """An opened device, in the mode that was asked for."""

    def __init__(self, path: str, asked: dict[str, Any], shrinking: Shrinking | None) -> None:
        options = {}
        if "size" in asked:
            options["video_size"] = "{}x{}".format(*asked["size"])
        if "fps" in asked:
            options["framerate"] = f"{asked['fps']:g}"
        if "format" in asked:
            options["input_format"] = asked["format"]
        super().__init__(path, options, shrinking, form=DEVICE)
        self._path, self._asked = path, asked

    def open(self) -> None:
        """Open the device; raises SourceError where it has not the mode that was asked for."""
        try:  # the kernel's own reason is clearer than what FFmpeg makes of it
            descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK)
        except OSError as error:
            raise SourceError(f"cannot be opened: {os.strerror(error.errno or 0)}") from error
        try:
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
                raise SourceError("is no device")
        finally:
            os.close(descriptor)
        self.heard = time.monotonic()  # a triggered camera may be silent from here on
        try:
            super().open()
        except SourceError as error:
            way_out = ": adae-edge doctor lists what the device has" if self._asked else ""
            raise SourceError(f"{error}{way_out}") from error
        given = _size_of(self._path)
        if given != (self._decoder.width, self._decoder.height):  # FFmpeg says what was asked for
            raise SourceError(
                f"has no frames of {self._decoder.width} x {self._decoder.height} pixels: "
                f"the nearest are {given[0]} x {given[1]}"
            )
        rate = self._container.streams.video[0].average_rate
        if "fps" in self._asked and rate and abs(rate / self._asked["fps"] - 1) > _RATE:
            raise SourceError(
                f"does not give {self._asked['fps']:g} frames a second: "
                f"the nearest are {float(rate):g}"
            )


def _size_of(path: str) -> tuple[int, int]:
    """Width and height of the frames that an opened device gives, by its driver."""
    start = struct.calcsize("P")  # of the format behind its type, in the kernel's structure
    answer = bytearray(start + 200)
    struct.pack_into("I", answer, 0, _CAPTURE)
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, _GET_FORMAT | len(answer) << 16, answer)
    finally:
        os.close(descriptor)
    width, height = struct.unpack_from("II", answer, start)
    return width, height


SOURCE = V4l2
