"""Evaluation of a checkpoint on frames with labels: AUROC, average precision, and the threshold at work."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from adae_edge.checkpoint import Checkpoint
from adae_edge.errors import CheckpointError, DatasetError, UsageError
from adae_edge.files import write_atomically
from adae_edge.frames import to_channels
from adae_edge.model import ADAE, load_network
from adae_edge.train.datasets import Dataset, Digest, Frame, Indices, load_dataset, read_batches, split
from adae_edge.train.loading import check_finite, inputs_of, score_frames
from adae_edge.train.settings import Settings


@dataclass(frozen=True)
class Evaluation:
    """How well scores separate normal from anomalous frames.

    Attributes:
        auroc, average_precision: None where one of the two kinds is missing.
        threshold: the score above which a frame is called anomalous.
        false_positive_rate: of the normals, at the threshold; None without normals.
        true_positive_rate: of the anomalous, at the threshold; None without anomalous.
        normals, anomalous: how many frames.
    """

    auroc: float | None
    average_precision: float | None
    threshold: float
    false_positive_rate: float | None
    true_positive_rate: float | None
    normals: int
    anomalous: int

    def table(self) -> str:
        """The figures in lines for the terminal."""

        def figure(value: float | None) -> str:
            return "-" if value is None else f"{value:.4f}"

        rows = {
            "frames": f"{self.normals} normal, {self.anomalous} anomalous",
            "AUROC": figure(self.auroc),
            "average precision": figure(self.average_precision),
            "threshold": figure(self.threshold),
            "false-positive rate": figure(self.false_positive_rate),
            "true-positive rate": figure(self.true_positive_rate),
        }
        return "\n".join(f"{name:<21}{value}" for name, value in rows.items())


def measure(scores: NDArray[np.float32], anomalous: NDArray[np.bool_], threshold: float) -> Evaluation:
    """scores: float32 [N], higher is more anomalous; anomalous: bool [N]."""
    called = scores > threshold
    both = bool(anomalous.any() and not anomalous.all())
    return Evaluation(
        auroc=float(roc_auc_score(anomalous, scores)) if both else None,
        average_precision=float(average_precision_score(anomalous, scores)) if both else None,
        threshold=threshold,
        false_positive_rate=float(called[~anomalous].mean()) if not anomalous.all() else None,
        true_positive_rate=float(called[anomalous].mean()) if anomalous.any() else None,
        normals=int((~anomalous).sum()),
        anomalous=int(anomalous.sum()),
    )


def roc_points(
    scores: NDArray[np.float32], anomalous: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False- and true-positive rates along all thresholds, float64 [K] each."""
    false_rate, true_rate, _ = roc_curve(anomalous, scores)
    return false_rate, true_rate


@dataclass(frozen=True)
class UnseenFrames:
    """The frames of a data set that an evaluation may use.

    Attributes:
        dataset: the whole data set.
        indices: which of its frames the training did not see.
        left_out: how many were left out because the training saw them, or frames that are equal.
    """

    dataset: Dataset
    indices: NDArray[np.intp]
    left_out: int

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """bool [N], in the order of the indices."""
        return self.dataset.anomalous[self.indices]

    def frame(self, at: int, channels: int) -> Frame:
        """The frame at a place in the order of the indices, [H, W, channels]."""
        return to_channels(self.dataset.frames[int(self.indices[at])], channels)

    def inputs(self, at: int, channels: int) -> list[Frame]:
        """What the network takes for that frame alone: [1, H, W, channels], and mean and std [1] if it has them."""
        return [self.frame(at, channels)[None], *self.dataset.statistics_of(self.indices[at : at + 1])]


def unseen_frames(
    checkpoint: Checkpoint, data: str | None = None, window: tuple[float, float] | None = None
) -> UnseenFrames:
    """The frames that the checkpoint's training has not seen.

    Args:
        checkpoint: a finished checkpoint.
        data: where the data set is now, or another one; None for the one of the training. Of another
            data set, or a changed one, every frame is taken that did not train or calibrate.
        window: centre and width of the grey values of DICOM files; None for what the training had.

    Raises:
        UsageError, DatasetError: the data set cannot be opened.
        CheckpointError: the data set of the training has changed, so its test part is unknown.
    """
    settings = Settings.from_header(checkpoint.training)
    spec = data or settings.data
    if Path(spec).is_dir():
        dataset = load_dataset(spec, window=window or settings.window, modality=settings.modality)
    else:
        dataset = load_dataset(spec, settings.anomalous, window, settings.modality)
    assert checkpoint.contract is not None
    if dataset.kind != checkpoint.contract.kind:
        raise UsageError(f"the model takes frames of kind {checkpoint.contract.kind}, and {spec} has {dataset.kind}")
    indices = np.arange(len(dataset.anomalous))
    if training_digest(dataset, settings.seed) == checkpoint.training.get("data_sha256"):
        indices = split(dataset.anomalous, settings.seed, dataset.groups).test
    elif data is None:
        raise CheckpointError(f"{spec} is no longer the data of this training: name the data to evaluate on")
    digest = Digest()
    for batch in read_batches(dataset, indices):
        digest.update(to_channels(batch, checkpoint.contract.channels))
    seen = {row.tobytes() for row in checkpoint.seen}
    unseen = np.array([row.tobytes() not in seen for row in digest.frames()])
    return UnseenFrames(dataset, indices[unseen], left_out=int((~unseen).sum()))


def training_digest(dataset: Dataset, seed: int) -> str | None:
    """The ``data_sha256`` of a training on the data set with this seed, or None where it has too few normals."""
    try:
        parts = split(dataset.anomalous, seed, dataset.groups)
    except DatasetError:  # too few normals to have been trained on
        return None
    digest = Digest()
    for batch in read_batches(dataset, np.concatenate([parts.train, parts.calibration])):
        digest.update(batch)
    return digest.hexdigest()


def evaluate(
    checkpoint: Checkpoint, data: str | None = None, window: tuple[float, float] | None = None
) -> tuple[Evaluation, NDArray[np.float32], UnseenFrames]:
    """Score the frames that the training has not seen with PyTorch, in eval mode.

    Returns:
        The figures, the scores float32 [N], and the frames that they belong to.

    Raises:
        As ``unseen_frames``, and CheckpointError for an unfinished checkpoint.
    """
    model = load_network(checkpoint)
    assert checkpoint.contract is not None
    unseen = unseen_frames(checkpoint, data, window)
    if not len(unseen.indices):
        raise DatasetError("the training saw every one of these frames, so nothing is left to evaluate on")
    scores, _ = score_frames(model, unseen.dataset, unseen.indices)
    return measure(scores, unseen.anomalous, checkpoint.contract.calibration.threshold), scores, unseen


def all_scores(model: ADAE, dataset: Dataset, indices: Indices) -> dict[str, NDArray[np.float32]]:
    """Every named score of the same frames, float32 [N] each, in the order of the indices, by one pass over them.

    Args:
        model: in eval mode, with its density.
        dataset: the frames' data set.
        indices: of the frames.

    Raises:
        As ``score_frames``.
    """
    with torch.inference_mode():
        parts = [model.every_score(model.preprocess(*inputs)) for inputs in inputs_of(model, dataset, indices)]
    scores = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
    for values in scores.values():
        check_finite(values, indices)
    return scores


def reconstructions(model: ADAE, inputs: list[Frame]) -> tuple[NDArray[np.float32], ...]:
    """What the networks make of one frame, for pictures (Figure 2).

    Args:
        model: in eval mode.
        inputs: one frame, as ``UnseenFrames.inputs`` gives it.

    Returns:
        x, G(x), D(G(x)) float32 [S, S, C] in [-1, 1], and |x - D(G(x))| float32 [S, S], mean over channels.
    """
    with torch.inference_mode():
        x = model.preprocess(*(torch.from_numpy(array.copy()) for array in inputs))
        generated = model.generator(x)
        again = model.discriminator(generated)
    error = (x - again).abs().mean(dim=1)[0].numpy()
    pictures = (image[0].permute(1, 2, 0).numpy() for image in (x, generated, again))
    return (*pictures, error)


def run_evaluation(
    path: Path, data: str | None = None, out: Path | None = None, window: tuple[float, float] | None = None
) -> tuple[Evaluation, UnseenFrames]:
    """Evaluate a checkpoint file and, with ``out``, write evaluation.json and report.html into that folder.

    Raises:
        As ``evaluate``.
    """
    from adae_edge.train.report import write_report

    checkpoint = Checkpoint.load(path)
    try:
        evaluation, scores, unseen = evaluate(checkpoint, data, window)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "evaluation.json", (json.dumps(asdict(evaluation), indent=2) + "\n").encode())
        write_report(out / "report.html", path.name, evaluation, scores, unseen, load_network(checkpoint))
    return evaluation, unseen
