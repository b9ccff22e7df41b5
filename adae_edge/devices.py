"""The devices that run a model file: ONNX Runtime's provider for each, and what installs it.

Imports nothing but the standard library, so that ``doctor`` can use it where packages are broken.
"""

from __future__ import annotations

from typing import NamedTuple


class Device(NamedTuple):
    """What a device takes.

    Attributes:
        provider: ONNX Runtime's name of the execution provider that runs on it.
        extra: of adae-edge, which brings the provider.
        package: of the extra, which holds the provider. All of these packages are the one module
            onnxruntime and overwrite each other's files.
    """

    provider: str
    extra: str
    package: str


DEVICES = {
    "cpu": Device("CPUExecutionProvider", "cpu", "onnxruntime"),
    "cuda": Device("CUDAExecutionProvider", "gpu", "onnxruntime-gpu"),
    "tensorrt": Device("TensorrtExecutionProvider", "gpu", "onnxruntime-gpu"),
    "openvino": Device("OpenVINOExecutionProvider", "openvino", "onnxruntime-openvino"),
}
