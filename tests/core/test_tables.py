"""The tables of fields in the documents are the fields of the code: names, rules and meanings."""

import pytest

from adae_edge.contract import SCHEMA, Calibration, Contract, Form, Network
from adae_edge.fields import Field, fields_of, whole
from adae_edge.formats import enginefile
from tests.support.environments import ROOT

PARTS = {"network": Network, "calibration": Calibration, "graph": Form}
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
    ("page", "fields", "count"), [("model-file.md", CONTRACT, 31), ("engine-file.md", HEADER, 10)]
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
