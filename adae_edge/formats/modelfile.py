"""Model files: one .onnx file with the contract in its metadata.

They are read, checked and rewritten here, in the form that docs/model-file.md has. That needs
neither onnx nor onnxruntime: an ONNX file is a protobuf message, and what has to be checked are its
fields, those of the graph in onnxgraph.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from adae_edge.contract import SCORES, Contract
from adae_edge.errors import ModelFileError
from adae_edge.formats.files import read_checked
from adae_edge.formats.messages import MODEL, parts_of
from adae_edge.formats.onnxgraph import FLOAT, TWICE, UINT8, OnnxGraph, check_domain
from adae_edge.formats.protobuf import Reader, encoded
from adae_edge.interface import inputs_of, outputs_of

CONTRACT_KEY = "adae_edge.contract"
DIGEST_KEY = "adae_edge.sha256"
DIGEST_SINCE = 3  # the contract's schema that requires it
MAX_BYTES = 512 * 2**20
_TOO_LARGE = f"it is larger than {MAX_BYTES // 2**20} MiB"

_TYPES = {"uint8": UINT8, "float32": FLOAT}  # TensorProto.DataType by name

_GRAPH, _METADATA = 7, 14  # numbers of ModelProto's fields


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check.

    Attributes:
        data: the file's bytes; what is run is what was checked.
        contract: from its metadata.
        opset: version of the standard operators.
        operators: how often each operator occurs.
        graph_sha256: of the graph, which a new threshold leaves as it is.
    """

    data: bytes = field(repr=False)
    contract: Contract
    opset: int
    operators: Counter[str]
    graph_sha256: str


def read(path: str | Path) -> ModelFile:
    """Read and check a model file.

    Raises:
        UsageError: there is no such file.
        ModelFileError: it is too large, no ONNX, damaged, has no contract or several or one of an
            unknown schema or one that the graph does not keep, was changed after it was written,
            keeps data outside of the file, or has anything else that no export has.
    """
    return read_checked(path, "model file", MAX_BYTES, _TOO_LARGE, check)


def check(data: bytes) -> ModelFile:
    """Check the bytes of a model file; raises ModelFileError as ``read`` does."""
    if len(data) > MAX_BYTES:
        raise ModelFileError(_TOO_LARGE)
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < len(data):
        raise ModelFileError("it is a checkpoint: adae-edge export makes a model file of it")
    # ONNX Runtime would run a flatbuffer inside, and none of what is checked here.
    if data[4:8] == b"ORTM":
        raise ModelFileError("it is no ONNX file, but ONNX Runtime's own format")
    # the parts of the file
    reader = Reader(data)
    parts = parts_of(reader, MODEL, (0, len(data)))
    graphs = parts["graph"]
    opsets = [
        (reader.string(start, end, 1), reader.number(start, end, 2))
        for start, end in parts["opset_import"]
    ]
    written: dict[str, list[str]] = {CONTRACT_KEY: [], DIGEST_KEY: []}
    for start, end in parts["metadata_props"]:
        key = reader.string(start, end, 1)
        if key in written:
            written[key].append(reader.string(start, end, 2))
    contracts, digests = written[CONTRACT_KEY], written[DIGEST_KEY]

    # each as often as it should be
    if not graphs or not opsets:
        raise ModelFileError("it is no ONNX file")
    for domain, _ in opsets:
        check_domain(domain)
    if len(graphs) > 1 or len(opsets) > 1:
        raise ModelFileError(TWICE)
    if not contracts:
        raise ModelFileError(
            "it has no contract, so what it expects and returns is unknown: was it made by "
            "adae-edge export?"
        )
    if len(contracts) > 1:
        raise ModelFileError("it has more than one contract")

    # the graph, the contract, and that they belong together
    graph = OnnxGraph(reader, *graphs[0])
    contract = Contract.from_json(contracts[0])
    _check_interface(graph, contract)
    graph_digest = hashlib.sha256(memoryview(data)[slice(*graphs[0])])
    _check_digest(digests, graph_digest, contracts[0])
    return ModelFile(data, contract, opsets[0][1], graph.operators, graph_digest.hexdigest())


def _check_interface(graph: OnnxGraph, contract: Contract) -> None:
    """Refuse a graph that does not take and return what its contract says."""
    inputs = inputs_of(contract)
    outputs = outputs_of(contract)
    described = [(port.name, _TYPES[port.dtype], port.shape) for port in inputs]
    returned = {value.name: (value.type, len(value.shape)) for value in graph.outputs}
    wanted = {port.name: (_TYPES[port.dtype], len(port.shape)) for port in outputs}
    if graph.inputs != described or returned != wanted or len(graph.outputs) != len(outputs):
        raise ModelFileError(
            f"the graph does not take {' and '.join(map(str, inputs))} and return "
            f"{' and '.join(port.name for port in outputs)}, with the sizes of the contract"
        )


def _check_digest(digests: list[str], graph: hashlib._Hash, contract: str) -> None:
    """Refuse a file whose graph or contract is not the one that was written.

    The digest is no signature, see docs/model-file.md.
    """
    if not digests and json.loads(contract)["schema"] < DIGEST_SINCE:
        return
    if digests != [_digest(graph, contract)]:
        raise ModelFileError(
            "its contract or its graph was changed by something else than adae-edge: "
            f"{DIGEST_KEY} does not fit them"
        )


def _digest(graph: hashlib._Hash, contract: str) -> str:
    """SHA-256 of the graph's bytes and then the contract's text, hexadecimal."""
    both = graph.copy()
    both.update(contract.encode())
    return both.hexdigest()


def with_contract(data: bytes, contract: Contract) -> bytes:
    """Put a contract and the digest in the place of those that an ONNX file has.

    All other bytes stay. The contract comes last, so that a file that is cut there has none.
    """
    reader = Reader(data)
    kept = []
    graph = hashlib.sha256()
    for number, start, end, begin in reader.fields_from(0, len(data)):
        if number == _METADATA and reader.string(start, end, 1) in (CONTRACT_KEY, DIGEST_KEY):
            continue
        if number == _GRAPH:
            graph.update(data[start:end])
        kept.append(data[begin:end])
    text = contract.to_json()
    for key, value in ((DIGEST_KEY, _digest(graph, text)), (CONTRACT_KEY, text)):
        kept.append(encoded(_METADATA, encoded(1, key.encode()) + encoded(2, value.encode())))
    return b"".join(kept)


_MAPS = {
    "network": "float32 [N, side, side], in the network's pixels",
    "frame": "float32 [N, H, W], in the frame's pixels",
}
_MAP_OF = {
    "l2": "where the score comes from",
    "generator": "where the score comes from",
    "density": "where the score l2 would come from",
    "local": "standard deviations of normals at any place",
}
_NOWHERE = "by volumes, which do not tell their scanner: every series is uncalibrated"


def describe(file: ModelFile) -> str:
    """What a model file expects, returns and contains, in lines for the terminal."""
    operators = ", ".join(f"{name} {count}" for name, count in sorted(file.operators.items()))
    rows = describe_contract(file.contract) | {
        "graph": f"sha256 {file.graph_sha256}",
        "file": f"{len(file.data)} bytes, sha256 {hashlib.sha256(file.data).hexdigest()}",
        "opset": str(file.opset),
        "operators": operators,
    }
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items())


def describe_contract(contract: Contract) -> dict[str, str]:
    """What a contract says, in words by name, for the terminal."""
    calibration, form, quantiles = (
        contract.calibration,
        contract.form,
        contract.calibration.quantiles,
    )
    rows = {
        "frames": _describe_frames(contract),
        "seen": _describe_seen(contract),
        "score": f"{contract.score}, float32 [N]: {SCORES[contract.score]}",
    }
    if form.anomaly_map:
        rows["map"] = f"{_MAPS[form.anomaly_map]}: {_MAP_OF[contract.score]}"
    if contract.kind == "modality":
        rows["calibrated"] = "; ".join(map(str, contract.acquisitions)) or _NOWHERE
    verified = ", ".join(form.verified) or "the file does not say"
    if form.unverified:
        verified += f"; not {', '.join(form.unverified)}"
    return rows | {
        "threshold": f"{calibration.threshold:.6g}, {contract.promise}",
        "normals": f"{calibration.normals} scored {quantiles[0]:.4g} to {quantiles[-1]:.4g}, "
        f"median {quantiles[50]:.4g}",
        **_describe_light(contract),
        "network": f"{contract.network}, {form.precision}, {form.target}",
        "verified": verified,
        "weights": f"sha256 {contract.weights_sha256}",
        "data": f"sha256 {contract.data_sha256}",
        "trained by": f"adae-edge {contract.version}",
    }


def _describe_light(contract: Contract) -> dict[str, str]:
    """How light the normals of a calibration by pictures were."""
    greys = contract.calibration.greys
    if contract.kind != "image":
        return {}
    if greys is None:
        return {"light": "unknown, so --drift watches the scores alone until adae-edge calibrate"}
    return {"light": f"grey levels {greys[0]:.4g} to {greys[-1]:.4g}, median {greys[50]:.4g}"}


def _describe_frames(contract: Contract) -> str:
    """Which frames a model takes, and how many in a run."""
    form = contract.form
    if contract.kind == "image":
        colours = "grey" if contract.channels == 1 else "RGB"
        frames = f"uint8 [N, H, W, {contract.channels}], {colours}"
    else:
        frames = "float32 [N, H, W, 1] in modality units, with mean and std float32 [N]"
    if contract.window:
        center, width = contract.window
        frames += f", of DICOM files by the window {center:g},{width:g}"
    if contract.bits:
        frames += f", of 16-bit files their low {contract.bits}"
    if contract.modality:
        frames += f", of {contract.modality} volumes"
    sizes = "any size" if form.size is None else f"{form.size[1]} x {form.size[0]} pixels alone"
    runs = f", {form.batch} in every run" if form.batch else ""
    return f"{frames}, {sizes}{runs}"


# What of a slice is looked at, by the contract's rule of what is object.
_OBJECTS = {
    "nonzero": "what is not background",
    "mask": "the brain, by a mask",
    "head": "the head with its skull",
}


def _describe_seen(contract: Contract) -> str:
    """What of a frame the network sees."""
    where, fitted, standardised = "the whole frame", "stretched", ""
    if contract.object:
        where = _OBJECTS[contract.object]
    if contract.field_of_view:
        where = f"{contract.field_of_view:g} x {contract.field_of_view:g} mm around {where}"
    if contract.region:
        where = f"region {tuple(contract.region)} of the frame"
    if contract.resize == "pad":
        outside = "background"
        if contract.kind == "image":
            outside = f"grey level {contract.pad_value:g}"
        fitted = f"padded with {outside} to a square"
    if contract.z_range:
        standardised = f"; {contract.z_range:g} standard deviations become 1"
    return f"{where}, {fitted} to {contract.side} x {contract.side} pixels{standardised}"
