"""What ``adae-edge doctor`` asks the machine: its hardware, its packages, and which devices score.

It has to work where packages are broken. So it imports none of them: each is tried in a process of
its own, which may crash, hang or print what it likes.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adae_edge import __version__
from adae_edge.devices import DEVICES
from adae_edge.errors import AdaeEdgeError, first_line, printable
from adae_edge.gpu import ask_driver
from adae_edge.machine import available_threads, machine
from adae_edge.tensorrt import EXTRAS, load_flavour
from adae_edge.tensorrt import MODULES as FLAVOURS

TIMEOUT_S = 120  # for TensorRT to build the probe's engine, on a small machine
# Modules, and the extra that brings each; "" where adae-edge itself needs it.
MODULES = {
    "numpy": "",
    "PIL": "",
    "simplejpeg": "",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    **{module: EXTRAS[flavour] for flavour, modules in FLAVOURS.items() for module in modules},
    "cuda.bindings.runtime": "tensorrt",
    "cv2": "camera",
    "av": "camera",
    "pydicom": "dicom",
    "gdcm": "dicom",
    "jpeg_ls": "dicom",
    "openjpeg": "dicom",
    "rle": "dicom",
    "nibabel": "nifti",
    "torch": "train",
    "onnx": "export",
}
# What cameras and videos are encoded in, by FFmpeg's names.
_DECODERS = frozenset({"h264", "hevc", "mjpeg", "mpeg4", "vp9", "av1", "rawvideo"})
# Jetson Linux's major version: JetPack's.
JETPACKS = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7}
# The smallest model file: frames uint8 [N, H, W, 1] -> score float32 [N], their mean.
MEAN_MODEL = base64.b64decode(
    "CAg6oQEKIAoGZnJhbWVzEgVmbG9hdCIEQ2FzdCoJCgJ0bxgBoAECCjwKBWZsb2F0EgVzY29yZSIKUmVkdWNlTWVhbioP"
    "CgRheGVzQAFAAkADoAEHKg8KCGtlZXBkaW1zGACgAQISBG1lYW5aIwoGZnJhbWVzEhkKFwgCEhMKAxIBTgoDEgFICgMS"
    "AVcKAggBYhQKBXNjb3JlEgsKCQgBEgUKAxIBTkIECgAQEQ=="
)
_ANSWER = "adae-edge doctor: "


def examine(root: Path = Path("/")) -> dict[str, Any]:
    """Everything that is known about this machine, ready for JSON; never fails.

    Args:
        root: of the file system that has proc, sys, etc and usr, another one in tests.

    Returns:
        adae_edge, python, machine, jetson, gpu, modules and devices. A device has ``by``, what
        scored on it, or ``error``, why nothing did.
    """
    installed = [module for module in MODULES if _may_be_there(module)]
    answers = _ask_all(["gpu", "engine", *(f"module {module}" for module in installed)])

    owners = _owners()
    modules: dict[str, dict[str, Any]] = {}
    for module in installed:
        if answer := answers[f"module {module}"]:
            packages = owners.get(module.partition(".")[0], [])
            modules[module] = {"packages": packages, **answer}

    usable_cpus = or_none(lambda: available_threads(root))
    return {
        "adae_edge": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": _or_error(machine) | {"usable_cpus": usable_cpus},
        "jetson": _or_error(lambda: _jetson(root)),
        "gpu": answers["gpu"] | _or_error(lambda: _driver(root)),
        "modules": modules,
        "devices": _devices(modules.get("onnxruntime")) | {"engine": answers["engine"]},
    }


def or_none(ask: Callable[[], Any]) -> Any:
    """The answer, or None where asking fails."""
    try:
        return ask()
    except Exception:
        return None


def _or_error(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, or as ``error`` why there is none."""
    try:
        return ask()
    except AdaeEdgeError as error:
        return {"error": printable(str(error))}
    except Exception as error:  # a broken package may raise anything
        return {"error": first_line(error)}


# Questions, each answered in a process of its own.


def answer(question: str) -> None:
    """Print the answer to one question of ``examine``; what runs in the process."""
    kind, _, name = question.partition(" ")
    asks: dict[str, Callable[[], dict[str, Any]]] = {
        "gpu": _gpus,
        "module": lambda: _module(name),
        "device": lambda: _device(name),
        "engine": _engine,
    }
    print(f"\n{_ANSWER}{json.dumps(_or_error(asks[kind]))}", flush=True)


def _ask_all(questions: Sequence[str]) -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor(available_threads()) as pool:
        return dict(zip(questions, pool.map(_ask, questions), strict=True))


def _ask(question: str) -> dict[str, Any]:
    """The answer of another process; what went wrong, as ``error``, if there is none."""
    code = f"from adae_edge.cli.examination import answer; answer({question!r})"
    try:
        # From the root folder, because files in this one may have the names of modules.
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it gave no answer within {TIMEOUT_S} seconds"}
    except OSError as error:
        return {"error": f"no process could be started: {error.strerror}"}
    lines = done.stdout.decode(errors="replace").splitlines()
    answers = [line for line in lines if line.startswith(_ANSWER)]
    if answers:
        last: dict[str, Any] = json.loads(answers[-1].removeprefix(_ANSWER))
        return last
    how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    return {"error": f"it ended Python, with {how}"}


def _gpus() -> dict[str, Any]:
    """GPUs by CUDA's driver."""
    driver = ask_driver()
    return {"cuda": driver.cuda, "gpus": [gpu._asdict() for gpu in driver.gpus]}


def _module(name: str) -> dict[str, Any]:
    """Import a module; {} if it is not there after all, as of cuda only a part may be."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return {}
        raise
    about: dict[str, Any] = {"version": str(getattr(module, "__version__", ""))}
    if name == "onnxruntime":
        about["providers"] = module.get_available_providers()
    if name == "av":
        about["ffmpeg"] = str(getattr(module, "ffmpeg_version_info", "unknown"))
        about["lacks"] = sorted(_DECODERS - module.codecs_available)
    return about


def _device(name: str) -> dict[str, Any]:
    """Score a frame on this device, as the runtime does it."""
    import numpy as np

    from adae_edge.runtime.backends.onnxruntime import OnnxRuntime

    backend = OnnxRuntime(MEAN_MODEL, name)
    score = float(backend.run([np.array([[[[0], [40], [80]]]], np.uint8)])[0][0])
    if abs(score - 40) > 1e-3:
        return {"error": f"it gives {score} where 40 is right"}
    return {"by": backend.name}


def _engine() -> dict[str, Any]:
    """Load what an engine takes to run, as the runtime does it."""
    from adae_edge.runtime.backends.tensorrt import load_cuda

    there = [flavour for flavour, modules in FLAVOURS.items() if any(map(_may_be_there, modules))]
    versions = [
        f"{flavour} {load_flavour(flavour, 'An engine').__version__}"
        for flavour in there or ["tensorrt"]
    ]
    load_cuda()
    return {"by": " and ".join(versions)}


def _devices(onnxruntime: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Score a frame on each device whose provider this onnxruntime has."""
    providers = (onnxruntime or {}).get("providers", [])
    there = [name for name, device in DEVICES.items() if device.provider in providers]
    answers = _ask_all([f"device {name}" for name in there])
    return {
        name: answers[f"device {name}"]
        if name in there
        else {"error": _lacking(device.extra, onnxruntime)}
        for name, device in DEVICES.items()
    }


def _lacking(extra: str, onnxruntime: dict[str, Any] | None) -> str:
    if onnxruntime is None:
        return f"onnxruntime is not installed: pip install 'adae-edge[{extra}]'"
    if "error" in onnxruntime:
        return "onnxruntime does not load"
    return f"this onnxruntime does not have it, [{extra}] does: one onnxruntime package at a time"


# What files and metadata tell, in this process.


def _owners() -> dict[str, list[str]]:
    """The packages that own each module, with their versions.

    Of several folders on the path the first that has the module counts, because Python loads it
    from there. Packages in one folder have written over each other's files.
    """
    owners: dict[str, list[str]] = {}
    try:
        for module, names in importlib.metadata.packages_distributions().items():
            packages = [importlib.metadata.distribution(name) for name in sorted(set(names))]
            folders = [str(package.locate_file("")) for package in packages]
            loaded = min(folders, key=_place_on_path)
            owners[module] = [
                f"{package.metadata['Name']} {package.version}"
                for package, folder in zip(packages, folders, strict=True)
                if folder == loaded
            ]
    except Exception:  # the metadata of one package is broken: say what can be said without
        return owners
    return owners


def _place_on_path(folder: str) -> int:
    return sys.path.index(folder) if folder in sys.path else len(sys.path)


def _may_be_there(module: str) -> bool:
    """Whether its outermost package is there; no more can be told without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _driver(root: Path) -> dict[str, Any]:
    """The driver's version by the kernel, and whether an NVIDIA GPU is plugged in."""
    about: dict[str, Any] = {}
    version = root / "proc/driver/nvidia/version"
    if version.is_file() and (number := re.search(r"\b\d+\.\d+(\.\d+)?\b", version.read_text())):
        about["driver"] = number[0]
    vendors = (root / "sys/bus/pci/devices").glob("*/vendor")
    about["plugged_in"] = any(
        vendor.read_text().strip() == "0x10de"
        and vendor.with_name("class").read_text().startswith("0x03")
        for vendor in vendors
    )
    return about


def _jetson(root: Path) -> dict[str, Any]:
    """The board and its releases; {} if this is no Jetson."""
    model, release = root / "proc/device-tree/model", root / "etc/nv_tegra_release"
    board = model.read_text().strip("\0\n ") if model.is_file() else None
    if not release.is_file():
        return {"board": board, "l4t": None, "jetpack": None} if board and "NVIDIA" in board else {}
    numbers = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release.read_text())
    major = int(numbers[1]) if numbers else 0
    return {
        "board": board,
        "l4t": f"{numbers[1]}.{numbers[2]}" if numbers else None,
        "jetpack": JETPACKS.get(major),
    }
