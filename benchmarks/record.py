"""What every benchmark writes down beside its figures: command, machine and versions."""

from __future__ import annotations

import json
import re
import resource
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from adae_edge import __version__
from adae_edge.errors import without_password
from adae_edge.formats.files import write_json
from adae_edge.machine import machine

# Packages whose versions figures depend on: the module of each.
MODULES = {
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "opencv": "cv2",
    "openvino": "openvino",
    "scikit-learn": "sklearn",
    "torch": "torch",
}
_UNSAFE = frozenset(" <>|&;?()'\"$")
_FOLDER = re.compile(r"(^|[=:,])/[^=:,]*/")


def record(**figures: Any) -> dict[str, Any]:
    """The record of a benchmark, JSON types: what was run where, and then its figures."""
    return {"command": command(), "machine": machine(), "versions": versions(), **figures}


def finish(json_file: Path | None, **figures: Any) -> None:
    """Write the record of a benchmark, if a file is given, and print its figures.

    Samples are not printed, because there may be thousands.
    """
    if json_file is not None:
        write_json(json_file, record(**figures))
    shown = {name: value for name, value in figures.items() if name != "samples"}
    typer.echo(json.dumps(shown, indent=2))


def command() -> str:
    """The command line of this process; of absolute paths the last name alone."""
    module = getattr(sys.modules["__main__"].__spec__, "name", "adae_edge")
    module = module.removesuffix(".__main__")
    program = "adae-edge" if module == "adae_edge" else f"python -m {module}"
    return " ".join([program, *map(_shown, sys.argv[1:])])


def _shown(argument: str) -> str:
    """An argument as it is written down; of a URL all but its password."""
    argument = without_password(argument) if "://" in argument else _FOLDER.sub(r"\1", argument)
    return shlex.quote(argument) if set(argument) & _UNSAFE else argument


def versions() -> dict[str, str]:
    """The versions of adae-edge, and of what this process has loaded of ``MODULES``."""
    loaded = {
        name: str(sys.modules[module].__version__)
        for name, module in MODULES.items()
        if module in sys.modules
    }
    return {"adae_edge": __version__, **loaded}


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, MB."""
    try:  # what getrusage tells includes the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def as_json(result: Mapping[str, Any]) -> str:
    """The result as JSON, with each list of numbers in one line."""
    text = json.dumps(result, indent=2) + "\n"
    return re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda found: _one_line(found[1]), text)


def _one_line(numbers: str) -> str:
    return f"[{' '.join(numbers.split())}]"
