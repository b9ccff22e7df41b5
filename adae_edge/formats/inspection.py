"""What a model file or an engine holds as plain data, and what differs between two of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from adae_edge.formats import enginefile, modelfile
from adae_edge.formats.enginefile import Engine
from adae_edge.formats.modelfile import ModelFile


def describe(file: ModelFile | Engine) -> str:
    """What a file expects, returns and contains, in lines for the terminal."""
    return enginefile.describe(file) if isinstance(file, Engine) else modelfile.describe(file)


def facts(file: ModelFile | Engine) -> dict[str, Any]:
    """What a file holds, as JSON types.

    Of a model file the contract, opset, operators with their counts, size and hashes; of an engine
    its header.
    """
    if isinstance(file, Engine):
        return enginefile.header(file)
    return {
        "contract": json.loads(file.contract.to_json()),
        "opset": file.opset,
        "operators": dict(sorted(file.operators.items())),
        "bytes": len(file.data),
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "graph_sha256": file.graph_sha256,
    }


def differences(one: ModelFile | Engine, other: ModelFile | Engine) -> dict[str, list[Any]]:
    """The facts that differ, by dotted name, with both values.

    None stands where a file has no such fact.
    """
    before, after = _dotted(facts(one)), _dotted(facts(other))
    names = dict.fromkeys([*before, *after])
    return {
        name: [before.get(name), after.get(name)]
        for name in names
        if before.get(name) != after.get(name)
    }


def describe_differences(differing: dict[str, list[Any]]) -> str:
    """What differs in lines for the terminal: name, value of one file -> value of the other."""
    if not differing:
        return "the same"
    width = max(map(len, differing)) + 2
    return "\n".join(
        f"{name:<{width}}{_short(was)} -> {_short(now)}" for name, (was, now) in differing.items()
    )


def _dotted(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= _dotted(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{len(value)} values from {value[0]} to {value[-1]}"
    return json.dumps(value)
