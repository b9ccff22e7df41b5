"""Engine files: a TensorRT plan behind a JSON header that says what it is. Reading, checking, rewriting.

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
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adae_edge.contract import Contract
from adae_edge.errors import ModelFileError
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


@dataclass(frozen=True)
class Engine:
    """A plan and what is known about it.

    Attributes:
        contract: of the model file from which it was built, with its graph.
        flavour: the package that built it and can run it, one of ``FLAVOURS``.
        version: of that package, "10.3.0".
        gpu: name of the GPU on which it was built, or None where none was.
        compute_capability: of the GPUs that can run it, "8.6"; for several, "8.6,8.9".
        onnx_sha256: hash of the model file from which it was built.
        options: with which it was built; numbers, texts and lists of these.
        plan: what TensorRT deserialises.
    """

    contract: Contract
    flavour: str
    version: str
    gpu: str | None
    compute_capability: str
    onnx_sha256: str
    options: dict[str, Any]
    plan: bytes = field(repr=False)

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Each one alone."""
        return tuple(self.compute_capability.split(","))


def is_engine(path: str | Path) -> bool:
    """Whether the file begins as an engine file does; False where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
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
    """Read and check a file that may be an engine or a model file; raises as its own ``read`` does."""
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
    fields = _header(data[_START : _START + length])
    written = fields.pop("contract")
    contract = Contract.from_json(json.dumps(written))
    if written.get("graph") is None:
        raise ModelFileError("its contract does not say the form of the graph")
    plan = data[_START + length :]
    if len(plan) != fields.pop("plan_bytes"):
        raise ModelFileError(
            "its plan has another length than its header says: it was cut short, or damaged"
        )
    if hashlib.sha256(plan).hexdigest() != fields.pop("plan_sha256"):
        raise ModelFileError("its plan is another one than its header says, or damaged")
    return Engine(contract=contract, plan=plan, **fields)


def header(engine: Engine) -> dict[str, Any]:
    """What the file says before the plan; JSON types only."""
    return {
        "schema": SCHEMA,
        "contract": json.loads(engine.contract.to_json()),
        "flavour": engine.flavour,
        "version": engine.version,
        "gpu": engine.gpu,
        "compute_capability": engine.compute_capability,
        "onnx_sha256": engine.onnx_sha256,
        "options": engine.options,
        "plan_bytes": len(engine.plan),
        "plan_sha256": hashlib.sha256(engine.plan).hexdigest(),
    }


def to_bytes(engine: Engine) -> bytes:
    """The engine as a file; the same engine gives the same bytes."""
    text = json.dumps(header(engine), sort_keys=True, allow_nan=False).encode()
    return MAGIC + struct.pack("<I", len(text)) + text + engine.plan


def with_contract(data: bytes, contract: Contract) -> bytes:
    """The same engine file with this contract in place of its own; raises ModelFileError as ``read`` does."""
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


def _header(text: bytes) -> dict[str, Any]:
    """The header's fields without the schema, each of which is possible; the contract is not looked at."""
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError):
        raise ModelFileError("its header is not JSON") from None
    if not isinstance(fields, dict):
        raise ModelFileError("its header is not a JSON object")
    schema = fields.pop("schema", None)
    if not (isinstance(schema, int) and not isinstance(schema, bool) and schema == SCHEMA):
        raise ModelFileError(
            f"its header has schema {schema!r:.40}, and this version reads {SCHEMA}: "
            "install the adae-edge that wrote it, or build the engine again with adae-edge engine"
        )
    if missing := sorted(_FIELDS.keys() - fields.keys()):
        raise ModelFileError(f"its header lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - _FIELDS.keys()):
        raise ModelFileError(
            f"its header has a field that schema {SCHEMA} does not know: {unknown[0]!r:.60}"
        )
    for name, accept in _FIELDS.items():
        if not accept(fields[name]):
            raise ModelFileError(
                f"its header has {name} = {fields[name]!r:.60}, which is impossible"
            )
    return fields


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ModelFileError("its header says something twice")
    return fields


def _text(value: Any, longest: int = 100) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _matches(value: Any, pattern: str) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= 100
        and re.fullmatch(pattern, value, re.ASCII) is not None
    )


def _option(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list):
        return depth < 2 and len(value) <= 16 and all(_option(part, depth + 1) for part in value)
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value is None or _text(value) or (finite and abs(value) <= 2**53)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "contract": lambda v: isinstance(v, dict),
    "flavour": lambda v: isinstance(v, str) and v in FLAVOURS,
    "version": lambda v: _matches(v, r"\d{1,5}(\.\w{1,10}){1,5}"),
    "gpu": lambda v: v is None or _text(v),
    "compute_capability": lambda v: _matches(v, r"\d{1,2}\.\d(,\d{1,2}\.\d){0,9}"),
    "onnx_sha256": lambda v: _matches(v, r"[0-9a-f]{64}"),
    "options": lambda v: (
        isinstance(v, dict)
        and len(v) <= 32
        and all(_text(name) and _option(part) for name, part in v.items())
    ),
    "plan_bytes": lambda v: isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= MAX_BYTES,
    "plan_sha256": lambda v: _matches(v, r"[0-9a-f]{64}"),
}
