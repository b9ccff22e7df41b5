"""Evaluation of a checkpoint on labelled frames: AUROC, average precision and the threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from adae_edge.contract import Window
from adae_edge.errors import DatasetError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network
from adae_edge.train.data.dataset import Dataset, Frame, Indices
from adae_edge.train.loading import check_finite, inputs_of, score_frames
from adae_edge.train.unseen import UnseenFrames, unseen_frames


@dataclass(frozen=True)
class Evaluation:
    """How well scores separate normal from anomalous frames.

    Attributes:
        auroc, average_precision: None where one of the two kinds is missing.
        threshold: the score above which a frame is called anomalous.
        false_positive_rate: part of the normals above the threshold; None without normals.
        true_positive_rate: part of the anomalous above the threshold; None without anomalous.
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


def measure(
    scores: NDArray[np.float32], anomalous: NDArray[np.bool_], threshold: float
) -> Evaluation:
    """Measure how well scores separate two kinds of frames.

    Args:
        scores: float32 [N]; higher is more anomalous.
        anomalous: bool [N].
        threshold: the score above which a frame is called anomalous.
    """
    called = scores > threshold
    counts = {"normals": int((~anomalous).sum()), "anomalous": int(anomalous.sum())}
    auroc = precision = None
    if all(counts.values()):
        auroc = float(roc_auc_score(anomalous, scores))
        precision = float(average_precision_score(anomalous, scores))
    return Evaluation(
        auroc=auroc,
        average_precision=precision,
        threshold=threshold,
        false_positive_rate=_share(called[~anomalous]),
        true_positive_rate=_share(called[anomalous]),
        **counts,
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
    return measure(scores, unseen.anomalous, threshold), scores, unseen


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
    with torch.inference_mode():
        parts = [
            model.every_score(model.preprocess(*inputs))
            for inputs in inputs_of(model, dataset, indices)
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
            over channels.
    """
    with torch.inference_mode():
        x = model.preprocess(*(torch.from_numpy(array.copy()) for array in inputs))
        generated = model.generator(x)
        again = model.discriminator(generated)
    error = (x - again).abs().mean(dim=1)[0].numpy()
    pictures = (image[0].permute(1, 2, 0).numpy() for image in (x, generated, again))
    return (*pictures, error)
