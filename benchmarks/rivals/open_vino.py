"""OpenVINO's own runtime with the file that adae-edge runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .worker import Score

PACKAGES = ("numpy==2.4.6", "openvino==2026.4.1")


def fixed(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """The file for frames of this size alone, in float32."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    path = folder / "fixed-{}x{}.onnx".format(*size)
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()

    def score(frame: Any) -> Any:
        request.infer({"frames": frame[None]}, share_inputs=True)
        return request.get_tensor("score").data

    return score


CONTENDERS = {"OpenVINO": fixed}
