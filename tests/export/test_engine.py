"""Engines: built by TensorRT-RTX, which needs no GPU for that; TensorRT as far as its bindings go.

Whether an engine scores as its model file does takes a GPU, and is not tested here.
"""

import ast
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys

import pytest

from adae_edge.contract import Form, Region
from adae_edge.errors import (
    AdaeEdgeError,
    MissingExtra,
    ModelFileError,
    ParityError,
    UsageError,
)
from adae_edge.export import engine_gate, graph
from adae_edge.export.engine import build_engine
from adae_edge.export.engine_plan import half_layers
from adae_edge.export.engine_request import EngineRequest, choose_flavour, ranges
from adae_edge.export.references import real_frames
from adae_edge.formats import enginefile, modelfile, onnxgraph
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.gpu import first_gpu
from adae_edge.model import load_network
from tests.support.bindings import PACKAGES
from tests.support.checkout import ROOT
from tests.support.models import complaints, mean_model, run

AMPERE = EngineRequest(capabilities=("8.6",))


@pytest.fixture(scope="module")
def rtx():
    """The tests that build take TensorRT-RTX, which there is for Linux on x86-64 alone."""
    return pytest.importorskip("tensorrt_rtx_bindings")


@pytest.fixture(scope="module")
def exported(checkpoints, tmp_path_factory):
    """Model files of checkpoints by their form, without the gate, which takes its time."""
    folder = tmp_path_factory.mktemp("exported")

    def export(name, **form):
        out = folder / f"{name}-{'-'.join(map(str, form.values())) or 'plain'}.onnx"
        if not out.exists():
            checkpoint = Checkpoint.load(checkpoints(name))
            contract = dataclasses.replace(checkpoint.contract, form=Form(**form))
            real = real_frames(checkpoint, contract, None)
            out.write_bytes(graph.build(load_network(checkpoint), contract, real.normals[:4])[0])
        return out

    return export


@pytest.fixture(scope="module")
def model(exported):
    """A colour model in float16 that takes frames of any size."""
    return exported("colour", precision="fp16")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("digits", {}),
        ("digits", {"size": (8, 8), "batch": 4}),
        ("density", {"precision": "fp16"}),
        ("colour", {"target": "openvino"}),
        ("colour", {"precision": "fp16", "size": (480, 640), "anomaly_map": "frame"}),
        ("colour", {"precision": "int8", "target": "tensorrt"}),
        ("region", {"precision": "fp16", "anomaly_map": "network"}),
        ("slices", {}),
        ("slices", {"precision": "fp16", "size": (48, 40)}),
    ],
    ids=str,
)
def test_every_form_becomes_an_engine_that_says_what_it_is(rtx, exported, tmp_path, name, form):
    source, out = exported(name, **form), tmp_path / "m.engine"
    built = build_engine(source, out, AMPERE)
    engine = enginefile.read(out)
    assert engine == built.engine
    assert engine.contract == modelfile.read(source).contract
    assert (engine.flavour, engine.version, engine.gpu) == ("tensorrt_rtx", rtx.__version__, None)
    assert engine.compute_capabilities == ("8.6",)
    assert engine.onnx_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert built.bytes == out.stat().st_size > len(engine.plan) > 100_000
    assert built.half is None or first_gpu()
    if "size" in form:
        height, width = form["size"]
        assert engine.options["frame_size"] == [f"{width}x{height}"] * 3
    if "batch" in form:
        assert engine.options["batch"] == [form["batch"]] * 3
    assert names(tmp_path) == [
        "m.engine"
    ]  # TensorRT-RTX measures no kernels, so there is no .timing


def test_the_command_builds_for_several_gpus_and_says_what_was_built(rtx, model, tmp_path):
    (tmp_path / "m.onnx").write_bytes(model.read_bytes())
    arguments = ("--compute-capability", "8.6", "--compute-capability", "12.0", "--batch", "1,2,4")
    done = run("engine", "m.onnx", *arguments, "--frame-size", "56x40,64x48,320x240", cwd=tmp_path)
    assert (done.returncode, complaints(done)) == (0, [])
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"tensorrt_rtx {rtx.__version__} built it in ")
    assert lines[0].endswith("for any GPU of compute capability 8.6 or 12.0")
    assert lines[1] == "it takes frames of 56x40 to 320x240, best 64x48, 1 to 4 in a run, best 2"
    assert (
        first_gpu()
        or lines[2]
        == "the layers' precisions could not be inspected, for no GPU here loads the engine"
    )
    assert lines[3].startswith("wrote m.engine: ")
    engine = enginefile.read(tmp_path / "m.engine")
    assert engine.compute_capabilities == ("8.6", "12.0")
    assert 0 < engine.options.pop("build_s") < 600
    assert engine.options == {
        "batch": [1, 2, 4],
        "frame_size": ["56x40", "64x48", "320x240"],
        "workspace_mb": None,
    }


@pytest.mark.parametrize("stop", [KeyboardInterrupt, None])
def test_ctrl_c_leaves_the_old_file_and_no_other(rtx, model, tmp_path, stop, request):
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    out = tmp_path / "m.engine"
    out.write_bytes(b"old")

    def progress(seconds, phase):
        if stop:
            raise stop
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build_engine(model, out, AMPERE, progress)
    assert out.read_bytes() == b"old"
    assert names(tmp_path) == ["m.engine"]


@pytest.fixture
def scores_as(monkeypatch):
    """Let a model file, given by its bytes, score in the engine's place, which takes a GPU."""
    scorer = engine_gate.Scorer
    monkeypatch.setattr("adae_edge.export.engine.half_layers_of", lambda trt, log, plan: (1, 3))

    def stand_in(data):
        def opened(file):
            return scorer(modelfile.check(data) if isinstance(file, enginefile.Engine) else file)

        monkeypatch.setattr(engine_gate, "Scorer", opened)

    return stand_in


def test_an_engine_that_fails_its_comparison_never_replaces_a_good_one(rtx, scores_as, tmp_path):
    source, out = tmp_path / "m.onnx", tmp_path / "m.engine"
    source.write_bytes(mean_model())
    scores_as(mean_model())
    built = build_engine(source, None, AMPERE)
    assert built.parity == (13, 0)
    assert built.lines().splitlines()[2:4] == [
        "1 of 3 layers give float16",
        "parity: 13 scores of extreme frames, at most 0.0e+00 from ONNX Runtime's",
    ]
    good = out.read_bytes()
    scores_as(mean_model(last="Sqrt"))
    with pytest.raises(ParityError, match=r"white frame as 15\.9687 where .* nothing was written"):
        build_engine(source, out, dataclasses.replace(AMPERE, batch=(1, 2, 4)))
    assert out.read_bytes() == good
    assert names(tmp_path) == ["m.engine", "m.onnx"]


def test_an_engine_is_written_where_onnx_runtime_is_not(rtx, scores_as, tmp_path, monkeypatch):
    def missing(file):
        raise MissingExtra("Scoring", "cpu")

    scores_as(mean_model())
    monkeypatch.setattr(engine_gate, "Scorer", missing)
    (tmp_path / "m.onnx").write_bytes(mean_model())
    built = build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", AMPERE)
    assert built.parity is None
    assert "could not be compared, for ONNX Runtime is not installed" in built.lines()
    assert enginefile.read(tmp_path / "m.engine") == built.engine


def test_progress_says_what_is_done(rtx, model, tmp_path):
    heard = []
    build_engine(
        model, tmp_path / "m.engine", AMPERE, lambda seconds, phase: heard.append((seconds, phase))
    )
    assert len(heard) >= 1
    assert heard[0][0] < heard[-1][0] or len(heard) == 1
    assert all(phase == "starting" or ", step " in phase for _, phase in heard)


def test_a_gpu_that_tensorrt_rtx_does_not_know(rtx, model, tmp_path):
    for capability in ("9.0", "8.7", "86", "", "8.6,8.9"):
        with pytest.raises(
            UsageError,
            match=r"builds for the compute capabilities 7.5, 8.0, 8.6, .* is none of them",
        ):
            build_engine(model, tmp_path / "m.engine", EngineRequest(capabilities=(capability,)))
    assert not list(tmp_path.iterdir())


def test_no_gpu_here_and_none_named(rtx, model, tmp_path):
    if first_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(
        UsageError, match=r"finds no GPU here: .*, or name the GPU's with --compute-capability"
    ):
        build_engine(model, tmp_path / "m.engine", EngineRequest("tensorrt_rtx"))


def test_too_little_workspace(rtx, model, tmp_path):
    with pytest.raises(
        AdaeEdgeError, match="tensorrt_rtx lacks memory for this engine: give it more --workspace"
    ):
        build_engine(model, tmp_path / "m.engine", dataclasses.replace(AMPERE, workspace_mb=1))
    assert not list(tmp_path.iterdir())


def test_a_graph_that_tensorrt_cannot_take_is_named_with_its_node(rtx, tmp_path, monkeypatch):
    monkeypatch.setattr(onnxgraph, "OPERATORS", onnxgraph.OPERATORS | {"Det"})
    (tmp_path / "m.onnx").write_bytes(mean_model(last="Det"))
    with pytest.raises(
        ModelFileError, match=r"m\.onnx: TensorRT cannot take its operator Det"
    ) as caught:
        build_engine(tmp_path / "m.onnx", tmp_path / "m.engine", AMPERE)
    assert str(caught.value).isprintable()
    assert names(tmp_path) == ["m.onnx"]


def test_int8_as_onnx_runtime_wants_it_is_refused_with_the_command_that_helps(exported, tmp_path):
    source = exported("colour", precision="int8")
    with pytest.raises(
        UsageError, match="adae-edge export CHECKPOINT --precision int8 --target tensorrt"
    ):
        build_engine(source, tmp_path / "m.engine", AMPERE)


def test_files_that_cannot_be(model, tmp_path):
    with pytest.raises(UsageError, match="is the model file itself"):
        build_engine(model, model, AMPERE)
    with pytest.raises(UsageError, match="there is no folder"):
        build_engine(model, tmp_path / "nowhere" / "m.engine", AMPERE)
    with pytest.raises(UsageError, match="there is no model file"):
        build_engine(tmp_path / "absent.onnx", tmp_path / "m.engine", AMPERE)
    with pytest.raises(ModelFileError, match="is refused"):
        build_engine(checkpoint_of(tmp_path), tmp_path / "m.engine", AMPERE)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def checkpoint_of(folder):
    path = folder / "c.safetensors"
    path.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    return path


def test_tensorrt_builds_for_this_machine_alone():
    with pytest.raises(UsageError, match="for this machine's GPU alone"):
        choose_flavour(EngineRequest("tensorrt", ("8.6",)))
    with pytest.raises(
        UsageError, match="--flavour is tensorrt or tensorrt_rtx, and onnx is neither"
    ):
        choose_flavour(EngineRequest("onnx"))
    assert choose_flavour(AMPERE) == "tensorrt_rtx"


def test_without_tensorrt_the_line_that_installs_it_is_named(model, tmp_path):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('tensorrt', 'tensorrt_rtx', "
        "'tensorrt_rtx_bindings')))\n"
        "from adae_edge.cli import main; main()"
    )
    for options, sentence in (
        ((), "no TensorRT is installed: on a Jetson it comes with JetPack"),
        (("--flavour", "tensorrt"), "pip install 'adae-edge[tensorrt]'"),
        (("--compute-capability", "8.6"), "pip install 'adae-edge[tensorrt-rtx]'"),
    ):
        command = [sys.executable, "-c", code, "engine", str(model), "--out", "m.engine", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert MissingExtra.exit_code == 2


def test_building_loads_neither_torch_nor_onnx(rtx, model, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from adae_edge.export.engine import build_engine\n"
        "from adae_edge.export.engine_request import EngineRequest\n"
        "request = EngineRequest(capabilities=('8.6',))\n"
        f"build_engine(Path({str(model)!r}), Path('m.engine'), request)\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_ranges_follow_the_contract(contract):
    def of(wanted=AMPERE, form=None, **changed):
        return ranges(dataclasses.replace(contract, form=form or Form(), **changed), wanted)

    assert of() == ((1, 1, 32), ((8, 8), (480, 640), (1080, 1920)))
    assert of(channels=3)[0] == (1, 1, 8)
    assert of(kind="modality") == ((1, 1, 64), ((8, 8), (256, 256), (1024, 1024)))
    assert of(region=Region(1000, 20, 500, 700))[1] == ((720, 1500), (720, 1500), (1080, 1920))
    assert of(form=Form(size=(32, 32))) == ((1, 1, 256), ((32, 32),) * 3)
    assert of(form=Form(size=(8192, 8192))) == ((1, 1, 1), ((8192, 8192),) * 3)
    assert of(form=Form(batch=7))[0] == (7, 7, 7)
    assert of(dataclasses.replace(AMPERE, batch=(1, 2, 3)))[0] == (1, 2, 3)
    for wanted, form, region, why in (
        ({"batch": (1, 2, 3)}, Form(batch=7), None, "exported for 7 frames in every run"),
        (
            {"sizes": ((8, 8),) * 3},
            Form(size=(32, 32)),
            None,
            "exported for frames of 32x32 alone",
        ),
        ({"batch": (4, 2, 1)}, Form(), None, "--batch takes the smallest"),
        ({"batch": (0, 1, 1)}, Form(), None, "--batch takes the smallest"),
        ({"batch": (1, 1, 5000)}, Form(), None, "1 to 4096"),
        ({"sizes": ((9, 9), (8, 8), (9, 9))}, Form(), None, "--frame-size takes the smallest"),
        (
            {"sizes": ((9, 9),) * 3},
            Form(),
            Region(0, 0, 10, 5),
            "the model's region takes 10x5 at least",
        ),
    ):
        with pytest.raises(UsageError, match=why):
            of(dataclasses.replace(AMPERE, **wanted), form, region=region)


def test_the_share_of_float16_is_read_from_the_inspector_s_report():
    """In the form of TensorRT's documentation, because a real engine's inspector takes a GPU."""
    layers = [
        {"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": "Half"}]},
        {"Name": "b", "Outputs": [{"Name": "y", "Format/Datatype": "Channel major FP16 format"}]},
        {"Name": "c", "Outputs": [{"Name": "score", "Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "Outputs": []},
        "no details",
    ]
    assert half_layers(json.dumps({"Layers": layers, "Bindings": []})) == (2, 3)


# What the builder calls its objects, and their classes in TensorRT.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
}
RTX_ALONE = {
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}


def used_names():
    """Each name of TensorRT's that the builder uses, as "BuilderFlag.TF32"."""
    names = {"ICudaEngine.create_engine_inspector", "EngineInspector.get_engine_information"}
    names |= {
        "Runtime.deserialize_cuda_engine",
        "ITimingCache.serialize",
        "ILogger.INTERNAL_ERROR",
        "ILogger.ERROR",
    }
    names |= {
        "IProgressMonitor.phase_start",
        "IProgressMonitor.phase_finish",
        "IProgressMonitor.step_complete",
    }
    names |= {"NetworkDefinitionCreationFlag.STRONGLY_TYPED"}
    texts = [(ROOT / "export" / name).read_text() for name in ("engine.py", "engine_plan.py")]
    for node in ast.walk(ast.parse("\n".join(texts))):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            head, _, rest = text.partition(".")
            if head == "trt":
                names.add(".".join(rest.split(".")[:2]).partition("(")[0])
            elif head in CLASSES and rest.isidentifier():
                names.add(f"{CLASSES[head]}.{rest}")
    return {name.removesuffix(".__members__") for name in names}


def test_the_walk_sees_what_the_builder_uses():
    assert {
        "BuilderFlag.TF32",
        "IBuilderConfig.add_optimization_profile",
        "ParserError.node_operator",
    } < used_names()
    assert used_names() > RTX_ALONE


@pytest.mark.parametrize("package", PACKAGES)
def test_tensorrt_s_own_bindings_have_every_name_and_take_our_callbacks(
    tmp_path, bindings, package
):
    variables = bindings(package)
    code = (
        "import functools, json, sys\n"
        "import tensorrt_bindings as trt\n"
        "from adae_edge.errors import AdaeEdgeError\n"
        "from adae_edge.export import engine_plan\n"
        "from adae_edge.tensorrt import log_of\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    functools.reduce(getattr, name.split('.'), trt)\n"
        "log, monitor = log_of(trt), engine_plan._monitor(trt)\n"
        "log.log(trt.ILogger.ERROR, 'CUDA initialization failure with error: 35')\n"
        "monitor.phase_start('Building', None, 3)\n"
        "assert monitor.step_complete('Building', 1) and monitor.doing() == 'Building, step 2 of "
        "3'\n"
        "try:\n"
        "    engine_plan._builder(trt, log)\n"
        "except AdaeEdgeError as error:\n"
        "    print(trt.__version__, error)"
    )
    names = json.dumps(sorted(used_names() - RTX_ALONE))
    done = subprocess.run(
        [sys.executable, "-c", code, names],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version = package.partition("==")[2]
    assert (
        done.stdout
        == f"{version} TensorRT cannot be used here: CUDA initialization failure with error: 35\n"
    )


def test_bindings_without_their_libraries_are_explained(tmp_path, bindings, model):
    variables = bindings(PACKAGES[0])
    del variables["LD_LIBRARY_PATH"]
    (tmp_path / "tensorrt.py").write_text("from tensorrt_bindings import *\n")
    command = [sys.executable, "-m", "adae_edge", "engine", str(model), "--out", "m.engine"]
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "adae-edge: tensorrt is installed and cannot be loaded: libnvinfer.so.10: cannot"
    )
    assert done.stderr.count("\n") == 1
