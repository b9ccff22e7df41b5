"""ONNX Runtime as an engineer would use it without adae-edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .worker import Score

PACKAGES = ("numpy==2.4.6", "onnxruntime==1.32.0", "opencv-python-headless==5.0.0.93")
SIDE = (32, 32)


def bare(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """``InferenceSession.run`` of the file that adae-edge runs."""
    session = _session(folder, "fixed-{}x{}".format(*size), threads)
    return lambda frame: session.run(["score"], {"frames": frame[None]})[0]


def two_files(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """G and D as files of their own, OpenCV and numpy before, between and after them."""
    import numpy as np

    generator = _session(folder, "generator", threads)
    discriminator = _session(folder, "discriminator", threads)
    seen = _seen(threads)

    def score(frame: Any) -> Any:
        x = seen(frame)
        generated = generator.run(None, {"x": x})[0]
        difference = x - discriminator.run(None, {"x": generated})[0]
        return np.sqrt(np.square(difference).sum(axis=(1, 2, 3)))

    return score


def behind_opencv(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """OpenCV's INTER_AREA and numpy, then the network's graph alone."""
    session = _session(folder, "bare", threads)
    seen = _seen(threads)
    return lambda frame: session.run(None, {"x": seen(frame)})[0]


def _seen(threads: int) -> Score:
    """From a frame to what the network sees, float32 [1, C, 32, 32] in [-1, 1]."""
    import cv2
    import numpy as np

    cv2.setNumThreads(threads)

    def seen(frame: Any) -> Any:
        if frame.shape[:2] != SIDE:
            frame = cv2.resize(frame, SIDE, interpolation=cv2.INTER_AREA)
        return frame.transpose(2, 0, 1)[None].astype(np.float32, order="C") / 127.5 - 1

    return seen


def _session(folder: Path, name: str, threads: int) -> Any:
    """A session with ONNX Runtime's defaults, except for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = str(folder / f"{name}.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


CONTENDERS = {
    "InferenceSession.run": bare,
    "two ONNX files and numpy": two_files,
    "INTER_AREA and the bare graph": behind_opencv,
}
