"""A model repository of Triton Inference Server: NAME/config.pbtxt and NAME/1/model.onnx.

The configuration says of the model what its contract says, in the terms of Triton's ModelConfig
message. Triton counts the batch as a dimension of its own if the graph takes any number of frames.
A tensor that has no other dimension is declared as [1] and reshaped to none, because Triton knows
no empty shape. A graph for batches of one size is declared without batching, with all of its
dimensions: the ONNX Runtime backend refuses a fixed first dimension otherwise.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from string import Template

from adae_edge.contract import Contract
from adae_edge.errors import AdaeEdgeError, UsageError
from adae_edge.formats import modelfile
from adae_edge.formats.files import write_atomically
from adae_edge.interface import Port, inputs_of, outputs_of

# Frames in one request at most, and in one run; frames of 640x480 in colour then take 59 MB.
MAX_BATCH_SIZE = 64
# Triton's names of a port's dtype.
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}

_CONFIG = Template("""\
# Written by adae-edge export --triton. A frame is anomalous if its score is above the parameter
# "threshold"; `adae-edge calibrate` changes the one in 1/model.onnx alone, so write a new one here,
# too.
name: $name
backend: "onnxruntime"
max_batch_size: $batch
${tensors}${batching}parameters {
  key: "threshold"
  value { string_value: "$threshold" }
}
$acquisitions""")
_ACQUISITIONS = Template("""\
# The threshold holds for slices that were acquired like one of these, a list in JSON. Others are
# neither normal nor anomalous: docs/model-file.md says what is alike.
parameters {
  key: "acquisitions"
  value { string_value: $listed }
}
""")
_BATCHING = """\
# Requests are joined only if their frames have the same size.
dynamic_batching { }
"""


def config(name: str, contract: Contract) -> str:
    """The text of config.pbtxt for a model file of this contract, under this name."""
    inputs = [_tensor("input", port) for port in inputs_of(contract)]
    outputs = [_tensor("output", port) for port in outputs_of(contract)]
    fixed = contract.form.batch is not None
    acquisitions = ""
    if contract.kind == "modality":
        listed = json.dumps(list(map(asdict, contract.acquisitions)), sort_keys=True)
        acquisitions = _ACQUISITIONS.substitute(listed=json.dumps(listed))
    return _CONFIG.substitute(
        name=json.dumps(name, ensure_ascii=False),
        batch=0 if fixed else MAX_BATCH_SIZE,
        tensors="".join([*inputs, *outputs]),
        batching="" if fixed else _BATCHING,
        threshold=repr(contract.calibration.threshold),
        acquisitions=acquisitions,
    )


def check_repository(name: str, folder: Path) -> None:
    """Make sure that ``write_repository`` overwrites only what it wrote itself.

    Raises:
        UsageError: a file is there that is not as ``write_repository`` leaves it, the folder is
            none, or the name cannot be that of a model.
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
            f"{folder / name} has files that are not as --triton writes them: choose another "
            "folder or another --out"
        )


def write_repository(name: str, contract: Contract, model: bytes, folder: Path) -> Path:
    """Write the model and its configuration; folders are made.

    A server that polls sees each file whole or not at all.

    Args:
        name: of the model in the repository.
        contract: of the model file.
        model: the model file's bytes.
        folder: the repository, which may hold other models.

    Returns:
        The model's folder.

    Raises:
        UsageError: as ``check_repository``.
        WriteError: a file cannot be written.
    """
    check_repository(name, folder)
    version = folder / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    write_atomically(version / "model.onnx", model)
    write_atomically(folder / name / "config.pbtxt", config(name, contract).encode())
    return folder / name


def _tensor(way: str, port: Port) -> str:
    """An input or output of the configuration; without its batch, unless that is fixed."""
    batch, *sizes = (-1 if size is None else size for size in port.shape)
    reshape = ""
    if batch != -1:
        sizes = [batch, *sizes]
    elif not sizes:
        sizes, reshape = [1], "\n  reshape { shape: [ ] }"
    kind = _TYPES[port.dtype]
    return f'{way} {{\n  name: "{port.name}"\n  data_type: {kind}\n  dims: {sizes}{reshape}\n}}\n'
