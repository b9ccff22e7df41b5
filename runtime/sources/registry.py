"""Opens a source by its name on the command line.

A scheme is the name of a module in this folder, whose ``SOURCE`` is the class that is opened with
what follows the colon. A new source is a new file, and nothing else changes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from adae_edge.contract import Contract, Window
from adae_edge.decoding.folders import is_pattern
from adae_edge.decoding.kinds import is_nifti
from adae_edge.decoding.layouts import read_layout
from adae_edge.errors import UsageError, without_password
from adae_edge.runtime import sources
from adae_edge.runtime.schemes import load_scheme, schemes, split_scheme
from adae_edge.runtime.sources.source import Receiving, Source, Wanted
from adae_edge.secrets import filled_in

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv"}
)
_NO_SOURCES = {"registry", "source", "opencv", "av", "trust", "pipe"} | {
    "address",
    "clock",
    "complaints",
    "containers",
    "conversion",
    "ends",
    "live",
    "ledger",
    "network",
    "pulled",
    "scp_name",
    "slices",
    "spooled",
    "spooled_pictures",
    "spooled_volumes",
    "turning",
}
_PICTURES = Wanted()
_log = logging.getLogger(__name__)


def open_for(
    contract: Contract,
    spec: str,
    window: Window | None = None,
    brain_mask: Path | None = None,
    exact: bool = False,
    receiving: Receiving | None = None,
) -> Source:
    """Open a source of the frames that a model takes, with its window unless one is given.

    Where the model allows it, videos and JPEGs are shrunk while they are decoded; ``Frame.full`` is
    their size before. With ``exact`` they stay whole.

    Raises:
        As ``open_source``.
    """
    wanted = Wanted.by(contract, window, brain_mask, exact)
    return open_source(spec, replace(wanted, receiving=receiving))


def open_normals(
    contract: Contract,
    spec: str,
    window: Window | None = None,
    brain_mask: Path | None = None,
    exact: bool = False,
    receiving: Receiving | None = None,
) -> Source:
    """Open a source of normal frames that ends, by which a threshold is chosen or tried.

    Raises:
        UsageError: a source that never ends, or a folder that has anomalous pictures or masks in
            it by its names; or as ``open_source``.
        DatasetError: the names in a folder leave open which pictures are normal.
    """
    folder = Path(filled_in(spec))
    if contract.kind == "image" and spec and folder.is_dir():
        layout = read_layout(folder)
        if others := layout.anomalous + layout.masks:
            normal = " and ".join(map(str, layout.normal))
            raise UsageError(f"{others[0]} is not normal by its name: give {normal} alone")
    source = open_for(contract, spec, window, brain_mask, exact, receiving)
    if source.endless:
        source.close()
        raise UsageError(f"{spec} never ends: record the normal frames first, and give the files")
    return source


def open_source(spec: str, wanted: Wanted = _PICTURES) -> Source:
    """Open a source by its name on the command line.

    Args:
        spec: a path of an image, a DICOM file, a video or a folder of images and DICOM files, or a
            pattern of paths such as "frames/*.png"; "-" for the standard input; a camera,
            "camera:0", or "0" where no file has that name; or any scheme of this folder with its
            place behind a colon. For kind "modality" a NIfTI volume or a folder of them.
            ``${NAME}`` and ``${credential:NAME}`` are replaced, as ``filled_in`` does.
        wanted: the frames that the model takes.

    Raises:
        UsageError: there is no such source, it may not be read, it gives no frames of this kind,
            or its name needs a variable or a credential that is not set.
        SourceError: the camera or the video cannot be opened.
        MissingExtra: the package that this source needs is not installed.
    """
    spec = filled_in(spec)
    if not spec:
        raise UsageError("the source is empty: give a file, a folder or camera:0")
    scheme, place = split_scheme(spec, schemes(sources, _NO_SOURCES))
    if spec == "-":
        scheme, place = "stdin", spec
    if scheme is None and "://" in spec:
        raise _no_source(spec)
    if scheme is None or (spec != "-" and "://" not in spec and _is_there(spec)):
        scheme, place = _scheme_of(spec, wanted), spec
    source: Source = load_scheme(sources, scheme).SOURCE(place, wanted)
    source.name, source.triggered = without_password(spec), wanted.triggered
    _log.info("opened %s as %s", source.name, scheme)
    return source


def spools(spec: str) -> bool:
    """Whether the source of a name keeps what it receives in a spool; nothing is opened.

    Raises:
        MissingExtra: the package that this source needs is not installed.
    """
    scheme, _ = split_scheme(filled_in(spec), schemes(sources, _NO_SOURCES))
    return scheme is not None and bool(load_scheme(sources, scheme).SOURCE.spools)


def _is_there(spec: str) -> bool:
    """Whether something has this path; nothing has one with a part that is too long for a name."""
    try:
        return Path(spec).exists()
    except OSError:
        return False


def _scheme_of(spec: str, wanted: Wanted) -> str:
    """The scheme of a name that says none: a camera's number, or a path by what lies there."""
    if wanted.kind == "modality":
        return "volumes"
    path = Path(spec)
    try:
        if path.is_dir():
            return "files"
        if spec.isdecimal() and not path.exists():
            return "camera"
        if path.is_fifo():
            raise UsageError(f"{spec} is a pipe: read it as the source - behind < {spec}")
        if is_pattern(spec) and not path.exists():
            return "glob"
        if not path.is_file():
            raise _no_source(spec)
    except OSError as error:
        raise UsageError(f"{spec} cannot be opened: {error.strerror}") from error
    if is_nifti(path):
        raise UsageError(f"{spec} is a volume, and this model takes pictures")
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "files"


def _no_source(spec: str) -> UsageError:
    """The complaint about a name behind which nothing is, with what may have been meant."""
    hint = "give a file, a folder or camera:0"
    if numbered := re.fullmatch(r"(?:camera[ _=-]?|/dev/video)([0-9]{1,3})", spec):
        hint = f"a camera is given by its number, as in camera:{numbered[1]}"
    else:
        word, colon, _ = spec.partition(":")
        near = get_close_matches(word.lower(), schemes(sources, _NO_SOURCES), 1) if colon else []
        if near:
            hint = f"did you mean {near[0]}: in place of {word}:?"
    return UsageError(f"there is no source {spec}: {hint}")
