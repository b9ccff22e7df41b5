"""From a checkpoint to one ONNX graph: raw frames in, score out.

``export`` is the main road: load, trace, clean, gate, write.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from adae_edge import modelfile
from adae_edge.checkpoint import REFERENCE_FRAMES, Checkpoint
from adae_edge.contract import Contract
from adae_edge.errors import CheckpointError, FrameError, UsageError
from adae_edge.export.gate import Inputs, Parity, check_parity
from adae_edge.files import write_atomically
from adae_edge.model import ADAE, load_network
from adae_edge.runtime.sources import open_for

OPSET = 18


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        contract: of the model file.
        bytes: size of the model file.
        opset: version of the ONNX operators.
        parity: what the gate measured.
    """

    contract: Contract
    bytes: int
    opset: int
    parity: Parity


def export(checkpoint_path: Path, out: Path, frames: Path | None = None) -> Exported:
    """Fuse G and D of a checkpoint into one ONNX file, once its scores are shown to be PyTorch's.

    Args:
        checkpoint_path: a finished checkpoint.
        out: the model file; replaced whole, or left as it was if the gate refuses.
        frames: folder of frames for the gate, as for scoring, for a checkpoint that carries no reference frames.

    Raises:
        UsageError, CheckpointError: there is no such checkpoint, or it is unfinished or damaged.
        FrameError, SourceError: of ``frames`` one cannot be decoded, or there are none.
        ParityError: the graph does not give PyTorch's scores.
    """
    checkpoint = Checkpoint.load(checkpoint_path)
    if out.resolve() == checkpoint_path.resolve():
        raise UsageError(f"{out} is the checkpoint itself: give the model file another name")
    try:
        model = load_network(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint_path}: {error}") from None
    contract = checkpoint.contract
    assert contract is not None
    carried: list[Inputs] = list(zip(checkpoint.references, *checkpoint.statistics, strict=True))
    references = carried if frames is None else _read_frames(frames, contract)
    if not references:
        raise UsageError(
            f"{checkpoint_path} carries no reference frames for the parity gate: give some with --frames DIR"
        )
    data = modelfile.with_contract(clean(trace(model, contract.channels)), contract)
    parity = check_parity(model, modelfile.check(data), references)
    write_atomically(out, data)
    return Exported(contract, len(data), OPSET, parity)


def trace(model: ADAE, channels: int) -> onnx.ModelProto:
    """Trace the network into ONNX with every size of the frames free and batch norm folded."""
    region = model.preprocess.region
    height, width = (region.top + region.height + 16, region.left + region.width + 24) if region else (48, 64)
    inputs = {"frames": torch.zeros((2, height, width, channels), dtype=torch.uint8)}
    if model.preprocess.z_range is not None:
        inputs = {"frames": inputs["frames"].float(), "mean": torch.zeros(2), "std": torch.ones(2)}
    free = {
        name: dict.fromkeys(range(min(tensor.ndim, 3)), torch.export.Dim.DYNAMIC) for name, tensor in inputs.items()
    }
    with _quiet():
        program = torch.onnx.export(
            model,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["score"],
            dynamic_shapes=free,
            opset_version=OPSET,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def clean(model: onnx.ModelProto) -> bytes:
    """Serialise the graph without what the tracer noted about the machine, the sources and their names."""
    model.ClearField("metadata_props")
    model.ClearField("producer_version")
    model.producer_name = "adae-edge"
    graph = model.graph
    graph.name = "adae"
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        for size, name in zip(sizes[:3], ("N", "H", "W"), strict=False):
            size.dim_param = name
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _read_frames(folder: Path, contract: Contract) -> list[Inputs]:
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    references: list[Inputs] = []
    for frame in itertools.islice(open_for(contract, str(folder)), REFERENCE_FRAMES):
        if isinstance(frame, FrameError):
            raise frame
        references.append([array[0] for array in frame.inputs(contract.channels)])
    return references


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tracer's remarks concern its own development."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
