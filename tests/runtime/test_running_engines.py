"""Running engines, as far as a machine without a GPU goes.

What is refused, in which order and with which words, is tested with NVIDIA's own packages. What the
backend does with memory and recordings is tested on an imitation of CUDA. That an engine's scores
are its model file's takes a GPU, and is not tested here.
"""

import ast
import dataclasses
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from adae_edge.contract import Form
from adae_edge.errors import DeviceError, FrameError, ModelFileError, UsageError
from adae_edge.formats import enginefile
from adae_edge.formats.enginefile import Engine
from adae_edge.gpu import Gpu
from adae_edge.runtime import Scorer, calibrate, scorer
from adae_edge.runtime.backends import tensorrt as backend
from tests.support import imitation
from tests.support.bindings import PACKAGES
from tests.support.checkout import ROOT
from tests.support.models import a_contract, complaints, many_pictures, mean_model, run

rtx = pytest.importorskip("tensorrt_rtx_bindings")
cuda = pytest.importorskip("cuda.bindings.runtime")

# Loads an engine, and says why it is refused.
LOADING = """
import sys
from adae_edge.errors import ModelFileError
from adae_edge.runtime import Scorer
try:
    Scorer("m.engine")
except ModelFileError as error:
    print(error)
heads = {name.partition(".")[0] for name in sys.modules}
assert heads.isdisjoint({"tensorrt", "tensorrt_rtx", "cuda", "onnxruntime"})
"""
LOADING_NO_PLAN = """
import tensorrt_rtx_bindings as trt
from adae_edge.tensorrt import log_of
log = log_of(trt)
assert trt.Runtime(log).deserialize_cuda_engine(b"no plan" * 100) is None
assert log.errors
"""
# Prints the names that a module's classes lack; "" stands for the module.
ASKING = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
for name, attributes in json.loads(sys.argv[2]).items():
    owner = getattr(module, name) if name else module
    missing = [attribute for attribute in attributes if not hasattr(owner, attribute)]
    print(*[f"{name}.{attribute}" for attribute in missing], end="")
"""
REBUILD = "build it again on this machine, with adae-edge engine MODEL.onnx"
no_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")


def engine(**fields):
    about = {
        "contract": a_contract(),
        "flavour": "tensorrt_rtx",
        "version": rtx.__version__,
        "gpu": None,
        "compute_capability": "8.6,8.9",
        "onnx_sha256": "a" * 64,
        "options": {"batch": [1, 1, 16]},
        "plan": b"plan",
    }
    return Engine(**about | fields)


def written(folder, **fields):
    path = folder / "m.engine"
    path.write_bytes(enginefile.to_bytes(engine(**fields)))
    return path


@pytest.mark.parametrize(
    "arguments", [("score", "FILE", "."), ("bench", "FILE"), ("calibrate", "FILE", ".")]
)
@no_gpu
def test_every_command_takes_an_engine_as_far_as_the_driver(tmp_path, arguments):
    path = written(tmp_path)
    many_pictures(tmp_path / "pictures", 1)
    done = run(*(path if argument == "FILE" else argument for argument in arguments), cwd=tmp_path)
    assert done.returncode == 1
    assert complaints(done) == [
        "an engine runs on an NVIDIA GPU, and there is no NVIDIA driver on this machine"
    ]
    assert done.stdout == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.engine", "pictures"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"version": "1.2.3"},
            f"it was built by tensorrt_rtx 1.2.3, and this machine has {rtx.__version__}",
        ),
        (
            {
                "flavour": "tensorrt",
                "version": "10.3.0",
                "gpu": "Orin",
                "compute_capability": "8.7",
            },
            "it was built by tensorrt 10.3.0, and this machine has tensorrt_rtx in its place",
        ),
    ],
)
def test_an_engine_of_another_machine_is_refused_with_the_command_that_rebuilds(
    tmp_path, fields, sentence
):
    path = written(tmp_path, **fields)
    done = run("score", path, tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert complaints(done) == [f"{path} is refused: {sentence}: {REBUILD}"]


def test_a_damaged_engine_is_refused_before_tensorrt_is_loaded(tmp_path):
    data = enginefile.to_bytes(engine())
    (tmp_path / "m.engine").write_bytes(data[:-1])
    command = [sys.executable, "-c", LOADING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("m.engine is refused: its plan has another length")


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"device": "cuda"}, {"threads": 2}])
def test_an_engine_has_its_own_gpu(tmp_path, options):
    with pytest.raises(
        UsageError, match=r"m\.engine is an engine, which has its own GPU: leave out --device and"
    ):
        Scorer(written(tmp_path), **options)


@pytest.mark.parametrize(
    ("hidden", "wanted"),
    [
        ("tensorrt_rtx_bindings", "adae-edge[tensorrt-rtx]"),
        ("cuda.bindings", "cuda-bindings==13.*"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(tmp_path, hidden, wanted):
    written(tmp_path)
    code = f"import sys; sys.modules['{hidden}'] = None; from adae_edge.cli import main; main()"
    command = [sys.executable, "-c", code, "score", "m.engine", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pip install '{wanted}'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_tensorrt_says_is_kept_and_not_printed():
    """Deserialising what is no plan fails with or without a GPU."""
    command = [sys.executable, "-c", LOADING_NO_PLAN]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_tensorrt_without_its_libraries_is_refused(tmp_path, bindings, package):
    """As PyPI has it, where the libraries are not."""
    variables = bindings(package)
    path = written(tmp_path, flavour="tensorrt", version=package.partition("==")[2])
    done = run("score", path, tmp_path, cwd=tmp_path, PYTHONPATH=variables["PYTHONPATH"])
    assert done.returncode == 1
    (complaint,) = complaints(done)
    assert complaint.startswith("tensorrt is installed and cannot be loaded: libnv")


def used(tree, names):
    """Attributes that the backend takes of variables of these names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = (
                node.value.attr
                if isinstance(node.value, ast.Attribute)
                else getattr(node.value, "id", None)
            )
            if owner in names:
                found.add(node.attr)
    return sorted(found)


@pytest.mark.parametrize("package", ["tensorrt_rtx_bindings", *PACKAGES])
def test_real_bindings_know_every_name_that_the_backend_uses(tmp_path, bindings, package):
    tree = ast.parse((ROOT / "runtime/backends/tensorrt.py").read_text())
    names = {
        "ICudaEngine": set(used(tree, {"plan", "_plan"})) - {"create_runtime_config"},
        "IExecutionContext": set(used(tree, {"_context"})),
        "Runtime": set(used(tree, {"_runtime"})),
        "": set(used(tree, {"trt"})) - {"DynamicShapesKernelSpecializationStrategy", "__version__"},
        "ExecutionContextAllocationStrategy": {"USER_MANAGED"},
        "TensorIOMode": {"INPUT", "OUTPUT"},
        "DataType": {"UINT8", "FLOAT"},
    }
    assert len(names["ICudaEngine"]) > 6
    assert len(names["IExecutionContext"]) > 4
    module = "tensorrt_bindings"
    variables = None
    if package == "tensorrt_rtx_bindings":
        module = package
        names["ICudaEngine"].add("create_runtime_config")
        names["IRuntimeConfig"] = set(used(tree, {"config"}))
        names[""].add("DynamicShapesKernelSpecializationStrategy")
    else:
        variables = bindings(package)
    asked = json.dumps({name: sorted(attributes) for name, attributes in names.items()})
    command = [sys.executable, "-W", "ignore", "-c", ASKING, module, asked]
    done = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_cuda_knows_every_name_that_the_backend_uses():
    tree = ast.parse((ROOT / "runtime/backends/tensorrt.py").read_text())
    names = used(tree, {"cuda", "_cuda"})
    assert len(names) > 12
    for name in [*names, *used(tree, {"runtime"})]:
        assert hasattr(cuda, name), name
    for name in used(tree, {"kinds"}):
        assert hasattr(cuda.cudaMemcpyKind, name)


def test_inspect_prints_the_header(tmp_path):
    done = run("inspect", written(tmp_path, gpu="NVIDIA RTX A4000"), cwd=tmp_path)
    assert done.returncode == 0
    assert (
        f"tensorrt_rtx {rtx.__version__}, NVIDIA RTX A4000 of compute capability 8.6 or 8.9"
        in done.stdout
    )
    assert "batch [1, 1, 16]" in done.stdout
    assert "a" * 64 in done.stdout
    assert "threshold  100, " in done.stdout
    asked = json.loads(run("inspect", "m.engine", "--json", cwd=tmp_path).stdout)
    assert (asked["compute_capability"], asked["contract"]["calibration"]["threshold"]) == (
        "8.6,8.9",
        100,
    )


def test_inspect_writes_the_plan_alone_and_refuses_what_has_none(tmp_path):
    path = written(tmp_path)
    before = path.read_bytes()
    assert run("inspect", path, "--plan", "p.plan", cwd=tmp_path).returncode == 0
    assert (tmp_path / "p.plan").read_bytes() == enginefile.read(path).plan
    (tmp_path / "m.onnx").write_bytes(mean_model())
    for model, plan, sentence in (
        ("m.onnx", "o.plan", "m.onnx is a model file, and only an engine has a plan"),
        ("m.engine", "m.engine", "m.engine is the engine itself: give the plan another name"),
        ("m.engine", "no/p.plan", "cannot write no/p.plan: there is no folder"),
    ):
        done = run("inspect", model, "--plan", plan, cwd=tmp_path)
        assert (done.returncode, len(complaints(done))) == (2, 1)
        assert sentence in complaints(done)[0]
    assert (path.read_bytes(), (tmp_path / "o.plan").exists()) == (before, False)


def test_calibrate_gives_an_engine_a_new_contract_and_keeps_the_one_before(tmp_path, monkeypatch):
    """The scores are ONNX Runtime's here, as no engine can give any without a GPU."""
    path, model = written(tmp_path), tmp_path / "m.onnx"
    before = path.read_bytes()
    model.write_bytes(mean_model())
    backend = Scorer(model).backend
    monkeypatch.setattr(scorer, "TensorRT", lambda engine: backend)
    many_pictures(tmp_path / "pictures", 400)
    done = calibrate.recalibrate(path, str(tmp_path / "pictures"), fpr=0.05)
    after = enginefile.read(path)
    assert after == dataclasses.replace(engine(), contract=done.contract)
    assert done.contract.calibration.normals == 400
    assert (tmp_path / "m.engine.previous").read_bytes() == before


PLAIN = Form()


@pytest.fixture
def imitated(monkeypatch):
    """An imitation of CUDA, and a function that gives a scorer of an engine that runs on it."""
    cuda = imitation.Cuda()
    monkeypatch.setattr(backend, "load_cuda", lambda: cuda)
    monkeypatch.setattr(backend, "first_gpu", lambda: Gpu("a GPU", imitation.CAPABILITY))

    def open_engine(form=PLAIN, **about):
        monkeypatch.setitem(sys.modules, "tensorrt", imitation.tensorrt(cuda, **about))
        fields = {"flavour": "tensorrt", "version": "0.0", "compute_capability": "9.9"}
        contract = dataclasses.replace(a_contract(), form=form)
        return Scorer(engine(contract=contract, **fields))

    return cuda, open_engine


def pictures(count, height=10, width=12):
    size = (count, height, width, 1)
    return np.random.default_rng(count).integers(0, 256, size, np.uint8)


def is_right(engine_scorer, frames):
    return np.allclose(engine_scorer.score(frames), frames.mean((1, 2, 3)), rtol=1e-6)


def test_every_size_is_recorded_once_and_the_latest_stay(imitated):
    cuda, open_engine = imitated
    with open_engine() as engine_scorer:
        assert engine_scorer.backend.name == "tensorrt 0.0 on a GPU"
        for count in (1, 2, 1, 2):
            assert is_right(engine_scorer, pictures(count))
        assert cuda.launches == 4
        recorded = len(cuda.held)
        for count in range(3, 3 + backend.MAX_RECORDED):
            assert is_right(engine_scorer, pictures(count))
        once = (recorded - 2) // 2  # beside the stream and the shared memory
        assert len(cuda.held) == 2 + once * backend.MAX_RECORDED
        assert is_right(engine_scorer, pictures(1))
        assert is_right(engine_scorer, pictures(70))  # more than a run takes
    assert cuda.held == {}


def test_a_map_is_copied_only_where_it_is_wanted(imitated):
    cuda, open_engine = imitated
    frames = pictures(3)
    mapped = open_engine(Form(anomaly_map="frame"), outputs=("score", "anomaly_map"))
    assert is_right(mapped, frames)
    scores, maps = mapped.score_with_map(frames)
    assert np.array_equal(maps, frames[..., 0])
    assert np.allclose(scores, frames.mean((1, 2, 3)), rtol=1e-6)
    mapped.close()
    assert cuda.held == {}


@pytest.mark.parametrize(
    ("form", "outputs"), [(Form(anomaly_map="frame"), ("score",)), (Form(), ("score", "x"))]
)
def test_a_plan_with_other_outputs_than_its_contracts_is_refused(imitated, form, outputs):
    _, open_engine = imitated
    with pytest.raises(ModelFileError, match="the file is refused: its plan takes and returns som"):
        open_engine(form, outputs=outputs)


def test_threads_wait_for_each_other(imitated):
    _, open_engine = imitated
    right = []

    def work(count):
        right.extend(is_right(engine_scorer, pictures(count)) for _ in range(50))

    with open_engine() as engine_scorer:
        threads = [threading.Thread(target=work, args=(1 + index % 3,)) for index in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 300


def test_a_closed_engine_says_so(imitated):
    cuda, open_engine = imitated
    engine_scorer = open_engine()
    engine_scorer.score(pictures(1))
    engine_scorer.close()
    engine_scorer.close()
    assert cuda.held == {}
    with pytest.raises(UsageError, match="the scorer is closed: open the file again"):
        engine_scorer.score(pictures(1))


def test_sizes_that_it_was_not_built_for_are_refused(imitated):
    _, open_engine = imitated
    sentence = "takes 1 to 64 frames of 8 x 8 to 64 x 64 pixels in a run, and this is 1 of 99 x 8"
    with open_engine() as engine_scorer, pytest.raises(FrameError, match=sentence):
        engine_scorer.score(pictures(1, 8, 99))


@pytest.mark.parametrize(
    "call",
    [
        "cudaMalloc",
        "cudaMallocHost",
        "cudaMemcpyAsync",
        "cudaStreamSynchronize",
        "cudaGraphInstantiate",
        "cudaGraphLaunch",
    ],
)
def test_a_gpu_that_fails_is_a_device_error_and_keeps_nothing(imitated, call):
    cuda, open_engine = imitated
    with open_engine() as engine_scorer:
        opened = len(cuda.held)
        cuda.failing = {call}
        with pytest.raises(DeviceError, match="the GPU failed: cudaErrorIllegalAddress"):
            engine_scorer.score(pictures(1))
        assert (len(cuda.held) == opened) == (call != "cudaGraphLaunch")
        cuda.failing = set()
    assert cuda.held == {}


def test_the_log_tells_of_loading_recording_and_closing(imitated, caplog):
    _, open_engine = imitated
    with caplog.at_level(logging.INFO, "adae_edge"):
        open_engine().close()
        with open_engine() as engine_scorer:
            engine_scorer.score(pictures(2))
    lines = [record.getMessage() for record in caplog.records]
    assert any("tensorrt 0.0 on a GPU loaded a plan of 4 bytes" in line for line in lines)
    assert any("recorded runs of 2 frames of 12 x 10 pixels" in line for line in lines)
    assert lines.count("tensorrt 0.0 on a GPU closed") == 2
