"""The worker: a process in a rival's environment that loads one contender and times its calls.

A request is a line of JSON on standard input, with frames as raw bytes behind it, and an answer is
a line of JSON. What libraries print goes to standard error. Nothing but the standard library is
imported before a contender is loaded, so that its import is seen.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

# Takes a frame, uint8 [H, W, C] in RGB, and returns something of one number: its score.
Score = Callable[[Any], Any]
# Takes the folder of prepared files, how many threads to use, and a frame's width and height.
Load = Callable[[Path, int, tuple[int, int]], Score]


class Worker:
    """Answers calls about one rival.

    Args:
        rival: the module with its contenders.
        calls: what frames are read from.
    """

    def __init__(self, rival: Any, calls: IO[bytes]) -> None:
        self._rival = rival
        self._calls = calls
        self._score: Score = _nothing
        self._frames: Sequence[Any] = ()
        self._next = 0
        self._threads = 1

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked: one of prepare, load, take and block."""
        arguments = {name: value for name, value in request.items() if name != "do"}
        answer: dict[str, Any] = getattr(self, f"_{request['do']}")(**arguments)
        return answer

    def _prepare(self, folder: str) -> dict[str, Any]:
        """Write what this rival's contenders load."""
        self._rival.prepare(Path(folder))
        return {}

    def _load(
        self, contender: str, folder: str, threads: int, size: tuple[int, int]
    ) -> dict[str, Any]:
        """Import and load a contender, and say what that took."""
        if hasattr(os, "sched_setaffinity"):  # libraries that cannot be told keep to it
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        self._threads = threads
        started, spent = time.perf_counter(), time.process_time()
        self._score = self._rival.CONTENDERS[contender](Path(folder), threads, tuple(size))
        return {
            "cpu_s": round(time.process_time() - spent, 4),
            "wall_s": round(time.perf_counter() - started, 4),
        }

    def _frames_of(self, shape: Sequence[int]) -> Any:
        """The frames behind a request."""
        import numpy as np

        pixels = bytearray(math.prod(shape))
        view = memoryview(pixels)
        while view:
            if not (read := self._calls.readinto(view)):  # type: ignore[attr-defined]
                raise EOFError("the frames end too early")
            view = view[read:]
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def _take(self, shape: Sequence[int]) -> dict[str, Any]:
        """Take frames, score the first, and say what memory that takes beside the frames."""
        import numpy as np

        self._frames, self._next = self._frames_of(shape), 0
        score = float(np.asarray(self._score(self._frames[0])).reshape(-1)[0])
        resident = _resident_mb() - math.prod(shape) / 1e6
        return {"score": score, "resident_mb": round(resident, 1)}

    def _block(self, seconds: float, settle_s: float) -> dict[str, Any]:
        """Time calls one after the other, once others' threads and the caches have settled."""
        until = time.perf_counter() + settle_s
        self._call()
        while time.perf_counter() < until:
            self._call()
        waited, began = _waited_s(), time.perf_counter()
        times: list[float] = []
        until = began + seconds
        while not times or time.perf_counter() < until:
            started = time.perf_counter()
            self._call()
            times.append(time.perf_counter() - started)
        share = (_waited_s() - waited) / (time.perf_counter() - began) / self._threads
        return {
            "median_ms": statistics.median(times) * 1e3,
            "min_ms": min(times) * 1e3,
            "calls": len(times),
            "waited": round(share, 4),
        }

    def _call(self) -> None:
        """Score the frame whose turn it is."""
        self._score(self._frames[self._next])
        self._next = (self._next + 1) % len(self._frames)


def _nothing(frame: Any) -> Any:
    """Nothing is loaded yet."""
    raise RuntimeError("no contender is loaded")


def _resident_mb() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _waited_s() -> float:
    """For how long this process's threads had work and no CPU so far, seconds."""
    waited = 0
    for thread in Path("/proc/self/task").iterdir():
        try:
            waited += int((thread / "schedstat").read_text().split()[1])
        except OSError:  # it has ended
            continue
    return waited / 1e9


def main(module: str) -> None:
    """Answer calls about a rival until there are none."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        worker = Worker(importlib.import_module(module), sys.stdin.buffer)
        for line in iter(sys.stdin.buffer.readline, b""):
            try:
                answer = worker.answer(json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(f"{json.dumps(answer)}\n")
            answers.flush()
