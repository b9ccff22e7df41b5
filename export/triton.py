"""A model repository of Triton Inference Server: NAME/config.pbtxt and NAME/1/model.onnx in a folder.

The configuration says of the model what ``contract.form`` says, in the terms of Triton's ModelConfig message. Triton
counts the batch as a dimension of its own if the graph takes any number of frames. A tensor that has no other dimension
is declared as [1] and reshaped to none, because Triton knows no empty shape. A graph for batches of one size is
declared without batching, with all of its dimensions: the ONNX Runtime backend refuses a fixed first dimension
otherwise.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

from adae_edge.contract import Contract
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.formats import modelfile
from adae_edge.formats.files import write_atomically

# Frames in one request at most, and in one run; frames of 640x480 in colour then take 59 MB.
MAX_BATCH_SIZE = 64

_CONFIG = Template("""\
# Written by adae-edge export --triton. A frame is anomalous if its score is above the parameter "threshold";
# `adae-edge calibrate` changes the one in 1/model.onnx alone, so write a new one here, too.
name: $name
backend: "onnxruntime"
max_batch_size: $batch
${tensors}${batching}parameters {
  key: "threshold"
  value { string_value: "$threshold" }
}
""")
_BATCHING = """\
# Requests are joined only if their frames have the same size.
dynamic_batching { }
"""


def config(name: str, contract: Contract) -> str:
    """The text of config.pbtxt for a model file of this contract, in the repository under ``name``."""
    form = contract.form
    height, width = form.size or (-1, -1)
    pixels = "TYPE_UINT8" if contract.kind == "image" else "TYPE_FP32"
    tensors = _tensor("input", "frames", pixels, form.batch, height, width, contract.channels)
    if contract.kind == "modality":
        tensors += _tensor("input", "mean", "TYPE_FP32", form.batch) + _tensor(
            "input", "std", "TYPE_FP32", form.batch
        )
    tensors += _tensor("output", "score", "TYPE_FP32", form.batch)
    if form.anomaly_map:
        sides = (contract.side, contract.side) if form.anomaly_map == "network" else (height, width)
        tensors += _tensor("output", "anomaly_map", "TYPE_FP32", form.batch, *sides)
    return _CONFIG.substitute(
        name=json.dumps(name, ensure_ascii=False),
        batch=0 if form.batch else MAX_BATCH_SIZE,
        tensors=tensors,
        batching="" if form.batch else _BATCHING,
        threshold=repr(contract.calibration.threshold),
    )


def check_repository(name: str, folder: Path) -> None:
    """Make sure that ``write_repository`` overwrites nothing but what it wrote and nobody has changed since.

    Raises:
        UsageError: a file is there that is not as ``write_repository`` leaves it, the folder is none, or the name
            cannot be that of a model.
    """
    if not name.isprintable():
        raise UsageError(
            f"a model in Triton's repository has the model file's name, and {name} is not printable"
        )
    model, text = folder / name / "1" / "model.onnx", folder / name / "config.pbtxt"
    for place in (folder, folder / name, model.parent):
        if place.exists() and not place.is_dir():
            raise UsageError(
                f"{place} is no folder, and a model repository of Triton consists of folders"
            )
    if not model.exists() and not text.exists():
        return
    try:
        unchanged = text.read_bytes() == config(name, modelfile.read(model).contract).encode()
    except (AdaeEdgeError, OSError):
        unchanged = False
    if not unchanged:
        raise UsageError(
            f"{folder / name} has files that are not as --triton writes them: choose another folder or another --out"
        )


def write_repository(name: str, contract: Contract, model: bytes, folder: Path) -> Path:
    """Write the model and its configuration; folders are made. A server that polls sees each file whole or not at all.

    Args:
        name: of the model in the repository.
        contract: of the model file.
        model: the model file's bytes.
        folder: the repository, which may hold other models.

    Returns:
        The model's folder.

    Raises:
        UsageError: as ``check_repository``.
        AdaeEdgeError: a file cannot be written.
    """
    check_repository(name, folder)
    version = folder / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    write_atomically(version / "model.onnx", model)
    write_atomically(folder / name / "config.pbtxt", config(name, contract).encode())
    return folder / name


def _tensor(way: str, name: str, kind: str, batch: int | None, *sizes: int) -> str:
    """An input or output of the configuration; its sizes are those after the batch, -1 for any."""
    dims = list(sizes)
    reshape = ""
    if batch:
        dims = [batch, *dims]
    elif not dims:
        dims, reshape = [1], "\n  reshape { shape: [ ] }"
    return f'{way} {{\n  name: "{name}"\n  data_type: {kind}\n  dims: {dims}{reshape}\n}}\n'
