"""Everything that decides a training's outcome, as it stands in the checkpoint's header."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adae_edge.calibration import DEFAULT_FPR, normals_needed
from adae_edge.contract import Network, Region, Window
from adae_edge.errors import CheckpointError
from adae_edge.train.data.dataset import Dataset, Viewing
from adae_edge.train.data.splits import Split, split
from adae_edge.train.recipes import Recipe

NETWORKS = {"a": Network(width=16, latent=32), "b": Network(width=64, latent=128)}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training's outcome, as kept in the checkpoint's header.

    Attributes:
        data: the data set as named on the command line; its place may change, its content may not.
        anomalous: class that is held out, or None.
        seed: for the split, the first weights and the order of batches.
        recipe: the hyper-parameters.
        epochs: passes over the training frames, or None for the recipe's.
        network, side, resize, pad_value, region: as in the contract.
        fpr: target false-positive rate, or None for 0.01 or the lowest that can be promised.
        references: whether calibration normals travel in the checkpoint.
        window: the window of grey values of DICOM files, or None for their own.
        modality: which volumes of brats and nifti were taken, or None.
        score: which of ``contract.SCORES`` is calibrated and exported.
        group: which frames of a folder belong together, as for ``groups_of``, or None.
        bits: of a camera's grey values in 16-bit files, or None for all 16.
        object, field_of_view: as in the contract.
        brain_mask: masks of the brain, or None.
    """

    data: str
    anomalous: int | None
    seed: int
    recipe: Recipe
    epochs: int | None
    network: Network
    side: int
    resize: str
    pad_value: float
    region: Region | None
    fpr: float | None
    references: bool
    window: Window | None = None
    modality: str | None = None
    score: str = "l2"
    group: str | None = None
    bits: int | None = None
    object: str | None = None
    field_of_view: float | None = None
    brain_mask: str | None = None

    @property
    def viewing(self) -> Viewing:
        """What of volumes is looked at."""
        masks = None if self.brain_mask is None else Path(self.brain_mask)
        return Viewing(self.object, masks, self.field_of_view)

    @staticmethod
    def from_header(header: dict[str, Any]) -> Settings:
        """The settings in the header of a checkpoint.

        Raises:
            CheckpointError: they are missing or of another version.
        """
        try:
            fields = dict(header["settings"])
            fields["recipe"] = Recipe(**fields["recipe"])
            fields["network"] = Network(**fields["network"])
            fields["region"] = Region(*fields["region"]) if fields["region"] is not None else None
            fields["window"] = Window(*fields["window"]) if fields.get("window") else None
            if not isinstance(fields.get("group"), str | None):
                raise TypeError("a group is no text")
            return Settings(**fields)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                "the checkpoint's training settings are not those of this version"
            ) from error


def calibrates_by_folds(dataset: Dataset, settings: Settings, parts: Split) -> bool:
    """Whether the normals that train calibrate, too, each as a fit without its fold scores it.

    So it is where the normals kept for calibration alone are too few for the false-positive rate,
    or for the default one, and a fit takes seconds.
    """
    fpr = DEFAULT_FPR if settings.fpr is None else settings.fpr
    by_fits = settings.score == "local" and dataset.kind == "image"
    return by_fits and 0 < fpr < 1 and len(parts.calibration) < normals_needed(fpr)


def describe(dataset: Dataset, settings: Settings) -> str:
    """What is about to be trained, in lines for the terminal.

    Raises:
        DatasetError: as ``split``.
    """
    normals = int((~dataset.anomalous).sum())
    anomalous = len(dataset.anomalous) - normals
    colours = "grey" if dataset.channels == 1 else "colour"
    known = (name for name, size in NETWORKS.items() if size == settings.network)
    network = "linear" if settings.network.linear else next(known, "")
    first = (
        f"{normals} normal and {anomalous} anomalous {colours} frames; network {network}, "
        f"{settings.side} x {settings.side} pixels"
    )
    if not dataset.small:
        first += " (--side changes what it sees: small defects need a larger one)"
    lines = [first]
    if dataset.read_as:
        lines.append(dataset.read_as)
    if dataset.note:
        lines.append(dataset.note)
    if dataset.kind == "modality" and settings.recipe.reach and not settings.network.linear:
        lines.append(
            "slices train mirrored left to right and shifted at random, by "
            f"{settings.recipe.reach} pixel{'s' * (settings.recipe.reach > 1)} at most"
        )
    if dataset.groups is not None:
        parts = split(dataset.anomalous, settings.seed, dataset.groups)
        calibrating = len(np.unique(dataset.groups[parts.calibration]))
        if settings.group is None:
            lines.append(_promise_to(calibrating))
        else:
            lines.append(_groups_line(dataset, settings, parts))
    return "\n".join(lines)


def _promise_to(patients: int) -> str:
    """How many patients calibrate, and that their slices are not independent normals."""
    plural, whom = ("s", "these patients") if patients > 1 else ("", "this patient")
    return (
        f"slices of {patients} patient{plural} calibrate, and slices of one patient are alike: "
        f"the threshold's promise holds for {whom}"
    )


def _groups_line(dataset: Dataset, settings: Settings, parts: Split) -> str:
    """How groups are divided, and what is left out of groups that hold both kinds."""
    assert dataset.groups is not None
    trained, calibrating, tested = (
        len(np.unique(dataset.groups[part]))
        for part in (parts.train, parts.calibration, parts.test)
    )
    roles = f"{trained} groups train, {calibrating} calibrate"
    if calibrates_by_folds(dataset, settings, parts):
        roles = f"{trained + calibrating} groups train and calibrate"
    line = (
        f"{roles} and {tested} test: frames of one group are alike, so the threshold's promise "
        "holds for groups such as those that calibrate"
    )
    left_out = len(dataset.anomalous[dataset.anomalous]) - int(dataset.anomalous[parts.test].sum())
    if left_out:
        line += (
            f"; {left_out} anomalous frame{'s are' if left_out > 1 else ' is'} not tested, as "
            "normals of the same groups train or calibrate"
        )
    return line
