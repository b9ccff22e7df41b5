"""What ``adae-edge doctor`` asks of a device's surroundings: cameras, GStreamer, disk and clock."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adae_edge.machine import printed_by

# Of linux/videodev2.h: what is asked, and the places of what is read in their structures.
_ENUM_FORMATS, _ENUM_SIZES, _CAPTURE, _DISCRETE = 0xC0405602, 0xC02C564A, 1, 1
# What adjtimex(2) returns for a clock that nothing sets.
_UNSYNCHRONIZED = 5


def surroundings(root: Path = Path("/")) -> dict[str, Any]:
    """Cameras with their modes, GStreamer, disk and clock, ready for JSON; never fails.

    Args:
        root: of the file system that has sys and dev, another one in tests.

    Returns:
        cameras: of each device its name and its modes, or why they cannot be told.
        gstreamer: the version of gst-launch-1.0, or None.
        disk: bytes that are free in the current folder, or None.
        clock: whether something keeps the clock right; None where it cannot be told.
    """
    return {
        "cameras": {device: about for device, about in sorted(_cameras(root))},
        "gstreamer": _gstreamer(),
        "disk": _free(),
        "clock": _synchronized(),
    }


def _cameras(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each device of Video4Linux by its path, those that give no frames left out."""
    for folder in (root / "sys/class/video4linux").glob("video*"):
        device = f"/dev/{folder.name}"
        about: dict[str, Any] = {"name": device}
        with contextlib.suppress(OSError):
            about["name"] = (folder / "name").read_text().strip()
        try:
            about["modes"] = _modes(root / device.removeprefix("/"))
        except OSError as error:
            about["error"] = os.strerror(error.errno or 0)
        if about.get("modes") != {}:
            yield device, about


def _modes(device: Path) -> dict[str, list[str]]:
    """The sizes, as in 640x360, of each pixel format that a device gives frames in."""
    descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        formats = [
            struct.unpack_from("=4s", found, 44)[0]
            for found in _listed(descriptor, _ENUM_FORMATS, struct.Struct("=II56x"), (_CAPTURE,))
        ]
        return {name.decode(errors="replace"): _sizes(descriptor, name) for name in formats}
    finally:
        os.close(descriptor)


def _sizes(descriptor: int, name: bytes) -> list[str]:
    """The sizes of frames in a format; a range is told by its ends."""
    sizes = []
    (code,) = struct.unpack("=I", name)
    for found in _listed(descriptor, _ENUM_SIZES, struct.Struct("=II36x"), (code,)):
        kind, width, height, *_ = struct.unpack_from("=8xIII", found)
        if kind == _DISCRETE:
            sizes.append(f"{width}x{height}")
        else:
            least, most, _, low, high = struct.unpack_from("=12xIIIII", found)
            return [f"{least}x{low} to {most}x{high}"]
    return sizes


def _listed(
    descriptor: int, request: int, form: struct.Struct, more: tuple[int, ...]
) -> Iterator[bytes]:
    """The answers to a request with the indices 0, 1 and so on, until the driver has no more."""
    import fcntl  # not there on Windows

    for index in range(64):
        asked = bytearray(form.pack(index, *more))
        try:
            fcntl.ioctl(descriptor, request, asked)
        except OSError:
            return
        yield bytes(asked)


def _gstreamer() -> str | None:
    """The version that gst-launch-1.0 tells, or None where it is not installed."""
    printed = printed_by("gst-launch-1.0", "--version") or ""
    return next((line for line in printed.splitlines() if "GStreamer" in line), None)


def _free() -> int | None:
    try:
        return shutil.disk_usage(".").free
    except OSError:
        return None


def _synchronized() -> bool | None:
    """Whether the kernel's clock is kept right, by NTP for example."""
    try:
        ask = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError, TypeError):
        return None
    state: int = ask(ctypes.create_string_buffer(512))  # zeros ask, and set nothing
    return None if state < 0 else state != _UNSYNCHRONIZED
