"""The protobuf messages of a model file: which fields they may have, and one walker for them all.

The first table of docs/model-file.md has the same fields, and a test compares the two. Names and
numbers are those of the public onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from adae_edge.errors import ModelFileError
from adae_edge.formats.protobuf import BYTES, Reader

Place = tuple[int, int]  # start and end of a value in the file
Parts = dict[str, list[Any]]  # the values of each field, by its name
# Makes something of the value of one field that begins at a place.
Decoder = Callable[[Reader, int, Place], Any]


class Message(NamedTuple):
    """What a message may have.

    Attributes:
        name: in onnx.proto.
        fields: name of each allowed field and what is made of it, by its number.
        unknown: sentence about any other field, whose number stands for {}.
        refused: sentences about other fields that have their own, by number.
    """

    name: str
    fields: dict[int, tuple[str, Decoder]]
    unknown: str
    refused: dict[int, str]


def walk(
    reader: Reader, message: Message, place: Place, unknown: str = ""
) -> Iterator[tuple[str, Any]]:
    """Walk one message, without those inside of it.

    Args:
        reader: of the file.
        message: what it may have.
        place: where it is.
        unknown: in place of the message's own sentence.

    Yields:
        Name and value of each field, in the file's order.

    Raises:
        ModelFileError: it has another field, or is damaged.
    """
    for number, start, end, begin in reader.fields_from(*place):
        if number in message.refused:
            raise ModelFileError(message.refused[number])
        if number not in message.fields:
            raise ModelFileError(unknown or message.unknown.format(number))
        name, decode = message.fields[number]
        yield name, decode(reader, begin, (start, end))


def parts_of(reader: Reader, message: Message, place: Place, unknown: str = "") -> Parts:
    """Walk one message as ``walk`` does, and collect the values of each field that it may have."""
    parts: Parts = {name: [] for name, _ in message.fields.values()}
    for name, value in walk(reader, message, place, unknown):
        parts[name].append(value)
    return parts


def last_of(values: list[Any], absent: Any) -> Any:
    """The value that protobuf takes of a field that should be there once."""
    return values[-1] if values else absent


def _text(reader: Reader, begin: int, place: Place) -> str:
    return reader.text(*place)


def _number(reader: Reader, begin: int, place: Place) -> int:
    return reader.integer(*place)


def _place(reader: Reader, begin: int, place: Place) -> Place:
    """Leave the value to be walked later, or not to be looked at."""
    return place


def _varints(reader: Reader, begin: int, place: Place) -> int:
    """Count the numbers of a field that may be packed."""
    return reader.count_varints(*place) if reader.wire(begin) == BYTES else 1


def _values_of(size: int) -> Decoder:
    """Count values of this many bytes each."""
    return lambda reader, begin, place: (place[1] - place[0]) // size


def _message(
    name: str,
    parts: str,
    fields: str,
    refused: dict[int, str] | None = None,
    /,
    **decoders: Decoder,
) -> Message:
    """Describe a message.

    Args:
        name: in onnx.proto.
        parts: what its kind is called in sentences.
        fields: numbers and names of those that it may have.
        refused: as in ``Message``.
        decoders: by name, for fields whose value is more than a place.
    """
    numbered = (field.split() for field in fields.split(", "))
    described = {int(number): (key, decoders.get(key, _place)) for number, key in numbered}
    unknown = f"it has {_UNKNOWN} of its {parts}"
    return Message(name, described, unknown, refused or {})


_UNKNOWN = "a part that no export of adae-edge has: field {}"
OUTSIDE = "it keeps weights outside of the file"
_OWN = "it defines functions or training steps of its own"
_NESTED = "it has a graph inside of an operator, which no export of adae-edge has"

MODEL = _message(
    "ModelProto",
    "model",
    "1 ir_version, 2 producer_name, 3 producer_version, 4 domain, 5 model_version, 6 doc_string, "
    "7 graph, 8 opset_import, 14 metadata_props",
    {20: _OWN, 25: _OWN},
)._replace(unknown=f"it is no ONNX file, or has {_UNKNOWN}")
GRAPH = _message(
    "GraphProto",
    "graph",
    "1 node, 2 name, 5 initializer, 10 doc_string, 11 input, 12 output, 13 value_info, "
    "15 sparse_initializer",
)
NODE = _message(
    "NodeProto",
    "nodes",
    "1 input, 2 output, 3 name, 4 op_type, 5 attribute, 6 doc_string, 7 domain",
    input=_text,
    output=_text,
    op_type=_text,
    domain=_text,
)
ATTRIBUTE = _message(
    "AttributeProto",
    "attributes",
    "1 name, 2 f, 3 i, 4 s, 5 t, 7 floats, 8 ints, 9 strings, 10 tensors, 13 doc_string, 20 type, "
    "22 sparse_tensor, 23 sparse_tensors",
    {6: _NESTED, 11: _NESTED},
)
TENSOR = _message(
    "TensorProto",
    "tensors",
    "1 dims, 2 data_type, 4 float_data, 5 int32_data, 7 int64_data, 8 name, 9 raw_data, "
    "10 double_data, 11 uint64_data, 12 doc_string, 14 data_location",
    {13: OUTSIDE},
    data_type=_number,
    float_data=_values_of(4),
    int32_data=_varints,
    int64_data=_varints,
    name=_text,
    raw_data=_values_of(1),
    double_data=_values_of(8),
    uint64_data=_varints,
    data_location=_number,
)
VALUE = _message("ValueInfoProto", "values", "1 name, 2 type, 3 doc_string", name=_text)
TYPE = _message("TypeProto", "types", "1 tensor_type, 6 denotation")
TENSOR_TYPE = _message("TypeProto.Tensor", "types", "1 elem_type, 2 shape", elem_type=_number)
SHAPE = _message("TensorShapeProto", "shapes", "1 dim")
DIMENSION = _message(
    "TensorShapeProto.Dimension",
    "sizes",
    "1 dim_value, 2 dim_param, 3 denotation",
    dim_value=_number,
)
MESSAGES = (MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, VALUE, TYPE, TENSOR_TYPE, SHAPE, DIMENSION)
