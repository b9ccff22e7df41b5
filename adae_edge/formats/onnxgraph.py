"""Which ONNX graphs are run: a walk over a graph that refuses what no export has.

What a hostile graph could do when it is loaded, ONNX Runtime, TensorRT and OpenVINO do alike: they
compute at once whatever follows from constants alone, make dense tensors of sparse ones, and
believe a tensor's sizes. So nothing may follow from constants alone, and every tensor holds what it
says. The rules are written down in docs/model-file.md; the fields of each message are in
messages.py.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import NamedTuple

from adae_edge.errors import ModelFileError
from adae_edge.formats import messages
from adae_edge.formats.messages import Message, Parts, Place, last_of, parts_of, walk
from adae_edge.formats.protobuf import Reader

MAX_NODES = 2000
MAX_RANK = 8
# Numbers in an int64 tensor, and operators that take them for new axes: what a value may have of
# axes follows, and every axis of every value is an object in memory.
MAX_SHAPE = 16
MAX_UNSQUEEZE = 32
MAX_CONVERTED = 4

# Those of the exports, and their nearest relatives. None holds a graph or draws random numbers.
_BY_KIND = {
    "layers": "Conv ConvTranspose DepthToSpace Gemm LeakyRelu MatMul Relu Tanh",
    "element by element": "Abs Add And Ceil Clip Div Equal Exp Floor Greater GreaterOrEqual "
    "Identity Less LessOrEqual Log Max Min Mul Neg Not Or Pow Reciprocal Sqrt Sub Where",
    "reductions": "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum "
    "ReduceSumSquare TopK",
    "sizes and places": "Concat Expand Flatten GridSample Pad Range Reshape Shape Slice Split "
    "Squeeze Transpose Unsqueeze",
    "precision": "Cast DequantizeLinear QuantizeLinear",
}
OPERATORS = frozenset(" ".join(_BY_KIND.values()).split())
# What may be done to a constant: an INT8 graph keeps its weights so, and the number of elements
# stays.
CONVERSIONS = ("DequantizeLinear", "QuantizeLinear")

# Numbers of TensorProto.DataType, and the bytes of an element of each.
FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64 = 1, 2, 3, 4, 5, 6, 7
BOOL, FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 9, 10, 11, 12, 13, 16
_SIZES = {
    **dict.fromkeys((UINT8, INT8, BOOL), 1),
    **dict.fromkeys((UINT16, INT16, FLOAT16, BFLOAT16), 2),
    **dict.fromkeys((FLOAT, INT32, UINT32), 4),
    **dict.fromkeys((DOUBLE, INT64, UINT64), 8),
}
# The fields of a tensor that hold its values one by one; ``raw_data`` holds them as bytes.
_VALUES = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")

TWICE = "it is a damaged ONNX file: a part that occurs once is there twice"


class Value(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: in the graph.
        type: its TensorProto.DataType.
        shape: its sizes, None for a free one.
    """

    name: str
    type: int
    shape: tuple[int | None, ...]


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: list[Place]


class OnnxGraph:
    """A graph that may be run.

    Attributes:
        inputs, outputs: in the graph's order.
        operators: how often each operator occurs.
    """

    def __init__(self, reader: Reader, start: int, end: int) -> None:
        """Walk the GraphProto between these places of the reader's data.

        Raises:
            ModelFileError: the graph is damaged, keeps data outside of the file, or has anything
                that no export has.
        """
        self._reader = reader
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.operators: Counter[str] = Counter()
        # What is known of a value by name: a constant's number of elements, or None where it
        # follows from the frames.
        self._made: dict[str, int | None] = {}
        nodes = []
        for name, place in walk(reader, messages.GRAPH, (start, end)):
            if name == "node":
                nodes.append(self._node(place))
            elif name == "initializer":
                self._make(*self._tensor(place))
            elif name == "sparse_initializer":
                self._refuse_sparse(place)
            elif name == "input":
                self.inputs.append(self._value(place))
            elif name == "output":
                self.outputs.append(self._value(place))
            elif name == "value_info":
                self._value(place)
            if len(nodes) > MAX_NODES:
                raise ModelFileError(
                    f"it has more than {MAX_NODES} operators, more than any network of this kind"
                )
        if not nodes:
            raise ModelFileError("its graph is empty")
        self._follow(nodes)

    def _parts(self, message: Message, place: Place, unknown: str = "") -> Parts:
        return parts_of(self._reader, message, place, unknown)

    def _node(self, place: Place) -> _Node:
        """Check a NodeProto: a known operator, whose attributes hold no graph."""
        parts = self._parts(messages.NODE, place)
        operator = last_of(parts["op_type"], "")
        check_domain(last_of(parts["domain"], ""))
        if not (operator.isascii() and operator.isidentifier()):
            raise ModelFileError(f"it has an operator that ONNX cannot have: {operator!r:.60}")
        for attribute in parts["attribute"]:
            self._check_attribute(attribute)
        if operator not in OPERATORS:
            raise ModelFileError(
                f"it has the operator {operator:.60}, which no export of adae-edge has"
            )
        self.operators[operator] += 1
        if self.operators["Unsqueeze"] > MAX_UNSQUEEZE:
            raise ModelFileError(f"it adds axes by more than {MAX_UNSQUEEZE} operators")
        return _Node(operator, parts["input"], parts["output"], parts["attribute"])

    def _check_attribute(self, place: Place) -> None:
        parts = self._parts(messages.ATTRIBUTE, place)
        for tensor in parts["t"] + parts["tensors"]:
            self._tensor(tensor)
        for sparse in parts["sparse_tensor"] + parts["sparse_tensors"]:
            self._refuse_sparse(sparse)

    def _refuse_sparse(self, place: Place) -> None:
        """Refuse a SparseTensorProto, first for what its two tensors are."""
        for number, start, end in self._reader.fields(*place):
            if number in (1, 2):  # values and indices
                self._tensor((start, end))
        raise ModelFileError("it has a sparse tensor, which no export of adae-edge has")

    def _tensor(self, place: Place) -> tuple[str, int]:
        """Check a TensorProto, and return its name and its number of elements."""
        dims: list[int] = []
        parts: Parts = defaultdict(list)
        for field, value in walk(self._reader, messages.TENSOR, place):
            if field == "dims":
                self._extend(dims, value)
            elif field == "data_location" and value != 0:
                raise ModelFileError(messages.OUTSIDE)
            parts[field].append(value)
        name, kind = last_of(parts["name"], ""), last_of(parts["data_type"], 0)
        if kind not in _SIZES:
            raise ModelFileError(
                f"it has a tensor of type {kind}, which no export of adae-edge has"
            )
        elements = math.prod(dims)
        held = sum(sum(parts[field]) for field in _VALUES)
        if parts["raw_data"]:
            held, rest = divmod(parts["raw_data"][-1], _SIZES[kind])
            held = -1 if rest else held
        if min(dims, default=0) < 0 or elements != held:
            raise ModelFileError(f"its tensor {name!r:.60} has other sizes than data")
        if kind == INT64 and elements > MAX_SHAPE:
            raise ModelFileError(
                f"its tensor {name!r:.60} has more than {MAX_SHAPE} axes, sizes or indices"
            )
        return name, elements

    def _extend(self, dims: list[int], place: Place) -> None:
        """Add a size, or several packed ones, to a tensor's; stop where they are too many."""
        for size in self._reader.integers(*place):
            dims.append(size)
            if len(dims) > MAX_RANK:
                raise ModelFileError(f"it has a tensor of more than {MAX_RANK} axes")

    def _value(self, place: Place) -> Value:
        """Check a ValueInfoProto: a dense tensor of a few axes."""
        parts = self._parts(messages.VALUE, place)
        name = last_of(parts["name"], "")
        no_tensor = f"its value {name!r:.60} is no tensor"
        kind = self._parts(messages.TYPE, _only(parts["type"]), no_tensor)
        tensor = self._parts(messages.TENSOR_TYPE, _only(kind["tensor_type"]))
        sizes: list[int | None] = []
        for _, dim in walk(self._reader, messages.SHAPE, _only(tensor["shape"])):
            sizes.append(last_of(self._parts(messages.DIMENSION, dim)["dim_value"], None))
            if len(sizes) > MAX_RANK:
                raise ModelFileError(f"its value {name!r:.60} has more than {MAX_RANK} axes")
        return Value(name, last_of(tensor["elem_type"], 0), tuple(sizes))

    def _follow(self, nodes: list[_Node]) -> None:
        """Refuse circles, and whatever follows from constants alone."""
        constants = sum(elements for elements in self._made.values() if elements is not None)
        converted = 0
        for value in self.inputs:
            self._make(value.name, None)
        for node in nodes:
            inputs = [name for name in node.inputs if name]
            for name in inputs:
                if name not in self._made:
                    raise ModelFileError(f"its operators run in a circle, or lack {name!r:.60}")
            sources = [self._made[name] for name in inputs]
            elements = sources[0] if sources and None not in sources else None
            if elements is not None:
                converted += elements
            if not sources or (elements is not None and node.operator not in CONVERSIONS):
                raise ModelFileError(
                    f"it computes a {node.operator} from constants alone, which an export does "
                    "itself"
                )
            if converted > MAX_CONVERTED * constants:
                raise ModelFileError(f"it converts its constants more than {MAX_CONVERTED} times")
            if node.operator == "Shape":
                self._check_shape(node)
            for name in filter(None, node.outputs):
                self._make(name, elements)
        for value in self.outputs:
            if value.name not in self._made:
                raise ModelFileError(f"nothing makes its output {value.name!r:.60}")

    def _check_shape(self, node: _Node) -> None:
        """A fixed size is a constant, too, so Shape is for the sizes of frames that are free."""
        bounds = {"start": 0, "end": MAX_RANK}
        for place in node.attributes:
            parts = self._parts(messages.ATTRIBUTE, place)
            name = self._reader.text(*last_of(parts["name"], (0, 0)))
            bounds[name] = self._reader.integer(*parts["i"][-1]) if parts["i"] else 0
        read = [
            value.shape[bounds["start"] : bounds["end"]]
            for value in self.inputs
            if [value.name] == node.inputs
        ]
        if not read or None not in read[0]:
            raise ModelFileError(
                "it computes with sizes that are constants, or are not the frames'"
            )

    def _make(self, name: str, elements: int | None) -> None:
        if name in self._made:
            raise ModelFileError(f"it makes {name!r:.60} twice")
        self._made[name] = elements


def _only(places: list[Place]) -> Place:
    """The place of a message that is there once; an empty one where there is none."""
    if len(places) > 1:  # protobuf would merge them
        raise ModelFileError(TWICE)
    return places[0] if places else (0, 0)


def check_domain(domain: str) -> None:
    """Refuse operators that are not ONNX's own."""
    if domain not in ("", "ai.onnx"):
        raise ModelFileError(
            f"it has operators of the domain {domain!r:.60}, and only standard ONNX operators are "
            "run"
        )
