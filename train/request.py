"""A training as it is asked for, and how what was left open follows from the frames."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path

from adae_edge.contract import SCORES, SIDES, Contract, Network, Region, Window
from adae_edge.errors import UsageError, command
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import check_writable
from adae_edge.local import COARSE_SIDE
from adae_edge.train.data.dataset import Dataset, Viewing, check_side, typical_sides
from adae_edge.train.data.opening import class_number, load_dataset
from adae_edge.train.data.splits import check_groups
from adae_edge.train.distributed import ALONE, Group
from adae_edge.train.metrics import Update
from adae_edge.train.recipes import RECIPES
from adae_edge.train.settings import NETWORKS, Settings, describe
from adae_edge.train.trainer import train

# Data sets of the paper's tables, or of its kind; their score is the paper's where none is named.
PAPERS_DATA = ("digits", "mnist", "cifar10", "brats")
# Why a score is recommended.
_WHY = {
    "density": "recommended for frames of this size",
    "local": "recommended for such frames: rare places, fitted without epochs",
}
# Options of the command line that have other names than the fields below.
_OPTIONS = {"references": "--no-reference-frames", "region": "--roi", "resize": "--pad"}


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of a training; None where it is left open.

    Attributes:
        data: digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR, dicom:DIR, or a folder.
        out: the checkpoint to write; else checkpoint.safetensors.
        resume: an unfinished checkpoint to go on with. It keeps its settings, so that only the
            place of its data may be given with it.
        anomalous: the class that is held out of digits, mnist or cifar10, by number or name.
        modality: which volumes of brats or nifti are taken.
        recipe: one of ``RECIPES``; else linear where the score needs no training of G and D, or
            default.
        epochs: passes over the training frames; else the recipe's.
        side: pixels that the network sees; else ``recommended_side``.
        network: one of ``NETWORKS``; else as Appendix A has it for MNIST and CIFAR-10.
        resize: "stretch" or "pad", as in the contract; else stretch.
        pad_value: grey level of the padding; else 0.
        region: region of interest; else the whole frame.
        score: one of ``contract.SCORES``, or "auto" for the one that ``recommended_score`` names;
            else auto for data of the user's own where neither ``epochs`` nor ``network`` is given
            nor a recipe that trains, and l2 otherwise.
        fpr: target false-positive rate; else 0.01, or the lowest that can be promised.
        window: the window of grey values of DICOM files; else their own.
        references: whether calibration normals travel in the checkpoint; else they do.
        group: which frames of a folder belong together, as for ``groups_of``; else each stands
            alone.
        bits: of a camera's grey values in 16-bit files; else all 16.
        object: the rule by which voxels of nifti and dicom are object; else by their masks.
        brain_mask: masks of the brain for nifti and dicom.
        seed: for the split, the first weights and the order of batches; else 0.
    """

    data: str | None = None
    out: Path | None = None
    resume: Path | None = None
    anomalous: str | None = None
    modality: str | None = None
    recipe: str | None = None
    epochs: int | None = None
    side: int | None = None
    network: str | None = None
    resize: str | None = None
    pad_value: float | None = None
    region: Region | None = None
    score: str | None = None
    fpr: float | None = None
    window: Window | None = None
    references: bool | None = None
    group: str | None = None
    bits: int | None = None
    object: str | None = None
    brain_mask: Path | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Training:
    """A training that is ready to run.

    Attributes:
        dataset: the one that the settings name.
        settings: everything that decides the outcome.
        out: the checkpoint that it writes.
        unfinished: the checkpoint that it goes on from, or None.
        recommended: whether the score was left to ``recommended_score``.
    """

    dataset: Dataset
    settings: Settings
    out: Path
    unfinished: Checkpoint | None = None
    recommended: bool = False

    def describe(self) -> str:
        """What is about to be trained, in lines for the terminal.

        Raises:
            DatasetError: the frames cannot be split.
        """
        lines = describe(self.dataset, self.settings).splitlines()
        if self.recommended:
            score = self.settings.score
            lines.insert(1, f"score {score}, {_WHY[score]}; --score l2 takes the paper's")
        return "\n".join(lines)

    def run(
        self,
        on_update: Callable[[Update], None] = lambda update: None,
        group: Group = ALONE,
        compiled: bool = False,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> Contract | None:
        """Train, as ``train`` does."""
        return train(
            self.dataset,
            self.settings,
            self.out,
            self.unfinished,
            on_update,
            group,
            compiled,
            on_note,
        )


def prepare(request: TrainRequest) -> Training:
    """Check what is asked for, open the data set, and settle what was left open.

    Raises:
        UsageError: no data, a checkpoint that is there already or is finished, a setting beside
            ``resume``, or as ``load_dataset`` and ``plan``.
        CheckpointError: the checkpoint to resume is refused.
        DatasetError: as ``load_dataset`` and ``plan``.
    """
    if request.resume is not None:
        return _resumed(request, request.resume)
    if request.data is None:
        raise UsageError(
            "name the data to train on: digits, mnist:DIR, cifar10:DIR, brats:DIR, nifti:DIR, "
            "dicom:DIR or a folder"
        )
    out = request.out or Path("checkpoint.safetensors")
    if out.exists():
        raise UsageError(
            f"{out} is there already: choose another --out, or finish it with: "
            f"{command('train', '--resume', out)}"
        )
    check_writable(out)
    chosen = class_number(request.data, request.anomalous)
    dataset = load_dataset(
        request.data,
        chosen,
        request.window,
        request.modality,
        request.group,
        request.bits,
        Viewing(request.object, request.brain_mask, chosen=True),
    )
    if request.group is not None:
        check_groups(dataset, request.group)
    recommended = _score_asked(request) == "auto"
    return Training(dataset, plan(dataset, request), out, recommended=recommended)


def _resumed(request: TrainRequest, path: Path) -> Training:
    given = {field.name for field in fields(request) if getattr(request, field.name) is not None}
    if kept := given - {"data", "resume"}:
        options = sorted(_OPTIONS.get(name, f"--{name.replace('_', '-')}") for name in kept)
        raise UsageError(f"a resumed training keeps its settings: leave out {options[0]}")
    unfinished = Checkpoint.load(path)
    if unfinished.contract is not None:
        raise UsageError(f"{path} is finished: there is nothing to resume")
    settings = Settings.from_header(unfinished.training)
    settings = replace(settings, data=request.data or settings.data)
    dataset = load_dataset(
        settings.data,
        settings.anomalous,
        settings.window,
        settings.modality,
        settings.group,
        settings.bits,
        settings.viewing,
    )
    return Training(dataset, settings, path, unfinished)


def plan(dataset: Dataset, request: TrainRequest) -> Settings:
    """The settings of a new training: names looked up, and what was left open settled.

    Raises:
        UsageError: no such class, recipe, score, network or side, a side larger than the frames,
            or a grey level around frames that have none.
        DatasetError: no frame tells the size from which the side follows.
    """
    data = request.data or ""
    recipe = _one_of(RECIPES, "recipe", request.recipe, _recipe_left_open(request))
    score = _score(dataset, request, recipe)
    if recipe == "linear" and request.epochs is not None:
        raise UsageError("the recipe linear is fitted without epochs: leave out --epochs")

    # How frames get to the network's size
    resize, pad_value = request.resize or "stretch", request.pad_value or 0.0
    if dataset.kind == "modality":
        if pad_value:
            raise UsageError(
                "--pad-value is a grey level, and slices of a volume are padded with its background"
            )
        resize = "pad" if dataset.field_of_view is None else "stretch"  # section 4.1; to a square

    # The network, as Appendix A has it for MNIST and CIFAR-10
    papers = "a" if dataset.small and dataset.channels == 1 else "b"
    network = NETWORKS[_one_of(NETWORKS, "network", request.network, papers)]
    if recipe == "linear":
        network = Network(None, network.latent)
    side = request.side
    if side is None:
        local = recipe == "linear" and score == "local"
        side = recommended_side(dataset, request.region, 1 if local else 4)
    if side not in SIDES:
        raise UsageError(f"a network's side is 8, 16, 32 ... 1024 pixels, and {side} is not")
    if request.side is not None:
        check_side(dataset, request.region, side)
    if score == "local" and side < COARSE_SIDE:
        raise UsageError(f"the score local needs a side of {COARSE_SIDE} pixels or more")

    return Settings(
        data=data,
        anomalous=class_number(data, request.anomalous),
        seed=request.seed or 0,
        recipe=RECIPES[recipe],
        epochs=request.epochs,
        network=network,
        side=side,
        resize=resize,
        pad_value=pad_value,
        region=request.region,
        fpr=request.fpr,
        references=request.references is not False,
        window=request.window,
        modality=request.modality,
        score=score,
        group=request.group,
        bits=request.bits,
        object=dataset.object,
        field_of_view=dataset.field_of_view,
        brain_mask=None if request.brain_mask is None else str(request.brain_mask),
    )


def recommended_side(dataset: Dataset, region: Region | None, span: int = 4) -> int:
    """The side that a training takes if it is told none.

    The paper's 32 for small pictures and for slices; up to 256 for larger ones, so that a network
    pixel spans ``span`` to twice as many of theirs. It follows from the median of the normals'
    shorter sides.

    Raises:
        DatasetError: as ``typical_sides``.
    """
    if dataset.small or dataset.kind == "modality":
        return 32
    shorter = _shorter_side(dataset, region)
    power_of_two = 1 << (max(shorter // span, 1).bit_length() - 1)
    return min(max(power_of_two, 32), 256)


def _shorter_side(dataset: Dataset, region: Region | None) -> int:
    """Pixels of the shorter side of what is looked at; raises as ``typical_sides``."""
    if region is not None:
        return min(region.width, region.height)
    return typical_sides(dataset)[0]


def recommended_score(dataset: Dataset, request: TrainRequest) -> str:
    """The score that finds most, by the kind and the size of normal frames alone.

    ``density`` for pictures that fewer pixels than ``local`` needs show whole: they are many looks
    of one thing, and no place in them means anything. ``local`` for larger ones and for slices.

    Raises:
        DatasetError: a frame cannot be decoded.
    """
    if dataset.kind == "modality":
        return "local"
    if dataset.small or (request.side or COARSE_SIDE) < COARSE_SIDE:
        return "density"
    return "density" if _shorter_side(dataset, request.region) <= COARSE_SIDE else "local"


def _score_asked(request: TrainRequest) -> str | None:
    """The score as it is asked for, "auto" where it is left open; None for the recipe's own."""
    if request.score is not None:
        return request.score
    papers = (request.data or "").partition(":")[0] in PAPERS_DATA
    trains = request.epochs or request.network or request.recipe not in (None, "linear")
    return None if papers or trains else "auto"


def _recipe_left_open(request: TrainRequest) -> str:
    """The recipe where none is named: G and D are trained only for a score that needs it."""
    if request.epochs or request.network:
        return "default"
    return "linear" if _score_asked(request) in ("auto", "local") else "default"


def _score(dataset: Dataset, request: TrainRequest, recipe: str) -> str:
    """The score; the plain autoencoder has one alone of those that G and D give."""
    asked = _score_asked(request)
    if asked == "auto":
        asked = recommended_score(dataset, request)
    if recipe != "autoencoder":
        return _one_of(SCORES, "score", asked, "l2")
    if asked == "local":
        return "local"
    if asked not in (None, "l2", "generator"):
        raise UsageError(
            f"the recipe autoencoder trains no D, so its score is generator, and not {asked}"
        )
    return "generator"


def _one_of(known: Collection[str], what: str, asked: str | None, default: str) -> str:
    name = default if asked is None else asked
    if name not in known:
        raise UsageError(f"there is no {what} {name}: choose {' or '.join(known)}")
    return name
