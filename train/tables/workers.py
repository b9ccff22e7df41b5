"""The processes of the cells that run, seen from the one that started them."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from adae_edge.errors import UsageError
from adae_edge.train.progress import TableProgress
from adae_edge.train.tables.cell import Cell


class Workers:
    """The processes of the cells that run; all of them end with the context, or with this process.

    Args:
        lock: file descriptor that holds the folder's lock. The workers inherit it, so one that
            outlives this process for a moment still holds the folder.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._running: dict[Cell, subprocess.Popen[str]] = {}
        # what a worker reports, and None when it has ended
        self._messages: queue.Queue[tuple[Cell, dict[str, Any] | None]] = queue.Queue()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._running.values():
            process.kill()  # a cell survives that
        for process in self._running.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def run(
        self, cells: list[Cell], jobs: int, progress: TableProgress
    ) -> Iterator[tuple[Cell, str | None]]:
        """Run the cells, ``jobs`` at a time.

        Yields:
            Each cell when it ends, with a sentence if it failed.

        Raises:
            UsageError: a cell cannot be run, for a reason that all cells share.
        """
        waiting = iter(cells)
        errors: dict[Cell, str] = {}
        for cell in itertools.islice(waiting, jobs):
            self._start(cell)
        while self._running:
            cell, message = self._messages.get()
            if message is None:
                with self._running.pop(cell) as process:
                    process.wait()
                for following in itertools.islice(waiting, 1):
                    self._start(following)
                yield cell, errors.get(cell) or _ended(process.returncode)
            elif message.get("wrong_use"):
                raise UsageError(message["error"])
            elif "error" in message:
                errors[cell] = message["error"]
            else:
                progress.epoch(cell, **message)

    def _start(self, cell: Cell) -> None:
        """Start the process of a cell, and a thread that listens to it."""
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "adae_edge.train.tables.worker", json.dumps(asdict(cell))],
            stdin=subprocess.PIPE,  # its end tells the worker that this process is gone
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[self._lock],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # a terminal's Ctrl-C reaches this process alone, which ends its workers
            process_group=0,
        )
        self._running[cell] = process
        threading.Thread(target=self._listen, args=(cell, process), daemon=True).start()

    def _listen(self, cell: Cell, process: subprocess.Popen[str]) -> None:
        """Put what a process reports into the queue, until it ends."""
        assert process.stdout is not None
        try:
            with process.stdout as lines:
                for line in lines:
                    self._messages.put((cell, json.loads(line)))
        finally:
            self._messages.put((cell, None))


def _ended(code: int) -> str | None:
    """Say how a process ended, or None where it ended well."""
    if code == 0:
        return None
    if code > 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    reason = ", perhaps for want of memory: fewer --jobs need less" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{reason}"
