"""What is timed in ``graphs``: the exported graph, and what an engineer would write without it."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adae_edge import __version__
from adae_edge.batch import Batch
from adae_edge.benchmarks.bench import random_frames
from adae_edge.benchmarks.paired import Call
from adae_edge.calibration import calibrate
from adae_edge.contract import Contract, Form
from adae_edge.export.graph import OPSET, build, quiet
from adae_edge.formats import modelfile
from adae_edge.formats.modelfile import ModelFile
from adae_edge.model import ADAE, weights_digest
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Scorer
from adae_edge.runtime.backends.onnxruntime import session_options
from adae_edge.train.settings import NETWORKS

SIDE = 32
SIZE = (SIDE, SIDE)
CALIBRATION_FRAMES = 64

Frames = NDArray[np.uint8]


@functools.cache
def network(name: str, channels: int, side: int = SIDE) -> ADAE:
    """A network of Appendix A whose batch norm knows its activations, as after a training."""
    torch.manual_seed(0)
    model = ADAE(Preprocess(side), channels, NETWORKS[name])
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over the batches seen, of which there is one
    with torch.no_grad():
        model.train()(torch.from_numpy(random_frames(CALIBRATION_FRAMES, (side, side), channels)))
    return model.eval()


@functools.cache
def exported(name: str, channels: int, form: Form, side: int = SIDE) -> ModelFile:
    """A model file as ``adae-edge export`` writes it, without its gate, that the loader takes."""
    model = network(name, channels, side)
    references = random_frames(CALIBRATION_FRAMES, (side, side), channels)
    with torch.inference_mode():
        scores = model(torch.from_numpy(references)).numpy()
    contract = Contract(
        kind="image",
        channels=channels,
        side=side,
        resize="stretch",
        pad_value=0.0,
        region=None,
        network=NETWORKS[name],
        score="l2",
        calibration=calibrate(scores, 0.1),
        weights_sha256=weights_digest(model),
        data_sha256="0" * 64,
        version=__version__,
        form=form,
    )
    data, _ = build(model, contract, [Batch(frame[None]) for frame in references])
    return modelfile.check(data)


def fused(name: str, form: Form, frames: Frames, threads: int) -> Call:
    """The exported graph as the runtime's backend runs it."""
    backend = Scorer(exported(name, frames.shape[3], form), "cpu", threads).backend
    return lambda: backend.run([frames], ["score"])[0]


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
    """A frame resized by OpenCV and normalised by numpy, then the network's graph alone."""
    session = bare(Unresized(model), frames.shape[3], threads)
    (frame,) = frames

    def score() -> NDArray[np.float32]:
        small = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)
        x = small.transpose(2, 0, 1)[None].astype(np.float32, order="C") / 127.5 - 1
        return session.run(None, {"x": x})[0]  # type: ignore[no-any-return]

    return score


def eager(model: ADAE, frames: Frames, resize: Callable[[Tensor], Tensor]) -> Call:
    """PyTorch from frames to scores; ``resize`` takes [N, H, W, C] to [N, C, side, side]."""

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


def compiled(file: ModelFile, hint: str, frames: Frames, threads: int) -> Call:
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
    request = core.compile_model(core.read_model(file.data), "CPU", settings).create_infer_request()

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
    """A session of a part of the network, which takes x: float32 [1, C, side, side]."""
    data, options = graph_of(module, channels), session_options(threads)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def graph_of(module: nn.Module, channels: int) -> bytes:
    """A part of the network as a graph of its own, as one would export it."""
    with quiet():
        program = torch.onnx.export(
            module,
            (torch.zeros(1, channels, SIDE, SIDE),),
            dynamo=True,
            input_names=["x"],
            output_names=["y"],
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
