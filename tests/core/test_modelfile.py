"""Model files: what is written is scored, and what is damaged, foreign or hostile is refused."""

import dataclasses
import hashlib
import io
import json
import re
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from adae_edge.contract import SCHEMA, SCORES, Contract
from adae_edge.errors import CheckpointError, ModelFileError, UsageError
from adae_edge.formats import inspection, modelfile, onnxgraph, protobuf
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.runtime.scorer import Scorer

fuzz = settings(max_examples=300, deadline=None, database=None)


def changed(data, *changes):
    """The model file with changes made to it by onnx."""
    model = ModelProto.FromString(data)
    for change in changes:
        change(model)
    return model.SerializeToString()


def field(tag, value):
    """A protobuf field: its tag's bytes, its length, its value."""
    size = len(value)
    return tag + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + value


def graph_bytes(data):
    return ModelProto.FromString(data).graph.SerializeToString()


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def external_tensor():
    tensor = numpy_helper.from_array(np.ones(3, np.float32), "outside")
    external(tensor)
    return tensor


def external_constant(model):
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], value=external_tensor()))


def external_by_location(model):
    external(model.graph.initializer[0])
    del model.graph.initializer[0].external_data[:]


def external_by_entries(model):
    external(model.graph.initializer[0])
    model.graph.initializer[0].ClearField("data_location")


def external_sparse(model):
    indices = numpy_helper.from_array(np.arange(3), "indices")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(external_tensor(), indices, [9])
    )


def external_sparse_indices(model):
    values = numpy_helper.from_array(np.ones(3, np.float32), "values")
    sparse = helper.make_sparse_tensor(values, external_tensor(), [9])
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], sparse_value=sparse))


def external_list(model):
    node = model.graph.node.add(op_type="Constant", output=["outside"])
    node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS).tensors.append(
        external_tensor()
    )


def in_branch(change, depth=1):
    """The change, made to the graph of an If node's branch, this many levels down."""

    def make(model):
        graph = model.graph
        for _ in range(depth):
            branch = helper.make_graph(
                [helper.make_node("Identity", ["score"], ["same"])], "branch", [], []
            )
            graph.node.append(
                helper.make_node(
                    "If", ["condition"], ["same"], then_branch=branch, else_branch=branch
                )
            )
            graph = graph.node[-1].attribute[1].g
        change(ModelLike(graph))

    return make


@dataclasses.dataclass
class ModelLike:
    graph: onnx.GraphProto


FOREIGN_NODE = helper.make_node("Gelu", ["score"], ["more"], domain="com.microsoft")


def foreign_node(model):
    model.graph.node.append(FOREIGN_NODE)


def function(model):
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        helper.make_function("local", "Twice", ["a"], ["b"], twice, model.opset_import)
    )


def contract_text(text):
    return lambda model: setattr(model.metadata_props[-1], "value", text)


def zipped(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", data)
    return buffer.getvalue()


def png():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


NO_ONNX = "it is no ONNX file"
OUTSIDE = "it keeps weights outside of the file"
FOREIGN = "it has operators of the domain 'com.microsoft', and only standard ONNX operators are run"
NESTED = "it has a graph inside of an operator, which no export of adae-edge has"
OWN = "it defines functions or training steps of its own"
TWICE = "it is a damaged ONNX file: a part that occurs once is there twice"

# What is done to the bytes of a good file, and how the sentence that refuses it begins.
BYTES = {
    "empty": (lambda data: b"", NO_ONNX),
    "text": (lambda data: b"I am a model, believe me.\n" * 100, NO_ONNX),
    "json": (lambda data: b'{"schema": 1}', NO_ONNX),
    "checkpoint": (
        lambda data: len(data).to_bytes(8, "little") + b'{"' + bytes(len(data)),
        "it is a checkpoint: adae-edge export makes a model file of it",
    ),
    "png": (lambda data: png(), NO_ONNX),
    "zip": (zipped, NO_ONNX),
    "random bytes": (lambda data: np.random.default_rng(0).bytes(5000), NO_ONNX),
    "zeros": (lambda data: bytes(5000), NO_ONNX),
    "bytes after the end": (lambda data: data + b"\xff\xff\xff", NO_ONNX),
    "text that is no UTF-8": (lambda data: data.replace(b"Cast", b"\xffast"), NO_ONNX),
    "graph twice": (lambda data: data + field(b"\x3a", graph_bytes(data)), TWICE),
    "too many parts": (
        lambda data: data + b"\x28\x00" * protobuf.MAX_FIELDS,
        "it has more parts than any network",
    ),
    # ONNX Runtime runs the flatbuffer that such a file contains, and not the graph that was
    # checked.
    "ONNX Runtime's own format": (
        lambda data: field(b"\x12", b"ORTM") + data,
        "it is no ONNX file, but ONNX Runtime's own format",
    ),
    # The tag is 2**32 + 0x0a. C++ keeps 32 bits of it, so ONNX Runtime has a node there (field 1).
    "node behind a tag that wraps": (
        lambda data: (
            changed(data, lambda model: model.ClearField("graph"))
            + field(
                b"\x3a",
                graph_bytes(data)
                + field(b"\x8a\x80\x80\x80\x10", FOREIGN_NODE.SerializeToString()),
            )
        ),
        NO_ONNX,
    ),
}
# What onnx is told to do to it.
CHANGES = {
    "no graph": (lambda model: model.ClearField("graph"), NO_ONNX),
    "no opset": (lambda model: model.ClearField("opset_import"), NO_ONNX),
    "no nodes": (lambda model: model.graph.ClearField("node"), "its graph is empty"),
    "no contract": (
        lambda model: model.ClearField("metadata_props"),
        "it has no contract, so what it expects and returns is unknown: was it made by adae-edge "
        "export?",
    ),
    "doubled contract": (
        lambda model: model.metadata_props.append(model.metadata_props[-1]),
        "it has more than one contract",
    ),
    "unknown schema": (
        contract_text(f'{{"schema": {SCHEMA + 1}}}'),
        f"the contract has schema {SCHEMA + 1}, and this version reads 1 to {SCHEMA}",
    ),
    "contract without fields": (
        contract_text('{"schema": 1}'),
        "the contract lacks calibration, channels, data",
    ),
    "contract no JSON": (contract_text("schema: 1"), "the contract is not JSON"),
    "external initializer": (lambda model: external(model.graph.initializer[0]), OUTSIDE),
    "external by location": (external_by_location, OUTSIDE),
    "external by entries": (external_by_entries, OUTSIDE),
    "external constant": (external_constant, OUTSIDE),
    "external list of tensors": (external_list, OUTSIDE),
    "external sparse initializer": (external_sparse, OUTSIDE),
    "external sparse indices": (external_sparse_indices, OUTSIDE),
    "external in a branch": (in_branch(external_constant), NESTED),
    "external four branches down": (in_branch(external_sparse, 4), NESTED),
    "foreign opset": (
        lambda model: model.opset_import.add(domain="com.microsoft", version=1),
        FOREIGN,
    ),
    "foreign node": (foreign_node, FOREIGN),
    "foreign node in a branch": (in_branch(foreign_node), NESTED),
    "standard opset twice": (
        lambda model: model.opset_import.add(domain="ai.onnx", version=18),
        TWICE,
    ),
    "functions": (function, OWN),
    "training steps": (lambda model: model.training_info.add(), OWN),
    "nested deeply": (in_branch(foreign_node, 17), NESTED),
    "terminal codes for an operator": (
        lambda model: setattr(model.graph.node[0], "op_type", "\x1b[2JCast\n"),
        "it has an operator that ONNX cannot have: '\\x1b[2JCast\\n'",
    ),
}
REFUSED = [*BYTES, *CHANGES]


@pytest.fixture
def refused(request, small_model, tmp_path):
    """The path of a model file that is refused, and how its sentence begins."""
    path = tmp_path / "model.onnx"
    if request.param in BYTES:
        make, reason = BYTES[request.param]
        path.write_bytes(make(small_model))
    else:
        change, reason = CHANGES[request.param]
        path.write_bytes(changed(small_model, change))
    return path, reason


def command(*arguments):
    line = [sys.executable, "-m", "adae_edge", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_accepted_model_scores_as_numpy_does(small_model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    scorer = Scorer(path, threads=1)
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 16, 1), np.uint8)
    np.testing.assert_array_equal(scorer.score(frames), frames.mean(axis=(1, 2, 3)))
    assert scorer.contract == contract
    assert scorer.threshold == contract.calibration.threshold


def test_read_tells_what_the_file_holds(small_model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    for named in (path, str(path)):
        model = modelfile.read(named)
        assert model.data == small_model
        assert model.contract == contract
        assert model.opset == 18
        assert model.operators == {"Cast": 1, "Identity": 1, "ReduceMean": 1}


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_both_names_of_the_standard_domain_are_accepted(small_model, domain):
    named = changed(small_model, lambda model: setattr(model.opset_import[0], "domain", domain))
    assert modelfile.check(named).opset == 18


@pytest.mark.parametrize("refused", REFUSED, indirect=True)
def test_refused_with_one_sentence(refused):
    path, reason = refused
    with pytest.raises(ModelFileError) as caught:
        modelfile.read(path)
    assert str(caught.value).startswith(f"{path} is refused: {reason}")
    assert str(caught.value).isprintable()
    with pytest.raises(ModelFileError) as again:
        Scorer(path)
    assert str(again.value) == str(caught.value)


@pytest.mark.parametrize("refused", REFUSED, indirect=True)
def test_inspect_prints_the_refusal_and_nothing_else(refused):
    path, reason = refused
    inspected = command("inspect", path)
    assert inspected.returncode == 1
    assert inspected.stdout == ""
    assert inspected.stderr.startswith(f"adae-edge: {path} is refused: {reason}")
    assert inspected.stderr.count("\n") == 1
    assert inspected.stderr.endswith("\n")


def test_cut_file_is_refused(small_model, tmp_path):
    path = tmp_path / "model.onnx"
    for tenth in range(10):
        path.write_bytes(small_model[: len(small_model) * tenth // 10])
        with pytest.raises(ModelFileError, match="is refused: it "):
            Scorer(path)
    inspected = command("inspect", path)
    assert inspected.returncode == 1
    assert inspected.stderr.count("\n") == 1


def test_no_cut_goes_unnoticed(small_model):
    for end in range(len(small_model)):
        with pytest.raises(ModelFileError):
            modelfile.check(small_model[:end])


def test_file_over_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(modelfile.MAX_BYTES + 1)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as refused:
            modelfile.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert str(refused.value) == f"{path} is refused: it is larger than 512 MiB"
    inspected = command("inspect", path)
    assert (inspected.returncode, inspected.stderr) == (1, f"adae-edge: {refused.value}\n")


def test_the_limit_is_the_last_size_that_is_read(small_model, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    monkeypatch.setattr(modelfile, "MAX_BYTES", len(small_model))
    assert modelfile.read(path).data == small_model
    monkeypatch.setattr(modelfile, "MAX_BYTES", len(small_model) - 1)
    for refuse in (lambda: modelfile.read(path), lambda: modelfile.check(small_model)):
        with pytest.raises(ModelFileError, match="it is larger than"):
            refuse()


@pytest.mark.parametrize("name", ["missing.onnx", "folder", "a\0b"])
def test_what_is_no_file_is_wrong_use(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="there is no model file") as refused:
        modelfile.read(tmp_path / name)
    assert not isinstance(refused.value, ModelFileError)
    if "\0" not in name:
        inspected = command("inspect", tmp_path / name)
        assert (inspected.returncode, inspected.stdout) == (2, "")
        assert inspected.stderr == f"adae-edge: there is no model file {tmp_path / name}\n"


def named_otherwise(model):
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (named_otherwise, "the graph does not take frames"),
        (
            lambda model: setattr(model.graph.node[0], "op_type", "NoSuchOperator"),
            "it has the operator NoSuchOperator",
        ),
        (
            lambda model: setattr(model.graph.input[0], "name", "pictures"),
            "its operators run in a circle, or lack 'fr",
        ),
        (
            lambda model: setattr(model.opset_import[0], "version", 9999),
            "the graph cannot be loaded",
        ),
    ],
)
def test_graph_that_cannot_run_is_refused_when_it_is_loaded(small_model, tmp_path, change, reason):
    path = tmp_path / "model.onnx"
    path.write_bytes(changed(small_model, change))
    with pytest.raises(ModelFileError) as refused:
        Scorer(path, threads=1)
    assert str(refused.value).startswith(f"{path} is refused: {reason}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("score", SCORES)
def test_inspect_says_what_the_score_is(small_model, contract, score):
    data = modelfile.with_contract(small_model, dataclasses.replace(contract, score=score))
    described = modelfile.describe(modelfile.check(data))
    assert f"score      {score}, float32 [N]: {SCORES[score]}\n" in described
    assert ("D(G(x))" in described) == (score == "l2")


def test_the_map_is_described_by_its_score(contract):
    told = {
        score: modelfile.describe_contract(
            dataclasses.replace(
                contract, score=score, form=dataclasses.replace(contract.form, anomaly_map="frame")
            )
        )["map"]
        for score in SCORES
    }
    assert told["local"].endswith(": standard deviations of normals at any place")
    assert ["l2" in line for line in told.values()] == [score == "density" for score in told]


def test_inspect_describes_the_model(small_model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    described = command("inspect", path)
    assert (described.returncode, described.stderr) == (0, "")
    promised = "false-positive rate at most 0.01 with 95 % confidence"
    assert f"threshold  {contract.calibration.threshold:.6g}, {promised}\n" in described.stdout
    assert "operators  Cast 1, Identity 1, ReduceMean 1\n" in described.stdout
    as_json = command("inspect", "--json", path)
    assert as_json.returncode == 0
    assert Contract.from_json(json.dumps(json.loads(as_json.stdout)["contract"])) == contract


def test_inspect_gives_every_fact_as_json(small_model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model)
    assert json.loads(command("inspect", "--json", path).stdout) == {
        "contract": json.loads(contract.to_json()),
        "opset": 18,
        "operators": {"Cast": 1, "Identity": 1, "ReduceMean": 1},
        "bytes": len(small_model),
        "sha256": hashlib.sha256(small_model).hexdigest(),
        "graph_sha256": hashlib.sha256(graph_bytes(small_model)).hexdigest(),
    }


def test_inspect_of_two_shows_only_what_differs(small_model, contract, tmp_path):
    one, other, third = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    one.write_bytes(small_model)
    other.write_bytes(modelfile.with_contract(small_model, other_threshold(contract)))
    third.write_bytes(modelfile.with_contract(changed(small_model, one_more_operator), contract))
    threshold = contract.calibration.threshold

    same = command("inspect", one, one)
    assert (same.returncode, same.stdout, same.stderr) == (0, "the same\n", "")
    assert json.loads(command("inspect", one, one, "--json").stdout) == {}

    differing = json.loads(command("inspect", "--json", one, other).stdout)
    assert differing.pop("contract.calibration.threshold") == [threshold, 7.25]
    assert set(differing) <= {"bytes", "sha256"}
    shown = command("inspect", one, other)
    assert shown.returncode == 0
    assert re.search(
        rf"^contract\.calibration\.threshold +{threshold} -> 7\.25$", shown.stdout, re.M
    )

    shown = command("inspect", one, third).stdout
    assert re.search(r"^operators\.Abs +null -> 1$", shown, re.M)
    assert {line.split()[0] for line in shown.splitlines()} == {
        "operators.Abs",
        "bytes",
        "sha256",
        "graph_sha256",
    }

    other.write_bytes(b"no model")
    assert command("inspect", one, other).returncode == 1


def one_more_operator(model):
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Abs", ["before"], ["score"]))


def test_inspect_abridges_long_lists(small_model, contract):
    scores = tuple(2.0 * level for level in range(101))
    calibration = dataclasses.replace(contract.calibration, quantiles=scores)
    one, other = (
        modelfile.check(modelfile.with_contract(small_model, either))
        for either in (contract, contract.with_calibration(calibration))
    )
    shown = inspection.describe_differences(inspection.differences(one, other))
    assert "-> 101 values from 0.0 to 200.0\n" in shown


def test_the_written_format_names_every_operator():
    text = (Path(__file__).parents[2] / "docs" / "model-file.md").read_text()
    kinds = "layers|element by element|reductions|sizes and places|precision"
    listed = re.findall(rf"^\| (?:{kinds}) \| (.*) \|$", text, re.M)
    assert {name for line in listed for name in line.split(", ")} == onnxgraph.OPERATORS


def other_threshold(contract):
    return contract.with_calibration(dataclasses.replace(contract.calibration, threshold=7.25))


def test_new_contract_leaves_everything_else(small_model, contract):
    other = other_threshold(contract)
    before = changed(small_model, lambda model: model.metadata_props.add(key="camera", value="3"))
    after = modelfile.with_contract(before, other)
    assert modelfile.check(after).contract == other
    assert graph_bytes(before) in after
    was, now = ModelProto.FromString(before), ModelProto.FromString(after)
    assert {entry.key: entry.value for entry in now.metadata_props} == {
        "camera": "3",
        modelfile.CONTRACT_KEY: other.to_json(),
        modelfile.DIGEST_KEY: hashlib.sha256(
            graph_bytes(before) + other.to_json().encode()
        ).hexdigest(),
    }
    was.ClearField("metadata_props")
    now.ClearField("metadata_props")
    assert was == now


def test_new_contract_is_idempotent(small_model, contract):
    assert modelfile.with_contract(small_model, contract) == small_model
    once = modelfile.with_contract(small_model, other_threshold(contract))
    assert modelfile.with_contract(once, other_threshold(contract)) == once
    assert modelfile.with_contract(once, contract) == small_model


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_new_contract_replaces_all_that_were_there(small_model, contract, copies):
    old = ModelProto.FromString(small_model).metadata_props

    def repeat(model):
        del model.metadata_props[:]
        model.metadata_props.extend([*old] * copies)

    assert modelfile.with_contract(changed(small_model, repeat), contract) == small_model


def test_new_contract_comes_in_front_of_the_graph_too(small_model, contract):
    """Protobuf lets fields come in any order."""
    graph = graph_bytes(small_model)
    reordered = changed(small_model, lambda model: model.ClearField("graph")) + field(
        b"\x3a", graph
    )
    assert modelfile.check(reordered).contract == contract
    after = modelfile.with_contract(reordered, other_threshold(contract))
    assert modelfile.check(after).contract == other_threshold(contract)
    assert graph_bytes(after) == graph


def survives(data):
    """Nothing worse than ModelFileError happens.

    If the file is accepted, onnx too sees no foreign operators and no data outside of it.
    """
    try:
        accepted = modelfile.check(data)
    except ModelFileError:
        return
    try:
        model = ModelProto.FromString(data)
    except Exception:
        return
    assert (
        len([entry for entry in model.metadata_props if entry.key == modelfile.CONTRACT_KEY]) == 1
    )
    assert all(entry.domain in ("", "ai.onnx") for entry in model.opset_import)
    assert sum(accepted.operators.values()) == len(model.graph.node)
    assert all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    assert not any(
        tensor.data_location or tensor.external_data for tensor in model.graph.initializer
    )


@fuzz
@given(data=st.data())
def test_flipped_bytes_and_cuts_do_no_worse_than_being_refused(small_model, data):
    broken = bytearray(small_model)
    graph = st.integers(0, small_model.index(modelfile.CONTRACT_KEY.encode()))
    for place in data.draw(st.lists(graph | st.integers(0, len(small_model) - 1), max_size=4)):
        broken[place] = data.draw(st.integers(0, 255))
    start = data.draw(st.just(0) | st.integers(0, len(broken)))
    end = data.draw(st.just(len(broken)) | st.integers(start, len(broken)))
    survives(bytes(broken[start:end]))


@fuzz
@given(place=st.integers(0), inserted=st.binary(max_size=20), dropped=st.integers(0, 20))
def test_bytes_put_in_do_no_worse_than_being_refused(small_model, place, inserted, dropped):
    place %= len(small_model)
    survives(small_model[:place] + inserted + small_model[place + dropped :])


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_do_no_worse_than_being_refused(contract, data):
    with pytest.raises(ModelFileError):
        modelfile.check(data)
    try:
        after = modelfile.with_contract(data, contract)
    except ModelFileError:
        return
    survives(after)


@fuzz
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_new_contract_in_a_damaged_file_does_no_worse_than_being_refused(
    small_model, contract, place, bit
):
    broken = bytearray(small_model)
    broken[place % len(broken)] ^= 1 << bit
    try:
        after = modelfile.with_contract(bytes(broken), contract)
    except ModelFileError:
        return
    survives(after)


def test_a_model_file_in_place_of_a_checkpoint_is_called_one(small_model, tmp_path):
    path = tmp_path / "parts.onnx"
    path.write_bytes(small_model)
    with pytest.raises(CheckpointError, match="a model file, and what it was exported from is"):
        Checkpoint.load(path)
