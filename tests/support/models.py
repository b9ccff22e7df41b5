"""A model file whose scores can be told beforehand, and what scores with it as a user does."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from adae_edge.benchmarks.peers.numbers import a_contract
from adae_edge.contract import Form
from adae_edge.decoding.rules import rules_of
from adae_edge.formats import modelfile

# What takes longer than this many seconds hangs; a busy machine needs a part of it.
HANGS_S = 300
# As for most users: the standard output of a command is buffered.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def as_schema_1(contract):
    """Its JSON fields as a file of schema 1 has them: without what later schemas added."""
    fields = as_schema_4(contract) | {"schema": 1}
    for name in ("z_range", "modality", "window", "graph"):
        del fields[name]
    del fields["calibration"]["confidence"]
    return fields


def as_schema_6(contract):
    """Its JSON fields as a file of schema 6 has them."""
    fields = json.loads(contract.to_json()) | {"schema": 6}
    del fields["calibration"]["greys"], fields["calibration"]["whites"]
    return fields


def as_schema_5(contract):
    """Its JSON fields as a file of schema 5 has them."""
    fields = as_schema_6(contract) | {"schema": 5}
    del fields["object"], fields["field_of_view"], fields["acquisitions"]
    return fields


def as_schema_4(contract):
    """Its JSON fields as a file of schema 4 has them; 2 and 3 have the same, or fewer."""
    fields = as_schema_5(contract) | {"schema": 4}
    del (
        fields["bits"],
        fields["decoding"],
        fields["measured"],
        fields["calibration"]["map_threshold"],
    )
    return fields


def mean_model(channels=1, threshold=100.0, region=None, last="Identity"):
    """The bytes of a model file that scores a frame by the mean of its values, after ``last``."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
            helper.make_node(last, ["mean"], ["score"]),
        ],
        "mean",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "H", "W", channels])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([1, 2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    contract = a_contract(channels, threshold, region)
    return modelfile.with_contract(model.SerializeToString(), contract)


def slice_model(acquisitions=(), threshold=100.0, last="Identity"):
    """The bytes of a model of slices: the mean of a slice in standard deviations, with a map.

    ``last`` is done with the score at the end.
    """
    sizes = ["N", "H", "W"]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["frames", "axes"], ["level"], keepdims=0),
            helper.make_node("Sub", ["level", "mean"], ["moved"]),
            helper.make_node("Div", ["moved", "std"], ["deviation"]),
            helper.make_node(last, ["deviation"], ["score"]),
            helper.make_node("Squeeze", ["frames", "last"], ["anomaly_map"]),
        ],
        "slices",
        [
            helper.make_tensor_value_info("frames", TensorProto.FLOAT, [*sizes, 1]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("std", TensorProto.FLOAT, ["N"]),
        ],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, sizes),
        ],
        [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([3]), "last"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    contract = a_contract(1, threshold)
    calibration = replace(contract.calibration, map_threshold=threshold)
    contract = replace(
        contract.with_calibration(calibration),
        kind="modality",
        z_range=5.0,
        object="head",
        acquisitions=tuple(acquisitions),
        decoding=rules_of("modality"),
        form=Form(anomaly_map="frame"),
    )
    return modelfile.with_contract(model.SerializeToString(), contract)


def command(*arguments):
    return [sys.executable, "-m", "adae_edge", *map(str, arguments)]


def run(*arguments, cwd, **environment):
    """Run the command to its end; its output and its errors are text."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=BUFFERED | environment,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )


def complaints(process):
    """The complaints among its errors; a traceback, or anything else unforeseen, fails."""
    lines = process.stderr.splitlines()
    known = [line for line in lines if line.startswith("adae-edge: ") or " frames scored, " in line]
    assert lines == known
    return [line.removeprefix("adae-edge: ") for line in lines if line.startswith("adae-edge: ")]


def summary_of(process):
    """The line that a run says at its end."""
    (line,) = [line for line in process.stderr.splitlines() if " frames scored, " in line]
    return line


def json_rows(path):
    """The rows of frames and events in a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def frame_rows(path):
    """The rows of frames in a file of JSON Lines."""
    return [row for row in json_rows(path) if "event" not in row]


_LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from adae_edge.cli import main
main()
"""


def run_limited(limit, *arguments, cwd):
    """Run the command where no file can have more bytes, which is how a full disk looks."""
    return subprocess.run(
        [sys.executable, "-c", _LIMITED, str(limit), *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )


def many_pictures(folder, count=400):
    """A folder that takes seconds to score: one large picture under many names."""
    folder.mkdir()
    first = folder / "000.png"
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700), np.uint8)
    Image.fromarray(pixels).save(first, compress_level=1)
    for number in range(1, count):
        (folder / f"{number:03}.png").hardlink_to(first)
    return folder


def when_rows(path, process, count=5):
    """Wait until a running command has written this many rows."""
    deadline = time.monotonic() + HANGS_S
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.005)
