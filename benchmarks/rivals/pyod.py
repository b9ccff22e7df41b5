"""PyOD's autoencoder of dense layers, on the values of a 32 x 32 frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .worker import Score

PACKAGES = (
    "torch==2.13.0",
    "numpy==2.4.6",
    "pyod==3.6.7",
    "opencv-python-headless==5.0.0.93",
    "tqdm==4.70.1",
)
NOTE = "PyOD's autoencoder is fitted to noise; frames are resized by OpenCV's INTER_AREA"
SIDE = (32, 32)
_FITTED = 256  # pictures of noise


def prepare(folder: Path) -> None:
    """Fit the autoencoder, and write it as PyOD's documentation does."""
    import joblib
    import numpy as np
    from pyod.models.auto_encoder import AutoEncoder

    values = np.random.default_rng(0).random((_FITTED, 32 * 32 * 3), np.float32)
    detector = AutoEncoder(epoch_num=1, device="cpu", verbose=0)
    joblib.dump(detector.fit(values), folder / "autoencoder.joblib")


def autoencoder(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """``decision_function`` of one frame."""
    import cv2
    import joblib
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    detector = joblib.load(folder / "autoencoder.joblib")

    def score(frame: Any) -> Any:
        if frame.shape[:2] != SIDE:
            frame = cv2.resize(frame, SIDE, interpolation=cv2.INTER_AREA)
        return detector.decision_function(frame.reshape(1, -1).astype(np.float32) / 255)

    return score


CONTENDERS = {"PyOD AutoEncoder": autoencoder}
