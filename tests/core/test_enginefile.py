"""Engine files: what is written is read back, and what is cut, foreign or lying is refused."""

import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adae_edge.contract import Form
from adae_edge.errors import ModelFileError, UsageError
from adae_edge.formats import enginefile
from adae_edge.formats.enginefile import MAGIC, MAX_HEADER, Engine

fuzz = settings(max_examples=300, deadline=None, database=None)
PLAN = bytes(range(256)) * 4
READING = """
import sys
from adae_edge.formats import enginefile
enginefile.read("m.engine")
packages = {"numpy", "torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx"}
assert packages.isdisjoint(sys.modules)
"""


@pytest.fixture(scope="module")
def engine(contract):
    return Engine(
        contract=dataclasses.replace(contract, form=Form(precision="fp16", size=(48, 64))),
        flavour="tensorrt",
        version="10.3.0",
        gpu="Orin",
        compute_capability="8.7",
        onnx_sha256="a" * 64,
        options={"batch": [1, 1, 16], "frame_size": [[64, 48]] * 3, "workspace_mb": None},
        plan=PLAN,
    )


@pytest.fixture(scope="module")
def data(engine):
    return enginefile.to_bytes(engine)


def changed(data, **fields):
    """The file with another header: fields replaced, or left out where they are ``...``."""
    length = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[12 : 12 + length]) | fields
    return with_header({name: value for name, value in header.items() if value is not ...})


def with_header(header, plan=PLAN):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + struct.pack("<I", len(text)) + text + plan


def refusal(data):
    with pytest.raises(ModelFileError) as caught:
        enginefile.check(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read_back(tmp_path, engine, data):
    path = tmp_path / "m.engine"
    path.write_bytes(data)
    assert enginefile.read(path) == engine
    assert enginefile.to_bytes(enginefile.read(path)) == data
    assert PLAN.hex() not in repr(engine)


def test_the_file_is_what_its_description_says(data, engine):
    assert data[:8] == b"ADAEENG1"
    length = int.from_bytes(data[8:12], "little")
    header = json.loads(data[12 : 12 + length])
    assert data[12 + length :] == PLAN
    assert header["schema"] == 1
    assert header["plan_sha256"] == hashlib.sha256(PLAN).hexdigest()
    assert header["contract"] == json.loads(engine.contract.to_json())


def test_an_engine_for_several_gpus_names_each(engine, data):
    assert engine.compute_capabilities == ("8.7",)
    assert enginefile.check(changed(data, compute_capability="8.6,12.0")).compute_capabilities == (
        "8.6",
        "12.0",
    )


def test_a_file_is_known_by_its_first_bytes(tmp_path, data, small_model):
    for name, content, expected in (
        ("a.onnx", data, True),
        ("b.engine", small_model, False),
        ("c", b"", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert enginefile.is_engine(tmp_path / name) is expected
    assert not enginefile.is_engine(tmp_path / "absent")
    assert not enginefile.is_engine(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert not enginefile.is_engine(tmp_path / "pipe")
    with pytest.raises(UsageError, match="there is no model file"):
        enginefile.read_either(tmp_path / "pipe")


def test_another_threshold_changes_the_contract_alone(data, engine):
    calibration = dataclasses.replace(engine.contract.calibration, threshold=0.5)
    again = enginefile.with_contract(data, engine.contract.with_calibration(calibration))
    assert enginefile.check(again).contract.calibration.threshold == 0.5
    assert dataclasses.replace(enginefile.check(again), contract=engine.contract) == engine
    with pytest.raises(ModelFileError, match="cut short"):
        enginefile.with_contract(data[:-1], engine.contract)


def test_a_file_that_is_not_there(tmp_path, data):
    with pytest.raises(UsageError, match="there is no engine file"):
        enginefile.read(tmp_path / "absent.engine")
    with pytest.raises(UsageError, match="there is no engine file"):
        enginefile.read(tmp_path)


def test_a_refusal_names_the_file(tmp_path, data):
    path = tmp_path / "m.engine"
    path.write_bytes(data[:-1])
    with pytest.raises(ModelFileError, match=r"m\.engine is refused: its plan has another length"):
        enginefile.read(path)


def test_a_file_too_large_is_not_even_read(tmp_path, data):
    path = tmp_path / "m.engine"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(enginefile.MAX_BYTES + 1)  # a sparse file
    with pytest.raises(ModelFileError, match="larger than 2 GiB"):
        enginefile.read(path)


@pytest.mark.parametrize("kept", [0, 5, 8, 11, 12, 40, 2000, -1])
def test_a_cut_file_is_refused(data, kept):
    assert "cut short" in refusal(data[:kept]) or kept < 8


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"ftrt" + bytes(100), "no engine file"),
        (
            MAGIC + struct.pack("<I", MAX_HEADER + 1) + bytes(MAX_HEADER + 100),
            "header is longer than 1 MiB",
        ),
        (MAGIC + struct.pack("<I", 2**32 - 1), "header is longer than 1 MiB"),
        (with_header(b""), "not JSON"),
        (with_header(b"{"), "not JSON"),
        (with_header(b"\xff\xfe"), "not JSON"),
        (with_header(b"[" * 100_000), "not JSON"),
        (with_header(b"9" * 10_000), "not JSON"),
        (with_header([1]), "not a JSON object"),
        (with_header({}), "schema None"),
        (with_header(b'{"schema": 1, "schema": 1}'), "says something twice"),
    ],
)
def test_a_header_that_is_none_is_refused(content, why):
    assert why in refusal(content)


@pytest.mark.parametrize("schema", [0, 2, True, 1.0, "1", None, [1]])
def test_an_unknown_schema_is_refused(data, schema):
    assert "adae-edge engine" in refusal(changed(data, schema=schema))


@pytest.mark.parametrize("name", sorted(enginefile.HEADER))
def test_a_missing_field_is_refused(data, name):
    assert f"lacks {name}" in refusal(changed(data, **{name: ...}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("contract", []),
        ("flavour", "onnx"),
        ("flavour", ["tensorrt"]),
        ("version", ""),
        ("version", 10.3),
        ("version", "10.3\n"),
        ("version", "10." + "1." * 60),
        ("gpu", ""),
        ("gpu", 7),
        ("gpu", "\x1b[2J"),
        ("gpu", "x" * 101),
        ("compute_capability", "86"),
        ("compute_capability", 8.6),
        ("compute_capability", "8.6,"),
        ("onnx_sha256", "A" * 64),
        ("onnx_sha256", "a" * 63),
        ("options", [1]),
        ("options", {"batch": {"min": 1}}),
        ("options", {"batch": [[[[1]]]]}),
        ("options", {"batch": [1] * 17}),
        ("options", {"batch": float("inf")}),
        ("options", {"batch": 10**400}),
        ("options", {"": 1}),
        ("options", {"x": "y" * 101}),
        ("options", {str(n): n for n in range(33)}),
        ("plan_bytes", 0),
        ("plan_bytes", True),
        ("plan_bytes", -1),
        ("plan_bytes", 1e3),
        ("plan_sha256", None),
    ],
)
def test_an_absurd_value_is_refused(data, name, value):
    assert f"has {name} = " in refusal(changed(data, **{name: value}))


def test_an_unknown_field_is_refused(data):
    assert "does not know: 'command'" in refusal(changed(data, command="rm"))


def test_a_plan_of_another_model_is_refused(data):
    assert "another length" in refusal(changed(data, plan_bytes=len(PLAN) + 1))
    assert "another length" in refusal(data + b"\0")
    assert "another one than its header says" in refusal(changed(data, plan_sha256="b" * 64))
    assert "another one than its header says" in refusal(data[:-1] + b"\0")


def test_a_contract_is_refused_as_in_a_model_file(data, engine):
    fields = json.loads(engine.contract.to_json())
    for change, why in (
        ({"schema": 9}, "the contract has schema 9"),
        ({"kind": "sound"}, "the contract has kind = 'sound'"),
        ({"pad_value": float("nan")}, "the contract has pad_value = nan"),
        ({"graph": None}, "does not say the form of the graph"),
    ):
        assert why in refusal(changed(data, contract=fields | change))


@fuzz
@given(st.data())
def test_no_file_does_anything_but_open_or_be_refused(data, draw):
    broken = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        broken[draw.draw(st.integers(0, len(broken) - 1))] = draw.draw(st.integers(0, 255))
    try:
        enginefile.check(bytes(broken))
    except ModelFileError as error:
        assert str(error).isprintable()  # noqa: PT017


def test_reading_needs_no_package(tmp_path, data):
    (tmp_path / "m.engine").write_bytes(data)
    subprocess.run([sys.executable, "-c", READING], cwd=tmp_path, check=True)
