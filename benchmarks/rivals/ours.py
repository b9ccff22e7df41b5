"""adae-edge itself, as its core install scores a frame."""

from __future__ import annotations

from pathlib import Path

from .worker import Score

PACKAGES = ("numpy==2.4.6", "onnxruntime==1.32.0", "{project}[cpu]")


def fixed(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """A model file for frames of this size alone."""
    return _scorer(folder / "fixed-{}x{}.onnx".format(*size), threads)


def free(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """A model file for frames of any size."""
    return _scorer(folder / "any.onnx", threads)


def _scorer(path: Path, threads: int) -> Score:
    from adae_edge.runtime import Scorer

    scorer = Scorer(path, "cpu", threads)
    return lambda frame: scorer.score(frame[None])


CONTENDERS = {"adae-edge, fixed size": fixed, "adae-edge, any size": free}
