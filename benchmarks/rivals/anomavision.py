"""AnomaVision's PaDiM at 224 x 224, in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .operators import declare
from .worker import Load, Score

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "anomavision==3.6.2")
NOTE = (
    "AnomaVision's PaDiM has random weights, because its own are downloaded; frames are resized "
    "by its own transform"
)
SIDE = 224
_FITTED = 16  # pictures of noise


def prepare(folder: Path) -> None:
    """Fit PaDiM to noise, and export it both ways."""
    declare()
    import torch
    from anomavision import Padim
    from anomavision.algorithm.common import feature_extraction
    from anomavision.export import ModelExporter
    from torch.utils.data import DataLoader, TensorDataset

    network, _ = feature_extraction.BACKBONES["resnet18"]
    feature_extraction.BACKBONES["resnet18"] = (network, None)
    torch.manual_seed(0)
    model = Padim("resnet18", device=torch.device("cpu"))
    pictures = TensorDataset(torch.rand(_FITTED, 3, SIDE, SIDE))
    model.fit(DataLoader(pictures, batch_size=8))
    torch.save(model, folder / "model.pt")
    exporter = ModelExporter(folder / "model.pt", folder, logging.getLogger(), "cpu")
    if exporter.export_onnx() is None or exporter.export_openvino() is None:
        raise RuntimeError("AnomaVision did not export its model")


def exported(name: str) -> Load:
    """An exported model in the backend that its name stands for."""

    def load(folder: Path, threads: int, size: tuple[int, int]) -> Score:
        declare()
        import onnxruntime
        import torch

        def options() -> Any:
            """Session options with threads, which the backend cannot be told."""
            options = given()
            options.intra_op_num_threads = threads
            return options

        given, onnxruntime.SessionOptions = onnxruntime.SessionOptions, options
        torch.set_num_threads(threads)
        from anomavision.inference.model.wrapper import ModelWrapper
        from anomavision.utils import create_image_transform
        from PIL import Image

        model = ModelWrapper(str(folder / name), "cpu")
        transform = create_image_transform((SIDE, SIDE))
        return lambda frame: model.predict(transform(Image.fromarray(frame))[None])[0]

    return load


CONTENDERS = {
    "AnomaVision PaDiM, ONNX": exported("model.onnx"),
    "AnomaVision PaDiM, OpenVINO": exported("model_openvino"),
}
