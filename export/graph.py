"""From a checkpoint to one ONNX graph: raw frames in, score out.

``export`` is the main road: load, trace, clean, gate, write.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from onnxscript.optimizer import optimize

from adae_edge.contract import Contract, Form
from adae_edge.errors import CheckpointError, UsageError
from adae_edge.export.extremes import Inputs, extremes_as_seen
from adae_edge.export.forms import Fused, in_form, lowered
from adae_edge.export.gate import Parity, as_seen, check_parity
from adae_edge.export.precision import Cost, measure_cost, quantise
from adae_edge.export.references import real_frames
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically
from adae_edge.model import ADAE, load_network

OPSET = 18
# What follows from constants alone is computed at the export, however large: the loader refuses the
# rest. With a fixed size that is the resize's weights, of which no model file holds more.
FOLDED_NUMBERS = modelfile.MAX_BYTES // 4

PLAIN = Form()


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        contract: of the model file.
        bytes: size of the model file.
        opset: version of the ONNX operators.
        parity: what the gate measured.
        cost: what the precision costs and gains; None for fp32.
    """

    contract: Contract
    bytes: int
    opset: int
    parity: Parity
    cost: Cost | None


def export(
    checkpoint_path: Path, out: Path, frames: Path | None = None, form: Form = PLAIN
) -> Exported:
    """Fuse G and D of a checkpoint into one ONNX file, once its scores are shown to be PyTorch's.

    Args:
        checkpoint_path: a finished checkpoint.
        out: the model file; replaced whole, or left as it was if the gate refuses.
        frames: folder of normal frames for the gate and for int8, as for scoring, in place of the
            checkpoint's reference frames; with subfolders ``normal`` and ``anomalous`` the cost in
            AUROC is told, too.
        form: of the graph; which backends are verified is filled in.

    Raises:
        UsageError, CheckpointError: there is no such checkpoint, or it is unfinished or damaged; or
            the frames or the region do not fit the form.
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
    assert checkpoint.contract is not None
    contract = replace(checkpoint.contract, form=form)
    _check_form(contract)
    real = real_frames(checkpoint, contract, frames)
    if not real.normals:
        raise UsageError(
            f"{checkpoint_path} carries no reference frames for the parity gate: give some with "
            "--frames DIR"
        )
    _check_sizes(contract, real.all)

    data, formed = build(model, contract, real.normals)
    parity = check_parity(model, formed, modelfile.check(data), real.normals)
    cost = None
    if form.precision != "fp32":
        exact, _ = build(
            model, replace(contract, form=replace(form, precision="fp32")), real.normals
        )
        cost = measure_cost(exact, data, lowered(formed, form), real.all, real.anomalous)
    contract = replace(
        contract, form=replace(form, verified=parity.verified, unverified=parity.unverified)
    )
    data = modelfile.with_contract(data, contract)
    write_atomically(out, data)
    return Exported(contract, len(data), OPSET, parity, cost)


def _check_form(contract: Contract) -> None:
    """Refuse a form that could never score a frame."""
    if contract.form.size is not None and contract.region is not None:
        contract.region.check(*contract.form.size, UsageError)
    if contract.form.precision != "fp32":
        lower = f"{contract.form.precision} is for the convolutions of G and D, and "
        if contract.score == "local":
            raise UsageError(f"{lower}the score local takes none: export fp32")
        if contract.network.linear:
            raise UsageError(f"{lower}a linear network has none: export fp32")


def _check_sizes(contract: Contract, frames: Sequence[Inputs]) -> None:
    size = contract.form.size
    for frame in frames:
        height, width = frame[0].shape[:2]
        if size not in (None, (height, width)):
            raise UsageError(
                f"the reference frames have {width} x {height} pixels, and with a fixed size of "
                f"{size[1]} x {size[0]} "
                "the gate needs frames of that size: give some with --frames DIR"
            )


def build(model: ADAE, contract: Contract, references: Sequence[Inputs]) -> tuple[bytes, ADAE]:
    """A model file, not yet compared with anything.

    Args:
        model: the trained network in eval mode; stays as it is.
        contract: with the graph's form.
        references: real frames, by whose activations fp16 chooses its layers and int8 its ranges.

    Returns:
        The file's bytes, and the network in the form that was traced.
    """
    formed = in_form(model, contract.form, as_seen(model, references))
    graph = clean(trace(formed, contract))
    if contract.form.precision == "int8":
        graph = quantise(graph, [*references, *extremes_as_seen(contract)], formed, contract.form)
    return modelfile.with_contract(graph.SerializeToString(deterministic=True), contract), formed


def trace(model: ADAE, contract: Contract) -> onnx.ModelProto:
    """Trace the network into ONNX, with every size of the frames free that the contract leaves free."""
    form, region = contract.form, contract.region
    assert form is not None
    height, width = (
        (region.top + region.height + 16, region.left + region.width + 24) if region else (48, 64)
    )
    height, width = form.size or (height, width)
    count = form.batch or 2
    inputs = {"frames": torch.zeros((count, height, width, contract.channels), dtype=torch.uint8)}
    if contract.kind == "modality":
        inputs = {
            "frames": inputs["frames"].float(),
            "mean": torch.zeros(count),
            "std": torch.ones(count),
        }
    fixed = (form.batch, *(form.size or (None, None)))
    free = {
        name: {
            axis: torch.export.Dim.DYNAMIC
            for axis in range(min(tensor.ndim, 3))
            if fixed[axis] is None
        }
        for name, tensor in inputs.items()
    }
    with _quiet():
        program = torch.onnx.export(
            Fused(model, form.anomaly_map),
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["score"] if form.anomaly_map is None else ["score", "anomaly_map"],
            dynamic_shapes=free,
            opset_version=OPSET,
            external_data=False,
            optimize=False,
            verbose=False,
        )
        assert program is not None
        optimize(program.model, input_size_limit=FOLDED_NUMBERS, output_size_limit=FOLDED_NUMBERS)
    return program.model_proto


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out what the tracer noted about the machine, the sources and their names."""
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
            if not size.HasField("dim_value"):
                size.dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return model


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
