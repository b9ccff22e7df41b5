"""One cell of a table: a network for one class and seed, trained and scored in a process of its own.

``python -m adae_edge.train.tables.cell JSON`` is started by ``reproduce`` and reports to it, a JSON
object a line. The files of a cell, CLASS-SEED with these ends:

    .safetensors, .metrics.jsonl                the checkpoint and the metrics of its training
    .autoencoder.safetensors, .metrics.jsonl    those of the plain autoencoder, where the table has
    one .csv                                        the scores of the test frames .json
    the figures, written last: with it, the cell is finished

Whatever kills the process before leaves a cell that the next process goes on with.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from adae_edge import __version__
from adae_edge.errors import AdaeEdgeError, CheckpointError, DatasetError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_atomically
from adae_edge.machine import machine
from adae_edge.model import load_network
from adae_edge.train.data.dataset import Dataset, Indices, read_batches
from adae_edge.train.data.opening import load_dataset, whole_digest
from adae_edge.train.data.splits import split
from adae_edge.train.density import fit_density
from adae_edge.train.distributed import Group
from adae_edge.train.evaluate import all_scores
from adae_edge.train.loading import load_frames, score_frames
from adae_edge.train.metrics import Update, training_seconds
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.settings import Settings
from adae_edge.train.tables.tables import find_table, locate
from adae_edge.train.trainer import train
from adae_edge.train.unseen import training_digest


@dataclass(frozen=True)
class Cell:
    """Everything that one process needs to know.

    Attributes:
        table, class_name, seed: which cell.
        data: the data set's folder, or None where the table needs none.
        recipe, epochs, device: as for ``train``.
        folder: of the cells' files.
        settings_sha256: digest of the table's settings, kept in the finished cell.
    """

    table: str
    class_name: str
    seed: int
    data: str | None
    recipe: str
    epochs: int | None
    device: str
    folder: str
    settings_sha256: str

    def __str__(self) -> str:
        return f"class {self.class_name}, seed {self.seed}"

    @property
    def checkpoint(self) -> Path:
        """The checkpoint, finished or not."""
        return self._file("safetensors")

    @property
    def scores(self) -> Path:
        """The scores of the test frames: frame, label (1 is anomalous), and a column for each named score."""
        return self._file("csv")

    @property
    def result(self) -> Path:
        """The figures, there once the cell is finished."""
        return self._file("json")

    def _file(self, suffix: str) -> Path:
        return Path(self.folder) / f"{self.class_name}-{self.seed}.{suffix}"

    @property
    def autoencoder(self) -> Path:
        """The checkpoint of the plain autoencoder, where the table compares with one."""
        return self._file("autoencoder.safetensors")

    @property
    def location(self) -> tuple[str, int | None, str | None]:
        """Where its data are, see ``tables.locate``."""
        return locate(self.table, self.class_name, Path(self.data) if self.data else None)

    def open(self) -> Dataset:
        """The cell's data set.

        Raises:
            UsageError, DatasetError: as ``load_dataset``.
        """
        spec, anomalous, modality = self.location
        return load_dataset(spec, anomalous, modality=modality)

    def settings(self, dataset: Dataset, recipe: str | None = None) -> Settings:
        """The settings of its training, or of one by another recipe.

        Raises:
            UsageError, DatasetError: as ``plan``.
        """
        table, (spec, anomalous, modality) = find_table(self.table), self.location
        request = TrainRequest(
            data=spec,
            anomalous=None if anomalous is None else str(anomalous),
            modality=modality,
            recipe=recipe or self.recipe,
            epochs=self.epochs,
            side=table.side,
            network=table.network,
            seed=self.seed,
        )
        return plan(dataset, request)


def run_cell(cell: Cell, on_update: Callable[[Update], None]) -> None:
    """Train or go on training, score the test frames, and write the cell's files.

    Args:
        cell: which one.
        on_update: called after every update of the weights.

    Raises:
        UsageError, DatasetError, CheckpointError, TrainingError: as ``train``.
    """
    table, dataset = find_table(cell.table), cell.open()
    settings = cell.settings(dataset)
    parts = split(dataset.anomalous, cell.seed, dataset.groups)
    test = parts.test
    labels = dataset.anomalous[test]
    others = test % table.development != 0 if table.development else np.ones(len(test), np.bool_)
    if labels[others].all() or not labels[others].any():
        raise DatasetError(
            f"{settings.data} has test frames of one kind alone for {cell}, and an AUROC compares "
            "two"
        )
    checkpoint = trained(dataset, settings, cell.checkpoint, on_update, cell.device)
    model = load_network(checkpoint).to(cell.device)
    frames, _ = load_frames(dataset, parts, model.preprocess)
    model.density = fit_density(model, frames, cell.seed)
    scores = all_scores(model, dataset, test)
    seconds = training_seconds(cell.checkpoint)
    if table.autoencoder:
        alone = cell.settings(dataset, "autoencoder")
        autoencoder = trained(dataset, alone, cell.autoencoder, lambda update: None, cell.device)
        scores["autoencoder"], _ = score_frames(
            load_network(autoencoder).to(cell.device), dataset, test
        )
        seconds += training_seconds(cell.autoencoder)
    if dataset.kind == "modality":
        scores["area"] = area_of(dataset, test)
    write_atomically(cell.scores, as_csv(test, labels, scores))
    result = {
        "table": cell.table,
        "class": cell.class_name,
        "seed": cell.seed,
        "auroc": {name: float(roc_auc_score(labels, values)) for name, values in scores.items()},
        "test": {"normals": int((~labels).sum()), "anomalous": int(labels.sum())},
        "patients": None if dataset.groups is None else len(np.unique(dataset.groups)),
        "note": dataset.note,
        "epochs": checkpoint.training["epochs"],
        "training_seconds": round(seconds, 1),
        "data_sha256": checkpoint.training["data_sha256"],
        "settings_sha256": cell.settings_sha256,
        "device": torch.device(cell.device).type,
        "machine": _machine(cell.device),
    }
    if table.development:
        result["auroc_outside_development"] = {
            name: float(roc_auc_score(labels[others], values[others]))
            for name, values in scores.items()
        }
    write_atomically(cell.result, (json.dumps(result, indent=2) + "\n").encode())


def trained(
    dataset: Dataset,
    settings: Settings,
    path: Path,
    on_update: Callable[[Update], None],
    device: str,
) -> Checkpoint:
    """The finished checkpoint at ``path``, trained from where it is, or from the beginning.

    Raises:
        CheckpointError: the checkpoint there is damaged, of other settings or of other data.
        UsageError, DatasetError, TrainingError: as ``train``.
    """
    checkpoint = Checkpoint.load(path) if path.exists() else None
    if checkpoint is not None:
        try:
            before = Settings.from_header(checkpoint.training)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if replace(before, data=settings.data) != settings:
            raise CheckpointError(
                f"{path} was trained with other settings than this cell has: remove it"
            )
    if checkpoint is None or checkpoint.contract is None:
        train(dataset, settings, path, checkpoint, on_update, Group(device))
        return Checkpoint.load(path)
    if checkpoint.training.get("data_sha256") != training_digest(dataset, settings.seed):
        raise CheckpointError(f"{path} was trained on other data than {settings.data}: remove it")
    return checkpoint


def area_of(dataset: Dataset, indices: Indices) -> NDArray[np.float32]:
    """Number of voxels in these slices that are not 0, which is the brain, float32 [N]."""
    counts = [np.count_nonzero(batch, axis=(1, 2, 3)) for batch in read_batches(dataset, indices)]
    return np.concatenate(counts).astype(np.float32)


def as_csv(
    frames: NDArray[np.intp], labels: NDArray[np.bool_], scores: dict[str, NDArray[np.float32]]
) -> bytes:
    """Rows of frame, label and scores; a float32 is written so that it reads back as itself."""
    columns = [
        frames.tolist(),
        labels.astype(int).tolist(),
        *(map(str, values) for values in scores.values()),
    ]
    rows = (",".join(map(str, row)) for row in zip(*columns, strict=True))
    return "\n".join([",".join(["frame", "label", *scores]), *rows, ""]).encode()


def read_scores(
    cell: Cell,
) -> tuple[NDArray[np.intp], NDArray[np.bool_], dict[str, NDArray[np.float32]]]:
    """What ``as_csv`` wrote for a finished cell: frames [N], labels [N], and each named score [N]."""
    with cell.scores.open() as file:
        names = file.readline().strip().split(",")
        columns = np.loadtxt(file, delimiter=",", ndmin=2).T
    scores = {
        name: column.astype(np.float32) for name, column in zip(names[2:], columns[2:], strict=True)
    }
    return columns[0].astype(np.intp), columns[1].astype(bool), scores


def common_settings(cell: Cell) -> dict[str, Any]:
    """What all cells of a folder share, JSON types only: data, and settings without class, seed and place of the data.

    Raises:
        UsageError, DatasetError: as ``Cell.open`` and ``Cell.settings``.
    """
    shared = asdict(cell.settings(cell.open()))
    for name in ("data", "anomalous", "modality", "seed"):
        del shared[name]
    settings = {"table": cell.table, "data_sha256": whole_digest(cell.location[0]), **shared}
    common: dict[str, Any] = json.loads(json.dumps(settings))
    return common


def _machine(device: str) -> dict[str, Any]:
    """What the cell's figures depend on."""
    known = machine() | {
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
        "torch": torch.__version__,
        "adae_edge": __version__,
    }
    del known["temperature_c"]  # of a moment
    return known


def _end_with_parent() -> None:
    """End this process when ``reproduce``, which holds the other end of the standard input, is gone."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(text: str) -> int:
    """Run the cell that the JSON describes, and report its epochs or its error; returns the exit code."""
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
