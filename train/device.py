"""What a torch device can do: compute at all, in bfloat16, and with compiled networks."""

from __future__ import annotations

import torch

from adae_edge.errors import UsageError, first_line
from adae_edge.model import ADAE


def check_device(device: str) -> None:
    """Compute something on a torch device.

    Raises:
        UsageError: it cannot be used.
    """
    try:
        torch.zeros(1, device=device).item()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise UsageError(
            f"the device {device} cannot be used, and nothing else is used in its place: "
            f"{first_line(error)}"
        ) from error


def check_compiler(device: str) -> None:
    """Compile something for a torch device.

    Raises:
        UsageError: torch.compile cannot, for example because there is no C++ compiler.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(2, device=device))
    except Exception as error:
        raise UsageError(
            "--compile needs a compiler, and torch.compile has none that works: "
            f"{first_line(error)}"
        ) from error


def mixed_precision(model: ADAE) -> torch.autocast:
    """bfloat16 for the convolutions, where the device computes in it and gains from it.

    Weights, statistics and losses stay float32. On a CPU it pays for wide networks alone: with 16
    channels, the conversions cost what the arithmetic saves.
    """
    parameter = next(model.parameters())
    if parameter.device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast("cuda", torch.bfloat16, enabled=native)
    wide = parameter.shape[0] >= 64
    native = wide and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.autocast("cpu", torch.bfloat16, enabled=native)
