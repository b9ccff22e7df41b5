"""Model files: one .onnx file with the contract in its metadata. Reading, checking, rewriting.

The one place that knows the file's form, and it needs neither onnx nor onnxruntime: an ONNX file is
a protobuf message, and what has to be checked are a few of its fields. Field numbers are those of
the public onnx.proto3.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from adae_edge.contract import SCORES, Contract, Graph
from adae_edge.errors import ModelFileError, UsageError

CONTRACT_KEY = "adae_edge.contract"
MAX_BYTES = 512 * 2**20
MAX_FIELDS = 200_000
MAX_DEPTH = 16
_TOO_LARGE = f"it is larger than {MAX_BYTES // 2**20} MiB"
_MAX_FIELD_NUMBER = 2**29 - 1

# ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, SparseTensorProto
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_METADATA, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 14, 20, 25
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTES, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


@dataclass(frozen=True)
class ModelFile:
    """A model file that passed every check.

    Attributes:
        data: the file's bytes; what is run is what was checked.
        contract: from its metadata.
        opset: version of the standard operators.
        operators: how often each operator occurs.
    """

    data: bytes = field(repr=False)
    contract: Contract
    opset: int
    operators: Counter[str]


def read(path: str | Path) -> ModelFile:
    """Read and check a model file.

    Raises:
        UsageError: there is no such file.
        ModelFileError: it is too large, no ONNX, damaged, has no contract or several or one of an
            unknown schema, keeps data outside of the file, or has operators of another domain.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise UsageError(f"there is no model file {path}")
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(f"{path} is refused: {_TOO_LARGE}")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return check(data)
    except ModelFileError as error:
        raise ModelFileError(f"{path} is refused: {error}") from None


def check(data: bytes) -> ModelFile:
    """Check the bytes of a model file; raises ModelFileError as ``read`` does."""
    if len(data) > MAX_BYTES:
        raise ModelFileError(_TOO_LARGE)
    if data[4:8] == b"ORTM":  # ONNX Runtime would run a flatbuffer inside and none of what is checked here
        raise ModelFileError("it is no ONNX file, but ONNX Runtime's own format")
    reader = _Reader(data)
    contracts, opsets, graphs = [], [], []
    for number, start, end in reader.fields(0, len(data)):
        if number == _MODEL_METADATA:
            key, value = reader.strings(start, end, 1, 2)
            if key == CONTRACT_KEY:
                contracts.append(value)
        elif number == _MODEL_OPSETS:
            opsets.append((reader.string(start, end, 1), reader.number(start, end, 2)))
        elif number == _MODEL_GRAPH:
            graphs.append((start, end))
        elif number in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise ModelFileError("it defines functions or training steps of its own")
    if not graphs or not opsets:
        raise ModelFileError("it is no ONNX file")
    for domain, _ in opsets:
        _standard(domain)
    if len(graphs) > 1 or len(opsets) > 1:
        raise ModelFileError("it is a damaged ONNX file: a part that occurs once is there twice")
    if not contracts:
        raise ModelFileError(
            "it has no contract, so what it expects and returns is unknown: was it made by adae-edge export?"
        )
    if len(contracts) > 1:
        raise ModelFileError("it has more than one contract")
    operators: Counter[str] = Counter()
    reader.graph(*graphs[0], operators, depth=0)
    if not operators:
        raise ModelFileError("its graph is empty")
    contract = Contract.from_json(contracts[0])
    contract = replace(contract, graph=contract.graph or Graph())  # what every file before schema 3 is
    return ModelFile(data, contract, opsets[0][1], operators)


def with_contract(data: bytes, contract: Contract) -> bytes:
    """The same ONNX file with this contract instead of any it had; all other bytes stay."""
    reader = _Reader(data)
    kept = []
    for number, start, end, begin in reader.fields_from(0, len(data)):
        if number == _MODEL_METADATA and reader.string(start, end, 1) == CONTRACT_KEY:
            continue
        kept.append(data[begin:end])
    entry = _field(1, CONTRACT_KEY.encode()) + _field(2, contract.to_json().encode())
    return b"".join(kept) + _field(_MODEL_METADATA, entry)


_MAPS = {
    "network": "float32 [N, side, side], where the score l2 comes from, in the network's pixels",
    "frame": "float32 [N, H, W], where the score l2 comes from, in the frame's pixels",
}


def describe(file: ModelFile) -> str:
    """What a model file expects, returns and contains, in lines for the terminal."""
    operators = ", ".join(f"{name} {count}" for name, count in sorted(file.operators.items()))
    rows = describe_contract(file.contract) | {
        "file": f"{len(file.data)} bytes, sha256 {hashlib.sha256(file.data).hexdigest()}",
        "opset": str(file.opset),
        "operators": operators,
    }
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items())


def describe_contract(contract: Contract) -> dict[str, str]:
    """What a contract says, in words by name, for the terminal."""
    calibration = contract.calibration
    if contract.kind == "image":
        colours = "grey" if contract.channels == 1 else "RGB"
        frames, outside = f"uint8 [N, H, W, {contract.channels}], {colours}", f"grey level {contract.pad_value:g}"
        if contract.window:
            frames += ", of DICOM files by the window {:g},{:g}".format(*contract.window)
    else:
        frames, outside = "float32 [N, H, W, 1] in modality units, with mean and std float32 [N]", "background"
        frames += f", of {contract.modality} volumes" if contract.modality else ""
    where = f"region {tuple(contract.region)} of the frame" if contract.region else "the whole frame"
    fitted = f"padded with {outside} to a square" if contract.resize == "pad" else "stretched"
    standardised = f"; {contract.z_range:g} standard deviations become 1" if contract.z_range else ""
    form = contract.graph or Graph()
    sizes = "any size" if form.size is None else f"{form.size[1]} x {form.size[0]} pixels alone"
    runs = f", {form.batch} in every run" if form.batch else ""
    return {
        "frames": f"{frames}, {sizes}{runs}",
        "seen": f"{where}, {fitted} to {contract.side} x {contract.side} pixels{standardised}",
        "score": f"{contract.score}, float32 [N]: {SCORES[contract.score]}",
        **({"map": _MAPS[form.anomaly_map]} if form.anomaly_map else {}),
        "threshold": f"{calibration.threshold:.6g}, {contract.promise}",
        "normals": f"{calibration.normals} scored {calibration.quantiles[0]:.4g} to {calibration.quantiles[-1]:.4g}, "
        f"median {calibration.quantiles[50]:.4g}",
        "network": f"width {contract.network.width}, latent {contract.network.latent}, {form.precision}, {form.target}",
        "verified": f"{', '.join(form.verified) or 'the file does not say'}"
        + (f"; not {', '.join(form.unverified)}" if form.unverified else ""),
        "weights": f"sha256 {contract.weights_sha256}",
        "data": f"sha256 {contract.data_sha256}",
        "trained by": f"adae-edge {contract.version}",
    }


def _standard(domain: str) -> None:
    if domain not in ("", "ai.onnx"):
        raise ModelFileError(f"it has operators of the domain {domain!r:.60}, and only standard ONNX operators are run")


class _Reader:
    """Walks protobuf messages inside one buffer without copying them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = 0

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Each field's number and the start and end of its value."""
        for number, first, last, _ in self.fields_from(start, end):
            yield number, first, last

    def fields_from(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """As ``fields``, with the place where the field itself begins."""
        at = start
        while at < end:
            self.count += 1
            if self.count > MAX_FIELDS:
                raise ModelFileError("it has more parts than any network of this kind")
            begin = at
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                first = at
                _, at = self._varint(at, end)
            elif wire == 1:
                first, at = at, at + 8
            elif wire == 5:
                first, at = at, at + 4
            elif wire == 2:
                size, first = self._varint(at, end)
                at = first + size
            else:
                raise ModelFileError("it is no ONNX file, or a damaged one")
            # A larger number means a field of the standard to protobuf in C++, which keeps 32 bits of it.
            if at > end or not 0 < number <= _MAX_FIELD_NUMBER:
                raise ModelFileError("it is no ONNX file, or was cut short")
            yield number, first, at, begin

    def graph(self, start: int, end: int, operators: Counter[str], depth: int) -> None:
        """Check a graph's nodes and tensors, and those of the graphs inside its nodes."""
        if depth > MAX_DEPTH:
            raise ModelFileError("its graphs are nested too deeply")
        for number, first, last in self.fields(start, end):
            if number == _GRAPH_NODES:
                operator, domain = self.strings(first, last, _NODE_OPERATOR, _NODE_DOMAIN)
                _standard(domain)
                if not (operator.isascii() and operator.isidentifier()):
                    raise ModelFileError(f"it has an operator that ONNX cannot have: {operator!r:.60}")
                operators[operator] += 1
                for part, inner, outer in self.fields(first, last):
                    if part == _NODE_ATTRIBUTES:
                        self._attribute(inner, outer, operators, depth)
            elif number == _GRAPH_TENSORS:
                self._tensor(first, last)
            elif number == _GRAPH_SPARSE:
                self._sparse(first, last)

    def string(self, start: int, end: int, wanted: int) -> str:
        """The text of one field of a message; "" where it is absent."""
        return self.strings(start, end, wanted)[0]

    def strings(self, start: int, end: int, *wanted: int) -> list[str]:
        """The texts of some fields of a message; "" where one is absent."""
        found = dict.fromkeys(wanted, "")
        for number, first, last in self.fields(start, end):
            if number in found:
                try:
                    found[number] = self.data[first:last].decode()
                except UnicodeDecodeError:
                    raise ModelFileError("it is no ONNX file, or a damaged one") from None
        return list(found.values())

    def number(self, start: int, end: int, wanted: int) -> int:
        """The whole number in one field of a message; 0 where it is absent."""
        value = 0
        for number, first, last in self.fields(start, end):
            if number == wanted:
                value, _ = self._varint(first, last)
        return value

    def _attribute(self, start: int, end: int, operators: Counter[str], depth: int) -> None:
        for number, first, last in self.fields(start, end):
            if number in _ATTRIBUTE_TENSORS:
                self._tensor(first, last)
            elif number in _ATTRIBUTE_SPARSE:
                self._sparse(first, last)
            elif number in _ATTRIBUTE_GRAPHS:
                self.graph(first, last, operators, depth + 1)

    def _sparse(self, start: int, end: int) -> None:
        for number, first, last in self.fields(start, end):
            if number in (1, 2):
                self._tensor(first, last)

    def _tensor(self, start: int, end: int) -> None:
        for number, first, last in self.fields(start, end):
            if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and self._varint(first, last)[0] != 0):
                raise ModelFileError("it keeps weights outside of the file")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise ModelFileError("it is no ONNX file, or was cut short")
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ModelFileError("it is no ONNX file, or a damaged one")


def _field(number: int, value: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return _encoded(number << 3 | 2) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
