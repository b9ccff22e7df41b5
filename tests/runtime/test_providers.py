"""ONNX Runtime's other packages, installed for real: equal scores, and nothing falls back."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.runtime import Scorer
from adae_edge.train.data.opening import load_dataset
from tests.support.environments import environment
from tests.support.models import BUFFERED, a_contract, mean_model
from tests.support.volumes import head

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="these packages are for Linux on x86-64",
)

# Scores every array of an .npz file in its own process and writes the scores to another; several
# sizes in one session.
SCORING = """
import os, sys
import numpy as np
from adae_edge.runtime import Scorer
model, frames, scores, device = sys.argv[1:]
scorer = Scorer(model, device, threads=2)
named = np.load(frames)
scored = {}
for name in sorted(name for name in named.files if name.startswith("frames")):
    parts = [name.replace("frames", part) for part in ("frames", "mean", "std")]
    inputs = [named[part] for part in parts if part in named]
    count = len(inputs[0])
    for size in (1, 2, 7, count):
        places = [slice(index, index + size) for index in range(0, count, size)]
        parts = [scorer.score(*(array[place] for array in inputs)) for place in places]
        scored[f"{name} in batches of {size}"] = np.concatenate(parts)
np.savez(scores, **scored)
for task in os.listdir("/proc/self/task"):
    assert os.sched_getaffinity(int(task)) == os.sched_getaffinity(0)
print(scorer.backend.name)
"""


def run(python, *arguments, cwd):
    home = {"HOME": str(cwd)}
    return subprocess.run(
        [str(python), *map(str, arguments)],
        cwd=cwd,
        env=BUFFERED | home,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def openvino(wheel, tmp_path_factory):
    return environment(tmp_path_factory.mktemp("openvino") / "environment", f"{wheel}[openvino]")


@pytest.fixture(scope="module")
def gpu(wheel, tmp_path_factory):
    if Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    return environment(tmp_path_factory.mktemp("gpu") / "environment", f"{wheel}[gpu]")


def digits():
    """Frames for a model with the score density, of two Gaussians: real, and of other sizes."""
    random = np.random.default_rng(0)
    frames = [np.stack([load_dataset("digits", 0).frames[index] for index in range(60)])]
    for shape in ((31, 33, 1), (480, 640, 1), (333, 47, 1)):
        frames.append(random.integers(0, 256, (9, *shape), np.uint8))
        frames[-1][0], frames[-1][1] = 0, 255
    return {f"frames{number}": array for number, array in enumerate(frames)}


def slices():
    """Slices of a tumour, for a model of brain volumes with the paper's score that never saw it."""
    volume = head(77, tumour=True)[0].astype(np.float32)
    found = {}
    for number, axis in enumerate((2, 0)):
        frames = np.ascontiguousarray(np.moveaxis(volume, axis, 0)[8:17, ..., None])
        found[f"frames{number}"] = frames
        found[f"mean{number}"] = np.full(len(frames), volume[volume != 0].mean(), np.float32)
        found[f"std{number}"] = np.full(len(frames), volume[volume != 0].std(), np.float32)
    return found


@pytest.mark.parametrize(("kind", "made"), [("density", digits), ("slices", slices)])
def test_openvino_gives_the_scores_of_the_cpu(openvino, checkpoints, tmp_path, kind, made):
    inputs = made()
    export(checkpoints(kind), tmp_path / "m.onnx")
    np.savez(tmp_path / "frames.npz", **inputs)
    here = tmp_path / "here"
    here.mkdir()
    done = run(openvino, "-c", SCORING, "../m.onnx", "../frames.npz", "s.npz", "openvino", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("OpenVINOExecutionProvider\n")
    assert (done.stderr, [path.name for path in here.iterdir()]) == ("", ["s.npz"])
    scorer = Scorer(tmp_path / "m.onnx")
    scores = np.load(here / "s.npz")
    assert len(scores.files) == 4 * sum(name.startswith("frames") for name in inputs)
    for name in scores.files:
        number = name.split(" ")[0].removeprefix("frames")
        parts = [
            inputs[f"{part}{number}"]
            for part in ("frames", "mean", "std")
            if f"{part}{number}" in inputs
        ]
        np.testing.assert_allclose(scores[name], scorer.score(*parts), rtol=1e-5, err_msg=name)


def test_openvino_refuses_what_it_would_leave_to_the_cpu_or_compute_wrongly(openvino, tmp_path):
    """Of a float32 product it takes every operator, so that only the last one is at fault."""
    axes = numpy_helper.from_array(np.array([1, 2, 3]), "axes")
    refused = {
        "would run MatMul elsewhere": (TensorProto.DOUBLE, "ReduceMean"),
        "computes ReduceLogSumExp wrongly": (TensorProto.FLOAT, "ReduceLogSumExp"),
    }
    for number, (sentence, (precision, last)) in enumerate(refused.items()):
        one = numpy_helper.from_array(
            np.ones((1, 1), helper.tensor_dtype_to_np_dtype(precision)), "one"
        )
        nodes = [
            helper.make_node("Cast", ["frames"], ["values"], to=precision),
            helper.make_node("MatMul", ["values", "one"], ["product"]),
            helper.make_node("Cast", ["product"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Abs", ["float"], ["positive"]),
            helper.make_node(last, ["positive", "axes"], ["score"], keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", "H", "W", 1])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
            [axes, one],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(modelfile.with_contract(model.SerializeToString(), a_contract()))
        score = ["-m", "adae_edge", "score", path, tmp_path, "--device", "openvino"]
        done = run(openvino, *score, cwd=tmp_path)
        assert done.returncode == 1
        assert "openvino cannot be used, and nothing else is used in its place" in done.stderr
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there_is_never_the_cpu(gpu, tmp_path, device):
    """TensorRT's provider would fall back to the CPU with a line on the standard output."""
    (tmp_path / "m.onnx").write_bytes(mean_model())
    score = ["-m", "adae_edge", "score", tmp_path / "m.onnx", tmp_path, "--device", device]
    done = run(gpu, *score, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f"{device} cannot be used, and nothing else is used in its place: there is no NVIDIA driver"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1
