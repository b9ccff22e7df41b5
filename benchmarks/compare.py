"""Two results of ``adae-edge bench`` side by side: ratios, and whether they show a difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.figures import PARTS, ratio
from adae_edge.benchmarks.markdown import name_of
from adae_edge.errors import UsageError

_MOST_BYTES = 2**26
_LONGEST_MS = 1e9  # of a call; JSON may hold anything
# What of a machine changes times.
_OF_MACHINES = ("cpu", "cpus", "usable_cpus", "quota_cpus", "system", "board", "power_mode")
TOO_FEW = "too few calls to tell"
NO_DIFFERENCE = "no difference that this run can show"


def read_result(path: Path, schema: int) -> dict[str, Any]:
    """Read what ``bench --json`` wrote.

    Raises:
        UsageError: it is something else, or of another schema.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise UsageError(f"{path} cannot be read: it is no file")
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise ValueError
        result = json.loads(text)
        found = result.get("schema")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is no result of bench --json") from error
    if found != schema:
        has = f"of schema {found}" if isinstance(found, int) else "without a schema"
        raise UsageError(f"{path} is {has}, and results are compared with those of {schema}")
    try:
        str(result["model"]["graph"]), result["source"]
        for row in result["measurements"]:
            hash(_key(row, result["machine"], sizes=True))
            parts = row["parts_p50_ms"]
            if not 0 < len(parts) <= PARTS or not all(0 < time < _LONGEST_MS for time in parts):
                raise ValueError
            [str(verdict["name"]) for verdict in row["verdicts"]]
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no whole result of bench --json") from error
    return dict(result)


def check_alike(
    old: Mapping[str, Any],
    path: Path,
    graph: str,
    source: str | None,
    planned: Mapping[str, Any],
    forced: bool,
) -> None:
    """Refuse an old result of something else, before anything is measured.

    Args:
        old: as ``read_result``.
        path: of its file, for the sentence.
        graph: hash of the model's graph now.
        source: of now.
        planned: ``machine`` and ``measurements`` as a result has them, without figures; of a
            source's frames without sizes, which are not known yet.
        forced: whether it may be of another model, source or frame size.

    Raises:
        UsageError: it is of another model, source, frame size or batch, or under another load.
    """
    way_out = "give --force to compare them all the same"
    if not forced and old["model"]["graph"] != graph:
        raise UsageError(f"{path} is of another model: {way_out}")
    if not forced and old["source"] != source:
        raise UsageError(f"{path} is of {old['source'] or 'the model alone'}: {way_out}")
    for row in planned["measurements"]:
        if _same(row, planned["machine"], old, sizes=False) is None:
            raise UsageError(f"{path} has no batch of {row['batch']} under the same load")
        of_sizes = source is None and not forced
        if of_sizes and _same(row, planned["machine"], old, sizes=True) is None:
            raise UsageError(f"{path} has no {name_of(row)}: {way_out}")


def compared(
    old: Mapping[str, Any], result: Mapping[str, Any], name: str, forced: bool
) -> dict[str, Any]:
    """The medians of a result over those of an old one, as JSON types.

    Args:
        old: as ``read_result``.
        result: of now.
        name: of the old one's file.
        forced: whether frames of other sizes are compared, where it has none of the same.
    """
    ratios = []
    for row in result["measurements"]:
        other = _same(row, result["machine"], old, sizes=True)
        if other is None and forced:
            other = _same(row, result["machine"], old, sizes=False)
        if other is None:
            continue
        interval = ratio(row["parts_p50_ms"], other["parts_p50_ms"])
        shape = {key: row[key] for key in ("width", "height", "batch")}
        says = f"{interval.ratio:.3f} times as long" if interval.shows_difference else NO_DIFFERENCE
        if min(len(each["parts_p50_ms"]) for each in (row, other)) < PARTS:
            says = TOO_FEW
        if wrong := [verdict["name"] for verdict in other["verdicts"]]:
            says += f"; the old run was {' and '.join(wrong)}"
        told = {"of": name_of(row), "to": name_of(other), "p50": interval._asdict(), "says": says}
        ratios.append(shape | told)
    machines = old["machine"], result["machine"]
    differs = [key for key in _OF_MACHINES if machines[0].get(key) != machines[1].get(key)]
    return {"with": name, "machines_differ_in": differs, "ratios": ratios}


def _same(
    row: Mapping[str, Any], machine: Mapping[str, Any], old: Mapping[str, Any], sizes: bool
) -> Mapping[str, Any] | None:
    """The first measurement of an old result that is of the same as a row."""
    key = _key(row, machine, sizes)
    rows = old["measurements"]
    return next((each for each in rows if _key(each, old["machine"], sizes) == key), None)


def _key(row: Mapping[str, Any], machine: Mapping[str, Any], sizes: bool) -> tuple[Any, ...]:
    """What two measurements have in common that are compared.

    All threads that a machine has are the same on another machine, and so are the most frames a
    second that hold a latency.
    """
    shape = (row["width"], row["height"]) if sizes else ()
    streams, cpus = row.get("streams", 1), machine.get("usable_cpus") or 1
    threads = "all" if row["threads"] == max(1, cpus // streams) else row["threads"]
    rate = "most" if "tried" in row else row.get("rate")
    return (*shape, row["batch"], threads, streams, row.get("processes"), rate)
