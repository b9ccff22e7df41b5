"""Which ONNX graphs are run: a walk over a graph that refuses what no export has.

What a hostile graph could do when it is loaded, ONNX Runtime, TensorRT and OpenVINO do alike: they
compute at once whatever follows from constants alone, make dense tensors of sparse ones, and
believe a tensor's sizes. So nothing may follow from constants alone, and every tensor holds what it
says. The rules are written down in docs/model-file.md; field numbers are those of the public
onnx.proto3.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from adae_edge.errors import ModelFileError
from adae_edge.formats.protobuf import BYTES, Reader

MAX_NODES = 2000
MAX_RANK = 8
# Numbers in an int64 tensor, and operators that take them for new axes: what a value may have of
# axes follows, and every axis of every value is an object in memory.
MAX_SHAPE = 16
MAX_UNSQUEEZE = 32
MAX_CONVERTED = 4

# Those of the exports, and their nearest relatives. None holds a graph or draws random numbers.
OPERATORS = frozenset({
    # layers
    "Conv", "ConvTranspose", "DepthToSpace", "Gemm", "LeakyRelu", "MatMul", "Relu", "Tanh",
    # element by element
    "Abs", "Add", "And", "Ceil", "Clip", "Div", "Equal", "Exp", "Floor", "Greater", "GreaterOrEqual", "Identity",
    "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Sqrt", "Sub", "Where",
    # reductions
    "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare",
    # sizes and places
    "Concat", "Expand", "Flatten", "Pad", "Range", "Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
    # precision
    "Cast", "DequantizeLinear", "QuantizeLinear",
})  # fmt: skip
# What may be done to a constant: an INT8 graph keeps its weights so, and the number of elements
# stays.
CONVERSIONS = ("DequantizeLinear", "QuantizeLinear")

FLOAT, UINT8, INT64 = 1, 2, 7
# Bytes of an element by TensorProto.DataType.
_SIZES = {
    FLOAT: 4,
    UINT8: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    INT64: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    16: 2,
}

# GraphProto, NodeProto, AttributeProto, TensorProto, ValueInfoProto, TypeProto, its Tensor, its
# shape's Dimension
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_VALUES, _GRAPH_SPARSE = (
    1,
    5,
    11,
    12,
    13,
    15,
)
_NODE_INPUTS, _NODE_OUTPUTS, _NODE_OPERATOR, _NODE_ATTRIBUTES, _NODE_DOMAIN = 1, 2, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT = 1, 3
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL, _TENSOR_LOCATION = (
    1,
    2,
    8,
    9,
    13,
    14,
)
_TENSOR_FLOATS, _TENSOR_DOUBLES, _TENSOR_VARINTS = 4, 10, (5, 7, 11)
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
# Names, comments and scalars that an export may have and that do nothing.
_GRAPH_TEXT, _NODE_TEXT, _ATTRIBUTE_PLAIN = (2, 10), (3, 6), (1, 2, 3, 4, 7, 8, 9, 13, 20)
_TENSOR_TEXT, _VALUE_TEXT, _TYPE_TEXT, _DIMENSION_TEXT = (8, 12), (3,), (6,), (2, 3)

TWICE = "it is a damaged ONNX file: a part that occurs once is there twice"


class Value(NamedTuple):
    """An input or output of a graph: its name, its TensorProto.DataType, its sizes with None for a free one."""

    name: str
    type: int
    shape: tuple[int | None, ...]


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
        for number, first, last in reader.fields(start, end):
            if number == _GRAPH_NODES:
                nodes.append(self._node(first, last))
            elif number == _GRAPH_TENSORS:
                name, elements = self._tensor(first, last)
                self._make(name, elements)
            elif number == _GRAPH_SPARSE:
                self._refuse_sparse(first, last)
            elif number == _GRAPH_INPUTS:
                self.inputs.append(self._value(first, last))
            elif number == _GRAPH_OUTPUTS:
                self.outputs.append(self._value(first, last))
            elif number == _GRAPH_VALUES:
                self._value(first, last)
            elif number not in _GRAPH_TEXT:
                raise _unknown("graph", number)
            if len(nodes) > MAX_NODES:
                raise ModelFileError(
                    f"it has more than {MAX_NODES} operators, more than any network of this kind"
                )
        if not nodes:
            raise ModelFileError("its graph is empty")
        self._follow(nodes)

    def _node(self, start: int, end: int) -> _Node:
        reader = self._reader
        node = _Node()
        domain = ""
        for number, first, last in reader.fields(start, end):
            if number == _NODE_INPUTS:
                node.inputs.append(reader.text(first, last))
            elif number == _NODE_OUTPUTS:
                node.outputs.append(reader.text(first, last))
            elif number == _NODE_OPERATOR:
                node.operator = reader.text(first, last)
            elif number == _NODE_DOMAIN:
                domain = reader.text(first, last)
            elif number == _NODE_ATTRIBUTES:
                node.attributes.append((first, last))
            elif number not in _NODE_TEXT:
                raise _unknown("nodes", number)
        check_domain(domain)
        if not (node.operator.isascii() and node.operator.isidentifier()):
            raise ModelFileError(f"it has an operator that ONNX cannot have: {node.operator!r:.60}")
        for first, last in node.attributes:
            self._check_attribute(first, last)
        if node.operator not in OPERATORS:
            raise ModelFileError(
                f"it has the operator {node.operator:.60}, which no export of adae-edge has"
            )
        self.operators[node.operator] += 1
        if self.operators["Unsqueeze"] > MAX_UNSQUEEZE:
            raise ModelFileError(f"it adds axes by more than {MAX_UNSQUEEZE} operators")
        return node

    def _check_attribute(self, start: int, end: int) -> None:
        for number, first, last in self._reader.fields(start, end):
            if number in _ATTRIBUTE_TENSORS:
                self._tensor(first, last)
            elif number in _ATTRIBUTE_SPARSE:
                self._refuse_sparse(first, last)
            elif number in _ATTRIBUTE_GRAPHS:
                raise ModelFileError(
                    "it has a graph inside of an operator, which no export of adae-edge has"
                )
            elif number not in _ATTRIBUTE_PLAIN:
                raise _unknown("attributes", number)

    def _refuse_sparse(self, start: int, end: int) -> None:
        for number, first, last in self._reader.fields(start, end):
            if number in (1, 2):
                self._tensor(first, last)
        raise ModelFileError("it has a sparse tensor, which no export of adae-edge has")

    def _tensor(self, start: int, end: int) -> tuple[str, int]:
        """Check a TensorProto; returns its name and its number of elements."""
        reader = self._reader
        name, kind, raw, held = "", 0, None, 0
        dims: list[int] = []
        for number, first, last, begin in reader.fields_from(start, end):
            packed = reader.wire(begin) == BYTES
            if number == _TENSOR_DIMS:
                for size in reader.integers(first, last):
                    dims.append(size)
                    if len(dims) > MAX_RANK:
                        raise ModelFileError(f"it has a tensor of more than {MAX_RANK} axes")
            elif number == _TENSOR_TYPE:
                kind = reader.integer(first, last)
            elif number == _TENSOR_NAME:
                name = reader.text(first, last)
            elif number == _TENSOR_RAW:
                raw = last - first
            elif number in (_TENSOR_FLOATS, _TENSOR_DOUBLES):
                held += (last - first) // (4 if number == _TENSOR_FLOATS else 8)
            elif number in _TENSOR_VARINTS:
                held += reader.count_varints(first, last) if packed else 1
            elif number == _TENSOR_EXTERNAL or (
                number == _TENSOR_LOCATION and reader.integer(first, last) != 0
            ):
                raise ModelFileError("it keeps weights outside of the file")
            elif number not in (*_TENSOR_TEXT, _TENSOR_LOCATION):
                raise _unknown("tensors", number)
        if kind not in _SIZES:
            raise ModelFileError(
                f"it has a tensor of type {kind}, which no export of adae-edge has"
            )
        elements = math.prod(dims)
        if raw is not None:
            held = raw // _SIZES[kind] if raw % _SIZES[kind] == 0 else -1
        if min(dims, default=0) < 0 or elements != held:
            raise ModelFileError(f"its tensor {name!r:.60} has other sizes than data")
        if kind == INT64 and elements > MAX_SHAPE:
            raise ModelFileError(
                f"its tensor {name!r:.60} has more than {MAX_SHAPE} axes, sizes or indices"
            )
        return name, elements

    def _value(self, start: int, end: int) -> Value:
        """Check a ValueInfoProto: a dense tensor of a few axes."""
        reader = self._reader
        name, types = "", []
        for number, first, last in reader.fields(start, end):
            if number == _VALUE_NAME:
                name = reader.text(first, last)
            elif number == _VALUE_TYPE:
                types.append((first, last))
            elif number not in _VALUE_TEXT:
                raise _unknown("values", number)
        tensors, element, shapes = [], 0, []
        for place in types:
            for number, first, last in reader.fields(*place):
                if number == _TYPE_TENSOR:
                    tensors.append((first, last))
                elif number not in _TYPE_TEXT:
                    raise ModelFileError(f"its value {name!r:.60} is no tensor")
        for place in tensors:
            for number, first, last in reader.fields(*place):
                if number == 1:
                    element = reader.integer(first, last)
                elif number == 2:
                    shapes.append((first, last))
                else:
                    raise _unknown("types", number)
        if max(map(len, (types, tensors, shapes))) > 1:  # protobuf would merge them
            raise ModelFileError(TWICE)
        sizes: list[int | None] = []
        for place in shapes:
            for number, first, last in reader.fields(*place):
                if number != 1:
                    raise _unknown("shapes", number)
                sizes.append(self._dimension(first, last))
                if len(sizes) > MAX_RANK:
                    raise ModelFileError(f"its value {name!r:.60} has more than {MAX_RANK} axes")
        return Value(name, element, tuple(sizes))

    def _dimension(self, start: int, end: int) -> int | None:
        size = None
        for number, first, last in self._reader.fields(start, end):
            if number == 1:
                size = self._reader.integer(first, last)
            elif number not in _DIMENSION_TEXT:
                raise _unknown("sizes", number)
        return size

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
        reader = self._reader
        bounds = {"start": 0, "end": MAX_RANK}
        for place in node.attributes:
            bounds[reader.string(*place, _ATTRIBUTE_NAME)] = reader.number(*place, _ATTRIBUTE_INT)
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


class _Node:
    """A node's operator, the names of its inputs and outputs, and the places of its attributes."""

    def __init__(self) -> None:
        self.operator = ""
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.attributes: list[tuple[int, int]] = []


def check_domain(domain: str) -> None:
    """Refuse operators that are not ONNX's own."""
    if domain not in ("", "ai.onnx"):
        raise ModelFileError(
            f"it has operators of the domain {domain!r:.60}, and only standard ONNX operators are "
            "run"
        )


def _unknown(what: str, number: int) -> ModelFileError:
    return ModelFileError(
        f"it has a part that no export of adae-edge has: field {number} of its {what}"
    )
