"""``adae-edge doctor``: what this machine has, what conflicts, and which command to run next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from adae_edge.errors import printable
from adae_edge.tensorrt import MODULES as FLAVOURS

# What has not been seen to work, so that nobody takes it for granted.
UNVERIFIED = (
    "--device cuda on any GPU but an NVIDIA H100, where scores were within 1.5e-6 of the CPU's "
    "(fp16: 1.1e-3), no decision changed",
    "--device tensorrt: ONNX Runtime's TensorRT provider has not been run yet",
    "engines: built without a GPU and not run yet; their backend ran on an H100 with a stand-in "
    "for the plan",
    "Jetsons: nothing has been run on one yet",
)
LEAST_FREE = 1e9  # bytes, below which rows and pictures of a night may fill a disk
_SIZES_SHOWN = 6
# JetPack's own TensorRT; PyPI's is not for Jetsons.
APT = "sudo apt install python3-libnvinfer"


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Explain what this machine has, what conflicts, and which command to run next.

    Each device scores a frame to see whether it works. The exit code is 1 if none does.
    """
    report = diagnose()
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if not report["works"]:
        raise typer.Exit(1)


def diagnose(root: Path = Path("/")) -> dict[str, Any]:
    """What is known about this machine and what follows from it, ready for JSON; never fails.

    Args:
        root: of the file system that has proc, sys, etc and usr, another one in tests.

    Returns:
        What ``examine`` returns, and works, problems, unverified and next.
    """
    from adae_edge.cli.examination import examine, or_none
    from adae_edge.cli.surroundings import surroundings

    report = examine(root) | {"surroundings": or_none(lambda: surroundings(root)) or {}}
    report["works"] = any("by" in device for device in report["devices"].values())
    report["problems"] = or_none(lambda: _problems(report, root)) or []
    report["unverified"] = list(UNVERIFIED)
    report["next"] = _next(report)
    return report


def describe(report: dict[str, Any]) -> str:
    """The report of ``diagnose`` in lines for the terminal."""
    rows = [*_machine_rows(report), *_package_rows(report["modules"])]
    for name, device in report["devices"].items():
        if "by" in device:
            rows.append(("scores on", f"{name:<9} {device['by']}"))
        else:
            rows.append(("not on", f"{name:<9} {device['error']}"))
    rows += _surrounding_rows(report["surroundings"])
    for trouble in report["problems"]:
        rows.append(("problem", f"{trouble['problem']}\n{trouble['command']}"))
    rows += [("unverified", text) for text in report["unverified"]]
    rows.append(("next", report["next"]))
    return "\n".join(_aligned(rows))


def _machine_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    python, host, board, card = (report[name] for name in ("python", "machine", "jetson", "gpu"))
    yield (
        "adae-edge",
        f"{report['adae_edge']}, Python {python['version']}, {python['executable']}",
    )
    yield "machine", f"{host.get('cpu')}, {host.get('system')}, {host.get('memory_gb')} GB"
    usable = f"{host.get('usable_cpus')} of {host.get('cpus')}"
    yield "CPUs", f"{usable} for this process, by affinity and cgroup"
    if board:
        linux, jetpack = board.get("l4t") or "unknown", board.get("jetpack") or "unknown"
        name = board.get("board") or "an unknown board"
        yield "Jetson", f"{name}, Jetson Linux {linux}, JetPack {jetpack}"
    if gpus := card.get("gpus"):
        names = [f"{gpu['name']}, compute capability {gpu['compute_capability']}" for gpu in gpus]
        driver = [f"{name} {card[name]}" for name in ("driver", "cuda") if name in card]
        yield "GPU", f"{'; '.join(names)} ({', '.join(driver)})"
    else:
        yield "GPU", f"none: {card.get('error', 'the driver shows none')}"


def _package_rows(modules: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    from adae_edge.cli.examination import MODULES

    for module, about in modules.items():
        if not _is_part_of_another(module, modules):
            broken = f": does not load, {about['error']}" if "error" in about else ""
            yield "packages", (", ".join(about["packages"]) or module) + broken
    there = {MODULES[module] for module in modules}
    lacking = [extra for extra in dict.fromkeys(MODULES.values()) if extra not in there]
    yield "not there", ", ".join(f"[{extra}]" for extra in lacking)


def _surrounding_rows(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Cameras, GStreamer, disk and clock, as far as they are known."""
    for device, camera in about.get("cameras", {}).items():
        told = camera.get("error") or "; ".join(
            f"{form} {', '.join(sizes[:_SIZES_SHOWN])}" + (" ..." if sizes[_SIZES_SHOWN:] else "")
            for form, sizes in camera["modes"].items()
        )
        yield "cameras", f"v4l2://{device}, {camera['name']}: {told}"
    if not about.get("cameras"):
        yield "cameras", "none at /dev/video*"
    yield "GStreamer", about.get("gstreamer") or "not installed; gst: and csi:// need it"
    if (free := about.get("disk")) is not None:
        yield "disk", f"{free / 1e9:.1f} GB are free here"
    if (kept := about.get("clock")) is not None:
        yield "clock", "kept right" if kept else "nothing keeps it right: times of rows may be off"


def _aligned(rows: list[tuple[str, str]]) -> Iterator[str]:
    """Lines with the labels in a column. A label stands once, and further lines are indented."""
    before = ""
    for label, text in rows:
        shown = label if label != before or label == "problem" else ""
        first, *others = map(printable, text.splitlines())
        yield f"{shown:<12}{first}"
        yield from (f"{'':<12}  {other}" for other in others)
        before = label


def _problems(report: dict[str, Any], root: Path) -> list[dict[str, str]]:
    """What is wrong, each with the command that helps, the most basic first."""
    problems = [
        *_packages_side_by_side(report),
        *_packages_that_do_not_load(report),
        *_hidden_tensorrt(report, root),
        *_driver_that_is_missing(report),
        *_cuda_bindings_that_do_not_fit(report),
        *_what_a_video_reader_lacks(report),
        *_disk_that_is_nearly_full(report),
    ]
    return [{"problem": problem, "command": command} for problem, command in problems]


def _packages_side_by_side(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for module, extra in (("onnxruntime", "gpu" if _nvidia(report) else "cpu"), ("cv2", "camera")):
        names = _names(report["modules"].get(module, {}))
        if len(names) > 1:
            yield (
                f"{' and '.join(names)} are installed side by side, and overwrite each other's "
                f"files of the module {module}",
                f"pip uninstall -y {' '.join(names)} && pip install 'adae-edge[{extra}]'",
            )


def _packages_that_do_not_load(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from adae_edge.cli.examination import MODULES

    modules = report["modules"]
    for module, about in modules.items():
        names = _names(about)
        twins = module in ("onnxruntime", "cv2") and len(names) > 1
        if "error" not in about or twins or _is_part_of_another(module, modules):
            continue
        extra = f"'adae-edge[{MODULES[module]}]'"
        if module.startswith("tensorrt") and "cannot open shared object file" in about["error"]:
            yield (
                f"{module} is installed without its libraries: {about['error']}",
                APT if report["jetson"] else f"pip install --force-reinstall {extra}",
            )
        else:
            yield (
                f"{module} is installed and does not load: {about['error']}",
                f"pip install --force-reinstall {' '.join(names) or extra}",
            )


def _hidden_tensorrt(report: dict[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    hidden = next(iter(root.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py")), None)
    if hidden and not report["modules"].keys() & set(FLAVOURS["tensorrt"]):
        yield (
            f"the system's TensorRT, {hidden.parent}, cannot be seen from this environment",
            "python3 -m venv --system-site-packages .venv, with the system's own Python",
        )


def _driver_that_is_missing(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    card = report["gpu"]
    if card.get("plugged_in") and "error" in card:
        yield (
            f"an NVIDIA GPU is plugged in, and {card['error']}",
            "install NVIDIA's driver, then nvidia-smi",
        )


def _cuda_bindings_that_do_not_fit(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """They are too new for the driver, or not there; the sentence has the command."""
    error = report["devices"]["engine"].get("error", "")
    if _nvidia(report) and "cuda-bindings" in error:
        problem, _, command = error.partition(": ")
        yield problem, command


def _what_a_video_reader_lacks(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    about = report["modules"].get("av", {})
    if lacking := about.get("lacks"):
        yield (
            f"this av, with FFmpeg {about['ffmpeg']}, lacks {', '.join(lacking)}: such videos and "
            "cameras cannot be read",
            "pip install --force-reinstall 'adae-edge[camera]'",
        )


def _disk_that_is_nearly_full(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    free = report["surroundings"].get("disk")
    if free is not None and free < LEAST_FREE:
        yield f"only {free / 1e9:.2f} GB are free in this folder", "df -h ."


def _nvidia(report: dict[str, Any]) -> bool:
    """Whether there is an NVIDIA GPU, with a driver or without."""
    return bool(report["gpu"].get("gpus")) or report["gpu"].get("plugged_in", False)


def _names(about: dict[str, Any]) -> list[str]:
    """The names of a module's packages, without their versions."""
    return [package.partition(" ")[0] for package in about.get("packages", [])]


def _is_part_of_another(module: str, modules: dict[str, Any]) -> bool:
    """Whether these are bindings whose package is there, too, and tells everything."""
    return module.endswith("_bindings") and module.removesuffix("_bindings") in modules


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
