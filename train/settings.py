"""What decides a training's outcome: settings, and how the ones that are left open follow from the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adae_edge.contract import SCORES, Network, Region, Window, valid_side
from adae_edge.errors import CheckpointError, DatasetError, FrameError, UsageError
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.data.splits import split
from adae_edge.train.recipes import RECIPES, Recipe

NETWORKS = {"a": Network(width=16, latent=32), "b": Network(width=64, latent=128)}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training's outcome, as kept in the checkpoint's header.

    Attributes:
        data: the data set as named on the command line; its place may change, its content may not.
        anomalous: class that is held out, or None.
        seed: of the split, the initial weights and the order of the batches.
        recipe: the hyper-parameters.
        epochs: passes over the training frames.
        network, side, resize, pad_value, region: as in the contract.
        fpr: target false-positive rate, or None for 0.01 or the lowest that can be promised.
        references: whether calibration normals travel in the checkpoint.
        window: centre and width of the grey values of DICOM files, or None for their own.
        modality: which volumes of brats and nifti were taken, or None.
        score: which of ``contract.SCORES`` is calibrated and exported.
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

    @staticmethod
    def from_header(header: dict[str, Any]) -> Settings:
        """The settings of a training that is to be resumed.

        Raises:
            CheckpointError: they are missing or of another version.
        """
        try:
            fields = dict(header["settings"])
            fields["recipe"] = Recipe(**fields["recipe"])
            fields["network"] = Network(**fields["network"])
            fields["region"] = Region(*fields["region"]) if fields["region"] is not None else None
            fields["window"] = Window(*fields["window"]) if fields.get("window") else None
            return Settings(**fields)
        except (KeyError, TypeError):
            raise CheckpointError(
                "the checkpoint's training settings are not those of this version"
            ) from None


def plan(
    dataset: Dataset,
    data: str,
    anomalous: int | None,
    seed: int,
    recipe: str,
    epochs: int | None,
    network: str | None,
    side: int | None,
    *,
    resize: str,
    pad_value: float,
    region: Region | None,
    fpr: float | None,
    references: bool,
    window: Window | None = None,
    modality: str | None = None,
    score: str = "l2",
) -> Settings:
    """Settings for a new training: names looked up, and what was left open chosen from the frames.

    Raises:
        UsageError: no such recipe, score, network or side, or a grey level around frames that have
            none.
    """
    if recipe not in RECIPES:
        raise UsageError(f"there is no recipe {recipe}: choose {' or '.join(RECIPES)}")
    if recipe == "autoencoder":
        score = "generator" if score == "l2" else score
        if score != "generator":
            raise UsageError(
                f"the recipe autoencoder trains no D, so its score is generator, and not {score}"
            )
    if score not in SCORES:
        raise UsageError(f"there is no score {score}: choose {' or '.join(SCORES)}")
    if dataset.kind == "modality":
        if pad_value:
            raise UsageError(
                "--pad-value is a grey level, and slices of a volume are padded with its background"
            )
        resize = "pad"  # section 4.1
    if network is None:
        network = (
            "a" if dataset.small and dataset.channels == 1 else "b"
        )  # as Appendix A has it for MNIST and CIFAR-10
    if network not in NETWORKS:
        raise UsageError(f"there is no network {network}: choose {' or '.join(NETWORKS)}")
    side = recommended_side(dataset, region) if side is None else side
    if not valid_side(side):
        raise UsageError(f"a network's side is 8, 16, 32 ... 1024 pixels, and {side} is not")
    size = NETWORKS[network]
    return Settings(
        data, anomalous, seed, RECIPES[recipe], epochs, size, side, resize, pad_value, region, fpr, references,
        window, modality, score,
    )  # fmt: skip


def recommended_side(dataset: Dataset, region: Region | None) -> int:
    """The side that ``train`` takes if it is told none.

    The paper's 32 for small pictures and for slices; up to 256 for larger ones, so that a network
    pixel spans 4 to 8 of theirs.

    Raises:
        DatasetError: the first frame cannot be decoded.
    """
    if dataset.small or dataset.kind == "modality":
        return 32
    try:
        height, width, _ = dataset.frames[0].shape
    except FrameError as error:
        raise DatasetError(str(error)) from None
    shorter = min(region.width, region.height) if region else min(height, width)
    return min(max(1 << (max(shorter // 4, 1).bit_length() - 1), 32), 256)


def describe(dataset: Dataset, settings: Settings) -> str:
    """What is about to be trained, in lines for the terminal.

    Raises:
        DatasetError: as ``split``.
    """
    normals = int((~dataset.anomalous).sum())
    network = next((name for name, size in NETWORKS.items() if size == settings.network), "")
    return (
        f"{normals} normal and {len(dataset.anomalous) - normals} anomalous "
        f"{'grey' if dataset.channels == 1 else 'colour'} frames; network {network}, "
        f"{settings.side} x {settings.side} pixels"
        + (
            ""
            if dataset.small
            else " (--side changes what it sees: small defects need a larger one)"
        )
        + (f"\n{dataset.note}" if dataset.note else "")
        + (f"\n{_whose(dataset, settings)}" if dataset.groups is not None else "")
    )


def _whose(dataset: Dataset, settings: Settings) -> str:
    """How many patients calibrate, and that their slices are not independent normals."""
    assert dataset.groups is not None
    patients = len(
        set(
            dataset.groups[
                split(dataset.anomalous, settings.seed, dataset.groups).calibration
            ].tolist()
        )
    )
    return (
        f"slices of {patients} patient{'s' * (patients > 1)} calibrate, and slices of one patient "
        "are alike: "
        f"the threshold's promise holds for {'these patients' if patients > 1 else 'this patient'}"
    )
