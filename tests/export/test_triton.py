"""The model repository of Triton: its configuration by Triton's own schema."""

import dataclasses
import importlib.util
import json

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format

from adae_edge.acquisition import Acquisition
from adae_edge.calibration import calibrate
from adae_edge.contract import Form
from adae_edge.errors import UsageError
from adae_edge.export.exporter import export
from adae_edge.export.triton import config, write_repository
from adae_edge.formats import modelfile
from adae_edge.runtime import Scorer
from tests.support.environments import unpacked
from tests.support.models import complaints, run, slice_model

TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


@pytest.fixture(scope="module")
def parse(tmp_path_factory):
    """Reads a config.pbtxt as Triton's ModelConfig, whose schema NVIDIA publishes in its client."""
    package = unpacked(tmp_path_factory.mktemp("client"), "tritonclient>=2.60,<3")
    schema = (
        package / "tritonclient" / "grpc" / "model_config_pb2.py"
    )  # alone: its neighbours import gRPC
    spec = importlib.util.spec_from_file_location("model_config_pb2", schema)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda path: text_format.Parse(path.read_text(), module.ModelConfig())


def declared(tensors):
    """What a configuration says of tensors: type, and sizes after the batch."""
    return {
        tensor.name: (
            tensor.DESCRIPTOR.fields_by_name["data_type"]
            .enum_type.values_by_number[tensor.data_type]
            .name,
            list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims),
        )
        for tensor in tensors
    }


def taken(arguments, batched):
    """What a model file takes or returns, as ONNX Runtime reads it.

    The backend wants the batch free, or no batching.
    """
    found = {}
    for argument in arguments:
        sizes = [size if isinstance(size, int) else -1 for size in argument.shape]
        if batched:
            assert sizes[0] == -1
        found[argument.name] = (TYPES[argument.type], sizes[batched:])
    return found


def agree(place, said):
    """Whether the configuration declares what the model file beside it takes and returns."""
    session = onnxruntime.InferenceSession(
        place / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    contract = modelfile.read(place / "1" / "model.onnx").contract
    batched = contract.form.batch is None
    assert (said.name, said.backend) == (place.name, "onnxruntime")
    assert said.max_batch_size == (64 if batched else 0)
    assert said.HasField("dynamic_batching") == batched
    assert declared(said.input) == taken(session.get_inputs(), batched)
    assert declared(said.output) == taken(session.get_outputs(), batched)
    for tensor in (*said.input, *said.output):
        assert len(tensor.dims) > 0  # Triton knows no empty shape
        if tensor.HasField("reshape"):
            assert (list(tensor.dims), list(tensor.reshape.shape)) == ([1], [])
    assert float(said.parameters["threshold"].string_value) == contract.calibration.threshold
    assert ("acquisitions" in said.parameters) == (contract.kind == "modality")


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("slices", Form(anomaly_map="network")),
        ("colour", Form(size=(40, 56), batch=3, anomaly_map="frame")),
    ],
    ids=["slices", "colour of one size in threes"],
)
def test_the_configuration_declares_what_the_model_file_takes(
    checkpoints, parse, kind, form, tmp_path
):
    exported = export(checkpoints(kind), tmp_path / "m.onnx", form=form)
    place = write_repository(
        "name", exported.contract, (tmp_path / "m.onnx").read_bytes(), tmp_path
    )
    agree(place, parse(place / "config.pbtxt"))


def test_an_export_writes_a_repository_whose_largest_batch_scores_as_single_frames(
    checkpoints, parse, tmp_path
):
    options = ["--out", "m.onnx", "--anomaly-map", "frame", "--triton", "models"]
    done = run("export", checkpoints("digits"), *options, cwd=tmp_path)
    assert (done.returncode, complaints(done)) == (0, [])
    assert done.stdout.splitlines()[-1] == "wrote models/m"
    place = tmp_path / "models" / "m"
    written = {str(path.relative_to(place)) for path in place.rglob("*")}
    assert written == {"config.pbtxt", "1", "1/model.onnx"}
    assert (place / "1" / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    said = parse(place / "config.pbtxt")
    agree(place, said)
    frames = np.random.default_rng(0).integers(0, 256, (said.max_batch_size, 9, 7, 1), np.uint8)
    session = onnxruntime.InferenceSession(
        place / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(["score"], {"frames": frames})
    scorer = Scorer(tmp_path / "m.onnx")
    assert scores == pytest.approx([scorer.score(frame[None])[0] for frame in frames], rel=1e-5)


def test_a_model_of_slices_says_on_what_it_was_calibrated(parse, tmp_path):
    known = Acquisition(
        'SIEMENS "x"', None, 3.0, "GR\\IR SP 3D", 2300.0, 2.98, 900.0, 9.0, (1, 1, 1)
    )
    contract = modelfile.check(slice_model([known])).contract
    (tmp_path / "config.pbtxt").write_text(config("m", contract))
    said = parse(tmp_path / "config.pbtxt").parameters["acquisitions"].string_value
    (found,) = json.loads(said)
    assert Acquisition(**found | {"spacing": tuple(found["spacing"])}) == known


def test_a_name_with_quotes_is_the_name_that_triton_reads(contract, parse, tmp_path):
    (tmp_path / "config.pbtxt").write_text(config('a "b" \\ ü', contract))
    assert parse(tmp_path / "config.pbtxt").name == 'a "b" \\ ü'


def test_what_it_wrote_is_replaced_and_nothing_else(contract, small_model, tmp_path):
    repository = tmp_path / "models"
    place = write_repository("m", contract, small_model, repository)
    (place / "labels.txt").write_text("mine")
    moved = dataclasses.replace(
        contract, calibration=calibrate(np.linspace(5, 6, 400, dtype=np.float32))
    )
    model = modelfile.with_contract(small_model, moved)
    assert write_repository("m", moved, model, repository) == place
    assert (place / "1" / "model.onnx").read_bytes() == model
    assert (place / "config.pbtxt").read_text() == config("m", moved)
    assert (place / "labels.txt").read_text() == "mine"
    write_repository("other", contract, small_model, repository)
    assert sorted(path.name for path in repository.iterdir()) == ["m", "other"]


@pytest.mark.parametrize("how", ["configured", "calibrated", "foreign", "unconfigured"])
def test_what_somebody_changed_or_put_there_is_refused(contract, small_model, how, tmp_path):
    place = write_repository("m", contract, small_model, tmp_path)
    if how == "configured":
        with (place / "config.pbtxt").open("a") as file:
            file.write("instance_group { kind: KIND_CPU }\n")
    elif how == "calibrated":
        moved = dataclasses.replace(
            contract, calibration=calibrate(np.linspace(5, 6, 400, dtype=np.float32))
        )
        (place / "1" / "model.onnx").write_bytes(modelfile.with_contract(small_model, moved))
    elif how == "foreign":
        (place / "1" / "model.onnx").write_bytes(b"another")
    else:
        (place / "config.pbtxt").unlink()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="m has files that are not as --triton writes them"):
        write_repository("m", contract, small_model, tmp_path)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_nothing_is_exported_if_the_repository_would_be_refused(tmp_path):
    """The gate takes its time, so this is found out before the checkpoint is even read."""
    (tmp_path / "taken").write_text("")
    for out, folder, sentence in (
        ("m.onnx", "taken", "taken is no folder"),
        ("a\nb.onnx", ".", "is not printable"),
    ):
        done = run("export", "nowhere.safetensors", "--out", out, "--triton", folder, cwd=tmp_path)
        assert done.returncode == 2
        (complaint,) = complaints(done)
        assert sentence in complaint
    done = run("export", "nowhere.safetensors", "--triton", "models", cwd=tmp_path)
    assert done.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
