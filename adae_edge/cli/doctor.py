"""``adae-edge doctor``: what this machine has, what conflicts, and which command to run next.

It has to work where packages are broken. So it imports none of them: each is tried in a process of
its own, which may crash, hang or print what it likes. Beside ``cli.py`` and not in the runtime,
because that needs numpy to be imported.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adae_edge import __version__
from adae_edge.errors import AdaeEdgeError, printable
from adae_edge.gpu import ask_driver
from adae_edge.machine import available_threads, machine
from adae_edge.tensorrt import EXTRAS, load_flavour
from adae_edge.tensorrt import MODULES as FLAVOURS

TIMEOUT_S = 120  # for TensorRT to build the probe's engine, on a small machine
# What has not been seen to work, so that nobody takes it for granted.
UNVERIFIED = (
    "--device cuda and tensorrt: never run yet on a GPU, so that nobody has compared their scores "
    "with the CPU's",
    "engines: built without a GPU, and never run yet, on a GPU or on a Jetson",
)
# Modules, and the extra that brings each; "" where adae-edge itself needs it.
MODULES = {
    "numpy": "",
    "PIL": "",
    "onnxruntime": "cpu",
    "openvino": "openvino",
    **{module: EXTRAS[flavour] for flavour, modules in FLAVOURS.items() for module in modules},
    "cuda.bindings.runtime": "tensorrt",
    "cv2": "camera",
    "pydicom": "dicom",
    "nibabel": "nifti",
    "torch": "train",
    "onnx": "export",
}
# Devices, ONNX Runtime's provider for each, and the extra that brings it; as in
# runtime/backends/onnxruntime.py.
DEVICES = {
    "cpu": ("CPUExecutionProvider", "cpu"),
    "openvino": ("OpenVINOExecutionProvider", "openvino"),
    "cuda": ("CUDAExecutionProvider", "gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "gpu"),
}
# Jetson Linux's major version: JetPack's.
JETPACKS = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7}
# The smallest model file: frames uint8 [N, H, W, 1] -> score float32 [N], their mean.
MEAN_MODEL = base64.b64decode(
    "CAg6oQEKIAoGZnJhbWVzEgVmbG9hdCIEQ2FzdCoJCgJ0bxgBoAECCjwKBWZsb2F0EgVzY29yZSIKUmVkdWNlTWVhbioPCgRheGVz"
    "QAFAAkADoAEHKg8KCGtlZXBkaW1zGACgAQISBG1lYW5aIwoGZnJhbWVzEhkKFwgCEhMKAxIBTgoDEgFICgMSAVcKAggBYhQKBXNj"
    "b3JlEgsKCQgBEgUKAxIBTkIECgAQEQ=="
)
# JetPack's own TensorRT; PyPI's is not for Jetsons.
APT = "sudo apt install python3-libnvinfer"
_ANSWER = "adae-edge doctor: "


def examine(root: Path = Path("/")) -> dict[str, Any]:
    """Everything that is known about this machine, ready for JSON; never fails.

    Args:
        root: of the file system that has proc, sys, etc and usr, another one in tests.
    """
    owners = _owners()
    with ThreadPoolExecutor(available_threads()) as pool:

        def ask(questions: list[str]) -> dict[str, dict[str, Any]]:
            return dict(zip(questions, pool.map(_ask, questions), strict=True))

        answers = ask(
            ["gpu", "engine", *(f"module {module}" for module in MODULES if _may_be_there(module))]
        )
        modules = {module: answers.get(f"module {module}", {}) for module in MODULES}
        providers = modules["onnxruntime"].get("providers", [])
        answers |= ask(
            [f"device {name}" for name, (provider, _) in DEVICES.items() if provider in providers]
        )
    report: dict[str, Any] = {
        "adae_edge": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": _guarded(machine)
        | {"usable_cpus": _guarded_value(lambda: available_threads(root))},
        "jetson": _guarded(lambda: _jetson(root)),
        "gpu": answers["gpu"] | _guarded(lambda: _driver(root)),
        "modules": {
            module: {"packages": owners.get(module.partition(".")[0], []), **found}
            for module, found in modules.items()
            if found
        },
        "devices": {name: answers.get(f"device {name}", {}) for name in DEVICES}
        | {"engine": answers["engine"]},
    }
    for name, (_, extra) in DEVICES.items():
        if not report["devices"][name]:
            report["devices"][name] = {
                "error": _lacking(extra, report["modules"].get("onnxruntime"))
            }
    report["works"] = any("by" in found for found in report["devices"].values())
    report["problems"] = _guarded_value(lambda: list(_problems(report, root))) or []
    report["unverified"] = list(UNVERIFIED)
    report["next"] = _next(report)
    return report


def describe(report: dict[str, Any]) -> str:
    """The report of ``examine`` in lines for the terminal."""
    host, board, card = report["machine"], report["jetson"], report["gpu"]
    cards = [
        f"{one['name']}, compute capability {one['compute_capability']}"
        for one in card.get("gpus", [])
    ]
    driver = ", ".join(f"{name} {card[name]}" for name in ("driver", "cuda") if name in card)
    lines = [
        (
            "adae-edge",
            f"{report['adae_edge']}, Python {report['python']['version']}, "
            f"{report['python']['executable']}",
        ),
        ("machine", f"{host.get('cpu')}, {host.get('system')}, {host.get('memory_gb')} GB"),
        (
            "CPUs",
            f"{host.get('usable_cpus')} of {host.get('cpus')} for this process, by affinity and "
            "cgroup",
        ),
        *(
            [("Jetson", f"{board.get('board') or 'an unknown board'}, {_release(board)}")]
            if board
            else []
        ),
        (
            "GPU",
            "; ".join(cards) + f" ({driver})"
            if cards
            else "none: " + card.get("error", "the driver shows none"),
        ),
    ]
    for module, found in report["modules"].items():
        if module.endswith("_bindings") and module.removesuffix("_bindings") in report["modules"]:
            continue  # a part of the other
        packages = ", ".join(found["packages"]) or module
        lines.append(
            (
                "packages",
                packages + (f": does not load, {found['error']}" if "error" in found else ""),
            )
        )
    there = {MODULES[module] for module in report["modules"]}
    lines.append(
        (
            "not there",
            ", ".join(
                f"[{extra}]" for extra in dict.fromkeys(MODULES.values()) if extra not in there
            ),
        )
    )
    for name, found in report["devices"].items():
        works = "by" in found
        lines.append(
            (
                "scores on" if works else "not on",
                f"{name:<9} {found['by'] if works else found['error']}",
            )
        )
    lines += [("problem", f"{one['problem']}\n{one['command']}") for one in report["problems"]]
    lines += [("unverified", text) for text in report["unverified"]]
    lines.append(("next", report["next"]))
    before, rows = "", []
    for label, text in lines:
        shown = label if label != before or label == "problem" else ""
        first, *others = map(printable, text.splitlines())
        rows += [f"{shown:<12}{first}", *(f"{'':<12}  {other}" for other in others)]
        before = label
    return "\n".join(rows)


def answer(question: str) -> None:
    """Print the answer to one question of ``examine``; what runs in a process of its own."""
    kind, _, name = question.partition(" ")
    ask: dict[str, Callable[[], dict[str, Any]]] = {
        "gpu": _gpus,
        "module": lambda: _module(name),
        "device": lambda: _device(name),
        "engine": _engine,
    }
    found = _guarded(ask[kind])
    print(f"\n{_ANSWER}{json.dumps(found)}", flush=True)


def _ask(question: str) -> dict[str, Any]:
    """The answer of another process; what went wrong, as ``error``, if there is none."""
    code = f"from adae_edge.cli.doctor import answer; answer({question!r})"
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
    answers = [
        line
        for line in done.stdout.decode(errors="replace").splitlines()
        if line.startswith(_ANSWER)
    ]
    if answers:
        found: dict[str, Any] = json.loads(answers[-1].removeprefix(_ANSWER))
        return found
    how = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    return {"error": f"it ended Python, with {how}"}


def _module(name: str) -> dict[str, Any]:
    """Import it; {} if it is not there after all, as of cuda only a part may be."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return {}
        raise
    found: dict[str, Any] = {"version": str(getattr(module, "__version__", ""))}
    if name == "onnxruntime":
        found["providers"] = module.get_available_providers()
    return found


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
    found = [
        f"{flavour} {load_flavour(flavour, 'An engine').__version__}"
        for flavour in there or ["tensorrt"]
    ]
    load_cuda()
    return {"by": " and ".join(found)}


def _gpus() -> dict[str, Any]:
    """GPUs by CUDA's driver, without any package."""
    driver = ask_driver()
    return {"cuda": driver.cuda, "gpus": [gpu._asdict() for gpu in driver.gpus]}


def _driver(root: Path) -> dict[str, Any]:
    """The driver's version by the kernel, and whether an NVIDIA GPU is plugged in."""
    found: dict[str, Any] = {}
    version = root / "proc/driver/nvidia/version"
    if version.is_file() and (number := re.search(r"\b\d+\.\d+(\.\d+)?\b", version.read_text())):
        found["driver"] = number[0]
    devices = (root / "sys/bus/pci/devices").glob("*/vendor")
    found["plugged_in"] = any(
        vendor.read_text().strip() == "0x10de"
        and vendor.with_name("class").read_text().startswith("0x03")
        for vendor in devices
    )
    return found


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


def _release(board: dict[str, Any]) -> str:
    return (
        f"Jetson Linux {board.get('l4t') or 'unknown'}, JetPack {board.get('jetpack') or 'unknown'}"
    )


def _owners() -> dict[str, list[str]]:
    """The installed packages that own each module, with their versions."""
    found: dict[str, list[str]] = {}
    try:
        for module, names in importlib.metadata.packages_distributions().items():
            found[module] = [
                f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names))
            ]
    except Exception:  # the metadata of one package is broken: say what can be said without
        return found
    return found


def _may_be_there(module: str) -> bool:
    """Whether its outermost package is, which is all that can be told without importing anything."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _lacking(extra: str, onnxruntime: dict[str, Any] | None) -> str:
    if onnxruntime is None:
        return f"onnxruntime is not installed: pip install 'adae-edge[{extra}]'"
    if "error" in onnxruntime:
        return "onnxruntime does not load"
    return f"this onnxruntime does not have it, [{extra}] does: one onnxruntime package at a time"


def _problems(report: dict[str, Any], root: Path) -> list[dict[str, str]]:
    """What is wrong, each with the command that helps, the most basic first."""
    modules, card, board = report["modules"], report["gpu"], report["jetson"]
    found: list[tuple[str, str]] = []
    twins: list[str] = []
    nvidia = bool(card.get("gpus")) or card.get("plugged_in", False)
    for module, extra in (("onnxruntime", "gpu" if nvidia else "cpu"), ("cv2", "camera")):
        packages = [
            package.partition(" ")[0] for package in modules.get(module, {}).get("packages", [])
        ]
        if len(packages) > 1:
            twins.append(module)
            found.append(
                (
                    f"{' and '.join(packages)} are installed side by side, and overwrite each "
                    "other's files of the "
                    f"module {module}",
                    f"pip uninstall -y {' '.join(packages)} && pip install 'adae-edge[{extra}]'",
                )
            )
    for module, about in modules.items():
        if (
            module in twins
            or "error" not in about
            or (module.endswith("_bindings") and module.removesuffix("_bindings") in modules)
        ):
            continue
        extra, names = MODULES[module], [package.partition(" ")[0] for package in about["packages"]]
        if module.startswith("tensorrt") and "cannot open shared object file" in about["error"]:
            command = APT if board else f"pip install --force-reinstall 'adae-edge[{extra}]'"
            found.append(
                (f"{module} is installed without its libraries: {about['error']}", command)
            )
        else:
            command = f"pip install --force-reinstall {' '.join(names) or shlex.quote(f'adae-edge[{extra}]')}"
            found.append((f"{module} is installed and does not load: {about['error']}", command))
    hidden = next(iter(root.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py")), None)
    if hidden and not modules.keys() & set(FLAVOURS["tensorrt"]):
        found.append(
            (
                f"the system's TensorRT, {hidden.parent}, cannot be seen from this environment",
                "python3 -m venv --system-site-packages .venv, with the system's own Python",
            )
        )
    if card.get("plugged_in") and "error" in card:
        found.append(
            (
                f"an NVIDIA GPU is plugged in, and {card['error']}",
                "install NVIDIA's driver, then nvidia-smi",
            )
        )
    engine = report["devices"]["engine"].get("error", "")
    if (
        nvidia and "cuda-bindings" in engine
    ):  # it is too new, or not there; the sentence has the command
        sentence, _, command = engine.partition(": ")
        found.append((sentence, command))
    return [{"problem": problem, "command": command} for problem, command in found]


def _next(report: dict[str, Any]) -> str:
    """The one command to run now."""
    devices, modules = report["devices"], report["modules"]
    if report["problems"]:
        return str(report["problems"][0]["command"])
    if "by" in devices["engine"]:
        return "adae-edge engine MODEL.onnx, then adae-edge score MODEL.engine SOURCE"
    if not report["works"]:
        if report["jetson"] and "tensorrt" not in modules:
            return APT
        return "pip install 'adae-edge[cpu]'"
    if "torch" in modules and "onnx" in modules:
        return "adae-edge demo"
    device = next(name for name in ("cuda", "openvino", "cpu", "tensorrt") if "by" in devices[name])
    return "adae-edge score MODEL.onnx SOURCE" + ("" if device == "cpu" else f" --device {device}")


def _guarded(found: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is found, or as ``error`` why it could not be."""
    try:
        return found()
    except AdaeEdgeError as error:
        return {"error": printable(str(error))}
    except Exception as error:  # a broken package may raise anything
        return {
            "error": printable((str(error).strip().splitlines() or [type(error).__name__])[0][:200])
        }


def _guarded_value(found: Callable[[], Any]) -> Any:
    try:
        return found()
    except Exception:
        return None
