"""The training loop: two autoencoders, two losses, one pass over the batch (section 3).

``train`` is the main road, top to bottom: frames, networks, epochs, calibration, checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adae_edge import __version__
from adae_edge.acquisition import Acquisition
from adae_edge.calibration import calibrate
from adae_edge.contract import Z_RANGE, Calibration, Contract
from adae_edge.decoding.rules import rules_of
from adae_edge.errors import CheckpointError, TrainingError, UsageError
from adae_edge.formats.checkpoint import REFERENCE_FRAMES, Checkpoint
from adae_edge.light import with_light
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import ADAE, weights_digest
from adae_edge.preprocess import Preprocess
from adae_edge.train.augment import moved, random_moves
from adae_edge.train.data.dataset import Dataset, Frame, Indices
from adae_edge.train.data.splits import Split, sharing, split, without_copies
from adae_edge.train.dead import dead_note
from adae_edge.train.density import fit_density
from adae_edge.train.device import check_compiler, check_device
from adae_edge.train.distributed import ALONE, Group
from adae_edge.train.linear import components_for, fit_linear
from adae_edge.train.loading import lights_of, load_frames, map_peaks, score_frames, unpack
from adae_edge.train.local import FRAMES, Fit, fit_local, held_out_third
from adae_edge.train.metrics import Metrics, Update
from adae_edge.train.near_copies import describe_near_copies, near_copies
from adae_edge.train.run import Run, arrays
from adae_edge.train.settings import Settings, calibrates_by_folds
from adae_edge.train.slices import fit_slice_local
from adae_edge.train.yardsticks import FRAMES as PICTURES
from adae_edge.train.yardsticks import Pictures, small_pictures


def train(
    dataset: Dataset,
    settings: Settings,
    out: Path,
    resume: Checkpoint | None = None,
    on_update: Callable[[Update], None] = lambda update: None,
    group: Group = ALONE,
    compiled: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
    on_epoch: Callable[[ADAE, int], None] = lambda model, epoch: None,
) -> Contract | None:
    """Train G and D on normals, calibrate the threshold, and write the checkpoint.

    The checkpoint is replaced after every epoch; on the same CPU a resumed training gives the same
    weights, bit for bit, as one that was never interrupted. Metrics go to ``out`` with the suffix
    .metrics.jsonl.

    Args:
        dataset: the one that the settings name.
        settings: everything that decides the outcome.
        out: the checkpoint file.
        resume: the unfinished checkpoint to go on from.
        on_update: called after every update of the weights.
        group: the processes that train together, all of them in this function, and this one's
            device.
        compiled: train with what ``torch.compile`` makes of the networks.
        on_note: called with what is to be told of the split or the networks, if anything.
        on_epoch: called after every epoch, before its checkpoint is written, with the networks in
            eval mode and the epoch's number from 1; it must not change them.

    Returns:
        The contract; None in the processes of a group that are not its first, which alone writes
            and calibrates.

    Raises:
        UsageError: too few normals to promise the false-positive rate, no such device, no compiler,
            or processes that do not divide the batch or do not have the same data.
        DatasetError: the frames are refused.
        CheckpointError: the checkpoint to resume from is of other data.
        TrainingError: a loss is not finite, or a process of the group is gone; the checkpoint of
            the last whole epoch stays.
    """
    check_device(group.device)
    if compiled:
        check_compiler(group.device)

    # frames
    preprocess = _preprocess(dataset, settings)
    whole = split(dataset.anomalous, settings.seed, dataset.groups)
    frames, digest = load_frames(dataset, whole, preprocess)
    data_sha256, seen = digest.hexdigest(), digest.frames()
    parts = without_copies(whole, seen, settings.data)
    if calibrates_by_folds(dataset, settings, whole):
        parts = sharing(whole, seen, FRAMES)
    # Too few normals are refused now, and not after the training.
    calibrate(np.zeros(len(parts.calibration), np.float32), settings.fpr)
    acquisitions = dataset.acquisitions_of(parts.calibration)
    frames = frames.to(group.device)
    settings = replace(settings, network=components_for(settings.network, len(frames)))

    # networks
    torch.manual_seed(settings.seed)
    model = _network(preprocess, dataset.channels, settings, frames)
    run = Run(model, settings.recipe, group, compiled)
    if resume is not None and resume.training.get("data_sha256") != data_sha256:
        raise CheckpointError(f"{settings.data} is not the data that {out} was trained on")
    done = 0 if resume is None else run.restore(resume)

    # epochs
    schedule = _schedule(settings, len(frames))
    header = {"settings": asdict(settings), "epochs": schedule.epochs, "data_sha256": data_sha256}
    header |= run.position(done)
    _agree(group, schedule, settings, header, model)
    metrics = Metrics(out, done) if group.first and schedule.epochs else None
    for epoch in range(done, schedule.epochs):
        update = _run_epoch(run, frames, schedule, epoch, on_update)
        header |= run.position(epoch + 1)
        if metrics is not None:
            metrics.write(update)
            on_epoch(model.eval(), epoch + 1)
            Checkpoint(arrays(model.state_dict()), header, state=run.state(), seen=seen).save(out)
    if not group.first:
        return None

    # calibration
    fit = _fit_score(model.eval(), settings, dataset, frames, parts.train)
    calibration, references = _calibrated(model, settings, dataset, parts, fit)

    # what an evaluation compares with, and what is to be told
    pictures = small_pictures(model, dataset, parts.train[:PICTURES])
    for note in filter(None, _notes(model, frames, dataset, parts, fit, pictures)):
        on_note(note)

    # checkpoint
    contract = _contract(dataset, settings, model, calibration, data_sha256, acquisitions)
    header |= {"pose": asdict(fit.trial)} if fit and fit.trial else {}
    finished = Checkpoint(arrays(model.state_dict()), header, contract, seen=seen)
    if settings.references:
        finished.references = references
        finished.statistics = dataset.statistics_of(parts.calibration[: len(references)])
        finished.pictures = pictures
    finished.save(out)
    return contract


def _network(preprocess: Preprocess, channels: int, settings: Settings, frames: Tensor) -> ADAE:
    """G and D with their first weights, or fitted to the frames where both are linear."""
    model = ADAE(preprocess, channels, settings.network).to(frames.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if isinstance(model.generator, LinearAutoencoder):
        fit_linear(model.generator, frames, preprocess)
    if preprocess.z_range is not None and settings.recipe.interior:
        model.measured = "interior"
    return model


def _preprocess(dataset: Dataset, settings: Settings) -> Preprocess:
    z_range = Z_RANGE if dataset.kind == "modality" else None
    return Preprocess(settings.side, settings.resize, settings.pad_value, settings.region, z_range)


@dataclass(frozen=True)
class Schedule:
    """How long a training is.

    Attributes:
        epochs: passes over the training frames.
        updates: of the weights, in each epoch.
        batch: frames in an update.
        seed: for the order of the frames.
    """

    epochs: int
    updates: int
    batch: int
    seed: int

    def order(self, epoch: int, count: int) -> Tensor:
        """The order of ``count`` frames in an epoch, int64 [count], which no other epoch has."""
        random = torch.Generator().manual_seed(self.seed + 7919 * epoch)
        return torch.randperm(count, generator=random)

    def moves(self, epoch: int, reach: int) -> Tensor:
        """How the slices of each update of an epoch are moved, int64 [updates, batch, 3]."""
        random = torch.Generator().manual_seed(self.seed + 7919 * epoch)
        drawn = random_moves(self.updates * self.batch, reach, random)
        return drawn.reshape(self.updates, self.batch, 3)

    def progress(self, epoch: int, update: int) -> float:
        """The part of the training that is done before this update, 0 to 1."""
        return (epoch * self.updates + update) / (self.epochs * self.updates)


def _schedule(settings: Settings, count: int) -> Schedule:
    """The schedule for ``count`` training frames."""
    batch = min(settings.recipe.batch, count)
    updates = count // batch
    epochs = settings.epochs or settings.recipe.epochs_for(updates)
    return Schedule(epochs, updates, batch, settings.seed)


def _agree(
    group: Group, schedule: Schedule, settings: Settings, header: dict[str, Any], model: ADAE
) -> None:
    """Refuse processes that cannot share a batch, or that begin from other data or weights."""
    if schedule.batch % group.size:
        raise UsageError(
            f"{group.size} processes cannot share a batch of {schedule.batch} frames equally"
        )
    # The data may lie elsewhere on each machine.
    anywhere = header | {"settings": asdict(replace(settings, data=""))}
    group.agree(json.dumps([anywhere, weights_digest(model)]))


def _run_epoch(
    run: Run,
    frames: Tensor,
    schedule: Schedule,
    epoch: int,
    on_update: Callable[[Update], None],
) -> Update:
    """One pass over the training frames; returns the last update of it.

    Args:
        run: the networks and their optimizers.
        frames: packed, [N, C, S, S].
        schedule: of the whole training.
        epoch: which one, from 0.
        on_update: called after every update of the weights.
    """
    run.model.train()
    order = schedule.order(epoch, len(frames))
    reach = run.recipe.reach if run.model.preprocess.z_range is not None else 0
    moves = schedule.moves(epoch, reach)
    sums = np.zeros(3)
    for index in range(schedule.updates):
        # this process's part of the batch
        batch = order[index * schedule.batch : (index + 1) * schedule.batch]
        chosen = run.group.slice(batch).to(frames.device)
        x = unpack(frames[chosen], run.model.preprocess)
        if reach:
            x = moved(x, run.group.slice(moves[index]).to(x.device))
        x = x.contiguous(memory_format=torch.channels_last)

        # forward, backward, and a step of both optimizers
        losses = run.update(x, schedule.progress(epoch, index))
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"a loss is not finite in epoch {epoch + 1}, update {index + 1}: try another "
                "--recipe or --seed"
            )

        # what is told of it
        sums += losses
        real, fake, generator = (float(loss) for loss in sums / (index + 1))
        update = Update(
            epoch=epoch,
            epochs=schedule.epochs,
            update=index,
            updates=schedule.updates,
            loss_real=real,
            loss_fake=fake,
            loss_generator=generator,
            fake_weight=run.balance.fake_weight,
            lr_g=run.lr_g,
            lr_d=run.lr_d,
        )
        on_update(update)
    return update


def _fit_score(
    model: ADAE, settings: Settings, dataset: Dataset, frames: Tensor, trained: Indices
) -> Fit | None:
    """Let the trained networks score as the settings say; returns what a fit came to, if any.

    Args:
        model: in eval mode.
        settings: the training's.
        dataset: the raw frames.
        frames: those of the training, packed, [N, C, S, S].
        trained: indices of the same frames in the data set.
    """
    model.score = settings.score
    if settings.score == "density":
        model.density = fit_density(model, frames, settings.seed)
    if settings.score == "local":
        if dataset.kind == "modality":
            model.local = fit_slice_local(model, dataset, trained)
        else:
            fit = fit_local(model, dataset, trained)
            model.local = fit.local
            return fit
    return None


def _calibrated(
    model: ADAE, settings: Settings, dataset: Dataset, parts: Split, fit: Fit | None
) -> tuple[Calibration, list[Frame]]:
    """The thresholds of the score and of its map, and the frames that a checkpoint may carry."""
    if parts.shared and fit is not None:
        _, references = score_frames(model, dataset, parts.train[:REFERENCE_FRAMES])
        calibration = calibrate(fit.scores, settings.fpr, peaks=fit.peaks)
        lights = lights_of(model, dataset, parts.train[: len(fit.scores)])
        return with_light(calibration, lights), references
    scores, references = score_frames(model, dataset, parts.calibration)
    peaks = map_peaks(model, dataset, parts.calibration)
    calibration = calibrate(scores, settings.fpr, peaks=peaks)
    return with_light(calibration, lights_of(model, dataset, parts.calibration)), references


def _notes(
    model: ADAE,
    frames: Tensor,
    dataset: Dataset,
    parts: Split,
    fit: Fit | None,
    pictures: Pictures,
) -> Iterator[str]:
    """What is to be told of a training: dead pixels, the pose, the calibration, near copies.

    Args:
        model: in eval mode.
        frames: those of the training, packed, [N, C, S, S].
        dataset: the raw frames.
        parts: how they were split.
        fit: of the score, if it was fitted.
        pictures: of the first training frames.
    """
    if not isinstance(model.generator, LinearAutoencoder):
        yield dead_note(model, frames)
    if fit is not None and fit.trial is not None:
        yield fit.trial.sentence()
    if dataset.acquisitions:
        yield _scanners(dataset.acquisitions_of(parts.calibration))
    if parts.shared:
        yield (
            f"all {len(parts.train)} normals train and calibrate, each scored by a fit without its "
            "third: too few could be kept for calibration alone"
        )
    if dataset.kind == "image" and not dataset.small:
        calibrating = parts.calibration[:PICTURES]
        if parts.shared:
            held_out = held_out_third(dataset, calibrating)
            pictures, compared = pictures[~held_out], pictures[held_out]
        else:
            compared = small_pictures(model, dataset, calibrating)
        yield describe_near_copies(near_copies(pictures, compared), len(compared))


def _scanners(acquisitions: tuple[Acquisition, ...]) -> str:
    """On which scanners series will have a verdict, in lines."""
    if not acquisitions:
        return (
            "the series that calibrated it do not say their scanner, so every series is "
            "uncalibrated until adae-edge calibrate with some that do"
        )
    return "\n".join(f"calibrated on {one}" for one in acquisitions)


def _contract(
    dataset: Dataset,
    settings: Settings,
    model: ADAE,
    calibration: Calibration,
    data_sha256: str,
    acquisitions: tuple[Acquisition, ...],
) -> Contract:
    return Contract(
        kind=dataset.kind,
        channels=dataset.channels,
        side=settings.side,
        resize=settings.resize,
        pad_value=settings.pad_value,
        region=settings.region,
        network=settings.network,
        score=settings.score,
        measured=model.measured,
        calibration=calibration,
        weights_sha256=weights_digest(model),
        data_sha256=data_sha256,
        version=__version__,
        z_range=model.preprocess.z_range,
        modality=dataset.modality,
        object=dataset.object,
        field_of_view=dataset.field_of_view,
        acquisitions=acquisitions,
        window=settings.window,
        bits=settings.bits,
        decoding=rules_of(dataset.kind),
    )
