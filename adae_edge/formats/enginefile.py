"""Engine files: a TensorRT plan behind a JSON header that says what it is.

    8 bytes              ADAEENG1
    4 bytes              length of the header, little-endian
    the header           JSON in UTF-8, at most 1 MiB
    the rest             the plan, as TensorRT serialised it

A plan is executable code, and nothing here can make a stranger's harmless. What is checked is that
the file is whole, says where it belongs, and holds the plan that its header speaks of; TensorRT is
not needed for that.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from adae_edge import fields
from adae_edge.contract import Contract
from adae_edge.errors import ModelFileError
from adae_edge.fields import OBJECT, SHA256, Field, Rule, nullable, one_of, printable_text, whole
from adae_edge.formats.files import read_checked
from adae_edge.formats.modelfile import ModelFile, describe_contract
from adae_edge.formats.modelfile import read as read_model_file

MAGIC = b"ADAEENG1"
SCHEMA = 1
FLAVOURS = ("tensorrt", "tensorrt_rtx")
MAX_BYTES = 2 * 2**30
MAX_HEADER = 2**20
_START = len(MAGIC) + 4
_TOO_LARGE = f"it is larger than {MAX_BYTES // 2**30} GiB"


def _is_option(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 2 and len(value) <= 16 and all(_is_option(part, depth + 1) for part in value)
    if value is None or _TEXT.accepts(value):
        return True
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return finite and abs(value) <= 2**53


def _are_options(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > 32:
        return False
    return all(_TEXT.accepts(name) and _is_option(part) for name, part in value.items())


_TEXT = printable_text(100)
_VERSION = fields.pattern(
    r"\d{1,5}(\.\w{1,10}){1,5}", "2 to 6 parts, a number first, with dots between them"
)
_CAPABILITIES = fields.pattern(
    r"\d{1,2}\.\d(,\d{1,2}\.\d){0,9}", "1 to 10 of them, with commas between them"
)
_OPTIONS = Rule("up to 32 names with numbers, texts, null, and lists of these", _are_options)


@dataclass(frozen=True)
class Engine:
    """A plan and what is known about it.

    Attributes:
        plan: what TensorRT deserialises.
    """

    contract: Annotated[
        Contract,
        OBJECT,
        "the model file's contract with its `graph`; `calibrate` replaces it and nothing else",
    ]
    flavour: Annotated[
        str, one_of(*FLAVOURS), "the package that built the plan and alone can run it"
    ]
    version: Annotated[
        str, _VERSION, "of that package, as `10.3.0`; another one does not run the plan"
    ]
    gpu: Annotated[
        str | None,
        nullable(_TEXT),
        "the GPU on which it was built; null: it was built for others",
    ]
    compute_capability: Annotated[
        str, _CAPABILITIES, "of the GPUs that can run it, as `8.6`; several as `8.6,12.0`"
    ]
    onnx_sha256: Annotated[str, SHA256, "over the model file, contract and all"]
    options: Annotated[
        dict[str, Any],
        _OPTIONS,
        "`batch` and `frame_size`, each the smallest, the most frequent and the largest; "
        "`workspace_mb` or null; `build_s`, the seconds that building took",
    ]
    plan: bytes = field(repr=False)

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """The compute capabilities of all GPUs that can run it, as ("8.6", "12.0")."""
        return tuple(self.compute_capability.split(","))


HEADER = {
    **fields.fields_of(Engine),
    "plan_bytes": Field(whole(1, MAX_BYTES, "whole, 1 to 2**31"), "length of the plan"),
    "plan_sha256": Field(SHA256, "over the plan"),
}


def is_engine(path: str | Path) -> bool:
    """Whether the file begins as an engine file does; False where it cannot be read."""
    path = Path(path)
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: str | Path) -> Engine:
    """Read and check an engine file.

    Raises:
        UsageError: there is no such file.
        ModelFileError: it is too large, no engine file, cut short or damaged, of an unknown schema,
            or its header says something absurd or speaks of another plan.
    """
    return read_checked(path, "engine file", MAX_BYTES, _TOO_LARGE, check)


def read_either(path: str | Path) -> Engine | ModelFile:
    """Read and check an engine or a model file; raises as its own ``read`` does."""
    return read(path) if is_engine(path) else read_model_file(path)


def check(data: bytes) -> Engine:
    """Check the bytes of an engine file; raises ModelFileError as ``read`` does."""
    if len(data) > MAX_BYTES:
        raise ModelFileError(_TOO_LARGE)
    if not data.startswith(MAGIC):
        raise ModelFileError(
            "it is no engine file of adae-edge: adae-edge engine makes them from a model file"
        )
    if len(data) < _START:
        raise ModelFileError("it was cut short")
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    if length > MAX_HEADER:
        raise ModelFileError(f"its header is longer than {MAX_HEADER // 2**20} MiB")
    if len(data) < _START + length:
        raise ModelFileError("it was cut short")
    about = _header(data[_START : _START + length])
    written = about.pop("contract")
    contract = Contract.from_json(json.dumps(written))
    if written.get("graph") is None:
        raise ModelFileError("its contract does not say the form of the graph")
    plan = data[_START + length :]
    if len(plan) != about.pop("plan_bytes"):
        raise ModelFileError(
            "its plan has another length than its header says: it was cut short, or damaged"
        )
    if hashlib.sha256(plan).hexdigest() != about.pop("plan_sha256"):
        raise ModelFileError("its plan is another one than its header says, or damaged")
    return Engine(contract=contract, plan=plan, **about)


def header(engine: Engine) -> dict[str, Any]:
    """The header of an engine's file; JSON types only."""
    values = {name: getattr(engine, name) for name in fields.fields_of(Engine)}
    values["contract"] = json.loads(engine.contract.to_json())
    values["plan_bytes"] = len(engine.plan)
    values["plan_sha256"] = hashlib.sha256(engine.plan).hexdigest()
    return {"schema": SCHEMA} | values


def to_bytes(engine: Engine) -> bytes:
    """The engine as a file; the same engine gives the same bytes."""
    text = json.dumps(header(engine), sort_keys=True, allow_nan=False).encode()
    return MAGIC + struct.pack("<I", len(text)) + text + engine.plan


def with_contract(data: bytes, contract: Contract) -> bytes:
    """Put this contract in the place of an engine file's own; raises ModelFileError as ``read``."""
    return to_bytes(replace(check(data), contract=contract))


def describe(engine: Engine) -> str:
    """What an engine expects and returns, and where it runs, in lines for the terminal."""
    rows = describe_contract(engine.contract) | {
        "runs on": f"{engine.flavour} {engine.version}, {engine.gpu or 'any GPU'} of compute "
        "capability " + " or ".join(engine.compute_capabilities),
        "built from": f"a model file of sha256 {engine.onnx_sha256}",
        "built with": ", ".join(
            f"{name} {json.dumps(value)}" for name, value in sorted(engine.options.items())
        ),
        "plan": f"{len(engine.plan)} bytes, sha256 {hashlib.sha256(engine.plan).hexdigest()}",
    }
    return "\n".join(f"{name:<11}{value}" for name, value in rows.items())


def _header(data: bytes) -> dict[str, Any]:
    """The checked fields of a header without its schema; the contract is still an object."""
    try:
        text = data.decode()
    except ValueError as error:
        raise ModelFileError("its header is not JSON") from error
    values = fields.parse(text, "its header", ModelFileError)
    schema = values.pop("schema", None)
    if not whole(SCHEMA, SCHEMA).accepts(schema):
        raise ModelFileError(
            f"its header has schema {schema!r:.40}, and this version reads {SCHEMA}: "
            "install the adae-edge that wrote it, or build the engine again with adae-edge engine"
        )
    return fields.read(values, HEADER, "its header", SCHEMA, ModelFileError)
