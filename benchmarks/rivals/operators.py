"""torchvision's compiled operators, where it was built for another PyTorch than the one here."""

from __future__ import annotations

from typing import Any

# Declared by torchvision itself when it is imported, whether or not it could load them.
_DECLARED = ("nms", "qnms")
_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[Any] = []  # else the declarations end with the library


def declare() -> None:
    """Declare operators that torchvision cannot load, without which it cannot be imported.

    The registry's torchvision is built for CUDA, and does not load its operators beside a PyTorch
    for CPUs. No contender uses them: they suppress overlapping boxes.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in _DECLARED:
            library.define(name + _ARGUMENTS)
        _kept.append(library)
