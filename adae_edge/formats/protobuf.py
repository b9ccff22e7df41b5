"""Protobuf messages: walking their fields inside one buffer, and writing a few.

A hostile file is walked as any other, so every step is bounded: no message is read beyond its end,
no file has more than ``MAX_FIELDS`` fields, and no text is longer than ``MAX_TEXT`` bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from adae_edge.errors import ModelFileError

MAX_FIELDS = 200_000
MAX_TEXT = 64 * 2**10
_MAX_FIELD_NUMBER = 2**29 - 1

# Wire types: how a field's value is encoded.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_CONTINUED = bytes(range(0x80, 0x100))  # bytes of a varint that are not its last
_PIECE = 2**20  # bytes that are copied at a time


class Reader:
    """Walks protobuf messages inside one buffer without copying them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.count = 0

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Walk a message: each field's number, and the start and end of its value."""
        for number, first, last, _ in self.fields_from(start, end):
            yield number, first, last

    def fields_from(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Walk a message as ``fields`` does, and say where each field itself begins.

        Yields:
            A field's number, the start and end of its value, and the start of the field.

        Raises:
            ModelFileError: no protobuf message, cut short, or with too many fields.
        """
        position = start
        while position < end:
            self.count += 1
            if self.count > MAX_FIELDS:
                raise ModelFileError("it has more parts than any network of this kind")
            begin = position
            tag, first = self._varint(begin, end)
            number, wire = tag >> 3, tag & 7
            if wire == VARINT:
                _, position = self._varint(first, end)
            elif wire == FIXED64:
                position = first + 8
            elif wire == FIXED32:
                position = first + 4
            elif wire == BYTES:
                size, first = self._varint(first, end)
                position = first + size
            else:
                raise ModelFileError("it is no ONNX file, or a damaged one")
            # A larger number means a field of the standard to protobuf in C++, which keeps 32 bits
            # of it.
            if position > end or not 0 < number <= _MAX_FIELD_NUMBER:
                raise ModelFileError("it is no ONNX file, or was cut short")
            yield number, first, position, begin

    def wire(self, begin: int) -> int:
        """The wire type of the field that begins here."""
        return self.data[begin] & 7

    def text(self, first: int, last: int) -> str:
        """The value between these places as text."""
        if last - first > MAX_TEXT:
            raise ModelFileError(f"it has a text of more than {MAX_TEXT // 2**10} KiB")
        try:
            return self.data[first:last].decode()
        except UnicodeDecodeError as error:
            raise ModelFileError("it is no ONNX file, or a damaged one") from error

    def string(self, start: int, end: int, wanted: int) -> str:
        """The text of one field of a message; "" where it is absent."""
        value = ""
        for number, first, last in self.fields(start, end):
            if number == wanted:
                value = self.text(first, last)
        return value

    def number(self, start: int, end: int, wanted: int) -> int:
        """The whole number in one field of a message; 0 where it is absent."""
        value = 0
        for number, first, last in self.fields(start, end):
            if number == wanted:
                value = self.integer(first, last)
        return value

    def integer(self, first: int, last: int) -> int:
        """The value between these places as int64."""
        value, _ = self._varint(first, last)
        return value - 2**64 if value >= 2**63 else value

    def integers(self, first: int, last: int) -> Iterator[int]:
        """Values of a packed field, int64."""
        while first < last:
            value, first = self._varint(first, last)
            yield value - 2**64 if value >= 2**63 else value

    def count_varints(self, first: int, last: int) -> int:
        """How many values a packed field of varints has."""
        starts = range(first, last, _PIECE)
        pieces = (self.data[start : min(start + _PIECE, last)] for start in starts)
        return sum(len(piece.translate(None, delete=_CONTINUED)) for piece in pieces)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """The number that begins here, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise ModelFileError("it is no ONNX file, or was cut short")
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise ModelFileError("it is no ONNX file, or a damaged one")


def encoded(number: int, value: bytes) -> bytes:
    """One length-delimited field."""
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
