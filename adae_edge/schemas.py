"""Contracts of older schemas: what a file says without the fields that came later."""

from __future__ import annotations

from typing import Any

from adae_edge.errors import ContractError

_CONTRACT, _CALIBRATION = "the contract", "the contract's calibration"


def as_newest(fields: dict[str, Any], schema: int) -> dict[str, Any]:
    """Add to the fields of a contract what newer schemas than its own did.

    Args:
        fields: of JSON types, by name; still to be checked, whatever the schema.
        schema: of the file.

    Returns:
        The fields as a file of the newest schema has them.

    Raises:
        ContractError: a field or a value came with a newer schema.
    """
    if schema < 2:
        fields = _from_1(fields)
    if schema < 3:
        fields = _with_added(fields, _CONTRACT, 3, graph=None)
    if schema < 4:
        _check_before_4(fields, schema)
    if schema < 5:
        fields = _with_added(fields, _CONTRACT, 5, bits=None, decoding=None, measured="frame")
        fields = _with_added_calibration(fields, 5, map_threshold=None)
    if schema < 6:
        rule = "nonzero" if fields.get("kind") == "modality" else None
        fields = _with_added(fields, _CONTRACT, 6, object=rule, field_of_view=None, acquisitions=[])
    if schema < 7:
        fields = _with_added_calibration(fields, 7, greys=None, whites=None)
    return fields


def _from_1(fields: dict[str, Any]) -> dict[str, Any]:
    """The same contract in schema 2, with what a file without its fields says."""
    fields = _with_added_calibration(fields, 2, confidence=None)
    if fields.get("score", "l2") != "l2":
        raise ContractError(
            f"the contract has score = {fields['score']!r:.60}, which schema 1 does not know"
        )
    return _with_added(fields, _CONTRACT, 2, z_range=None, modality=None, window=None)


def _check_before_4(fields: dict[str, Any], schema: int) -> None:
    """Refuse values that came with schema 4 in the contract of an older one."""
    score, network = fields.get("score"), fields.get("network")
    linear = isinstance(network, dict) and network.get("width", 1) is None
    for name, value, newer in (
        ("score", score, score == "local"),
        ("network.width", None, linear),
    ):
        if newer:
            raise ContractError(
                f"the contract has {name} = {value!r}, which schema {schema} does not know"
            )


def _with_added_calibration(fields: dict[str, Any], schema: int, **added: Any) -> dict[str, Any]:
    """The fields of an older schema and what ``schema`` added to their calibration."""
    calibration = fields.get("calibration")
    if not isinstance(calibration, dict):
        return fields  # it is refused by its rule
    calibration = _with_added(calibration, _CALIBRATION, schema, **added)
    return fields | {"calibration": calibration}


def _with_added(fields: dict[str, Any], where: str, schema: int, **added: Any) -> dict[str, Any]:
    """The fields of an older schema and what ``schema`` added to them."""
    if early := sorted(fields.keys() & added.keys()):
        raise ContractError(
            f"{where} has a field that schema {schema - 1} does not know: {early[0]!r}"
        )
    return fields | added
