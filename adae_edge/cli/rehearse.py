"""The command rehearse: which synthetic defects a model finds, in a table and in words."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adae_edge.acquisition import listed
from adae_edge.cli.shared import Device, OtherWindow, window_of

if TYPE_CHECKING:
    from adae_edge.runtime.rehearse import Figures, Rehearsal

_OFTEN = 0.8  # the share of frames from which on a defect counts as found
_SHEET = "rehearsal.png"


def rehearse(
    model: Annotated[Path, typer.Argument(help="A model file, or an engine, for pictures.")],
    normals: Annotated[
        str,
        typer.Argument(
            help="A source of normal frames, as for score; best such that the training never saw."
        ),
    ],
    frames: Annotated[
        int, typer.Option(min=2, help="Spoil this many of them at most, evenly chosen.")
    ] = 40,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Random seed for the defects.")
    ] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures as JSON.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help=f"Write {_SHEET} into this folder: a normal frame, spoiled ones and their maps."
        ),
    ] = None,
    window: OtherWindow = None,
    device: Device = None,
) -> None:
    """Show which made-up defects, of which size and contrast, a model finds."""
    from adae_edge.formats.files import check_writable, write_atomically, write_json
    from adae_edge.runtime.contactsheet import ContactSheet
    from adae_edge.runtime.rehearse import RehearsalRequest
    from adae_edge.runtime.rehearse import rehearse as run

    # What cannot be written is known now, and not only when all frames are scored.
    check_writable(pictures, folder=True)
    check_writable(json_file)

    # The rehearsal.
    sheet = ContactSheet()
    request = RehearsalRequest(model, normals, frames, seed, device, window_of(window))
    rehearsal = run(request, None if pictures is None else sheet.add)

    # The table, and the same in words.
    typer.echo(f"{_table(rehearsal)}\n\n{_in_words(rehearsal)}")
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        write_atomically(pictures / _SHEET, sheet.png())
        typer.echo(f"wrote {pictures / _SHEET}")
    if json_file is not None:
        write_json(json_file, _as_json(rehearsal, request.model, request.normals, seed))
        typer.echo(f"wrote {json_file}")


def _table(rehearsal: Rehearsal) -> str:
    """Rows of kind and contrast, columns of sizes; a cell has the share found and the AUROC."""
    from adae_edge.runtime.rehearse import SIZES

    smallest, largest = rehearsal.shorter_side
    side = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    header = "".join(f"{_percent(size):>15}" for size in SIZES)
    lines = [
        f"{rehearsal.frames} of {rehearsal.of_frames} normal frames, each with each defect",
        f"size: of the shorter side, {side} pixels; contrast: in the frame's standard deviations",
        f"share found at the threshold {rehearsal.threshold:.4f}, and AUROC against the untouched",
        "",
        f"{'defect':<9}{'contrast':>8}{header}",
    ]
    for (kind, contrast), row in _rows(rehearsal).items():
        shown = "-" if contrast is None else f"{contrast:g}"
        cells = "".join(f"{_percent(one.share):>8}  {one.auroc:.3f}" for one in row)
        lines.append(f"{kind:<9}{shown:>8}{cells}")
    return "\n".join(lines)


def _rows(rehearsal: Rehearsal) -> dict[tuple[str, float | None], list[Figures]]:
    """The figures of each kind and contrast, by rising size."""
    rows: dict[tuple[str, float | None], list[Figures]] = defaultdict(list)
    for figures in rehearsal.figures:
        rows[figures.defect.kind, figures.defect.contrast].append(figures)
    return rows


def _in_words(rehearsal: Rehearsal) -> str:
    """What is found and what is missed, the false alarms, and what all this is worth."""
    alarms = rehearsal.false_alarms
    sentences = [
        _found_and_missed(rehearsal),
        f"It calls {alarms} of the {rehearsal.frames} untouched frames anomalous "
        f"({_percent(alarms / rehearsal.frames)}): that much of each share needs no defect.",
        "These defects are rehearsed: the figures of real ones may differ.",
    ]
    if rehearsal.familiar:
        sentences.append(
            "These frames score lower than the normals that set the threshold, as if the training "
            "had seen them: in new frames more is found. Rehearse with frames that it never saw."
        )
    return "\n".join(sentences)


def _found_and_missed(rehearsal: Rehearsal) -> str:
    """One sentence: the kinds that are found often, from which size on, and those that are not."""
    from adae_edge.defects import KINDS

    found: dict[str, list[str]] = defaultdict(list)
    missed: dict[str, list[str]] = defaultdict(list)
    for (kind, contrast), row in _rows(rehearsal).items():
        name = KINDS[kind].plural
        size = _found_from(row)
        if size is None:
            missed[name].append("" if contrast is None else f"{contrast:g}")
        else:
            at = "" if contrast is None else f" at contrast {contrast:g}"
            found[name].append(f"from {_percent(size)}{at}")
    often = f"In at least {_percent(_OFTEN)} of the frames the model finds"
    if not found:
        return f"{often} none of these defects, at any size."

    finds = _listed({name: ", ".join(sizes) for name, sizes in found.items()})
    if not missed:
        return f"{often} {finds}."
    # A kind that is missed at each contrast needs no contrasts.
    misses = {
        name: f"contrast {' and '.join(contrasts)}" if name in found else ""
        for name, contrasts in missed.items()
    }
    return f"{often} {finds}; at no size that often: {_listed(misses)}."


def _found_from(row: list[Figures]) -> float | None:
    """The smallest size from which on the defect is found often enough; None if there is none."""
    size = None
    for figures in reversed(row):
        if figures.share < _OFTEN:
            break
        size = figures.defect.size
    return size


def _listed(conditions: dict[str, str]) -> str:
    """Names with their conditions, as in "spots (from 5 % at contrast 1) and blurred places"."""
    return listed([f"{name} ({text})" if text else name for name, text in conditions.items()])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _as_json(rehearsal: Rehearsal, model: Path, normals: str, seed: int) -> dict[str, Any]:
    """All figures as JSON types."""
    from adae_edge import __version__
    from adae_edge.errors import without_password

    fields = asdict(rehearsal)
    figures = [cell.pop("defect") | cell for cell in fields.pop("figures")]
    about = {
        "adae_edge": __version__,
        "model": model.name,
        "normals": without_password(normals),
        "seed": seed,
    }
    return about | fields | {"figures": figures}
