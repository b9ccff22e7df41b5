"""The export: one self-contained graph, the same from anywhere, and a gate that refuses."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from adae_edge.contract import MAX_SIDE, Form
from adae_edge.errors import ParityError, UsageError
from adae_edge.export import exporter, extremes, graph
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.runtime import Scorer
from tests.support.pictures import write_pictures
from tests.support.trained import train_on

# The kind of a checkpoint, or how one is trained on pictures.
VARIANTS = {
    "grey": "digits",
    "colour, padded": {"epochs": 1, "resize": "pad", "pad_value": 114.0, "side": 64},
    "colour, region": "region",
    "network b": {"epochs": 1, "network": "b", "side": 32},
}


@pytest.fixture(scope="module", autouse=True)
def _largest_frame_of_all():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extremes, "LARGEST", MAX_SIDE)
        yield


@pytest.fixture(scope="module")
def exported(checkpoints, tmp_path_factory):
    """Each variant's trained network and exported file, made once."""
    made = {}

    def make(variant):
        if variant not in made:
            folder = tmp_path_factory.mktemp("exported")
            how = VARIANTS[variant]
            if isinstance(how, str):
                shutil.copy(checkpoints(how), folder)
            else:
                data = write_pictures(folder / "data", 60)
                train_on(str(data), folder / "c.safetensors", **how)
            result = exporter.export(folder / "c.safetensors", folder / "m.onnx")
            made[variant] = (
                load_network(Checkpoint.load(folder / "c.safetensors")),
                folder / "m.onnx",
                result,
            )
        return made[variant]

    return make


def frames_for(contract, count, height, width):
    return np.random.default_rng(0).integers(
        0, 256, (count, height, width, contract.channels), np.uint8
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_file_scores_as_the_network_alone_in_batches_and_in_any_order(exported, variant):
    model, path, _ = exported(variant)
    scorer = Scorer(path)
    for height, width in ((36, 47), (48, 64), (480, 640), (37, 600)):
        frames = frames_for(scorer.contract, 7, height, width)
        with torch.inference_mode():
            expected = model(torch.from_numpy(frames)).numpy()
        together = scorer.score(frames)
        alone = np.concatenate([scorer.score(frame[None]) for frame in frames])
        backwards = scorer.score(frames[::-1])[::-1]
        for scores in (together, alone, backwards):
            assert scores.dtype == np.float32
            assert np.allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_file_is_one_clean_graph(exported, variant):
    _, path, result = exported(variant)
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
    operators = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in operators
    assert operators.index("Cast") < operators.index("Reshape")
    frames, score = model.graph.input[0].type.tensor_type, model.graph.output[0].type.tensor_type
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == [
        "frames",
        "score",
    ]
    assert frames.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_param or dim.dim_value for dim in frames.shape.dim] == [
        "N",
        "H",
        "W",
        result.contract.channels,
    ]
    assert score.elem_type == onnx.TensorProto.FLOAT
    assert [dim.dim_param for dim in score.shape.dim] == ["N"]
    data = path.read_bytes()
    assert result.bytes == len(data)
    for trace in (
        b".py",
        str(Path.cwd()).encode(),
        str(path.parent).encode(),
        b"Traceback",
        b"pkg.",
        b"torch",
    ):
        assert trace not in data
    if variant == "grey":
        assert len(data) < 500_000


def test_the_file_needs_nothing_of_this_project(exported):
    model, path, _ = exported("grey")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    frames = frames_for(Scorer(path).contract, 3, 8, 8)
    with torch.inference_mode():
        expected = model(torch.from_numpy(frames)).numpy()
    assert np.allclose(session.run(["score"], {"frames": frames})[0], expected, rtol=1e-5)


def test_two_exports_from_two_directories_are_the_same_bytes(exported, tmp_path):
    _, path, _ = exported("grey")
    checkpoint = path.with_name("c.safetensors")
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-m", "adae_edge", "export", str(checkpoint), "--out", "m.onnx"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        assert (folder / "m.onnx").read_bytes() == path.read_bytes()


def test_the_contract_travels_whole(exported):
    for variant in ("grey", "colour, region"):
        _, path, result = exported(variant)
        assert modelfile.read(path).contract == result.contract
        trained = Checkpoint.load(path.with_name("c.safetensors")).contract
        assert dataclasses.replace(result.contract, form=Form()) == trained


def test_the_gate_compares_something_and_reports_what(exported):
    _, _, result = exported("grey")
    assert result.parity.scores > 200
    assert 0 < result.parity.error <= result.parity.tolerance == 1e-5
    assert result.parity.flipped == 0
    assert result.contract.form.verified == result.parity.verified == ("onnxruntime cpu",)
    assert "onnxruntime cuda" in result.contract.form.unverified


def test_the_gate_refuses_a_graph_that_is_not_the_network_and_writes_nothing(
    exported, tmp_path, monkeypatch
):
    _, path, _ = exported("grey")
    original = graph.trace

    def wrong(model, contract):
        proto = original(model, contract)
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor) * 1.01
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name)
                )
                break
        return proto

    monkeypatch.setattr(graph, "trace", wrong)
    out = tmp_path / "m.onnx"
    out.write_bytes(b"what was there")
    with pytest.raises(ParityError, match="nothing was written") as refused:
        exporter.export(path.with_name("c.safetensors"), out)
    assert "frame" in str(refused.value)
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


def test_the_gate_covers_the_frames_that_no_camera_gives(exported):
    _, _, result = exported("grey")
    batches = extremes.extreme_frames(result.contract).values()
    assert {batch.frames.max() for batch in batches} >= {0, 255}
    assert max(batch.frames.shape[1] for batch in batches) == 8192


def test_the_checkpoint_is_never_overwritten_by_its_export(exported):
    _, path, _ = exported("grey")
    checkpoint = path.with_name("c.safetensors")
    before = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="the checkpoint itself"):
        exporter.export(checkpoint, checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_without_reference_frames_needs_some(tmp_path):
    data = write_pictures(tmp_path / "data", 60)
    checkpoint = tmp_path / "c.safetensors"
    train_on(str(data), checkpoint, epochs=1, side=16, references=False)
    with pytest.raises(UsageError, match="--frames"):
        exporter.export(checkpoint, tmp_path / "m.onnx")
    result = exporter.export(checkpoint, tmp_path / "m.onnx", frames=data)
    assert result.parity.scores > 60
    with pytest.raises(UsageError, match="no folder"):
        exporter.export(checkpoint, tmp_path / "m.onnx", frames=tmp_path / "nowhere")
