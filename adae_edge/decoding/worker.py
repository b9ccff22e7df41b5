"""A process that decodes DICOM files for another one, so that a hostile file kills it alone.

It reads one request a line, and answers each by items and an end. An item is a line of JSON, behind
which the bytes of an array follow where it announces one. ``workers.py`` is the other side.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from adae_edge.contract import Window
from adae_edge.decoding.kinds import Member, is_dicomdir
from adae_edge.errors import AdaeEdgeError, FrameError

FRAME_S = 4.5  # of the processor for a frame, so that a sentence comes within 5 s
WAITING_S = 30.0  # for a frame in all, because a disk or a drive may have to wake up
MEMORY_MB = 400  # of addresses that decoding may take, beyond what the process has at its start
OUT_OF_MEMORY = 3  # the exit code

Item = tuple[Any, NDArray[Any] | FrameError | None]


def main() -> None:
    """Answer one request after another, until the other side is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the other side, which ends this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # decoders in C print what they like
    try:
        tasks = _tasks()
        _limit_memory()
        _send(answers, {"ready": True})
        for line in sys.stdin.buffer:
            _answer(answers, tasks, json.loads(line))
    except BrokenPipeError:
        os._exit(1)  # nothing is left to be written
    except AdaeEdgeError as error:
        _send(answers, _raised(error))


def _tasks() -> dict[str, Callable[..., Iterator[Item]]]:
    """What can be asked for, by its name. The decoders are loaded here, outside of every limit."""
    from adae_edge.decoding.archives import list_archive
    from adae_edge.decoding.dicom import decode_one, frames_of, read_header
    from adae_edge.decoding.dicomdir import list_dicomdir
    from adae_edge.decoding.instances import open_place, origin_of
    from adae_edge.decoding.planes import as_json, planes_of, values_of
    from adae_edge.decoding.segmentation import segments_of
    from adae_edge.decoding.stored import stored_from

    def frames(place: str, member: str | None, window: list[float] | None) -> Iterator[Item]:
        file = open_place(_file(place, member))
        pictures = frames_of(file, Window(*window) if window else None)
        for number, (id_, picture) in enumerate(pictures):
            yield origin_of(file, id_, number), picture

    def planes(place: str, member: str | None) -> Iterator[Item]:
        for plane in planes_of(_file(place, member)):
            yield as_json(plane), None

    def values(
        place: str, member: str | None, numbers: list[int], stored: list[Any] | None
    ) -> Iterator[Item]:
        found = values_of(_file(place, member), numbers, stored_from(stored))
        yield from zip(numbers, found, strict=True)

    def segments(place: str, numbers: list[int] | None) -> Iterator[Item]:
        return segments_of(Path(place), numbers)

    def header(place: str) -> Iterator[Item]:
        found = read_header(Path(place))
        axes = [axes.tolist() for axes in found.orientations]
        yield found._replace(orientations=axes)._asdict(), None

    def picture(place: str, number: int, window: list[float] | None) -> Iterator[Item]:
        yield number, decode_one(Path(place), number, Window(*window) if window else None)

    def files(place: str) -> Iterator[Item]:
        path = Path(place)
        listing = list_dicomdir(path) if is_dicomdir(path) else list_archive(path)
        for file in listing.files:
            yield (["member", file.name] if isinstance(file, Member) else ["file", str(file)]), None
        for kind in listing.left_out.elements():
            yield ["left out", kind], None
        for sentence in listing.unreadable:
            yield ["unreadable", sentence], None

    tasks = (frames, planes, values, segments, header, picture, files)
    return {task.__name__: task for task in tasks}


def _file(place: str, member: str | None) -> Path | Member:
    return Path(place) if member is None else Member(Path(place), member)


def _limit_memory() -> None:
    """Refuse this process more memory than decoding may take, and files of its memory."""
    import resource  # not there on Windows

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_MB * 10**6
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(
    answers: BinaryIO, tasks: dict[str, Callable[..., Iterator[Item]]], request: dict[str, Any]
) -> None:
    """Send each item that a request finds, and the end or an error behind it."""
    try:
        _limit_time(FRAME_S, WAITING_S)
        items = tasks[request.pop("task")](**request)
        while True:
            about, found = next(items, (None, None))
            _limit_time(0, 0)
            if about is None:
                break
            if isinstance(found, FrameError):
                _send(answers, {"about": about, "failure": str(found)})
            elif found is None:
                _send(answers, {"about": about})
            else:
                sent = np.ascontiguousarray(found)
                header = {"about": about, "shape": sent.shape, "dtype": sent.dtype.name}
                _send(answers, header, sent)
            _limit_time(FRAME_S, WAITING_S)
        _send(answers, {"end": True})
    except AdaeEdgeError as error:
        if isinstance(error.__cause__, MemoryError):
            os._exit(OUT_OF_MEMORY)
        _send(answers, _raised(error))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    finally:
        _limit_time(0, 0)


def _limit_time(processor_s: float, all_s: float) -> None:
    """Have the system end this process after so many seconds; 0 for no limit.

    No handler is set, because none would run before a decoder in C returns.
    """
    signal.setitimer(signal.ITIMER_PROF, processor_s)
    signal.setitimer(signal.ITIMER_REAL, all_s)


def _raised(error: AdaeEdgeError) -> dict[str, Any]:
    """What is sent of an error."""
    return {"raised": type(error).__name__, "words": str(error)}


def _send(answers: BinaryIO, header: dict[str, Any], array: NDArray[Any] | None = None) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    if array is not None:
        answers.write(array.data.cast("B"))
    answers.flush()


if __name__ == "__main__":
    main()
