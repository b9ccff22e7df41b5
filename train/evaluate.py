"""Evaluation of a checkpoint on labelled frames: AUROC, average precision and the threshold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from adae_edge.contract import Window
from adae_edge.errors import DatasetError, FrameError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.linear import LinearAutoencoder
from adae_edge.model import ADAE, load_network
from adae_edge.train.data.dataset import Dataset, Frame, Indices
from adae_edge.train.intervals import CONFIDENCE, auroc_interval
from adae_edge.train.loading import check_finite, inputs_of, score_frames
from adae_edge.train.pixels import Localisation, localise
from adae_edge.train.pose import Trial
from adae_edge.train.settings import Settings
from adae_edge.train.unseen import UnseenFrames, unseen_frames
from adae_edge.train.yardsticks import Yardstick, measure_yardsticks, small_pictures

_NO_YARDSTICKS = (
    "none: the checkpoint keeps no small pictures of normals, as with --no-reference-frames"
)


@dataclass(frozen=True)
class Evaluation:
    """How well scores separate normal from anomalous frames.

    Attributes:
        auroc, average_precision: None where one of the two kinds is missing.
        threshold: the score above which a frame is called anomalous.
        false_positive_rate: part of the normals above the threshold; None without normals.
        true_positive_rate: part of the anomalous above the threshold; None without anomalous.
        normals, anomalous: how many frames.
        auroc_interval: what holds the AUROC with 95 % confidence, or None as it.
        yardsticks: what simple scores reach on the same frames, the best one first; none without an
            AUROC, or where the checkpoint keeps no pictures.
        auroc_l2: the AUROC of the paper's score beside that of another one, or None.
        linear: whether G and D are linear, and so no networks of the paper.
        pose: what the training found of parts at any angle, a sentence, or "" where it did not ask.
        localisation: how well maps show the defects that masks mark; None where there are no masks.
        masks: why there is no localisation though there are masks, or "".
    """

    auroc: float | None
    average_precision: float | None
    threshold: float
    false_positive_rate: float | None
    true_positive_rate: float | None
    normals: int
    anomalous: int
    auroc_interval: tuple[float, float] | None = None
    yardsticks: tuple[Yardstick, ...] = ()
    auroc_l2: float | None = None
    linear: bool = False
    pose: str = ""
    localisation: Localisation | None = None
    masks: str = ""

    @property
    def verdict(self) -> str:
        """The sentence that comes first where a yardstick is better than the model, or ""."""
        if self.auroc is None or not self.yardsticks:
            return ""
        best = self.yardsticks[0]
        if self.auroc >= best.auroc:
            return ""
        return (
            f"the model loses to a yardstick: its AUROC is {self.auroc:.4f}, and that of "
            f"{best.name} is {best.auroc:.4f}"
        )

    def comparison(self) -> str:
        """The yardsticks in lines for the terminal, or why there are none; "" without an AUROC."""
        if self.auroc is None:
            return ""
        if not self.yardsticks:
            return f"{'yardsticks':<21}{_NO_YARDSTICKS}"
        rows = [f"{'yardsticks':<21}AUROC of simple scores, same split, better side of a property"]
        rows += [f"  {yardstick.auroc:<19.4f}{yardstick.name}" for yardstick in self.yardsticks]
        return "\n".join(rows)

    def table(self) -> str:
        """The figures in lines for the terminal."""

        def figure(value: float | None) -> str:
            return "-" if value is None else f"{value:.4f}"

        interval = ""
        if self.auroc_interval is not None:
            low, high = self.auroc_interval
            interval = f" ({low:.4f} to {high:.4f} with {CONFIDENCE * 100:.0f} % confidence)"
        rows = {
            "frames": f"{self.normals} normal, {self.anomalous} anomalous",
            "AUROC": figure(self.auroc) + interval,
        }
        if self.auroc_l2 is not None:
            whose = "of the linear autoencoder" if self.linear else "the paper's score"
            rows["AUROC of l2"] = f"{self.auroc_l2:.4f}, ||x - D(G(x))||, {whose}"
        rows |= {
            "average precision": figure(self.average_precision),
            "threshold": figure(self.threshold),
            "false-positive rate": figure(self.false_positive_rate),
            "true-positive rate": figure(self.true_positive_rate),
        }
        if self.pose:
            rows["pose"] = self.pose
        if self.localisation is not None:
            rows |= self.localisation.rows()
        if self.masks:
            rows["masks"] = self.masks
        return "\n".join(f"{name:<21}{value}" for name, value in rows.items())


def measure(
    scores: NDArray[np.float32],
    anomalous: NDArray[np.bool_],
    threshold: float,
    groups: Indices | None = None,
) -> Evaluation:
    """Measure how well scores separate two kinds of frames.

    Args:
        scores: float32 [N]; higher is more anomalous.
        anomalous: bool [N].
        threshold: the score above which a frame is called anomalous.
        groups: int [N], which frames belong together, for the interval; None where each stands
            alone.
    """
    called = scores > threshold
    normals = int((~anomalous).sum())
    auroc = precision = interval = None
    if 0 < normals < len(anomalous):
        auroc = float(roc_auc_score(anomalous, scores))
        precision = float(average_precision_score(anomalous, scores))
        interval = auroc_interval(scores, anomalous, groups)
    return Evaluation(
        auroc=auroc,
        average_precision=precision,
        threshold=threshold,
        false_positive_rate=_share(called[~anomalous]),
        true_positive_rate=_share(called[anomalous]),
        auroc_interval=interval,
        normals=normals,
        anomalous=len(anomalous) - normals,
    )


def _share(called: NDArray[np.bool_]) -> float | None:
    return float(called.mean()) if len(called) else None


def roc_points(
    scores: NDArray[np.float32], anomalous: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False- and true-positive rates along all thresholds, float64 [K] each."""
    false_rate, true_rate, _ = roc_curve(anomalous, scores)
    return false_rate, true_rate


def evaluate(
    checkpoint: Checkpoint, data: str | None = None, window: Window | None = None
) -> tuple[Evaluation, NDArray[np.float32], UnseenFrames]:
    """Score the frames that the training has not seen with PyTorch, in eval mode.

    Args:
        checkpoint: a finished checkpoint.
        data, window: as for ``unseen_frames``.

    Returns:
        The figures, the scores float32 [N], and the frames that they belong to.

    Raises:
        UsageError, DatasetError, CheckpointError: as ``unseen_frames``.
        DatasetError: the training saw every frame.
        CheckpointError: the training is unfinished.
    """
    model = load_network(checkpoint)
    assert checkpoint.contract is not None
    unseen = unseen_frames(checkpoint, data, window)
    if not len(unseen.indices):
        raise DatasetError(
            "the training saw every one of these frames, so nothing is left to evaluate on"
        )
    scores, _ = score_frames(model, unseen.dataset, unseen.indices)
    threshold = checkpoint.contract.calibration.threshold
    groups = unseen.dataset.groups
    groups = None if groups is None else groups[unseen.indices]
    evaluation = measure(scores, unseen.anomalous, threshold, groups)
    if tried := checkpoint.training.get("pose"):
        evaluation = replace(evaluation, pose=Trial(**tried).sentence())
    evaluation = beside_l2(evaluation, checkpoint, model, unseen)
    evaluation = beside_masks(evaluation, checkpoint, model, unseen)
    return beside_yardsticks(evaluation, checkpoint, model, unseen), scores, unseen


def beside_l2(
    evaluation: Evaluation, checkpoint: Checkpoint, model: ADAE, unseen: UnseenFrames
) -> Evaluation:
    """Add the AUROC of the paper's score, where the checkpoint has another one and trained D.

    Args:
        evaluation: of the same frames.
        checkpoint: a finished checkpoint.
        model: its network, in eval mode.
        unseen: the frames.

    Raises:
        DatasetError, TrainingError: as ``score_frames``.
    """
    trained = Settings.from_header(checkpoint.training).recipe.adversarial > 0
    if evaluation.auroc is None or model.score == "l2" or not trained:
        return evaluation
    errors = distances(model, unseen.dataset, unseen.indices)["l2"]
    linear = isinstance(model.discriminator, LinearAutoencoder)
    return replace(
        evaluation, auroc_l2=float(roc_auc_score(unseen.anomalous, errors)), linear=linear
    )


def beside_yardsticks(
    evaluation: Evaluation, checkpoint: Checkpoint, model: ADAE, unseen: UnseenFrames
) -> Evaluation:
    """Add what simple scores reach, fitted to the normals that the checkpoint keeps.

    Args:
        evaluation: of the same frames.
        checkpoint: a finished checkpoint.
        model: its network.
        unseen: the frames.

    Raises:
        DatasetError: as ``small_pictures``.
    """
    if evaluation.auroc is None or len(checkpoint.pictures) < 2:
        return evaluation
    side = checkpoint.pictures.shape[1]
    pictures = small_pictures(model, unseen.dataset, unseen.indices, side)
    measured = measure_yardsticks(checkpoint.pictures, pictures, unseen.anomalous)
    return replace(evaluation, yardsticks=measured)


def beside_masks(
    evaluation: Evaluation, checkpoint: Checkpoint, model: ADAE, unseen: UnseenFrames
) -> Evaluation:
    """Add how well the model's map and simpler ones show the defects that masks mark.

    Args:
        evaluation: of the same frames.
        checkpoint: a finished checkpoint.
        model: its network, in eval mode.
        unseen: the frames.

    Raises:
        DatasetError: as ``localise``.
    """
    try:
        localisation = localise(model, checkpoint.pictures, unseen)
    except FrameError as error:
        return replace(evaluation, masks=f"not compared: {error}")
    return replace(evaluation, localisation=localisation)


def distances(model: ADAE, dataset: Dataset, indices: Indices) -> dict[str, NDArray[np.float32]]:
    """The distances from x to D(G(x)) and to G(x), whatever the model's own score is.

    Args:
        model: in eval mode.
        dataset: the frames' data set.
        indices: which of its frames.

    Returns:
        By the names "l2" and "generator", float32 [N] each, in the order of the indices.

    Raises:
        DatasetError, TrainingError: as ``score_frames``.
    """
    return _in_batches(model, model.distances, dataset, indices)


def all_scores(model: ADAE, dataset: Dataset, indices: Indices) -> dict[str, NDArray[np.float32]]:
    """Compute all of ``NETWORK_SCORES`` of the same frames, by one pass over them.

    Args:
        model: in eval mode, with its density.
        dataset: the frames' data set.
        indices: which of its frames.

    Returns:
        float32 [N] for each score, in the order of the indices.

    Raises:
        DatasetError, TrainingError: as ``score_frames``.
    """
    return _in_batches(model, model.every_score, dataset, indices)


def _in_batches(
    model: ADAE,
    scores_of: Callable[[Tensor], dict[str, Tensor]],
    dataset: Dataset,
    indices: Indices,
) -> dict[str, NDArray[np.float32]]:
    """Score frames by what gives named scores [n] of what the network sees of n frames."""
    with torch.inference_mode():
        parts = [
            scores_of(model.preprocess(*inputs)) for inputs in inputs_of(model, dataset, indices)
        ]
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
        x, G(x), D(G(x)) float32 [S, S, C] in [-1, 1], and |x - D(G(x))| float32 [S, S], the mean
            over channels, inside of a slice's brain.
    """
    with torch.inference_mode():
        x = model.preprocess(*(torch.from_numpy(array.copy()) for array in inputs))
        generated = model.generator(x)
        again = model.discriminator(generated)
        error = (x - model.inside(x, again)).abs().mean(dim=1)[0].numpy()
    pictures = (image[0].permute(1, 2, 0).numpy() for image in (x, generated, again))
    return (*pictures, error)
