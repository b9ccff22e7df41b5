"""Two results of ``adae-edge bench`` side by side: ratios, and whether they show a difference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.figures import ratio
from adae_edge.benchmarks.markdown import name_of
from adae_edge.errors import UsageError

_MOST_BYTES = 2**26
# What of a machine changes times.
_OF_MACHINES = ("cpu", "cpus", "usable_cpus", "quota_cpus", "system", "board", "power_mode")
NO_DIFFERENCE = "no difference that this run can show"


def read_result(path: Path, schema: int) -> dict[str, Any]:
    """Read what ``bench --json`` wrote.

    Raises:
        UsageError: it is something else, or of another schema.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        result = json.loads(path.read_bytes())
        found = result.get("schema")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is no result of bench --json") from error
    if found != schema:
        has = f"of schema {found}" if isinstance(found, int) else "without a schema"
        raise UsageError(f"{path} is {has}, and results are compared with those of {schema}")
    try:
        str(result["model"]["graph"]), dict(result["machine"]), result["source"]
        for row in result["measurements"]:
            _key(row, sizes=True)
            if not all(time > 0 for time in row["parts_p50_ms"]):
                raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is no whole result of bench --json") from error
    return dict(result)


def check_alike(
    old: Mapping[str, Any],
    path: Path,
    graph: str,
    source: str | None,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Refuse an old result of something else, before anything is measured.

    Args:
        old: as ``read_result``.
        path: of its file, for the sentence.
        graph: hash of the model's graph now.
        source: of now.
        rows: what is going to be measured, as far as it is known: width, height and batch.

    Raises:
        UsageError: it is of another model, source, frame size or batch.
    """
    way_out = "give --force to compare them all the same"
    if old["model"]["graph"] != graph:
        raise UsageError(f"{path} is of another model: {way_out}")
    if old["source"] != source:
        raise UsageError(f"{path} is of {old['source'] or 'the model alone'}: {way_out}")
    shapes = {(row["width"], row["height"], row["batch"]) for row in old["measurements"]}
    for row in rows:
        if (row["width"], row["height"], row["batch"]) not in shapes:
            raise UsageError(f"{path} has no {name_of(row)}: {way_out}")


def compared(
    old: Mapping[str, Any], result: Mapping[str, Any], name: str, forced: bool
) -> dict[str, Any]:
    """The medians of a result over those of an old one, as JSON types.

    Args:
        old: as ``read_result``.
        result: of now.
        name: of the old one's file.
        forced: whether frames of other sizes are compared, too.
    """
    before = {_key(row, sizes=not forced): row for row in old["measurements"]}
    ratios = []
    for row in result["measurements"]:
        other = before.get(_key(row, sizes=not forced))
        if other is None:
            continue
        interval = ratio(row["parts_p50_ms"], other["parts_p50_ms"])
        shape = {key: row[key] for key in ("width", "height", "batch")}
        says = f"{interval.ratio:.3f} times as long" if interval.shows_difference else NO_DIFFERENCE
        ratios.append({**shape, "p50": interval._asdict(), "says": says})
    machines = old["machine"], result["machine"]
    differs = [key for key in _OF_MACHINES if machines[0].get(key) != machines[1].get(key)]
    return {"with": name, "machines_differ_in": differs, "ratios": ratios}


def _key(row: Mapping[str, Any], sizes: bool) -> tuple[Any, ...]:
    """What two measurements have in common that are compared."""
    shape = (row["width"], row["height"]) if sizes else ()
    others = ("threads", "streams", "processes", "rate")
    return (*shape, row["batch"], *(row.get(name) for name in others))
