"""One cell of a table: a network for one class and seed, and the files that are kept of it.

The files of a cell are named CLASS-SEED, with these ends:

    .safetensors, .metrics.jsonl                the checkpoint and the metrics of its training
    .autoencoder.safetensors, .metrics.jsonl    those of the plain autoencoder, where there is one
    .epochs.jsonl                               the AUROCs of the test frames after each epoch
    .csv                                        the scores of the test frames
    .json                                       the figures, written last: the cell is finished
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import UsageError
from adae_edge.train.data.dataset import Dataset, Indices
from adae_edge.train.data.opening import load_dataset, whole_digest
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.settings import Settings
from adae_edge.train.tables.tables import Table, find_table, locate


@dataclass(frozen=True)
class Cell:
    """One cell, and everything that the process which makes it needs to know.

    Attributes:
        table: name of the table.
        class_name, seed: which of the table's cells.
        data: the data set's folder, or None where the table needs none.
        recipe, epochs, device: as for ``train``.
        folder: where the files of all cells are.
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
        """File of the checkpoint, finished or not."""
        return self._file("safetensors")

    @property
    def autoencoder(self) -> Path:
        """File of the plain autoencoder's checkpoint, where the table compares with one."""
        return self._file("autoencoder.safetensors")

    @property
    def epochs_file(self) -> Path:
        """File of the test frames' AUROCs after each epoch, as ``epochs.py`` writes it."""
        return self._file("epochs.jsonl")

    @property
    def scores(self) -> Path:
        """File of the test frames' scores, as ``Scores`` writes it."""
        return self._file("csv")

    @property
    def result(self) -> Path:
        """File of the figures, which is there once the cell is finished."""
        return self._file("json")

    def _file(self, suffix: str) -> Path:
        return Path(self.folder) / f"{self.class_name}-{self.seed}.{suffix}"

    @property
    def of_table(self) -> Table:
        """The table that the cell is of."""
        return find_table(self.table)

    @property
    def location(self) -> tuple[str, int | None, str | None]:
        """Name of the data set, anomalous class and modality, as ``load_dataset`` takes them."""
        return locate(self.table, self.class_name, Path(self.data) if self.data else None)

    def open(self) -> Dataset:
        """Open the cell's data set.

        Raises:
            UsageError, DatasetError: as ``load_dataset``.
        """
        spec, anomalous, modality = self.location
        return load_dataset(spec, anomalous, modality=modality)

    def settings(self, dataset: Dataset, recipe: str | None = None) -> Settings:
        """Return the settings of the cell's training, or of one by another recipe.

        Raises:
            UsageError, DatasetError: as ``plan``.
        """
        spec, anomalous, modality = self.location
        request = TrainRequest(
            data=spec,
            anomalous=None if anomalous is None else str(anomalous),
            modality=modality,
            recipe=recipe or self.recipe,
            epochs=self.epochs,
            side=self.of_table.side,
            network=self.of_table.network,
            seed=self.seed,
        )
        return plan(dataset, request)

    def load_result(self) -> dict[str, Any] | None:
        """Read the figures; None where the cell is not finished.

        Raises:
            UsageError: the file is not of this table, or of other settings.
        """
        if not self.result.exists():
            return None
        try:
            result: dict[str, Any] = json.loads(self.result.read_text())
            kept = (result["table"], result["class"], result["seed"], result["settings_sha256"])
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{self.result} is no finished cell: remove it, and the same command makes it again"
            ) from error
        if kept != (self.table, self.class_name, self.seed, self.settings_sha256):
            raise UsageError(f"{self.result} is a cell of other settings: choose another --out")
        return result


class Scores(NamedTuple):
    """What the networks of a cell make of its test frames.

    Attributes:
        frames: int [N], index of each frame in the data set.
        anomalous: bool [N].
        named: each score by its name, float32 [N].
    """

    frames: Indices
    anomalous: NDArray[np.bool_]
    named: dict[str, NDArray[np.float32]]

    @staticmethod
    def read(path: Path) -> Scores:
        """Read the file of a finished cell."""
        with path.open() as file:
            _, _, *names = file.readline().strip().split(",")
            frames, labels, *columns = np.loadtxt(file, delimiter=",", ndmin=2).T
        named = {
            name: column.astype(np.float32) for name, column in zip(names, columns, strict=True)
        }
        return Scores(frames.astype(np.intp), labels.astype(bool), named)

    def as_csv(self) -> bytes:
        """Write rows of frame, label (1 is anomalous) and scores, which read back as themselves."""
        columns = [
            self.frames.tolist(),
            self.anomalous.astype(int).tolist(),
            *(map(str, values) for values in self.named.values()),
        ]
        lines = [",".join(["frame", "label", *self.named])]
        for row in zip(*columns, strict=True):
            lines.append(",".join(map(str, row)))
        return ("\n".join(lines) + "\n").encode()


def common_settings(cell: Cell) -> dict[str, Any]:
    """Return the data and the settings that all cells of a folder share, in JSON types.

    They are without class, seed, and the place of the data.

    Raises:
        UsageError, DatasetError: as ``Cell.open`` and ``Cell.settings``.
    """
    shared = asdict(cell.settings(cell.open()))
    for name in ("data", "anomalous", "modality", "seed"):
        del shared[name]
    spec, _, _ = cell.location
    settings = {"table": cell.table, "data_sha256": whole_digest(spec), **shared}
    common: dict[str, Any] = json.loads(json.dumps(settings))
    return common
