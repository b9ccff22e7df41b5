"""The AUROCs of a cell's test frames after each epoch: no result, but what a choice would give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sklearn.metrics import roc_auc_score

from adae_edge.errors import UsageError
from adae_edge.formats.files import write_atomically
from adae_edge.model import ADAE
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.evaluate import distances

# An epoch's number, and its AUROC by the name of each score.
Row = dict[str, Any]


def keep_aurocs(path: Path, model: ADAE, epoch: int, dataset: Dataset, test: Indices) -> None:
    """Add an epoch's AUROCs to a cell's file, in place of what a killed process left of it.

    Args:
        path: the file, a JSON object a line.
        model: in eval mode.
        epoch: its number, from 1.
        dataset: the frames' data set.
        test: indices of the test frames, some anomalous and some not.
    """
    anomalous = dataset.anomalous[test]
    row: Row = {"epoch": epoch}
    for name, scores in distances(model, dataset, test).items():
        row[name] = round(float(roc_auc_score(anomalous, scores)), 5)
    rows = [*(row for row in read_aurocs(path) if row["epoch"] < epoch), row]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def read_aurocs(path: Path) -> list[Row]:
    """Read a cell's file; empty where there is none, as without epochs.

    Raises:
        UsageError: it is something else.
    """
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return [{"epoch": int(row["epoch"])} | row for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} has no AUROCs of epochs: remove it") from error


def best_epochs(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Tell what a choice of the epoch by the test frames would give, for each score.

    Args:
        rows: of a cell, one for each epoch.

    Returns:
        By the score's name: the AUROC of the ``last`` epoch, the ``best`` one and the ``lowest``,
            and at which ``epoch`` the best one is, the first of several.
    """
    chosen = {}
    for name in [name for name in rows[0] if name != "epoch"] if rows else ():
        best = max(rows, key=lambda row: row[name])
        chosen[name] = {
            "last": rows[-1][name],
            "best": best[name],
            "epoch": best["epoch"],
            "lowest": min(row[name] for row in rows),
        }
    return chosen
