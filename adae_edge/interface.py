"""What a graph takes and returns, described once for everybody who reads, runs, writes or asks it.

A further kind of frames is described here, and ``batch.py`` checks it. No numpy is needed, so that
a file can be read without it.
"""

from __future__ import annotations

from typing import NamedTuple

from adae_edge.contract import MAX_SIDE, Contract
from adae_edge.errors import FrameError

# The axes of frames, in their order; those of an anomaly map have the first three names.
AXES = ("N", "H", "W", "C")
# The names of all inputs that a graph of any kind may have, in the graph's order.
INPUTS = ("frames", "mean", "std")


class Port(NamedTuple):
    """One input or output of a graph; as text "frames uint8 [N, H, W, 3]".

    Attributes:
        name: in the graph.
        dtype: of its values, "uint8" or "float32".
        shape: the size of each axis in the order of ``AXES``, None where any size will do.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = (
            axis if size is None else str(size)
            for axis, size in zip(AXES, self.shape, strict=False)
        )
        return f"{self.name} {self.dtype} [{', '.join(sizes)}]"


def inputs_of(contract: Contract) -> tuple[Port, ...]:
    """The inputs of a model file's graph, in the graph's order.

    For kind "image" these are ``frames`` uint8 [N, H, W, C]; for kind "modality" ``frames``
    float32 [N, H, W, 1] and ``mean`` and ``std`` float32 [N]. N, H and W are None unless the
    contract's form fixes them.
    """
    form = contract.form
    height, width = form.size or (None, None)
    shape = (form.batch, height, width, contract.channels)
    if contract.kind == "image":
        return (Port("frames", "uint8", shape),)
    return (
        Port("frames", "float32", shape),
        Port("mean", "float32", (form.batch,)),
        Port("std", "float32", (form.batch,)),
    )


def outputs_of(contract: Contract) -> tuple[Port, ...]:
    """The outputs of a model file's graph, in the graph's order.

    ``score`` float32 [N], and ``anomaly_map`` float32 [N, side, side] or [N, H, W] where the
    contract's form has one.
    """
    form = contract.form
    score = Port("score", "float32", (form.batch,))
    if form.anomaly_map is None:
        return (score,)
    height, width = form.size or (None, None)
    if form.anomaly_map == "network":
        height = width = contract.side
    return score, Port("anomaly_map", "float32", (form.batch, height, width))


def check_size(height: int, width: int, what: str) -> None:
    """Refuse a frame without pixels or beyond 8192 x 8192; ``what`` names it in the message.

    Raises:
        FrameError: the size is refused.
    """
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise FrameError(
            f"{what} is {width} x {height} pixels, and a frame has 1 x 1 to {MAX_SIDE} x {MAX_SIDE}"
        )
