"""Opens a sink by its name on the command line.

A scheme is the name of a module in this folder, whose ``SINK`` is the class that is opened with
what follows the colon. A new sink is a new file, and nothing else changes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from adae_edge.errors import UsageError
from adae_edge.runtime import sinks
from adae_edge.runtime.schemes import load_scheme, schemes, split_scheme
from adae_edge.runtime.sinks.sink import PIXELS, ROWS, Keeping, Place, Sink
from adae_edge.secrets import filled_in

_SUFFIXES = {"db": "sqlite", "mp4": "video"}
_NO_SINKS = {
    "registry",
    "sink",
    "rows",
    "table",
    "queued",
    "target",
    "shared",
    "objects",
    "results",
}
_log = logging.getLogger(__name__)


def open_sink(spec: str, keeping: Keeping = ROWS) -> Sink:
    """Open a sink by its name on the command line.

    Args:
        spec: "terminal"; "jsonl:FILE", "csv:FILE", "sqlite:FILE" or any scheme of this folder with
            its place behind a colon; or a file whose suffix is a scheme. ``${NAME}`` and
            ``${credential:NAME}`` are replaced, as ``filled_in`` does.
        keeping: how rows are kept.

    Raises:
        UsageError: there is no such sink, it would be in a folder that does not exist, or its name
            needs a variable or a credential that is not set.
        SinkError: the file cannot be written, or holds something else.
        MissingExtra: the package that this sink needs is not installed.
    """
    spec = filled_in(spec)
    scheme, place = _known(spec)
    sink: Sink = load_scheme(sinks, scheme).SINK(place, keeping)
    sink.name = sink.called(spec)
    _log.info("opened %s as %s", sink.name, scheme)
    return sink


def check_sink(spec: str) -> None:
    """Look at a sink's name, its options and the folder that it needs, and open nothing.

    Raises:
        UsageError, MissingExtra: as ``open_sink``.
    """
    scheme, place = _known(filled_in(spec))
    load_scheme(sinks, scheme).SINK.check(place)


def shown_name(spec: str) -> str:
    """A sink's name without what may be secret in it; one with a ``${...}`` stays as it is."""
    if "${" in spec:
        return spec
    scheme, _ = _known(spec)
    sink: type[Sink] = load_scheme(sinks, scheme).SINK
    return sink.called(spec)


def shows_pixels(spec: str) -> bool:
    """Whether a sink shows frames, without opening it; False for one that does not exist."""
    return PIXELS in _attribute(spec, "wants", ())


def collects_series(spec: str) -> bool:
    """Whether a sink makes something of whole series, without opening it."""
    return bool(_attribute(spec, "collects", False))


def keeps_rows(spec: str) -> bool:
    """Whether it matters to a sink how rows are kept; False for one that does not exist."""
    return bool(_attribute(spec, "keeps_rows", False))


def reads_back(spec: str) -> bool:
    """Whether a sink's rows can be read again, without opening it."""
    return bool(_attribute(spec, "reads_back", False))


def puts_aside(spec: str) -> bool:
    """Whether a sink puts a file of rows aside that becomes too large, without opening it."""
    return bool(_attribute(spec, "puts_aside", False))


def _attribute(spec: str, name: str, default: Any) -> Any:
    known = schemes(sinks, _NO_SINKS)
    scheme, _ = _split(filled_in(spec), known)
    return getattr(load_scheme(sinks, scheme).SINK, name, default) if scheme in known else default


def place_of(spec: str) -> Place:
    """Where a sink writes, the same for every spelling of one place, and in which manner.

    Raises:
        UsageError: there is no such sink, its place is wrong, or its name needs what is not set.
        MissingExtra: the package that this sink needs is not installed.
    """
    scheme, place = _known(filled_in(spec))
    where: Place = load_scheme(sinks, scheme).SINK.where(place)
    return where._replace(manner=f"{scheme} {where.manner}")


def pictures_of(spec: str) -> Path | None:
    """The folder in which a sink puts pictures, without opening it; None where it makes none."""
    scheme, place = _known(filled_in(spec))
    folder: Path | None = load_scheme(sinks, scheme).SINK.pictures(place)
    return folder


def _known(spec: str) -> tuple[str, str]:
    """The scheme and the place of a sink; raises UsageError where there is no such sink."""
    known = schemes(sinks, _NO_SINKS)
    scheme, place = _split(spec, known)
    if scheme not in known or (scheme == "terminal") != (spec == "terminal") or not place:
        raise UsageError(
            f"there is no sink {spec}: give terminal, jsonl:FILE, csv:FILE, sqlite:FILE, "
            "pictures:DIR, video:FILE.mp4, prometheus:PORT, mqtt://HOST, https://HOST/PATH, "
            "or an archive at dicom:// or dicomweb:https://HOST/PATH"
        )
    return scheme, place


def _split(spec: str, known: list[str]) -> tuple[str, str]:
    """The scheme of a sink, by its suffix where it is not named, and its place."""
    scheme, place = split_scheme(spec, known)
    if scheme is None:
        scheme = spec if spec == "terminal" else Path(spec).suffix.lower().removeprefix(".")
        scheme = _SUFFIXES.get(scheme, scheme)
    return scheme, place
