"""The process that makes one cell: it trains, scores the test frames, and writes the cell's files.

``python -m adae_edge.train.tables.worker JSON`` is started by ``reproduce`` and reports to it, a
JSON object a line. Whatever kills the process leaves a cell that the next process goes on with.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from adae_edge import __version__
from adae_edge.errors import AdaeEdgeError, CheckpointError, DatasetError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.machine import machine
from adae_edge.model import ADAE, load_network
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.splits import Split, split
from adae_edge.train.density import fit_density
from adae_edge.train.distributed import Group
from adae_edge.train.evaluate import all_scores
from adae_edge.train.loading import load_frames, score_frames
from adae_edge.train.metrics import Update, training_seconds
from adae_edge.train.settings import Settings
from adae_edge.train.tables.cell import Cell, Scores
from adae_edge.train.tables.epochs import keep_aurocs, read_aurocs
from adae_edge.train.tables.slices import auroc_of_same_area, slice_scores
from adae_edge.train.trainer import train
from adae_edge.train.unseen import training_digest
from adae_edge.train.yardsticks import measure_yardsticks, small_pictures

# Training normals that the yardsticks are fitted to: more raise no AUROC of MNIST by much.
YARDSTICK_FRAMES = 5000

OnUpdate = Callable[[Update], None]
OnEpoch = Callable[[ADAE, int], None]


def _tell_nobody(*_: object) -> None:
    """Stand in for a callback where nobody listens."""


def run_cell(cell: Cell, on_update: OnUpdate) -> None:
    """Train or go on training, score the test frames, and write the cell's files.

    Args:
        cell: which one.
        on_update: called after every update of the weights.

    Raises:
        UsageError, DatasetError, CheckpointError, TrainingError: as ``train``.
    """
    # frames that can be told apart
    dataset = cell.open()
    settings = cell.settings(dataset)
    parts = split(dataset.anomalous, cell.seed, dataset.groups)
    anomalous = dataset.anomalous[parts.test]
    others = _outside_development(cell, parts.test)
    if anomalous[others].all() or not anomalous[others].any():
        raise DatasetError(
            f"{settings.data} has test frames of one kind alone for {cell}, and an AUROC compares "
            "two"
        )

    # networks and their scores
    def on_epoch(model: ADAE, epoch: int) -> None:
        keep_aurocs(cell.epochs_file, model, epoch, dataset, parts.test)

    checkpoint = trained(dataset, settings, cell.checkpoint, on_update, cell.device, on_epoch)
    model = load_network(checkpoint).to(cell.device)
    named = _network_scores(cell, model, dataset, parts)
    seconds = training_seconds(cell.checkpoint)
    if cell.of_table.autoencoder and not settings.network.linear:
        named["autoencoder"] = _autoencoder_scores(cell, dataset, parts.test)
        seconds += training_seconds(cell.autoencoder)
    if dataset.kind == "modality":
        named |= slice_scores(model, dataset, parts)
    write_atomically(cell.scores, Scores(parts.test, anomalous, named).as_csv())

    # figures, with which the cell is finished
    result = {
        "table": cell.table,
        "class": cell.class_name,
        "seed": cell.seed,
        "auroc": _aurocs(anomalous, named),
        "yardsticks": _yardsticks(model, dataset, parts),
        "auroc_by_epoch": read_aurocs(cell.epochs_file),
        "test": {"normals": int((~anomalous).sum()), "anomalous": int(anomalous.sum())},
        "patients": None if dataset.groups is None else len(np.unique(dataset.groups)),
        "note": dataset.note,
        "epochs": checkpoint.training["epochs"],
        "training_seconds": round(seconds, 1),
        "data_sha256": checkpoint.training["data_sha256"],
        "settings_sha256": cell.settings_sha256,
        "device": torch.device(cell.device).type,
        "machine": _machine(cell.device),
    }
    if cell.of_table.development:
        outside = {name: values[others] for name, values in named.items()}
        result["auroc_outside_development"] = _aurocs(anomalous[others], outside)
    if dataset.kind == "modality":
        result["auroc_same_area"] = _same_area(dataset, parts.test, named)
    write_json(cell.result, result)


def _outside_development(cell: Cell, frames: Indices) -> NDArray[np.bool_]:
    """Tell which frames chose no hyper-parameters: bool [N]."""
    development = cell.of_table.development
    if development is None:
        return np.ones(len(frames), np.bool_)
    outside: NDArray[np.bool_] = frames % development != 0
    return outside


def _aurocs(
    anomalous: NDArray[np.bool_], named: dict[str, NDArray[np.float32]]
) -> dict[str, float]:
    """Measure each named score."""
    return {name: float(roc_auc_score(anomalous, values)) for name, values in named.items()}


def _same_area(
    dataset: Dataset, test: Indices, named: dict[str, NDArray[np.float32]]
) -> dict[str, float | None]:
    """Measure each named score on pairs of slices of one patient and about the same area."""
    assert dataset.groups is not None
    anomalous, patients = dataset.anomalous[test], dataset.groups[test]
    return {
        name: auroc_of_same_area(values, anomalous, patients, named["area"])
        for name, values in named.items()
    }


def _network_scores(
    cell: Cell, model: ADAE, dataset: Dataset, parts: Split
) -> dict[str, NDArray[np.float32]]:
    """Score the test frames by every score that the trained networks have."""
    frames, _ = load_frames(dataset, parts, model.preprocess)
    model.density = fit_density(model, frames, cell.seed)
    return all_scores(model, dataset, parts.test)


def _yardsticks(model: ADAE, dataset: Dataset, parts: Split) -> dict[str, float]:
    """Measure what simple scores reach on the test frames, the best one first."""
    known = small_pictures(model, dataset, parts.train[:YARDSTICK_FRAMES])
    new = small_pictures(model, dataset, parts.test)
    measured = measure_yardsticks(known, new, dataset.anomalous[parts.test])
    return {yardstick.name: yardstick.auroc for yardstick in measured}


def _autoencoder_scores(cell: Cell, dataset: Dataset, indices: Indices) -> NDArray[np.float32]:
    """Train the plain autoencoder and score the test frames by it."""
    settings = cell.settings(dataset, "autoencoder")
    checkpoint = trained(dataset, settings, cell.autoencoder, _tell_nobody, cell.device)
    scores, _ = score_frames(load_network(checkpoint).to(cell.device), dataset, indices)
    return scores


def trained(
    dataset: Dataset,
    settings: Settings,
    path: Path,
    on_update: OnUpdate,
    device: str,
    on_epoch: OnEpoch = _tell_nobody,
) -> Checkpoint:
    """Return the finished checkpoint at ``path``, trained from where it is, or from the beginning.

    Raises:
        CheckpointError: the checkpoint there is damaged, of other settings or of other data.
        UsageError, DatasetError, TrainingError: as ``train``.
    """
    checkpoint = Checkpoint.load(path) if path.exists() else None
    if checkpoint is not None:
        try:
            before = Settings.from_header(checkpoint.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        if replace(before, data=settings.data) != settings:
            raise CheckpointError(
                f"{path} was trained with other settings than this cell has: remove it"
            )
    if checkpoint is None or checkpoint.contract is None:
        group = Group(device)
        train(dataset, settings, path, checkpoint, on_update, group, on_epoch=on_epoch)
        return Checkpoint.load(path)
    if checkpoint.training.get("data_sha256") != training_digest(dataset, settings.seed):
        raise CheckpointError(f"{path} was trained on other data than {settings.data}: remove it")
    return checkpoint


def _machine(device: str) -> dict[str, Any]:
    """Describe what the cell's figures depend on."""
    known = machine() | {
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "torch": torch.__version__,
        "adae_edge": __version__,
    }
    del known["temperature_c"]  # of a moment
    return known


def _end_with_parent() -> None:
    """End this process when ``reproduce``, which holds the standard input's other end, is gone."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(text: str) -> int:
    """Run the cell that the JSON describes, and report its epochs or its error.

    Returns:
        The exit code.
    """
    _end_with_parent()
    torch.set_num_threads(1)  # the figures must not depend on how many cells run
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no report

    def report(**message: Any) -> None:
        reports.write(json.dumps(message) + "\n")

    def report_epoch(update: Update) -> None:
        if update.update + 1 == update.updates:
            report(
                epoch=update.epoch + 1,
                epochs=update.epochs,
                loss_g=update.loss_g,
                loss_d=update.loss_d,
            )

    try:
        run_cell(Cell(**json.loads(text)), report_epoch)
    except AdaeEdgeError as error:
        report(error=str(error), wrong_use=isinstance(error, UsageError))
    except OSError as error:
        report(error=f"{error.filename or 'a file'}: {error.strerror or error}")
    except (MemoryError, torch.OutOfMemoryError):
        report(error="there is not enough memory for this; fewer --jobs need less")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
