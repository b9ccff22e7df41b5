"""The exported graph against what it replaces, and its forms and precisions against each other, in one run.

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
import functools
import importlib.metadata
import io
import json
import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from adae_edge import __version__
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.paired import Call, Question, Ratio
from adae_edge.calibration import calibrate
from adae_edge.contract import Contract, Form
from adae_edge.export.graph import OPSET, build
from adae_edge.formats import modelfile
from adae_edge.formats.files import write_atomically
from adae_edge.machine import available_threads, machine
from adae_edge.model import ADAE, Preprocess, weights_digest
from adae_edge.runtime.backends.onnxruntime import OnnxRuntime, session_options
from adae_edge.train.settings import NETWORKS

SIDE = 32
SIZE = (SIDE, SIDE)
RAW = ((640, 480), (1920, 1080))
CALIBRATION_FRAMES = 64

Frames = NDArray[np.uint8]


def main(
    groups: Annotated[
        list[str] | None, typer.Argument(metavar="[GROUP]...", help="[default: all]")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of each comparison.")] = 15,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of everything [default: all that this process may use]."),
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
    answers = []
    for name in chosen:
        if name == "openvino" and openvino_version() is None:
            typer.echo("openvino: left out, because it is not installed: pip install openvino\n")
            continue
        for question in GROUPS[name](threads):
            answers.append(question.answer(rounds))
            typer.echo(f"{as_text(answers[-1])}\n")
    if json_file is not None:
        command = " ".join(
            [
                "python -m adae_edge.benchmarks.against.graphs",
                *(groups or []),
                f"--rounds {rounds} --threads {threads}",
            ]
        )
        result = {
            "command": command,
            "machine": machine(),
            "versions": {
                "adae_edge": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "onnxruntime": onnxruntime.__version__,
                "opencv": cv2.__version__,
                "openvino": openvino_version(),
                "torch": torch.__version__,
            },
            "threads": threads,
            "rounds": rounds,
            "questions": answers,
        }
        write_atomically(json_file, (json.dumps(result, indent=2) + "\n").encode())


def as_text(answer: dict[str, Any]) -> str:
    """An answer as lines for the terminal."""
    lines = [f"{answer['name']}: {answer['what']}"]
    lines += [f"  {thing['ms']:9.3f} ms  {name}" for name, thing in answer["things"].items()]
    for row in answer["ratios"]:
        verdict = f"  ({row['goal']}: {'met' if row['met'] else 'NOT met'})" if row["goal"] else ""
        lines.append(f"  {row['ratio']:9.3f}     {row['of']} / {row['to']}{verdict}")
    return "\n".join(lines)


def network_sized(threads: int) -> Iterator[Question]:
    """A frame of the network's size: nothing is resized but by the fused graph, which does not know its size before."""
    model, frames = network("a", 1), random_frames(1, SIZE, 1)
    yield Question(
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


def raw(threads: int) -> Iterator[Question]:
    """Frames of a camera's size, in colour."""
    model = network("a", 3)
    for (width, height), at_most in zip(RAW, (1.5, 1.1), strict=True):
        frames = random_frames(1, (width, height), 3)
        yield Question(
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


def precision(threads: int) -> Iterator[Question]:
    """What a lower precision gains in ONNX Runtime."""
    for name in NETWORKS:
        for batch in (1, 64):
            frames = random_frames(batch, SIZE, 1)
            yield Question(
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


def forms(threads: int) -> Iterator[Question]:
    """What the rewritten form gains in ONNX Runtime; above 1 it is the faster one."""
    for name in NETWORKS:
        for batch in (1, 64):
            frames = random_frames(batch, SIZE, 1)
            for kind in ("fp32", "fp16"):
                yield Question(
                    "forms",
                    f"{SIDE}x{SIDE}x1, batch {batch}, network {name}, {kind} in ONNX Runtime",
                    {
                        "transposed": fused(name, Form(kind, size=SIZE), frames, threads),
                        "rewritten": fused(name, Form(kind, "openvino", SIZE), frames, threads),
                    },
                    (Ratio("transposed", "rewritten"),),
                )


def in_openvino(threads: int) -> Iterator[Question]:
    """Both forms and every precision in OpenVINO; bfloat16 is its own, of the float32 graph, where the CPU has it."""
    frames = random_frames(64, SIZE, 1)
    things: dict[str, Call] = {}
    for form, target in (("transposed", Form().target), ("rewritten", "openvino")):
        for kind, hint in (("fp32", "f32"), ("bf16", "bf16"), ("int8", "f32")):
            if (kind, form) == ("int8", "transposed"):
                continue  # there is none
            graph = Form("int8" if kind == "int8" else "fp32", target, SIZE, len(frames))
            with contextlib.suppress(NotImplementedError):
                things[f"{kind}, {form}"] = compiled(exported("b", 1, graph), hint, frames, threads)
    kinds = {
        kind: tuple(name for name in things if name.startswith(kind))
        for kind in ("fp32", "bf16", "int8")
    }
    lower = kinds["bf16"] + kinds["int8"]
    pairs = [
        (f"{kind}, transposed", f"{kind}, rewritten")
        for kind, names in kinds.items()
        if len(names) == 2
    ]
    yield Question(
        "openvino",
        f"{SIDE}x{SIDE}x1, batch {len(frames)}, network b, in OpenVINO",
        things,
        (
            Ratio("fastest fp32", "fastest bf16 or int8", at_least=1.5),
            *(Ratio("fastest fp32", name) for name in lower),
            *(Ratio(*pair) for pair in pairs),
        ),
        {"fastest fp32": kinds["fp32"], "fastest bf16 or int8": lower},
    )


GROUPS: dict[str, Callable[[int], Iterator[Question]]] = {
    "network-sized": network_sized,
    "raw": raw,
    "precision": precision,
    "forms": forms,
    "openvino": in_openvino,
}


@functools.cache
def network(name: str, channels: int) -> ADAE:
    """A network of Appendix A; batch norm knows its activations, which a training would have brought to this size."""
    torch.manual_seed(0)
    model = ADAE(Preprocess(SIDE), channels, NETWORKS[name])
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over the batches seen, of which there is one
    with torch.no_grad():
        model.train()(torch.from_numpy(random_frames(CALIBRATION_FRAMES, SIZE, channels)))
    return model.eval()


@functools.cache
def exported(name: str, channels: int, form: Form) -> bytes:
    """A model file as ``adae-edge export`` writes it, without its gate, that the loader takes."""
    model = network(name, channels)
    references = random_frames(CALIBRATION_FRAMES, SIZE, channels)
    with torch.inference_mode():
        scores = model(torch.from_numpy(references)).numpy()
    contract = Contract(
        kind="image", channels=channels, side=SIDE, resize="stretch", pad_value=0.0, region=None,
        network=NETWORKS[name], score="l2", calibration=calibrate(scores, 0.1), weights_sha256=weights_digest(model),
        data_sha256="0" * 64, version=__version__, form=form,
    )  # fmt: skip
    data, _ = build(model, contract, [(frame,) for frame in references])
    return modelfile.check(data).data


def fused(name: str, form: Form, frames: Frames, threads: int) -> Call:
    """The exported graph in the session that the runtime makes for it."""
    session = OnnxRuntime(exported(name, frames.shape[3], form), "cpu", threads).session
    return lambda: session.run(["score"], {"frames": frames})[0]


def two_files(model: ADAE, frames: Frames, threads: int) -> Call:
    """G and D as files of their own, and numpy before, between and after them."""
    generator, discriminator = (
        bare(network, frames.shape[3], threads)
        for network in (model.generator, model.discriminator)
    )

    def score() -> NDArray[np.float32]:
        x = frames.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        generated = generator.run(None, {"x": x})[0]
        difference = x - discriminator.run(None, {"x": generated})[0]
        return np.sqrt(np.square(difference).sum(axis=(1, 2, 3)))  # type: ignore[no-any-return]

    return score


def opencv(model: ADAE, frames: Frames, threads: int) -> Call:
    """A frame resized by OpenCV and normalised by numpy, then the network's graph without a resize."""
    session = bare(Unresized(model), frames.shape[3], threads)
    (frame,) = frames

    def score() -> NDArray[np.float32]:
        small = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)
        x = small.transpose(2, 0, 1)[None].astype(np.float32, order="C") / 127.5 - 1
        return session.run(None, {"x": x})[0]  # type: ignore[no-any-return]

    return score


def eager(model: ADAE, frames: Frames, resize: Callable[[Tensor], Tensor]) -> Call:
    """PyTorch from frames [N, H, W, C] to scores, with a resize [N, H, W, C] -> [N, C, side, side] of its own."""

    @torch.inference_mode()
    def score() -> NDArray[np.float32]:
        x = resize(torch.from_numpy(frames)) / 127.5 - 1
        return model.score_of(x, "l2").numpy()

    return score


def eager_module(model: ADAE, frames: Frames) -> Call:
    """PyTorch with this project's own resize."""

    @torch.inference_mode()
    def score() -> NDArray[np.float32]:
        return model(torch.from_numpy(frames)).numpy()  # type: ignore[no-any-return]

    return score


def antialiased(x: Tensor) -> Tensor:
    """x: [N, C, H, W] -> [N, C, side, side] of the same dtype."""
    return nn.functional.interpolate(x, SIZE, mode="bilinear", antialias=True)


def openvino_version() -> str | None:
    """The version of the package, or None where it is not installed."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def compiled(data: bytes, hint: str, frames: Frames, threads: int) -> Call:
    """The exported graph in OpenVINO.

    Raises:
        NotImplementedError: the CPU does not compute in this precision.
    """
    import openvino

    core = openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(data), "CPU", settings).create_infer_request()

    def score() -> NDArray[np.float32]:
        request.infer({"frames": frames}, share_inputs=True)
        return request.get_tensor("score").data  # type: ignore[no-any-return]

    return score


class Unresized(nn.Module):
    """From what the network sees to the score."""

    def __init__(self, model: ADAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """x: float32 [N, C, side, side] in [-1, 1] -> score: float32 [N]."""
        return self.model.score_of(x, "l2")


def bare(module: nn.Module, channels: int, threads: int) -> onnxruntime.InferenceSession:
    """A part of the network as a graph of its own, x: float32 [1, C, side, side], as one would export it."""
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # its remarks concern its own development
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (torch.zeros(1, channels, SIDE, SIDE),), dynamo=True, input_names=["x"], output_names=["y"],
            opset_version=OPSET, external_data=False, optimize=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    data = program.model_proto.SerializeToString()
    return onnxruntime.InferenceSession(
        data, session_options(threads), providers=["CPUExecutionProvider"]
    )


if __name__ == "__main__":
    typer.run(main)
