"""What is made of the results: paths of the machine taken out, and a short form to print."""

from __future__ import annotations

import json
import re
from typing import Any

# The folders of an absolute path; not those of an address, which has two slashes after its colon.
_FOLDERS = re.compile(r"(?<![\w./])/(?:[\w.+@-]+/)+")
_SHOWN = 160


def without_paths(value: Any) -> Any:
    """Cut every absolute path in a JSON value down to its last name."""
    if isinstance(value, dict):
        return {name: without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return _FOLDERS.sub("", value) if isinstance(value, str) else value


def failures(record: dict[str, Any]) -> list[str]:
    """Return what went wrong, a sentence each: sections that did not end well, and failed cases."""
    sentences = []
    for name, section in record["sections"].items():
        if section["code"] != 0:
            sentences.append(f"{name}: {section['ended']}")
        for case, result in section["results"].items():
            if isinstance(result, dict) and "failed" in result:
                sentences.append(f"{name}, {case}: {result['failed']}")
    return sentences


def short(record: dict[str, Any]) -> str:
    """Write the results on one line, each case by its most telling figures."""
    legend = (
        "cases: [p50 ms, p99 ms, frames/s, ms on the device or in parts]; "
        "parity: [worst relative difference, within, decisions changed]"
    )
    lines = {}
    for name, section in record["sections"].items():
        rows = {case: _most_telling(result) for case, result in section["results"].items()}
        lines[name] = {"code": section["code"], "seconds": section["seconds"]} | rows
    return f"{legend}\n{json.dumps(lines, separators=(',', ':'))}"


def _most_telling(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    if "failed" in result:
        return "FAILED " + result["failed"][:_SHOWN]
    if "p50" in result:
        names = ("p50", "p99", "frames_per_s", "device_ms", "p50_in_parts")
        return [result[name] for name in names if name in result]
    if "worst_relative" in result:
        worst = float(f"{result['worst_relative']:.2g}")
        return [worst, result.get("within"), result["decisions_changed"]]
    if "says" in result:
        return {"seconds": result["seconds"], "says": result["says"][-_SHOWN:]}
    return result
