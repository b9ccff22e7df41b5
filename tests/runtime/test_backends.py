"""Graphs that lie about what they take and return, or that fail while they run."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adae_edge.errors import AdaeEdgeError, ModelFileError, UsageError
from adae_edge.formats import modelfile
from adae_edge.runtime import Scorer
from adae_edge.runtime.backends.onnxruntime import DEVICES
from tests.support.models import mean_model, run


def model_file(
    path,
    contract,
    nodes,
    frames=(TensorProto.UINT8, ["N", "H", "W", 1]),
    score=(TensorProto.FLOAT, ["N"]),
    tensors=(),
):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", *frames)],
        [helper.make_tensor_value_info("score", *score)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(modelfile.with_contract(model.SerializeToString(), contract))
    return path


def test_other_types_and_ranks_than_the_contracts_are_refused(tmp_path, contract):
    floats = (TensorProto.FLOAT, ["N", "H", "W", 1])
    cast = helper.make_node("Cast", ["frames"], ["score"], to=TensorProto.FLOAT)
    refused = {
        "float": ([helper.make_node("Identity", ["frames"], ["score"])], floats, floats),
        "rank": ([cast], (TensorProto.UINT8, ["N", "H", "W", 1]), floats),
        "name": (
            [helper.make_node("Cast", ["frames"], ["other"], to=TensorProto.FLOAT), cast],
            (TensorProto.UINT8, ["N"]),
            floats,
        ),
    }
    for name, (nodes, frames, score) in refused.items():
        path = model_file(tmp_path / f"{name}.onnx", contract, nodes, frames, score)
        with pytest.raises(ModelFileError, match="does not take frames"):
            Scorer(path)


def test_a_graph_that_fails_while_it_runs_is_one_sentence(tmp_path, contract):
    shape = onnx.numpy_helper.from_array(np.array([7, 11]), "shape")
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["flat"], name="evil\x1b[31m\nnode"),
        helper.make_node("ReduceSum", ["flat"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "one"], ["score"]),
    ]
    one = onnx.numpy_helper.from_array(np.array([1]), "one")
    scorer = Scorer(model_file(tmp_path / "m.onnx", contract, nodes, tensors=[shape, one]))
    with pytest.raises(AdaeEdgeError, match="cannot be run") as failed:
        scorer.score(np.zeros((1, 5, 5, 1), np.uint8))
    assert str(failed.value).isprintable()


def test_a_score_for_each_frame_or_a_sentence(tmp_path, contract):
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["float"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "three"], ["score"]),
    ]
    three = onnx.numpy_helper.from_array(np.array([3]), "three")
    scorer = Scorer(model_file(tmp_path / "m.onnx", contract, nodes, tensors=[three]))
    assert scorer.score(np.zeros((3, 5, 5, 1), np.uint8)).shape == (3,)
    with pytest.raises(AdaeEdgeError, match="gives 3 scores for 2 frames"):
        scorer.score(np.zeros((2, 5, 5, 1), np.uint8))


def test_another_device_is_never_used_in_its_place(tmp_path, small_model):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    with pytest.raises(UsageError, match="no device tpu: choose cpu, cuda, tensorrt or openvino"):
        Scorer(path, device="tpu")


@pytest.mark.parametrize(
    ("device", "extra"), [("cuda", "gpu"), ("tensorrt", "gpu"), ("openvino", "openvino")]
)
def test_a_device_that_this_onnxruntime_has_not_names_its_package(tmp_path, device, extra):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    process = run("score", "m.onnx", ".", "--device", device, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert f"cannot run on {device}, which takes the package onnxruntime-{extra}" in process.stderr
    assert (
        "only one onnxruntime package can be installed at a time: pip uninstall onnxruntime "
        in process.stderr
    )
    assert process.stderr.endswith(f"then pip install 'adae-edge[{extra}]'\n")


@pytest.mark.parametrize("command", ["score", "calibrate", "bench"])
def test_the_help_names_every_device(tmp_path, command):
    help_of = run(command, "--help", cwd=tmp_path, COLUMNS="200").stdout
    assert all(device in help_of for device in DEVICES)


@pytest.mark.parametrize("threads", [0, -1, 257, 10**9])
def test_an_absurd_number_of_threads_is_refused(tmp_path, small_model, threads):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    with pytest.raises(UsageError, match="1 to 256 threads"):
        Scorer(path, threads=threads)


def test_a_model_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    from adae_edge.formats.files import write_atomically

    (tmp_path / "v1.onnx").write_bytes(b"old")
    (tmp_path / "current.onnx").symlink_to("v1.onnx")
    write_atomically(tmp_path / "current.onnx", b"new")
    assert (tmp_path / "current.onnx").is_symlink()
    assert (tmp_path / "v1.onnx").read_bytes() == b"new"
