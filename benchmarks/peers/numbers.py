"""Numbered pictures, and a model file whose score is the number of the picture that it sees.

A picture is 8 by 6 blocks, black or white: 24 bits of a number, the highest first, and then the
same bits inverted. So every row tells which frame it is about, and a frame that nobody sent is
told from one that somebody did: the model scores it -1.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from adae_edge.benchmarks.peers.processes import program
from adae_edge.contract import QUANTILES, Calibration, Contract, Form, Network, Region
from adae_edge.decoding.rules import rules_of
from adae_edge.formats import modelfile

COLUMNS, ROWS, BITS = 8, 6, 24
NO_NUMBER = -1.0


def picture(number: int, width: int = 640, height: int = 360) -> NDArray[np.uint8]:
    """A numbered picture, uint8 [height, width]."""
    bits = [int(bit) for bit in format(number, f"0{BITS}b")]
    blocks = np.array([*bits, *(1 - bit for bit in bits)], np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return blocks[rows][:, columns] * 255


def write_clip(
    path: Path,
    numbers: Iterable[int],
    options: Sequence[object] = ("-c:v", "libx264", "-g", 30, "-bf", 0),
    size: tuple[int, int] = (640, 360),
    fps: int = 30,
) -> Path:
    """Write numbered pictures as a video by ffmpeg.

    Raises:
        MissingPeer: there is no ffmpeg.
    """
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{size[0]}x{size[1]}", "-r", fps, "-i", "-"]
    command = [program("ffmpeg"), "-v", "error", "-y", *raw, "-pix_fmt", "yuv420p", *options, path]
    content = b"".join(picture(number, *size).tobytes() for number in numbers)
    subprocess.run([*map(str, command)], input=content, check=True)  # noqa: S603
    return path


def model(work: int = 0, threshold: float = 2.0**23) -> bytes:
    """The bytes of a model file whose score is the picture's number, or ``NO_NUMBER``.

    Args:
        work: how much it computes besides, to be slow; 1 takes some 10 ms.
        threshold: in the contract.
    """
    weights = (2.0 ** np.arange(BITS - 1, -1, -1)).astype(np.float32)
    constants = {
        "grid": _grid(),
        "picture": np.array([1, 2, 3]),
        "zero": np.array(0, np.float32),
        "blocks": np.array([-1, ROWS, 8, COLUMNS, 8]),
        "rows": np.array([-1, ROWS * COLUMNS * 64]),
        "flat": np.array([-1, ROWS * COLUMNS]),
        "channel": np.array([3]),
        "inside": np.array([2, 4]),
        "from": np.array([2, 2]),
        "to": np.array([6, 6]),
        "halves": np.array([BITS, BITS]),
        "all": np.array([1]),
        "black": np.array(90, np.float32),
        "white": np.array(165, np.float32),
        "one": np.array(1, np.float32),
        "weights": weights,
    }
    nodes = [
        # the middle of each block, 4 by 4 points
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "channel"], ["grey"]),
        helper.make_node("Transpose", ["grey"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMin", ["planes", "picture"], ["darkest_point"]),
        helper.make_node("Mul", ["darkest_point", "zero"], ["no_move"]),
        helper.make_node("Add", ["grid", "no_move"], ["places"]),
        helper.make_node("GridSample", ["planes", "places"], ["points"], mode="nearest"),
        helper.make_node("Reshape", ["points", "blocks"], ["apart"]),
        helper.make_node("Slice", ["apart", "from", "to", "inside"], ["middles"]),
        helper.make_node("ReduceMin", ["middles", "inside"], ["darkest"], keepdims=0),
        helper.make_node("ReduceMax", ["middles", "inside"], ["brightest"], keepdims=0),
        # bits, and whether all of them are clear
        helper.make_node("Greater", ["darkest", "white"], ["is_white"]),
        helper.make_node("Less", ["brightest", "black"], ["is_black"]),
        helper.make_node("Or", ["is_white", "is_black"], ["is_clear"]),
        helper.make_node("Cast", ["is_clear"], ["clear"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["is_white"], ["bits"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["clear", "flat"], ["flat_clear"]),
        helper.make_node("Reshape", ["bits", "flat"], ["flat_bits"]),
        helper.make_node("Split", ["flat_bits", "halves"], ["upper", "lower"], axis=1),
        helper.make_node("Sub", ["upper", "lower"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["inverted"]),
        helper.make_node("ReduceMin", ["flat_clear", "all"], ["all_clear"], keepdims=0),
        helper.make_node("ReduceMin", ["inverted", "all"], ["all_inverted"], keepdims=0),
        helper.make_node("Mul", ["all_clear", "all_inverted"], ["valid"]),
        # the number, or -1
        helper.make_node("Mul", ["upper", "weights"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "all"], ["number"], keepdims=0),
        helper.make_node("Add", ["number", "one"], ["next"]),
        helper.make_node("Mul", ["next", "valid"], ["next_or_0"]),
        helper.make_node("Sub", ["next_or_0", "one"], ["told"]),
    ]
    nodes += _idle_work(work, constants)
    graph = helper.make_graph(
        nodes,
        "numbers",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    return modelfile.with_contract(made.SerializeToString(), a_contract(3, threshold))


def _idle_work(work: int, constants: dict[str, NDArray[np.generic]]) -> list[NodeProto]:
    """Nodes from "told" to "score" that change nothing and take their time."""
    if not work:
        return [helper.make_node("Identity", ["told"], ["score"])]
    wide = np.full((COLUMNS * 8, 8192), 1 / 512, np.float32)
    constants |= {"wide": wide, "narrow": wide.T.copy()}
    nodes = []
    for number in range(work):
        before = f"work_{number}" if number else "points"
        nodes += [
            helper.make_node("MatMul", [before, "wide"], [f"wide_{number}"]),
            helper.make_node("MatMul", [f"wide_{number}", "narrow"], [f"work_{number + 1}"]),
        ]
    return [
        *nodes,
        helper.make_node("Reshape", [f"work_{work}", "rows"], ["row"]),
        helper.make_node("ReduceMin", ["row", "all"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nought"]),
        helper.make_node("Add", ["told", "nought"], ["score"]),
    ]


def _grid() -> NDArray[np.float32]:
    """Where 8 by 8 points of each block lie, float32 [1, 48, 64, 2], for GridSample."""
    rows = (np.arange(ROWS * 8) + 0.5) / (ROWS * 4) - 1
    columns = (np.arange(COLUMNS * 8) + 0.5) / (COLUMNS * 4) - 1
    return np.stack(np.meshgrid(columns, rows), -1)[None].astype(np.float32)


def a_contract(
    channels: int = 1, threshold: float = 100.0, region: Region | None = None
) -> Contract:
    """A valid contract of a model file for pictures."""
    calibration = Calibration(
        threshold=threshold,
        target_fpr=0.01,
        confidence=0.95,
        normals=400,
        quantiles=tuple(np.linspace(0, threshold, QUANTILES).tolist()),
    )
    return Contract(
        kind="image",
        channels=channels,
        side=32,
        resize="stretch",
        pad_value=0.0,
        region=region,
        network=Network(16, 32),
        score="l2",
        calibration=calibration,
        weights_sha256="0" * 64,
        data_sha256="1" * 64,
        version="0.1.0",
        decoding=rules_of("image"),
        form=Form(),
    )
