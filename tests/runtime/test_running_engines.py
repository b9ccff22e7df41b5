"""Running engines, as far as a machine without a GPU goes: what is refused, in which order, and with which words.

The packages are NVIDIA's own. That an engine's scores are its model file's takes a GPU, and is not
tested here.
"""

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from adae_edge.errors import UsageError
from adae_edge.formats import enginefile
from adae_edge.formats.enginefile import Engine
from adae_edge.runtime import Scorer
from tests.support.bindings import PACKAGES, install_bindings
from tests.support.environments import ROOT
from tests.support.models import a_contract, complaints, many_pictures, mean_model, run

rtx = pytest.importorskip("tensorrt_rtx_bindings")
cuda = pytest.importorskip("cuda.bindings.runtime")

REBUILD = "build it again on this machine, with adae-edge engine MODEL.onnx"
no_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")


def engine(**fields):
    about = {
        "contract": a_contract(), "flavour": "tensorrt_rtx", "version": rtx.__version__, "gpu": None,
        "compute_capability": "8.6,8.9", "onnx_sha256": "a" * 64, "options": {"batch": [1, 1, 16]}, "plan": b"plan",
    }  # fmt: skip
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
    code = (
        "import sys\nfrom adae_edge.errors import ModelFileError\nfrom adae_edge.runtime import "
        "Scorer\n"
        "try:\n    Scorer('m.engine')\nexcept ModelFileError as error:\n    print(error)\n"
        "assert not [name for name in sys.modules if name.startswith(('tensorrt', 'cuda', "
        "'onnxruntime'))]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
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
    code = (
        "import tensorrt_rtx_bindings as trt\nfrom adae_edge.tensorrt import log_of\nlog = "
        "log_of(trt)\n"
        "assert trt.Runtime(log).deserialize_cuda_engine(b'no plan' * 100) is None\nassert "
        "log.errors"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_tensorrt_without_its_libraries_is_refused(tmp_path, package):
    """As PyPI has it, where the libraries are not."""
    variables = install_bindings(tmp_path, package)
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
def test_real_bindings_know_every_name_that_the_backend_uses(tmp_path, package):
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
        variables = install_bindings(tmp_path, package)
    asked = json.dumps({name: sorted(attributes) for name, attributes in names.items()})
    code = (
        f"import json, {module} as trt\n"
        f"for name, attributes in json.loads({asked!r}).items():\n"
        "    owner = getattr(trt, name) if name else trt\n"
        "    print(*[f'{name}.{attribute}' for attribute in attributes if not hasattr(owner, "
        "attribute)], end='')"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_cuda_knows_every_name_that_the_backend_uses():
    tree = ast.parse((ROOT / "runtime/backends/tensorrt.py").read_text())
    names = used(tree, {"cuda", "_cuda"})
    assert len(names) > 12
    for name in [*names, *used(tree, {"runtime"})]:
        assert name in ("alive",) or hasattr(cuda, name), name
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


def test_calibrate_gives_an_engine_a_new_contract_and_keeps_the_one_before(tmp_path, monkeypatch):
    """The scores are ONNX Runtime's here, as no engine can give any without a GPU."""
    from adae_edge.runtime import calibrate, scorer

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
