"""The same network in PyTorch, eager and compiled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .worker import Score

if TYPE_CHECKING:
    from torch import Tensor

PACKAGES = ("numpy==2.4.6", "torch==2.13.0", "safetensors==0.8.0", "{project}")


def eager(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """Run as it is written."""
    return _score(_network(folder, threads))


def compiled(folder: Path, threads: int, size: tuple[int, int]) -> Score:
    """Compiled by TorchInductor."""
    import torch

    return _score(torch.compile(_network(folder, threads), dynamic=False))


def _network(folder: Path, threads: int) -> Callable[[Tensor], Tensor]:
    """The network behind an antialiased resize, from uint8 [1, C, H, W] to a score."""
    import torch
    from safetensors.torch import load_file

    from adae_edge.contract import Network
    from adae_edge.model import ADAE
    from adae_edge.preprocess import Preprocess

    torch.set_num_threads(threads)
    network = Network(**json.loads((folder / "network.json").read_text()))
    model = ADAE(Preprocess(32), 3, network)
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    model.eval()

    def score(frame: Tensor) -> Tensor:
        if frame.shape[-2:] != (32, 32):
            frame = torch.nn.functional.interpolate(
                frame, (32, 32), mode="bilinear", antialias=True
            )
        return model.score_of(frame / 127.5 - 1, "l2")

    return score


def _score(network: Callable[[Tensor], Tensor]) -> Score:
    import torch

    @torch.inference_mode()
    def score(frame: Any) -> Any:
        return network(torch.from_numpy(frame).permute(2, 0, 1)[None]).numpy()

    return score


CONTENDERS = {"PyTorch, eager": eager, "PyTorch, compiled": compiled}
