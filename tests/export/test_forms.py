"""The forms of the graph, run by the runtime: precision, target, fixed sizes, anomaly map."""

import dataclasses
import itertools
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from adae_edge.benchmarks.against import precisions
from adae_edge.contract import Form
from adae_edge.errors import FrameError, ParityError, UsageError
from adae_edge.export import cost, exporter, extremes, forms, graph, references, tolerances
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.runtime import Scorer
from tests.support.models import run
from tests.support.pictures import write_pictures
from tests.support.trained import train_on


@pytest.fixture(scope="module")
def digits(checkpoints, tmp_path_factory):
    """A checkpoint of the digits, in a folder for its exports."""
    return Path(shutil.copy(checkpoints("digits"), tmp_path_factory.mktemp("digits")))


@pytest.fixture(scope="module")
def pictures(checkpoints, tmp_path_factory):
    """Checkpoints of colour pictures by their settings, and the folder of the pictures, 56 x 40."""
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copy(checkpoints("colour"), folder / "plain.safetensors")
    shutil.copy(checkpoints("region"), folder / "region.safetensors")
    data = write_pictures(folder / "data", 60, anomalous=20)
    padded = {"resize": "pad", "pad_value": 114.0}
    train_on(str(data), folder / "padded.safetensors", epochs=1, side=16, **padded)
    return folder


MADE = {}


def exported(checkpoint, **form):
    """The result, the file and PyTorch's network; each form of a checkpoint is exported once."""
    key = (checkpoint, *sorted(form.items()))
    if key not in MADE:
        path = checkpoint.with_name(f"{checkpoint.stem}-{len(MADE)}.onnx")
        MADE[key] = exporter.export(checkpoint, path, form=Form(**form)), path
    result, path = MADE[key]
    return result, path, load_network(Checkpoint.load(checkpoint))


def by_pytorch(model, frames):
    with torch.inference_mode():
        return model(torch.from_numpy(frames)).numpy()


def noise(count, height, width, channels):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)


def operators(path):
    return modelfile.read(path).operators


@pytest.mark.parametrize("kernel", [(3, 2, 1, 1), (4, 1, 0, 0)])
def test_a_rewritten_transposed_convolution_is_the_same_map(kernel):
    torch.manual_seed(0)
    size, stride, padding, further = kernel
    for bias, target in ((True, "portable"), (True, "openvino"), (False, "tensorrt")):
        layer = nn.ConvTranspose2d(5, 7, size, stride, padding, further, bias=bias)
        network = nn.Sequential(layer)
        forms.rewrite_transposed(network, target)
        assert not any(isinstance(part, nn.ConvTranspose2d) for part in network.modules())
        for side in (1, 4, 9) if stride == 2 else (1,):
            x = torch.randn(3, 5, side, side)
            torch.testing.assert_close(network(x), layer(x), rtol=1e-5, atol=1e-5)


def test_the_network_itself_stays_as_it_is(digits):
    model = load_network(Checkpoint.load(digits))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for form in (Form(), Form(target="openvino"), Form("fp16"), Form("int8")):
        forms.in_form(model, form, torch.rand(8, 1, 32, 32) * 2 - 1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert before.keys() == model.state_dict().keys()


def test_openvino_s_form_has_no_transposed_convolution_and_scores_the_same(digits):
    result, path, model = exported(digits, target="openvino")
    frames = noise(7, 40, 50, 1)
    np.testing.assert_allclose(Scorer(path).score(frames), by_pytorch(model, frames), rtol=1e-5)
    found = operators(path)
    assert found["ConvTranspose"] == 0
    assert found["DepthToSpace"] == 6
    assert result.contract.form.target == "openvino"


def test_fp16_is_in_the_graph_and_its_ends_are_float32(digits):
    result, path, model = exported(digits, precision="fp16")
    proto = onnx.load(path)
    halves = [
        tensor for tensor in proto.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16
    ]
    weights = [tensor for tensor in halves if len(tensor.dims) == 4]
    assert len(weights) == result.cost.convolutions[0] >= 14
    assert result.cost.convolutions[1] == 18
    assert proto.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    casts = [node.attribute[0].i for node in proto.graph.node if node.op_type == "Cast"]
    assert onnx.TensorProto.FLOAT16 in casts
    assert [node.op_type for node in proto.graph.node][-4:] == ["Sub", "Mul", "ReduceSum", "Sqrt"]
    frames = noise(9, 32, 32, 1)
    errors = np.abs(Scorer(path).score(frames) / by_pytorch(model, frames) - 1)
    assert 0 < errors.max() < 0.02
    assert result.cost.bytes[1] < 0.75 * result.cost.bytes[0]
    assert result.bytes < 300_000


def test_the_score_is_finite_where_float16_is_not(tmp_path):
    """Over 256 x 256 x 3 the sum of squares passes float16's largest number, 65504."""
    data = write_pictures(tmp_path / "data", 60, shape=(130, 130, 3))
    train_on(str(data), tmp_path / "c.safetensors", epochs=1, side=256)
    _, path, model = exported(tmp_path / "c.safetensors", precision="fp16")
    black_and_white = np.stack(
        [np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)]
    )
    scores, expected = Scorer(path).score(black_and_white), by_pytorch(model, black_and_white)
    assert (expected**2).max() > 65504
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_int8_for_tensorrt_is_symmetric_and_has_no_integer_biases(digits):
    result, path, model = exported(digits, precision="int8", target="tensorrt")
    assert result.contract.form.target == "tensorrt"
    assert result.cost.convolutions[0] > 0
    proto = onnx.load(path).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.initializer}
    zeros = [
        values[node.input[2]]
        for node in proto.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    frames = noise(9, 32, 32, 1)
    np.testing.assert_allclose(Scorer(path).score(frames), by_pytorch(model, frames), rtol=0.1)


def test_int8_is_qdq_with_chosen_convolutions_and_keeps_the_ranking(digits):
    result, path, model = exported(digits, precision="int8")
    proto = onnx.load(path)
    chosen, every = result.cost.convolutions
    assert 9 <= chosen <= every == 18
    weights = [
        tensor
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    ]
    kernels = [onnx.numpy_helper.to_array(tensor) for tensor in weights if len(tensor.dims) == 4]
    assert len(kernels) == chosen
    assert (
        max(np.abs(kernel).max() for kernel in kernels) <= 64
    )  # 7 bits: no CPU's sums of pairs overflow
    assert operators(path)["ConvTranspose"] == 0
    frames = Checkpoint.load(digits).references
    errors = np.abs(Scorer(path).score(np.stack(frames)) / by_pytorch(model, np.stack(frames)) - 1)
    assert 1e-4 < np.percentile(errors, 90) <= result.parity.tolerance == 0.1
    assert result.bytes < 0.75 * result.cost.bytes[0]


def test_int8_leaves_out_the_convolutions_that_do_not_bear_it(digits, monkeypatch):
    checkpoint = Checkpoint.load(digits)
    model = load_network(checkpoint)
    torch.manual_seed(0)
    with torch.no_grad():
        model.discriminator[11].weight += 30 * torch.randn_like(model.discriminator[11].weight[:1])
    contract = dataclasses.replace(checkpoint.contract, form=Form("int8"))
    real = references.real_frames(checkpoint, contract, None)
    frames = np.stack(checkpoint.references)

    def made():
        """How many convolutions are in int8, of how many, and the error of the scores."""
        file = modelfile.check(graph.build(model, contract, real.normals)[0])
        scores = Scorer(file).score(frames)
        return *cost.convolutions_of(file), tolerances.error_of_most(
            scores, by_pytorch(model, frames)
        )

    chosen, every, error = made()
    assert 0 < chosen < every == 18
    monkeypatch.setitem(tolerances.LIMITS, "int8", np.inf)
    all_chosen, _, error_of_all = made()
    assert all_chosen == 18
    assert error < tolerances.TOLERANCES["int8"].typical < error_of_all


def test_int8_that_no_convolution_bears_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(tolerances.LIMITS, "int8", 1e-9)
    with pytest.raises(ParityError, match="too much in every single layer: export fp16 or fp32"):
        exporter.export(digits, tmp_path / "m.onnx", form=Form("int8"))
    assert not (tmp_path / "m.onnx").exists()


def test_frames_with_labels_tell_the_cost_in_auroc(pictures, tmp_path):
    form = Form("int8", batch=3)
    result = exporter.export(
        pictures / "plain.safetensors", tmp_path / "m.onnx", pictures / "data", form
    )
    assert result.cost.frames == 80
    before, after = result.cost.auroc
    assert before > 0.9
    assert abs(before - after) < 0.005
    told = result.cost.lines("int8")
    assert f"AUROC         {after:.4f} in place of {before:.4f}" in told
    assert "80 frames" in told


@pytest.mark.parametrize(
    ("name", "precision"), [("plain", "int8"), ("padded", "fp32"), ("region", "fp32")]
)
def test_a_fixed_size_scores_as_any_size_and_takes_no_other(pictures, name, precision):
    _, path, model = exported(pictures / f"{name}.safetensors", size=(40, 56), precision=precision)
    scorer, frames = Scorer(path), noise(7, 40, 56, 3)
    np.testing.assert_allclose(
        scorer.score(frames), by_pytorch(model, frames), rtol=1e-5 if precision == "fp32" else 0.2
    )
    with pytest.raises(
        FrameError, match="frames of 56 x 40 pixels alone, and this one has 57 x 40"
    ):
        scorer.score(noise(1, 40, 57, 3))
    assert operators(path)["Shape"] == operators(path)["Range"] == 0


def test_at_the_network_s_size_nothing_is_resized(digits, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    from PIL import Image

    for index, picture in enumerate(noise(3, 32, 32, 1)):
        Image.fromarray(picture[..., 0]).save(frames / f"{index}.png")
    exporter.export(digits, tmp_path / "m.onnx", frames, Form(size=(32, 32)))
    assert operators(tmp_path / "m.onnx")["MatMul"] == 0


@pytest.mark.parametrize(
    ("height", "width", "parts"),
    [
        (480, 640, 32),
        (720, 33, 8),
        (540, 128, 4),
        (481, 64, 1),
        (32, 32, 4),
        (20, 30, 1),
        (1, 1, 1),
    ],
)
def test_a_graph_of_any_size_resamples_equal_parts_of_each_frame_alike(
    digits, height, width, parts
):
    _, path, model = exported(digits)
    frames = noise(2, height, width, 1)
    np.testing.assert_allclose(Scorer(path).score(frames), by_pytorch(model, frames), rtol=1e-5)
    proto = onnx.load(path)
    product = next(node.output[0] for node in proto.graph.node if node.op_type == "MatMul")
    proto.graph.output.add().name = product
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (resampled,) = session.run([product], {"frames": frames})
    assert resampled.shape == (2 * parts, 32 // parts, width)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_a_fixed_batch_is_filled_up(digits, count):
    _, path, model = exported(digits, batch=4)
    inputs = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in inputs] == [4, "H", "W", 1]
    frames = noise(count, 20, 30, 1)
    scores = Scorer(path).score(frames)
    assert scores.shape == (count,)
    if count:
        np.testing.assert_allclose(scores, by_pytorch(model, frames), rtol=1e-5)


def test_the_map_s_norm_is_the_score(digits):
    _, path, model = exported(digits, anomaly_map="network")
    scorer, frames = Scorer(path), noise(3, 40, 50, 1)
    scores, maps = scorer.score_with_map(frames)
    assert maps.shape == (3, 32, 32)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(maps, axis=(1, 2)), scores, rtol=1e-5)
    np.testing.assert_allclose(scores, by_pytorch(model, frames), rtol=1e-5)
    np.testing.assert_array_equal(scorer.score(frames), scores)


@pytest.mark.parametrize(
    ("name", "size"), [("plain", (40, 56)), ("padded", None), ("region", None)]
)
def test_a_map_in_the_frame_s_pixels_lies_where_the_anomaly_is(pictures, name, size):
    _, path, _ = exported(pictures / f"{name}.safetensors", anomaly_map="frame", size=size)
    scorer = Scorer(path)
    frame = np.full((1, 40, 56, 3), 100, np.uint8)
    marked = frame.copy()
    marked[:, 10:18, 30:38] = 255
    _, before = scorer.score_with_map(frame)
    _, after = scorer.score_with_map(marked)
    assert after.shape == (1, 40, 56)
    row, column = np.unravel_index((after - before)[0].argmax(), (40, 56))
    assert 7 <= row < 21
    assert 27 <= column < 41
    if name == "region":
        outside = np.ones((40, 56), bool)
        outside[5:36, 7:47] = False
        assert (after[0][outside] == 0).all()
        assert (after[0][~outside] > 0).any()


def test_a_model_without_a_map_says_how_to_get_one(digits):
    _, path, _ = exported(digits, batch=4)
    with pytest.raises(UsageError, match="export it with --anomaly-map"):
        Scorer(path).score_with_map(noise(1, 8, 8, 1))


def test_the_gate_refuses_a_map_that_is_not_the_network_s(digits, tmp_path, monkeypatch):
    original = graph.trace

    def wrong(model, contract):
        proto = original(model, contract)
        for node in proto.graph.node:
            if "anomaly_map" in node.output:
                node.op_type = "Exp"
        return proto

    monkeypatch.setattr(graph, "trace", wrong)
    with pytest.raises(
        ParityError, match="the anomaly map of reference frame 0 by onnxruntime cpu is"
    ):
        exporter.export(digits, tmp_path / "m.onnx", form=Form(anomaly_map="network"))
    assert not (tmp_path / "m.onnx").exists()


def test_the_gate_refuses_a_half_precision_that_overflows(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(tolerances.LIMITS, "fp16", float("inf"))
    original = forms.fold_batch_norm

    def large(network):
        original(network)
        with (
            torch.no_grad()
        ):  # 1e6 times the activations of one layer, and a millionth of them in the next
            network[8].weight *= 1e6
            network[8].bias *= 1e6
            network[11].weight /= 1e6

    monkeypatch.setattr(forms, "fold_batch_norm", large)
    with pytest.raises(ParityError, match=r"as (nan|inf) where the network gives"):
        exporter.export(digits, tmp_path / "m.onnx", form=Form("fp16"))


def test_layers_that_bear_no_rounding_stay_in_float32(digits):
    torch.manual_seed(0)
    model = load_network(Checkpoint.load(digits))
    references = torch.from_numpy(np.stack(Checkpoint.load(digits).references))
    with torch.no_grad():
        x = model.preprocess(references)
        model.discriminator[11].weight[:] += 30 * torch.randn_like(
            model.discriminator[11].weight[:1]
        )
        exact = model.score_of(x, "l2")
    formed = forms.in_form(model, Form("fp16"), x)
    with torch.no_grad():
        errors = (formed.score_of(x, "l2") - exact).abs() / exact
    assert errors.quantile(0.9) <= tolerances.LIMITS["fp16"]


def test_a_form_that_no_frame_fits_is_refused(pictures, digits, tmp_path):
    with pytest.raises(UsageError, match="lies outside of a frame of 20 x 20 pixels"):
        exporter.export(
            pictures / "region.safetensors", tmp_path / "m.onnx", form=Form(size=(20, 20))
        )
    with pytest.raises(UsageError, match="the gate needs frames of that size"):
        exporter.export(digits, tmp_path / "m.onnx", form=Form(size=(480, 640)))
    assert not (tmp_path / "m.onnx").exists()


def test_every_option_of_the_command_line(pictures, tmp_path):
    options = {
        "--out": "m.onnx",
        "--precision": "fp16",
        "--target": "openvino",
        "--fixed-size": "56x40",
        "--fixed-batch": "2",
        "--anomaly-map": "frame",
        "--frames": pictures / "data",
    }
    arguments = itertools.chain.from_iterable(options.items())
    done = run("export", pictures / "plain.safetensors", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "convolutions in fp16" in done.stdout
    assert "AUROC" in done.stdout
    assert "unverified, for this machine lacks them: onnxruntime cuda" in done.stdout
    contract = modelfile.read(tmp_path / "m.onnx").contract
    assert dataclasses.replace(contract.form, verified=(), unverified=()) == Form(
        "fp16", "openvino", (40, 56), 2, "frame"
    )
    described = run("inspect", "m.onnx", cwd=tmp_path).stdout
    assert "56 x 40 pixels alone, 2 in every run" in described
    assert "fp16, openvino" in described
    assert "verified   onnxruntime cpu; not onnxruntime cuda" in described


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--precision", "bf16", "--precision is one of fp32, fp16, int8, and bf16 is none of them"),
        (
            "--target",
            "hailo",
            "--target is one of portable, openvino, tensorrt, and hailo is none of them",
        ),
        ("--anomaly-map", "yes", "--anomaly-map is network or frame, and yes is neither"),
        (
            "--fixed-size",
            "640",
            "a frame size is WIDTHxHEIGHT, as 640x480, and 640 is something else",
        ),
    ],
)
def test_an_unknown_form_is_refused(digits, tmp_path, option, value, sentence):
    done = run("export", digits, "--out", "m.onnx", option, value, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"adae-edge: {sentence}\n"
    assert not Path(tmp_path / "m.onnx").exists()


def test_the_table_of_precisions(digits):
    rows = [precisions.measured("digits", digits, None, "int8")]
    (second,) = precisions.as_markdown(rows).splitlines()[2:]
    cost = rows[0]["cost"]
    assert cost["frames"] == 64
    assert second.startswith("| digits | int8 | {} of 18 | 0.".format(cost["convolutions"][0]))
    assert f"| {cost['flipped']} of 64 | - | " in second


def test_a_folder_too_large_for_the_memory_is_used_in_part(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(references, "FRAMES_BYTES", 40 * 56 * 3 * 10 + 1)
    result = exporter.export(
        pictures / "plain.safetensors", tmp_path / "m.onnx", pictures / "data", Form("fp16")
    )
    assert result.cost.frames == 20


def test_extreme_frames_have_the_fixed_size(contract):
    fixed = dataclasses.replace(contract, form=Form(size=(30, 50)))
    batches = extremes.extreme_frames(fixed).values()
    assert {batch.frames.shape for batch in batches} == {(1, 30, 50, 1)}
