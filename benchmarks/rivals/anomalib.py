"""anomalib's two inferencers: GANomaly at 32 x 32, PaDiM and EfficientAD at 256 x 256."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .operators import declare
from .worker import Load, Score

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "anomalib[openvino]==2.7.0")
NOTE = (
    "anomalib's networks have random weights, because theirs are downloaded; GANomaly has 16 "
    "features. Frames are resized by OpenCV's INTER_AREA"
)
SIDES = {"GANomaly": 32, "PaDiM": 256, "EfficientAD": 256}
_FITTED = 64  # pictures of noise


def prepare(folder: Path) -> None:
    """Export each model for both inferencers."""
    declare()
    import torch
    from anomalib.models import EfficientAd, Ganomaly, Padim

    torch.manual_seed(0)
    padim = Padim(pre_trained=False)
    padim.model.train()
    for _ in range(_FITTED // 8):
        padim.model(torch.rand(8, 3, SIDES["PaDiM"], SIDES["PaDiM"]))
    padim.model.fit()
    side = (SIDES["GANomaly"], SIDES["GANomaly"])
    ganomaly = Ganomaly(n_features=16, pre_processor=Ganomaly.configure_pre_processor(side))
    for name, model in {"GANomaly": ganomaly, "PaDiM": padim, "EfficientAD": EfficientAd()}.items():
        model.eval()
        model.to_torch(folder / name)
        model.to_openvino(folder / name, input_size=(SIDES[name], SIDES[name]))


def openvino(name: str) -> Load:
    """A model in OpenVINOInferencer."""

    def load(folder: Path, threads: int, size: tuple[int, int]) -> Score:
        declare()
        from anomalib.deploy import OpenVINOInferencer

        os.chdir(folder)  # the inferencer's cache goes to where it runs
        path = folder / name / "weights" / "openvino" / "model.xml"
        settings = {"INFERENCE_NUM_THREADS": threads}
        return _resized(OpenVINOInferencer(path, "CPU", settings).predict, SIDES[name], threads)

    return load


def torch(name: str) -> Load:
    """A model in TorchInferencer."""

    def load(folder: Path, threads: int, size: tuple[int, int]) -> Score:
        declare()
        import torch
        from anomalib.deploy import TorchInferencer

        torch.set_num_threads(threads)
        os.environ["TRUST_REMOTE_CODE"] = "1"  # it was written by ``prepare``
        path = folder / name / "weights" / "torch" / "model.pt"
        return _resized(TorchInferencer(path, "cpu").predict, SIDES[name], threads)

    return load


def _resized(predict: Callable[[Any], Any], side: int, threads: int) -> Score:
    """Scores a frame of any size."""
    import cv2

    cv2.setNumThreads(threads)

    def score(frame: Any) -> Any:
        if frame.shape[:2] != (side, side):
            frame = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
        score = predict(frame).pred_score
        return score.detach() if hasattr(score, "detach") else score

    return score


CONTENDERS = {
    f"anomalib {name}, {inferencer}": contender(name)
    for name in SIDES
    for inferencer, contender in {"OpenVINO": openvino, "PyTorch": torch}.items()
}
