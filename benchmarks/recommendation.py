"""Which score to recommend, decided from normals and made-up defects alone.

``python -m adae_edge.benchmarks.recommendation FOLDER`` trains each candidate on two thirds of the
normal pictures in a folder, and rehearses defects on the last third. No anomalous picture is read.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from adae_edge.benchmarks.record import record
from adae_edge.errors import UsageError
from adae_edge.export.exporter import export
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime.rehearse import Rehearsal, RehearsalRequest, rehearse
from adae_edge.train.request import TrainRequest, prepare

CANDIDATES = "linear:l2,linear:local,linear:density,default:l2,default:generator,default:density"


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of normal pictures, by name in order.")],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path(
        "recommendation"
    ),
    candidates: Annotated[
        str, typer.Option(help="RECIPE:SCORE, separated by commas.")
    ] = CANDIDATES,
    pattern: Annotated[str, typer.Option(help="Which files of the folder are taken.")] = "*",
    seed: Annotated[int, typer.Option(help="Of trainings and defects.")] = 0,
) -> None:
    """Rehearse made-up defects with every candidate, on normals that its training did not see."""
    paths = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(paths) < 12:
        raise UsageError(f"{folder} has {len(paths)} pictures, and a comparison takes 12 or more")
    # Neighbours by name are often alike, so that the held-out ones are neighbours of each other.
    held_out = len(paths) // 3
    known, unseen = paths[:-held_out], paths[-held_out:]
    rows = {}
    for candidate in candidates.split(","):
        typer.echo(candidate)
        rows[candidate] = compare(candidate, known, unseen, seed)
    result = record(
        pictures=[len(known), len(unseen)],
        candidates=rows,
    )
    table = as_markdown(result)
    typer.echo(table)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (table + "\n").encode())


def compare(
    candidate: str, known: Sequence[Path], unseen: Sequence[Path], seed: int
) -> dict[str, Any]:
    """Train, export and rehearse, as the command line does each.

    Args:
        candidate: RECIPE:SCORE.
        known: pictures that are trained on.
        unseen: pictures that get the defects.
        seed: of the training and of the defects.

    Returns:
        The mean AUROC by kind of defect and over all, the part of all defects that was found at the
            threshold, and the false alarms.
    """
    recipe, _, score = candidate.partition(":")
    with tempfile.TemporaryDirectory() as place:
        folders = {"known": known, "unseen": unseen}
        for name, paths in folders.items():
            (Path(place) / name).mkdir()
            for path in paths:
                (Path(place) / name / path.name).symlink_to(path.resolve())
        checkpoint = Path(place) / "checkpoint.safetensors"
        prepare(
            TrainRequest(
                data=str(Path(place) / "known"),
                out=checkpoint,
                recipe=recipe,
                score=score,
                seed=seed,
            )
        ).run()
        model = export(checkpoint).path
        normals = str(Path(place) / "unseen")
        return in_figures(rehearse(RehearsalRequest(model, normals, seed=seed)))


def in_figures(rehearsal: Rehearsal) -> dict[str, Any]:
    """The figures of a rehearsal, averaged over sizes and contrasts."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for figures in rehearsal.figures:
        by_kind[figures.defect.kind].append(figures.auroc)
    kinds = {kind: round(float(np.mean(aurocs)), 4) for kind, aurocs in by_kind.items()}
    return {
        "auroc": kinds,
        "mean": round(float(np.mean([*kinds.values()])), 4),
        "found": round(float(np.mean([figures.share for figures in rehearsal.figures])), 4),
        "false_alarms": [rehearsal.false_alarms, rehearsal.frames],
    }


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    known, unseen = result["pictures"]
    rows = result["candidates"]
    kinds = list(next(iter(rows.values()))["auroc"])
    lines = [
        "# Which score finds made-up defects",
        "",
        f"{known} normal pictures trained, and the defects of `adae-edge rehearse` were put into "
        f"{unseen} others. AUROC, the mean over sizes and contrasts. `{result['command']}`",
        "",
        f"| recipe:score | {' | '.join(kinds)} | mean | found | false alarms |",
        f"|---|{'---:|' * (len(kinds) + 3)}",
    ]
    for candidate, row in rows.items():
        shown = " | ".join(f"{row['auroc'][kind]:.3f}" for kind in kinds)
        alarms, of = row["false_alarms"]
        lines.append(
            f"| {candidate} | {shown} | {row['mean']:.3f} | {row['found']:.3f} | {alarms} of {of} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
