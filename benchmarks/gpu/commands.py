"""The project's own commands, as a user types them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_KEPT = 3000


class CommandError(Exception):
    """A command ended with another exit code than 0."""


def adae_edge(*arguments: str | Path) -> dict[str, Any]:
    """Run a command of the installed package, and show what it says while it says it.

    Returns:
        ``seconds`` that it took, and the end of what it ``says``.

    Raises:
        CommandError: it failed; the message begins with its last line.
    """
    command = [sys.executable, "-m", "adae_edge", *map(str, arguments)]
    begun = time.perf_counter()
    lines = []
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        last_line = (lines or ["it says nothing"])[-1].strip()
        raise CommandError(f"{last_line} (exit code {process.returncode})")
    seconds = round(time.perf_counter() - begun, 1)
    return {"seconds": seconds, "says": "".join(lines)[-_KEPT:]}
