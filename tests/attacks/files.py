"""Hostile model files, built on the spot from an honest one: one function for each attack.

    python -m tests.attacks.files FOLDER

writes them all into a folder. What makes a file hostile is that alone: whoever builds one can also
compute the digest in its metadata, so it fits wherever it is not itself what is attacked.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from adae_edge.contract import Contract, Form
from adae_edge.formats import modelfile
from adae_edge.formats.protobuf import MAX_FIELDS, encoded
from tests.support.models import a_contract, mean_model

HUGE = 15_000  # a float32 square of this side takes 900 MB

# By name: what builds the file, and how the sentence that refuses it begins.
ATTACKS = {}

OUTSIDE = "it keeps weights outside of the file"
FOREIGN = "it has operators of the domain 'com.microsoft'"
NESTED = "it has a graph inside of an operator"
CONSTANTS = "it computes a {} from constants alone"
SIZES = "its tensor 'bomb' has other sizes than data"
INTERFACE = "the graph does not take frames"
STALE = "its contract or its graph was changed by something else than adae-edge"
CUT = "it is no ONNX file"


def attack(refusal):
    """Register a function that changes an honest model."""

    def register(change):
        def build():
            model = ModelProto.FromString(mean_model())
            change(model)
            return sealed(model.SerializeToString())

        ATTACKS[change.__name__] = build, refusal
        return change

    return register


def attack_on_bytes(refusal):
    """Register a function that makes a file's bytes of an honest one's."""

    def register(make):
        ATTACKS[make.__name__] = lambda: make(mean_model()), refusal
        return make

    return register


def sealed(data):
    return modelfile.with_contract(data, a_contract())


def with_more_in_graph(data, more):
    """The same file with these bytes at the end of its graph, too many perhaps to be read."""
    model = ModelProto.FromString(data)
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString() + encoded(7, graph + more)


def tensor(values, dtype=np.float32, name="bomb"):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def claiming(dims, data=b"\0" * 4, kind=TensorProto.FLOAT):
    return TensorProto(name="bomb", data_type=kind, dims=dims, raw_data=data)


def compute(model, operator, *constants, **attributes):
    """Let the graph compute something from these constants."""
    model.graph.initializer.extend(constants)
    names = [one.name for one in constants]
    model.graph.node.append(helper.make_node(operator, names, ["exploded"], **attributes))
    spend(model, "exploded")


def spend(model, name):
    """Add the largest number of a value to the score: runtimes leave out what nothing needs."""
    nodes = model.graph.node
    (scoring,) = [node for node in nodes if "score" in node.output]
    scoring.output[0] = f"before_{name}"
    nodes.append(helper.make_node("ReduceMax", [name], [f"{name}_largest"], keepdims=0))
    nodes.append(helper.make_node("Add", [f"before_{name}", f"{name}_largest"], ["score"]))


# Data outside of the file


def outside():
    one = TensorProto(
        name="bomb", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL
    )
    one.external_data.add(key="location", value="../../../../etc/passwd")
    return one


@attack(OUTSIDE)
def external_initialiser(model):
    model.graph.initializer.append(outside())


@attack(OUTSIDE)
def external_without_a_location(model):
    model.graph.initializer.append(outside())
    model.graph.initializer[-1].ClearField("external_data")


@attack(OUTSIDE)
def external_without_saying_so(model):
    model.graph.initializer.append(outside())
    model.graph.initializer[-1].ClearField("data_location")


@attack(OUTSIDE)
def external_in_an_attribute(model):
    model.graph.node.append(helper.make_node("Constant", [], ["more"], value=outside()))


@attack(OUTSIDE)
def external_in_a_list_of_an_attribute(model):
    node = model.graph.node.add(op_type="Constant", output=["more"])
    node.attribute.add(name="values", type=AttributeProto.TENSORS).tensors.append(outside())


@attack(OUTSIDE)
def external_values_of_a_sparse_tensor(model):
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(outside(), tensor([0, 1, 2], np.int64), [9])
    )


@attack(OUTSIDE)
def external_indices_of_a_sparse_attribute(model):
    sparse = helper.make_sparse_tensor(tensor([1, 2, 3]), outside(), [9])
    model.graph.node.append(helper.make_node("Constant", [], ["more"], sparse_value=sparse))


def branch(*nodes, initializer=()):
    return helper.make_graph(list(nodes), "branch", [], [], list(initializer))


@attack(NESTED)
def external_in_a_branch(model):
    inner = branch(initializer=[outside()])
    model.graph.node.append(
        helper.make_node("If", ["score"], ["more"], then_branch=inner, else_branch=inner)
    )


# Operators of others


@attack(FOREIGN)
def foreign_operator(model):
    model.graph.node.append(helper.make_node("Gelu", ["score"], ["more"], domain="com.microsoft"))


@attack(FOREIGN)
def foreign_opset(model):
    model.opset_import.add(domain="com.microsoft", version=1)


@attack(NESTED)
def foreign_operator_in_a_branch(model):
    inner = branch(helper.make_node("Gelu", ["score"], ["more"], domain="com.microsoft"))
    model.graph.node.append(
        helper.make_node("If", ["score"], ["more"], then_branch=inner, else_branch=inner)
    )


@attack("it defines functions or training steps of its own")
def function_of_its_own(model):
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        helper.make_function("ai.onnx", "Twice", ["a"], ["b"], twice, model.opset_import)
    )


@attack("it defines functions or training steps of its own")
def training_steps(model):
    model.training_info.add()


@attack("it has the operator RandomNormal, which no export")
def operator_that_draws_random_numbers(model):
    model.graph.node.append(
        helper.make_node("RandomNormal", [], ["more"], shape=[100_000, 100_000])
    )


@attack("it has the operator Evil, which no export")
def operator_that_does_not_exist(model):
    model.graph.node.append(helper.make_node("Evil", ["score"], ["more"]))


# Tensors that claim more than they hold


@attack(SIZES)
def initialiser_of_four_terabytes(model):
    model.graph.initializer.append(claiming([10**6, 10**6]))


@attack(SIZES)
def initialiser_whose_size_wraps_around_to_its_own(model):
    model.graph.initializer.append(claiming([2**32, 2**32, 1], b""))


@attack(SIZES)
def initialiser_of_a_negative_size(model):
    model.graph.initializer.append(claiming([-1, -1]))


@attack(SIZES)
def initialiser_of_a_gigabyte_in_numbers(model):
    model.graph.initializer.append(
        TensorProto(name="bomb", data_type=TensorProto.INT32, dims=[2**28], int32_data=[1] * 1000)
    )


@attack(SIZES)
def initialiser_without_data(model):
    model.graph.initializer.append(
        TensorProto(name="bomb", data_type=TensorProto.FLOAT, dims=[2**28])
    )


@attack("it has a part that no export of adae-edge has: field 6 of its tensors")
def initialiser_of_texts(model):
    model.graph.initializer.append(helper.make_tensor("bomb", TensorProto.STRING, [2], ["a", "b"]))


@attack("it has a tensor of more than 8 axes")
def initialiser_of_a_million_axes(model):
    model.graph.initializer.append(claiming([1] * 10**6))


@attack("it has a sparse tensor")
def sparse_initialiser_that_is_huge_when_dense(model):
    sparse = helper.make_sparse_tensor(
        tensor([1.0]), tensor([0], np.int64, "indices"), [HUGE, HUGE]
    )
    model.graph.sparse_initializer.append(sparse)


@attack("it has a sparse tensor")
def sparse_attribute_that_is_huge_when_dense(model):
    sparse = helper.make_sparse_tensor(
        tensor([1.0]), tensor([0], np.int64, "indices"), [HUGE, HUGE]
    )
    model.graph.node.append(helper.make_node("Constant", [], ["more"], sparse_value=sparse))


# Constants that become gigabytes when a runtime computes what it can while it loads


@attack("it has the operator ConstantOfShape")
def constant_of_a_huge_shape(model):
    compute(model, "ConstantOfShape", tensor([HUGE, HUGE], np.int64))


@attack("it has the operator Tile")
def tiled_constant(model):
    compute(model, "Tile", tensor([[1.0]]), tensor([HUGE, HUGE], np.int64, "repeats"))


@attack("it has the operator Resize")
def enlarged_constant(model):
    scales = tensor([1, 1, HUGE, HUGE], name="scales")
    model.graph.initializer.extend([tensor([[[[1.0]]]]), scales])
    model.graph.node.append(helper.make_node("Resize", ["bomb", "", "scales"], ["exploded"]))
    spend(model, "exploded")


@attack(CONSTANTS.format("Expand"))
def expanded_constant(model):
    compute(model, "Expand", tensor([1.0]), tensor([HUGE, HUGE], np.int64, "shape"))


@attack(CONSTANTS.format("Range"))
def range_of_constants(model):
    compute(model, "Range", tensor(0), tensor(HUGE**2, name="limit"), tensor(1, name="delta"))


@attack(CONSTANTS.format("Pad"))
def padded_constant(model):
    compute(model, "Pad", tensor([1.0]), tensor([0, HUGE**2], np.int64, "pads"))


@attack(CONSTANTS.format("MatMul"))
def product_of_a_column_and_a_row(model):
    compute(model, "MatMul", tensor(np.ones((HUGE, 1))), tensor(np.ones((1, HUGE)), name="row"))


@attack(CONSTANTS.format("Add"))
def sum_of_a_column_and_a_row(model):
    compute(model, "Add", tensor(np.ones((HUGE, 1))), tensor(np.ones((1, HUGE)), name="row"))


@attack(CONSTANTS.format("ConvTranspose"))
def spread_constant(model):
    kernel = tensor(np.ones((1, 1, 1, 1)), name="kernel")
    spread = tensor(np.ones((1, 1, 2, 2)))
    compute(model, "ConvTranspose", spread, kernel, strides=[HUGE, HUGE])


@attack(CONSTANTS.format("Concat"))
def constant_that_doubles_thirty_times(model):
    model.graph.initializer.append(tensor([1.0], name="doubled0"))
    for time in range(30):
        twice = [f"doubled{time}"] * 2
        model.graph.node.append(helper.make_node("Concat", twice, [f"doubled{time + 1}"], axis=0))
    spend(model, "doubled30")


@attack(CONSTANTS.format("DequantizeLinear"))
def conversion_of_nothing(model):
    model.graph.node.append(helper.make_node("DequantizeLinear", ["", ""], ["more"]))


@attack("it converts its constants more than 4 times")
def weights_that_are_converted_four_hundred_times(model):
    model.graph.initializer.extend([tensor(np.zeros(10**6), np.int8), tensor(1.0, name="scale")])
    for time in range(400):
        model.graph.node.append(
            helper.make_node("DequantizeLinear", ["bomb", "scale"], [f"copy{time}"])
        )
        model.graph.node.append(helper.make_node("Mul", [f"copy{time}", "mean"], [f"used{time}"]))
        spend(model, f"used{time}")


@attack("it computes with sizes that are constants")
def expanded_to_the_shape_of_a_reshaped_frame(model):
    """Sizes that a Reshape fixes are constants to a runtime, and so is what follows from them."""
    model.graph.initializer.extend([tensor([HUGE, HUGE], np.int64, "sizes"), tensor([1.0])])
    model.graph.node.append(helper.make_node("Reshape", ["float", "sizes"], ["fixed"]))
    model.graph.node.append(helper.make_node("Shape", ["fixed"], ["constant"]))
    model.graph.node.append(helper.make_node("Expand", ["bomb", "constant"], ["exploded"]))
    spend(model, "exploded")


@attack("it computes with sizes that are constants")
def shape_of_the_channels(model):
    model.graph.node.append(helper.make_node("Shape", ["frames"], ["constant"], start=3))


# Axes: a shape of a million ones is eight megabytes once, and as many objects for each value that
# has it


@attack("its tensor 'bomb' has more than 16 axes, sizes or indices")
def reshaped_to_a_hundred_thousand_axes(model):
    model.graph.initializer.append(tensor(np.ones(100_000), np.int64))
    model.graph.node.append(helper.make_node("Reshape", ["float", "bomb"], ["value0"]))
    for time in range(100):
        model.graph.node.append(helper.make_node("Relu", [f"value{time}"], [f"value{time + 1}"]))


@attack("it adds axes by more than 32 operators")
def one_more_axis_a_thousand_times(model):
    model.graph.initializer.append(tensor(range(16), np.int64))
    for time in range(1000):
        value = f"value{time}" if time else "float"
        model.graph.node.append(
            helper.make_node("Unsqueeze", [value, "bomb"], [f"value{time + 1}"])
        )


@attack("its value 'noted' has more than 8 axes")
def noted_value_of_a_hundred_thousand_axes(model):
    model.graph.value_info.append(
        helper.make_tensor_value_info("noted", TensorProto.FLOAT, [1] * 100_000)
    )


# The contract


@attack_on_bytes("it has no contract")
def no_contract(data):
    model = ModelProto.FromString(data)
    model.ClearField("metadata_props")
    return model.SerializeToString()


@attack_on_bytes("it has more than one contract")
def two_contracts(data):
    entry = encoded(1, modelfile.CONTRACT_KEY.encode()) + encoded(
        2, a_contract(threshold=1e9).to_json().encode()
    )
    return data + encoded(14, entry)


@attack_on_bytes("the contract has schema 99")
def contract_of_the_future(data):
    return with_contract_text(data, json.dumps(json.loads(a_contract().to_json()) | {"schema": 99}))


@attack_on_bytes("the contract says something twice")
def contract_with_two_thresholds(data):
    text = a_contract().to_json()
    return with_contract_text(
        data, text.replace('"threshold": 100.0', '"threshold": 100.0, "threshold": 1e9')
    )


@attack_on_bytes("the contract is not JSON")
def contract_that_is_nested_deeply(data):
    return with_contract_text(data, "[" * 60_000)


@attack_on_bytes("it has a text of more than 64 KiB")
def contract_of_ten_megabytes(data):
    return with_contract_text(data, "[" + "0," * 5_000_000 + "0]")


@attack_on_bytes("the contract's calibration has threshold = nan")
def contract_with_a_threshold_that_is_no_number(data):
    return with_contract_text(
        data, a_contract().to_json().replace('"threshold": 100.0', '"threshold": NaN')
    )


@attack_on_bytes(INTERFACE)
def contract_of_colour_frames(data):
    return modelfile.with_contract(data, a_contract(channels=3))


@attack_on_bytes(INTERFACE)
def contract_of_volumes(data):
    text = json.loads(a_contract().to_json()) | {
        "kind": "modality",
        "z_range": 5.0,
        "modality": "flair",
        "object": "nonzero",
    }
    return modelfile.with_contract(data, Contract.from_json(json.dumps(text)))


@attack_on_bytes(INTERFACE)
def contract_of_a_fixed_size(data):
    return with_form(data, size=(480, 640))


@attack_on_bytes(INTERFACE)
def contract_of_a_fixed_batch(data):
    return with_form(data, batch=64)


@attack_on_bytes(INTERFACE)
def contract_of_a_map(data):
    return with_form(data, anomaly_map="frame")


@attack(INTERFACE)
def frames_of_a_fixed_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8192


@attack(INTERFACE)
def frames_of_another_type(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8


@attack(INTERFACE)
def one_more_input(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


@attack(INTERFACE)
def one_more_output(model):
    model.graph.output.append(
        helper.make_tensor_value_info("float", TensorProto.FLOAT, ["N", "H", "W", 1])
    )


@attack(INTERFACE)
def score_of_another_rank(model):
    model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)


@attack("its value 'frames' is no tensor")
def frames_that_are_a_sequence(model):
    kind = model.graph.input[0].type
    kind.sequence_type.elem_type.tensor_type.elem_type = TensorProto.UINT8


def with_form(data, **form):
    """The same graph with a contract that says that it has another form."""
    return modelfile.with_contract(data, replace(a_contract(), form=Form(**form)))


# What was written, and then changed by hand


@attack_on_bytes(STALE)
def swapped_threshold(data):
    return data.replace(b'"threshold": 100.0', b'"threshold": 999.0')


@attack_on_bytes(STALE)
def score_that_the_graph_does_not_have(data):
    return with_contract_text(
        data, a_contract().to_json().replace('"score": "l2"', '"score": "density"')
    )


@attack_on_bytes(STALE)
def swapped_graph(data):
    model = ModelProto.FromString(data)
    model.graph.node[-1].op_type = "Neg"
    return model.SerializeToString()


@attack_on_bytes(STALE)
def two_digests(data):
    return data + encoded(14, encoded(1, modelfile.DIGEST_KEY.encode()) + encoded(2, b"0" * 64))


@attack_on_bytes(STALE)
def digest_taken_out(data):
    model = ModelProto.FromString(data)
    del model.metadata_props[0]
    return model.SerializeToString()


def with_contract_text(data, text):
    """The same file with this text for its contract, and nothing else changed."""
    model = ModelProto.FromString(data)
    for entry in model.metadata_props:
        if entry.key == modelfile.CONTRACT_KEY:
            entry.value = text
    return model.SerializeToString()


# Circles


@attack("its operators run in a circle, or lack 'b'")
def circle_of_two(model):
    model.graph.node.append(helper.make_node("Relu", ["b"], ["a"]))
    model.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))


@attack("its operators run in a circle, or lack 'a'")
def operator_that_waits_for_itself(model):
    model.graph.node.append(helper.make_node("Add", ["a", "score"], ["a"]))


@attack("it makes 'score' twice")
def two_that_make_the_score(model):
    model.graph.node.append(helper.make_node("Neg", ["mean"], ["score"]))


@attack("it makes 'frames' twice")
def initialiser_in_place_of_the_frames(model):
    model.graph.initializer.append(tensor(np.zeros((1, 1, 1, 1)), np.uint8, "frames"))


@attack("nothing makes its output 'score'")
def score_that_nothing_makes(model):
    model.graph.node[-1].output[0] = "other"


# Protobuf


@attack_on_bytes(CUT)
def cut_in_the_middle(data):
    return data[: len(data) // 2]


@attack_on_bytes(CUT)
def field_longer_than_the_file(data):
    return data + b"\x3a\xff\xff\xff\xff\x0f"


@attack_on_bytes(CUT)
def number_of_a_hundred_bytes(data):
    return data + b"\x28" + b"\xff" * 100


@attack_on_bytes(CUT)
def groups_that_never_end(data):
    return data + b"\x2b" * 100_000


@attack_on_bytes("it is a damaged ONNX file: a part that occurs once is there twice")
def second_graph(data):
    return data + encoded(7, ModelProto.FromString(data).graph.SerializeToString())


@attack_on_bytes("it is no ONNX file, but ONNX Runtime's own format")
def flatbuffer_of_onnx_runtime(data):
    return b"\x12\x84\x80\x00ORTM" + data  # a name of four letters whose length takes three bytes


@attack_on_bytes(NESTED)
def ten_thousand_graphs_in_each_other(data):
    inner = b""
    for _ in range(10_000):
        inner = encoded(
            1, encoded(4, b"If") + encoded(5, encoded(1, b"then_branch") + encoded(6, inner))
        )
    return with_more_in_graph(data, inner)


@attack_on_bytes("its value 'deep' is no tensor")
def type_of_ten_thousand_sequences(data):
    inner = b""
    for _ in range(10_000):
        inner = encoded(4, encoded(1, inner))
    return with_more_in_graph(data, encoded(13, encoded(1, b"deep") + encoded(2, inner)))


@attack_on_bytes("it has more parts than any network")
def millions_of_empty_fields(data):
    return data + b"\x28\x00" * 5_000_000


@attack_on_bytes("it has a part that no export of adae-edge has: field 9 of its nodes")
def millions_of_empty_notes_in_an_operator(data):
    return with_more_in_graph(data, encoded(1, encoded(4, b"Relu") + b"\x4a\x00" * 5_000_000))


@attack_on_bytes("it has an operator that ONNX cannot have")
def millions_of_empty_operators(data):
    return with_more_in_graph(data, b"\x0a\x00" * 5_000_000)


@attack_on_bytes("it has more than 2000 operators")
def fifty_thousand_operators(data):
    one = encoded(1, b"float") + encoded(4, b"Relu")
    return with_more_in_graph(
        data, b"".join(encoded(1, one + encoded(2, b"r%d" % at)) for at in range(50_000))
    )


@attack_on_bytes("its value '' has more than 8 axes")
def millions_of_empty_sizes(data):
    sizes = encoded(2, b"\x0a\x00" * 5_000_000)
    return with_more_in_graph(data, encoded(13, encoded(2, encoded(1, sizes))))


@attack_on_bytes("it has a part that no export of adae-edge has: field 14 of its graph")
def millions_of_empty_annotations(data):
    return with_more_in_graph(data, b"\x72\x00" * 5_000_000)


@attack_on_bytes("it has a text of more than 64 KiB")
def name_of_forty_megabytes(data):
    return with_more_in_graph(data, encoded(1, encoded(4, b"A" * 40_000_000)))


@attack_on_bytes("it has more parts than any network")
def as_many_fields_as_are_read(data):
    """The slowest file that there is: every field costs, and the last one is one too many."""
    size = encoded(1, b"\x08\x01")
    return with_more_in_graph(
        data, (encoded(13, encoded(2, encoded(1, encoded(2, size * 8))))) * (MAX_FIELDS // 12)
    )


def write(folder):
    for name, (build, _) in ATTACKS.items():
        (folder / f"{name}.onnx").write_bytes(build())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
