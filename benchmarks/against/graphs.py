"""The exported graph against what it replaces, and its forms and precisions against each other.

python -m adae_edge.benchmarks.against.graphs [GROUP]... [--rounds 15] [--json FILE]

The networks are those of Appendix A at 32 x 32 with random weights, which do not change the time.
What is compared runs in alternation, with equally many threads, and every ratio is the median over
rounds of the ratio within a round. The groups:

- ``network-sized``: a frame of the network's size; the fused graph, two files with numpy around
  them, eager PyTorch.
- ``raw``: frames of a camera's size; the fused graph with fixed and with free sizes, OpenCV's
  INTER_AREA before the bare network's graph, eager PyTorch with its antialiased resize.
- ``precision``: float32, float16 and INT8 in ONNX Runtime.
- ``forms``: transposed convolutions as PyTorch has them, and rewritten as convolutions with a
  depth-to-space, which is the only form in INT8.
- ``openvino``: both forms in OpenVINO, in float32, bfloat16 and INT8, where its package is
  installed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import torch
import typer

from adae_edge.benchmarks.against.contenders import (
    SIDE,
    SIZE,
    antialiased,
    compiled,
    eager,
    eager_module,
    exported,
    fused,
    network,
    opencv,
    openvino_version,
    two_files,
)
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.paired import Call, Comparison, Ratio
from adae_edge.benchmarks.record import record
from adae_edge.contract import Form
from adae_edge.formats.files import write_json
from adae_edge.machine import available_threads
from adae_edge.train.settings import NETWORKS

RAW = ((640, 480), (1920, 1080))


def main(
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="[GROUP]...", help="[default: all]")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each comparison.")] = 15,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of every contender [default: all that this process may use]."
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print times and ratios, and for each ratio that has a goal whether it is met."""
    if unknown := set(groups or []) - set(GROUPS):
        raise typer.BadParameter(
            f"there is no group {min(unknown)}: choose among {', '.join(GROUPS)}"
        )
    chosen = [name for name in GROUPS if name in (groups or GROUPS)]
    threads = threads or available_threads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    measured = []
    for name in chosen:
        if name == "openvino" and openvino_version() is None:
            typer.echo("openvino: left out, because it is not installed: pip install openvino\n")
            continue
        for comparison in GROUPS[name](threads):
            measured.append(comparison.measure(rounds))
            typer.echo(f"{as_text(measured[-1])}\n")
    if json_file is not None:
        write_json(json_file, record(threads=threads, rounds=rounds, comparisons=measured))


def as_text(measured: dict[str, Any]) -> str:
    """What a comparison measured, as lines for the terminal."""
    lines = [f"{measured['group']}: {measured['what']}"]
    for name, contender in measured["contenders"].items():
        lines.append(f"  {contender['ms']:9.3f} ms  {name}")
    for row in measured["ratios"]:
        verdict = ""
        if row["goal"] is not None:
            verdict = f"  ({row['goal']}: {'met' if row['met'] else 'NOT met'})"
        lines.append(f"  {row['ratio']:9.3f}     {row['of']} / {row['to']}{verdict}")
    return "\n".join(lines)


def network_sized(threads: int) -> Iterator[Comparison]:
    """A frame of the network's size, which only the graph for any size resizes."""
    model, frames = network("a", 1), random_frames(1, SIZE, 1)
    yield Comparison(
        "network-sized",
        f"{SIDE}x{SIDE}x1, batch 1, network a",
        {
            "fused, fixed size": fused("a", Form(size=SIZE), frames, threads),
            "fused, any size": fused("a", Form(), frames, threads),
            "two files and numpy": two_files(model, frames, threads),
            "eager PyTorch": eager(model, frames, lambda x: x.permute(0, 3, 1, 2).float()),
            "eager PyTorch, the module that is exported": eager_module(model, frames),
        },
        (
            Ratio("fused, fixed size", "two files and numpy", at_most=1.0),
            Ratio("eager PyTorch", "fused, fixed size", at_least=8.0),
            Ratio("eager PyTorch, the module that is exported", "fused, fixed size"),
            Ratio("fused, any size", "fused, fixed size"),
        ),
    )


def raw(threads: int) -> Iterator[Comparison]:
    """Frames of a camera's size, in colour."""
    model = network("a", 3)
    for (width, height), at_most in zip(RAW, (1.5, 1.1), strict=True):
        frames = random_frames(1, (width, height), 3)
        yield Comparison(
            "raw",
            f"{width}x{height}x3, batch 1, network a",
            {
                "fused, fixed size": fused("a", Form(size=(height, width)), frames, threads),
                "fused, any size": fused("a", Form(), frames, threads),
                "INTER_AREA and the bare graph": opencv(model, frames, threads),
                "eager PyTorch": eager(
                    model, frames, lambda x: antialiased(x.permute(0, 3, 1, 2).float())
                ),
                "eager PyTorch, resized in 8 bits": eager(
                    model, frames, lambda x: antialiased(x.permute(0, 3, 1, 2))
                ),
            },
            (
                Ratio("fused, fixed size", "INTER_AREA and the bare graph", at_most=at_most),
                Ratio("eager PyTorch", "fused, fixed size", at_least=3.0),
                Ratio("eager PyTorch, resized in 8 bits", "fused, fixed size"),
                Ratio("fused, any size", "fused, fixed size"),
            ),
        )


def precision(threads: int) -> Iterator[Comparison]:
    """What a lower precision gains in ONNX Runtime."""
    for name in NETWORKS:
        for batch in (1, 64):
            frames = random_frames(batch, SIZE, 1)
            yield Comparison(
                "precision",
                f"{SIDE}x{SIDE}x1, batch {batch}, network {name}",
                {
                    kind: fused(name, Form(kind, size=SIZE), frames, threads)
                    for kind in ("fp32", "fp16", "int8")
                },
                (
                    Ratio("fp32", "int8", at_least=1.3 if (name, batch) == ("b", 64) else None),
                    Ratio("fp32", "fp16"),
                ),
            )


def forms(threads: int) -> Iterator[Comparison]:
    """What the rewritten form gains in ONNX Runtime; above 1 it is the faster one."""
    for name in NETWORKS:
        for batch in (1, 64):
            frames = random_frames(batch, SIZE, 1)
            for kind in ("fp32", "fp16"):
                yield Comparison(
                    "forms",
                    f"{SIDE}x{SIDE}x1, batch {batch}, network {name}, {kind} in ONNX Runtime",
                    {
                        "transposed": fused(name, Form(kind, size=SIZE), frames, threads),
                        "rewritten": fused(name, Form(kind, "openvino", SIZE), frames, threads),
                    },
                    (Ratio("transposed", "rewritten"),),
                )


def in_openvino(threads: int) -> Iterator[Comparison]:
    """Both forms and every precision in OpenVINO.

    bfloat16 is its own, of the float32 graph, where the CPU has it.
    """
    frames = random_frames(64, SIZE, 1)
    contenders: dict[str, Call] = {}
    for form, target in (("transposed", Form().target), ("rewritten", "openvino")):
        for kind, hint in (("fp32", "f32"), ("bf16", "bf16"), ("int8", "f32")):
            if (kind, form) == ("int8", "transposed"):
                continue  # there is none
            given = Form("int8" if kind == "int8" else "fp32", target, SIZE, len(frames))
            with contextlib.suppress(NotImplementedError):
                file = exported("b", 1, given)
                contenders[f"{kind}, {form}"] = compiled(file, hint, frames, threads)
    kinds = {
        kind: tuple(name for name in contenders if name.startswith(kind))
        for kind in ("fp32", "bf16", "int8")
    }
    lower = kinds["bf16"] + kinds["int8"]
    pairs = [
        (f"{kind}, transposed", f"{kind}, rewritten")
        for kind, names in kinds.items()
        if len(names) == 2
    ]
    yield Comparison(
        "openvino",
        f"{SIDE}x{SIDE}x1, batch {len(frames)}, network b, in OpenVINO",
        contenders,
        (
            Ratio("fastest fp32", "fastest bf16 or int8", at_least=1.5),
            *(Ratio("fastest fp32", name) for name in lower),
            *(Ratio(*pair) for pair in pairs),
        ),
        {"fastest fp32": kinds["fp32"], "fastest bf16 or int8": lower},
    )


GROUPS: dict[str, Callable[[int], Iterator[Comparison]]] = {
    "network-sized": network_sized,
    "raw": raw,
    "precision": precision,
    "forms": forms,
    "openvino": in_openvino,
}


if __name__ == "__main__":
    typer.run(main)
