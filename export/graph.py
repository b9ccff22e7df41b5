"""From a trained network to one ONNX graph: raw frames in, score out."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence

import onnx
import torch
from onnxscript.optimizer import optimize

from adae_edge.batch import Batch
from adae_edge.contract import Contract
from adae_edge.export.forms import Fused, as_seen, in_form
from adae_edge.export.int8 import quantise
from adae_edge.formats import modelfile
from adae_edge.interface import AXES, inputs_of, outputs_of
from adae_edge.model import ADAE

OPSET = 18
# What follows from constants alone is computed at the export, however large: the loader refuses the
# rest. With a fixed size that is the resize's weights, of which no model file holds more.
FOLDED_NUMBERS = modelfile.MAX_BYTES // 4


def build(model: ADAE, contract: Contract, references: Sequence[Batch]) -> tuple[bytes, ADAE]:
    """A model file, not yet compared with anything.

    Args:
        model: the trained network in eval mode; stays as it is.
        contract: with the form.
        references: real frames, each a batch of one, by whose activations fp16 chooses its layers,
            and int8 its layers and ranges.

    Returns:
        The file's bytes, and the network in the form that was traced.
    """
    seen = as_seen(model, references)
    formed = in_form(model, contract.form, seen)
    traced = clean(trace(formed, contract))
    if contract.form.precision == "int8":
        traced = quantise(traced, seen.numpy(), contract.form)
    data = traced.SerializeToString(deterministic=True)
    return modelfile.with_contract(data, contract), formed


def trace(model: ADAE, contract: Contract) -> onnx.ModelProto:
    """Trace the network into ONNX, with every size free that the contract's form leaves free."""
    inputs, outputs = inputs_of(contract), outputs_of(contract)
    made_up = _made_up_sizes(contract)
    frames = []
    for port in inputs:
        shape = [size or made_up[axis] for axis, size in zip(AXES, port.shape, strict=False)]
        frames.append(torch.ones(shape, dtype=getattr(torch, port.dtype)))
    free = {
        port.name: {
            axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(port.shape) if size is None
        }
        for port in inputs
    }
    with quiet():
        program = torch.onnx.export(
            Fused(model, contract.form.anomaly_map),
            tuple(frames),
            dynamo=True,
            input_names=[port.name for port in inputs],
            output_names=[port.name for port in outputs],
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
        for size, axis in zip(sizes, AXES, strict=False):
            if not size.HasField("dim_value"):
                size.dim_param = axis
    onnx.checker.check_model(model, full_check=True)
    return model


def _made_up_sizes(contract: Contract) -> dict[str, int]:
    """A size for each axis that is free, large enough for the contract's region."""
    height, width = 48, 64
    if contract.region is not None:
        left, top, inner_width, inner_height = contract.region
        height, width = top + inner_height + 16, left + inner_width + 24
    return {"N": 2, "H": height, "W": width}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back the tracer's remarks, which concern its own development."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
