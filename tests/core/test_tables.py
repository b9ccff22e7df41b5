"""The tables of fields in the documents are the fields of the code: names, rules and meanings."""

import onnx
import pytest

from adae_edge.acquisition import Acquisition
from adae_edge.contract import SCHEMA, Calibration, Contract, Form, Network
from adae_edge.fields import Field, fields_of, whole
from adae_edge.formats import enginefile, messages
from tests.support.environments import ROOT

PARTS = {
    "network": Network,
    "calibration": Calibration,
    "acquisitions": Acquisition,
    "graph": Form,
}
CONTRACT = {"schema": Field(whole(1, SCHEMA), "which fields there are"), **fields_of(Contract)}
HEADER = {"schema": Field(whole(1, 1, "1"), "which fields there are"), **enginefile.HEADER}


def rows_of(fields, before=""):
    """The rows of a table, each part's below its own."""
    rows = []
    for name, field in fields.items():
        rows.append(f"| `{before}{name}` | {field.allowed} | {field.meaning} |")
        if name in PARTS and fields is CONTRACT:
            rows += rows_of(fields_of(PARTS[name]), f"{name}.")
    return rows


@pytest.mark.parametrize(
    ("page", "fields", "count"), [("model-file.md", CONTRACT, 49), ("engine-file.md", HEADER, 10)]
)
def test_the_page_has_the_fields_of_the_code(page, fields, count):
    rows = rows_of(fields)
    assert len(rows) == count
    lines = (ROOT / "docs" / page).read_text().splitlines()
    start = lines.index("| field | allowed | meaning |") + 2
    assert lines[start : start + count] == rows
    assert not lines[start + count].startswith("|")


def test_every_field_of_a_file_is_declared():
    """What a dataclass has besides is made from the rest of the file."""
    assert set(enginefile.Engine.__dataclass_fields__) - enginefile.HEADER.keys() == {"plan"}
    for declaring in (Contract, *PARTS.values()):
        names = {"graph" if name == "form" else name for name in declaring.__dataclass_fields__}
        assert fields_of(declaring).keys() == names


# Named on the page only to say that they are refused, and refused by what they hold.
SPARSE = {"sparse_initializer", "sparse_tensor", "sparse_tensors"}


def test_the_page_has_the_messages_of_the_code():
    lines = (ROOT / "docs" / "model-file.md").read_text().splitlines()
    start = lines.index("| message | fields |") + 2
    for message, line in zip(messages.MESSAGES, lines[start:], strict=False):
        names = [name for name, _ in message.fields.values() if name not in SPARSE]
        assert line == f"| `{message.name}` | {', '.join(f'`{name}`' for name in names)} |"
    assert not lines[start + len(messages.MESSAGES)].startswith("|")


@pytest.mark.parametrize("message", messages.MESSAGES, ids=lambda message: message.name)
def test_names_and_numbers_are_those_of_onnx(message):
    kind = onnx
    for part in message.name.split("."):
        kind = getattr(kind, part)
    numbers = {field.number: field.name for field in kind.DESCRIPTOR.fields}
    assert {number: name for number, (name, _) in message.fields.items()}.items() <= numbers.items()
    assert message.refused.keys() <= numbers.keys() - message.fields.keys()
