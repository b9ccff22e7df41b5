"""Graphs that lie about what they take and return, or fail while they run, and closed scorers."""

import errno
import logging
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from adae_edge.devices import DEVICES
from adae_edge.errors import DeviceError, ModelFileError, UsageError, WriteError
from adae_edge.formats import modelfile
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.runtime import Scorer
from adae_edge.runtime.backends import onnxruntime as backend
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
    with pytest.raises(DeviceError, match="cannot be run") as failed:
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
    with pytest.raises(DeviceError, match="gives 3 scores for 2 frames"):
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


def test_a_gpu_that_cannot_be_used_says_what_its_driver_says(monkeypatch):
    def none():
        raise DeviceError("the NVIDIA driver sees no GPU")

    cpp = "CUDA_CALL /onnxruntime_src/cuda_call.cc:129 CUDA failure 100: no CUDA-capable device"
    monkeypatch.setattr(backend, "ask_driver", none)
    told = "cannot be used, and nothing else is used in its place: the NVIDIA driver sees no GPU"
    for device in ("cuda", "tensorrt"):
        assert str(backend._unusable(device, cpp)) == f"{device} {told}"
    assert "sees no GPU" not in str(backend._unusable("openvino", "a library is missing"))
    monkeypatch.setattr(backend, "ask_driver", lambda: None)
    assert str(backend._unusable("cuda", "no library")).endswith("in its place: no library")


@pytest.mark.parametrize("threads", [0, -1, 257, 10**9])
def test_an_absurd_number_of_threads_is_refused(tmp_path, small_model, threads):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    with pytest.raises(UsageError, match="1 to 256 threads"):
        Scorer(path, threads=threads)


def test_a_closed_scorer_says_so(tmp_path, small_model):
    (tmp_path / "m.onnx").write_bytes(small_model)
    frames = np.ones((2, 5, 5, 1), np.uint8)
    with Scorer(tmp_path / "m.onnx") as scorer:
        assert scorer.score(frames).tolist() == [1, 1]
    scorer.close()
    with pytest.raises(UsageError, match="the scorer is closed: open the file again"):
        scorer.score(frames)
    with pytest.raises(UsageError, match="the scorer is closed"):
        _ = scorer.backend.session


def count_threads():
    return sum(1 for _ in Path("/proc/self/task").iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_closing_releases_the_graph(tmp_path, small_model):
    """A session has threads of its own, which are gone when it is."""
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    Scorer(path, threads=4).close()
    before = count_threads()
    scorer = Scorer(path, threads=4)
    scorer.score(np.ones((2, 5, 5, 1), np.uint8))
    assert count_threads() == before + 3
    scorer.close()
    assert count_threads() == before


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_large_batch_is_divided_among_threads_which_end(tmp_path, small_model):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    frames = np.random.default_rng(0).integers(0, 256, (70, 5, 6, 1), np.uint8)
    with Scorer(path, threads=1) as scorer:
        alone = scorer.score(frames)
        before = count_threads()
    with Scorer(path, threads=4) as scorer:
        undivided = count_threads()
        assert np.array_equal(scorer.score(frames[:31]), alone[:31])
        assert count_threads() == undivided
        for count in (32, 33, 70):
            assert np.array_equal(scorer.score(frames[:count]), alone[:count])
        assert count_threads() > undivided
    for _ in range(1000):
        if count_threads() == before:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count_threads()} threads are left of {before}")


def test_a_batch_whose_shares_fail_is_run_as_a_whole(tmp_path, contract, caplog):
    reshape = helper.make_node("Reshape", ["frames", "shape"], ["same"])
    cast = helper.make_node("Cast", ["same"], ["float"], to=TensorProto.FLOAT)
    sums = helper.make_node("ReduceSum", ["float", "axes"], ["score"], keepdims=0)
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [64, 4, 4, 1])
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    path = model_file(tmp_path / "m.onnx", contract, [reshape, cast, sums], tensors=[shape, axes])
    with Scorer(path, threads=2) as scorer:
        assert scorer.score(np.ones((64, 4, 4, 1), np.uint8)).tolist() == [16] * 64
        assert "batches are not divided any more" in caplog.text
        with pytest.raises(DeviceError, match="the graph cannot be run"):
            scorer.score(np.ones((128, 4, 4, 1), np.uint8))


def test_a_scorer_is_closed_while_another_thread_scores(tmp_path, small_model):
    (tmp_path / "m.onnx").write_bytes(small_model)
    scorer = Scorer(tmp_path / "m.onnx", threads=2)
    ends = []

    def work():
        try:
            while True:
                for count in (1, 99):
                    frames = np.ones((count, 5, 5, 1), np.uint8)
                    assert scorer.score(frames).tolist() == [1] * count
        except UsageError as error:
            ends.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    scorer.close()
    for thread in threads:
        thread.join(60)
    assert len(ends) == 3


def test_what_was_read_can_be_loaded_without_its_file(small_model):
    file = modelfile.check(small_model)
    with Scorer(file) as scorer:
        assert scorer.contract == file.contract
        assert scorer.score(np.ones((1, 5, 5, 1), np.uint8)).tolist() == [1]


def test_the_log_tells_what_runs_where(tmp_path, small_model, caplog):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    with caplog.at_level(logging.INFO, "adae_edge"):
        Scorer(path, threads=1).close()
    loaded, ready, closed = [record.getMessage() for record in caplog.records]
    assert loaded.startswith(f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider loaded")
    assert f"{path} scores frames of kind image by onnxruntime" in ready
    assert closed.endswith("CPUExecutionProvider closed")


def test_a_full_disk_is_a_write_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "m.json").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"cannot write .*m\.json: No space left") as failed:
        write_json(tmp_path / "m.json", {"new": 1})
    assert isinstance(failed.value.__cause__, OSError)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"m.json": b"old"}


def test_json_is_written_indented_with_a_line_end(tmp_path):
    write_json(tmp_path / "m.json", {"a": [1]})
    assert (tmp_path / "m.json").read_text() == '{\n  "a": [\n    1\n  ]\n}\n'


def test_a_model_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "v1.onnx").write_bytes(b"old")
    (tmp_path / "current.onnx").symlink_to("v1.onnx")
    write_atomically(tmp_path / "current.onnx", b"new")
    assert (tmp_path / "current.onnx").is_symlink()
    assert (tmp_path / "v1.onnx").read_bytes() == b"new"


def test_frames_of_ever_new_sizes_take_no_memory(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    resident = []
    with Scorer(tmp_path / "m.onnx") as scorer:
        for number in range(900):
            scorer.score(np.zeros((1, 20 + number % 30, 20 + number // 30, 1), np.uint8))
            if number % 300 == 299:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    assert resident[-1] - resident[0] < 5  # MB: 8 kB for each of 600 sizes
