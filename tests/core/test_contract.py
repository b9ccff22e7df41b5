"""The contract: what is read is what was written, and the rest is refused with one sentence."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adae_edge.acquisition import Acquisition
from adae_edge.contract import SCHEMA, Contract, Form, Network, Region
from adae_edge.errors import ContractError
from tests.support.models import as_schema_1, as_schema_4, as_schema_5, as_schema_6

FIELDS = ["graph" if field.name == "form" else field.name for field in dataclasses.fields(Contract)]
CALIBRATION = ["threshold", "target_fpr", "confidence", "normals", "quantiles", "map_threshold"]
CALIBRATION += ["greys", "whites"]  # by schema 7
ADDED = ["modality", "window", "z_range"]  # by schema 2
SLICES = ["object", "field_of_view", "acquisitions"]  # by schema 6
LATER = ["graph", "bits", "decoding", "measured", *SLICES]  # by schemas 3, 5 and 6
NULLABLE = ["region", "graph", "bits", "decoding", "object", "field_of_view", *ADDED]
GRAPH = [field.name for field in dataclasses.fields(Form)]  # by schema 3
NETWORK = ["width", "latent"]
SCANNER = Acquisition("A", "B", 3.0, "GR SP 3D", 2300.0, 3, None, 9.5, (1.0, 0.9, 0.9))
OTHER = dataclasses.replace(SCANNER, field_strength=1.5)
RISING = [index / 100 for index in range(101)]

fuzz = settings(max_examples=150, deadline=None, database=None)


@pytest.fixture(scope="session")
def contract(contract):
    """A contract that keeps no rule of decoding, as the older schemas have none."""
    return dataclasses.replace(contract, decoding=None)


def as_json(contract):
    return json.loads(contract.to_json())


def refusal(fields):
    """The sentence that refuses these fields, or this text."""
    with pytest.raises(ContractError) as refused:
        Contract.from_json(fields if isinstance(fields, str) else json.dumps(fields))
    sentence = str(refused.value)
    assert sentence.isprintable()
    assert 10 < len(sentence) < 240
    return sentence


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"channels": 3, "resize": "pad", "pad_value": 114.5},
        {"region": Region(8, 0, 640, 480)},
        {"region": Region(0, 0, 1, 1), "side": 1024},
        {"kind": "modality", "resize": "pad", "z_range": 5.0, "object": "nonzero"},
        {"kind": "modality", "z_range": 5.0, "modality": "t1ce", "object": "mask"},
        {"kind": "modality", "z_range": 5.0, "measured": "interior", "object": "nonzero"},
        {"kind": "modality", "z_range": 5.0, "object": "head", "field_of_view": 240.0},
        {"kind": "modality", "z_range": 5.0, "object": "head", "acquisitions": (SCANNER, OTHER)},
        {"window": (-40.5, 400.0)},
        {"decoding": "pictures 2"},
        {"bits": 12},
        {"form": Form()},
        {
            "form": Form(
                "int8",
                "openvino",
                (480, 640),
                64,
                "frame",
                ("onnxruntime cpu",),
                ("onnxruntime cuda", "x"),
            )
        },
    ],
)
def test_json_round_trip(contract, changed):
    written = dataclasses.replace(contract, **changed)
    read = Contract.from_json(written.to_json())
    assert read == written
    assert type(read.region) is type(written.region)
    assert read.to_json() == written.to_json()


def test_json_is_one_line_and_the_same_every_time(contract):
    text = contract.to_json()
    assert "\n" not in text
    assert list(json.loads(text)) == sorted([*FIELDS, "schema"])


def test_another_threshold_changes_nothing_else(contract):
    other = dataclasses.replace(contract.calibration, threshold=7.5)
    changed = contract.with_calibration(other)
    assert changed.calibration.threshold == 7.5
    assert dataclasses.replace(changed, calibration=contract.calibration) == contract


@pytest.mark.parametrize("name", FIELDS)
def test_missing_field_is_named(contract, name):
    fields = as_json(contract)
    del fields[name]
    assert refusal(fields) == f"the contract lacks {name}"


@pytest.mark.parametrize(
    ("part", "name"), [("calibration", n) for n in CALIBRATION] + [("network", n) for n in NETWORK]
)
def test_missing_inner_field_is_named(contract, part, name):
    fields = as_json(contract)
    del fields[part][name]
    assert refusal(fields) == f"the contract's {part} lacks {name}"


@pytest.mark.parametrize("part", [None, "calibration", "network"])
def test_unknown_field_is_named(contract, part):
    fields = as_json(contract)
    (fields[part] if part else fields)["mean\x1b[2J"] = 1
    assert f"field that schema {SCHEMA} does not know: 'mean\\x1b[2J'" in refusal(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in FIELDS
        for value in [None, True, [], {}, "", "text", -1, 0.5, 1e308, "NaN", ["x"] * 4, {"a": 1}]
        if (name, value)
        not in [
            *((name, None) for name in NULLABLE),
            ("acquisitions", []),
            ("pad_value", 0.5),
            *((name, text) for name in ("version", "decoding") for text in ("text", "NaN")),
        ]
    ],
)
def test_value_of_another_type_is_refused(contract, name, value):
    fields = as_json(contract)
    fields[name] = value
    assert name in refusal(fields)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, "kind", "volume"),
        (None, "z_range", 0.5),
        (None, "z_range", 101),
        (None, "channels", 0),
        (None, "channels", 2),
        (None, "channels", 4),
        (None, "side", 4),
        (None, "side", 33),
        (None, "side", 2048),
        (None, "side", 32.0),
        (None, "resize", "crop"),
        (None, "pad_value", 255.5),
        (None, "pad_value", -0.5),
        (None, "region", [0, 0, 10]),
        (None, "region", [0, 0, 0, 10]),
        (None, "region", [-1, 0, 10, 10]),
        (None, "region", [0, 0, 10, 9000]),
        (None, "region", [0, 0, 10.5, 10]),
        (None, "region", [0, True, 10, 10]),
        (None, "score", "l1"),
        (None, "weights_sha256", "0" * 63),
        (None, "weights_sha256", "G" * 64),
        (None, "data_sha256", "A" * 64),
        (None, "version", "1" * 41),
        (None, "version", "1\n2"),
        (None, "modality", ""),
        (None, "modality", "flair\n"),
        (None, "modality", 1),
        (None, "window", [40]),
        (None, "window", [40, 0.5]),
        (None, "window", [40, True]),
        (None, "window", [2e9, 400]),
        (None, "window", "40"),
        (None, "bits", 8),
        (None, "bits", 17),
        (None, "bits", 12.5),
        (None, "decoding", ""),
        (None, "decoding", "a\nb"),
        (None, "decoding", "x" * 101),
        (None, "decoding", 2),
        (None, "object", "brain"),
        (None, "field_of_view", 0.5),
        (None, "field_of_view", 1001),
        (None, "graph", "fp32"),
        ("graph", "precision", "bf16"),
        ("graph", "precision", ["fp16"]),
        ("graph", "target", None),
        ("graph", "size", [480]),
        ("graph", "size", [480, 0]),
        ("graph", "size", [480, 8193]),
        ("graph", "batch", 0),
        ("graph", "batch", True),
        ("graph", "anomaly_map", "pixels"),
        ("graph", "anomaly_map", ["frame"]),
        ("graph", "verified", "onnxruntime cpu"),
        ("graph", "verified", ["onnxruntime\n"]),
        ("graph", "unverified", [1]),
        ("graph", "unverified", ["x"] * 21),
        ("network", "width", 0),
        ("network", "width", 16.0),
        ("network", "latent", 5000),
        ("network", "latent", True),
        ("calibration", "threshold", -1),
        ("calibration", "threshold", 1e31),
        ("calibration", "threshold", 10**400),
        ("calibration", "threshold", True),
        ("calibration", "threshold", "1.5"),
        ("calibration", "target_fpr", 1.01),
        ("calibration", "target_fpr", -0.01),
        ("calibration", "confidence", 1.01),
        ("calibration", "confidence", -0.01),
        ("calibration", "confidence", True),
        ("calibration", "confidence", "0.95"),
        ("calibration", "map_threshold", -1e31),
        ("calibration", "map_threshold", True),
        ("calibration", "map_threshold", "3"),
        ("calibration", "normals", 0),
        ("calibration", "normals", 12.0),
        ("calibration", "quantiles", RISING[:-1]),
        ("calibration", "quantiles", [*RISING, 2.0]),
        ("calibration", "quantiles", RISING[::-1]),
        ("calibration", "quantiles", [-1.0, *RISING[1:]]),
        ("calibration", "quantiles", [*RISING[:-1], None]),
        ("calibration", "quantiles", [*RISING[:-1], 10**400]),
        ("calibration", "quantiles", "x" * 101),
    ],
)
def test_absurd_value_is_refused_by_name(contract, part, name, value):
    fields = as_json(contract)
    (fields[part] if part else fields)[name] = value
    where = f"the contract's {part}" if part else "the contract"
    sentence = refusal(fields)
    assert sentence.startswith(f"{where} has {name} = ")
    assert sentence.endswith(", which is impossible")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", CALIBRATION)
def test_numbers_that_are_not_finite_are_refused(contract, name, number):
    fields = as_json(contract)
    fields["calibration"][name] = [*RISING[:-1], "HERE"] if name == "quantiles" else "HERE"
    assert f"has {name} = " in refusal(json.dumps(fields).replace('"HERE"', number))


def test_schema_3_knows_neither_the_score_local_nor_a_linear_network(contract):
    fields = as_schema_4(contract) | {"schema": 3}
    assert Contract.from_json(json.dumps(fields)) == contract
    sentence = refusal(fields | {"score": "local"})
    assert sentence == "the contract has score = 'local', which schema 3 does not know"
    sentence = refusal(fields | {"network": {"width": None, "latent": 5}})
    assert sentence == "the contract has network.width = None, which schema 3 does not know"


def test_a_linear_network_says_how_many_components_it_has(contract):
    linear = dataclasses.replace(contract, network=Network(None, 5), score="local")
    read = Contract.from_json(linear.to_json())
    assert read == linear
    assert read.network.linear
    assert str(read.network) == "linear, 5 components"


def test_nan_is_never_written(contract):
    broken = contract.with_calibration(
        dataclasses.replace(contract.calibration, threshold=float("nan"))
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()


def test_schema_1_is_read_as_what_it_said(contract):
    """Its threshold held its rate on average over draws of normals, so it reports no confidence."""
    read = Contract.from_json(json.dumps(as_schema_1(contract)))
    assert read.calibration.confidence is None
    assert read.calibration.promise == "false-positive rate at most 0.01 on average"
    before = dataclasses.replace(contract, form=Form())
    assert read == before.with_calibration(
        dataclasses.replace(contract.calibration, confidence=None)
    )
    assert json.loads(read.to_json())["schema"] == SCHEMA
    assert Contract.from_json(read.to_json()) == read


@pytest.mark.parametrize("value", [None, 0.95])
def test_schema_1_has_no_field_of_schema_2(contract, value):
    fields = as_schema_1(contract)
    fields["calibration"]["confidence"] = value
    assert (
        refusal(fields)
        == "the contract's calibration has a field that schema 1 does not know: 'confidence'"
    )
    for name in ADDED:
        fields = as_schema_1(contract) | {name: value}
        assert refusal(fields) == f"the contract has a field that schema 1 does not know: '{name}'"


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in [*ADDED, *LATER]])
def test_schema_1_is_checked_as_strictly(contract, name):
    fields = as_schema_1(contract)
    fields[name] = {"a": 1}
    assert name in refusal(fields)
    del fields[name]
    assert refusal(fields) == f"the contract lacks {name}"


def test_schema_1_knew_pictures_alone(contract):
    assert "kind = 'modality', which is impossible" in refusal(
        as_schema_1(contract) | {"kind": "modality"}
    )


def test_schema_2_is_read_as_it_was_and_has_no_graph(contract):
    fields = as_schema_4(contract) | {"schema": 2}
    del fields["graph"]
    assert Contract.from_json(json.dumps(fields)) == dataclasses.replace(contract, form=Form())
    for value in (None, {}):
        sentence = refusal(fields | {"graph": value})
        assert sentence == "the contract has a field that schema 2 does not know: 'graph'"


@pytest.mark.parametrize("name", GRAPH)
def test_a_graph_is_whole(contract, name):
    fields = as_json(contract)
    del fields["graph"][name]
    assert refusal(fields) == f"the contract's graph lacks {name}"
    fields["graph"] |= {
        name: None if name in ("size", "batch", "anomaly_map") else fields["graph"].get(name),
        "more": 1,
    }
    assert "the contract's graph has a field that schema 7 does not know: 'more'" in refusal(fields)


def test_schema_3_and_newer_must_say_what_3_added(contract):
    fields = as_json(contract)
    del fields["graph"]
    assert refusal(fields) == "the contract lacks graph"


@pytest.mark.parametrize("threshold", [-0.5, 3.25, None])
def test_a_map_has_a_threshold_of_its_own_from_schema_5_on(contract, threshold):
    calibration = dataclasses.replace(contract.calibration, map_threshold=threshold)
    written = contract.with_calibration(calibration)
    assert Contract.from_json(written.to_json()) == written


def test_schema_4_is_read_as_it_was(contract):
    fields = as_schema_4(contract)
    assert Contract.from_json(json.dumps(fields)) == contract
    sentence = refusal(fields | {"decoding": None})
    assert sentence == "the contract has a field that schema 4 does not know: 'decoding'"
    fields["calibration"]["map_threshold"] = 3.0
    assert refusal(fields) == (
        "the contract's calibration has a field that schema 4 does not know: 'map_threshold'"
    )


def test_schema_5_must_say_what_it_added(contract):
    fields = as_schema_5(contract) | {"calibration": as_schema_4(contract)["calibration"]}
    assert refusal(fields) == "the contract's calibration lacks map_threshold"
    del fields["decoding"]
    assert refusal(fields) == "the contract lacks decoding"


def test_schema_2_must_say_what_it_added(contract):
    fields = as_schema_1(contract) | {"schema": 2}
    assert refusal(fields) == "the contract lacks modality, window, z_range"
    assert refusal(fields | dict.fromkeys(ADDED)) == "the contract's calibration lacks confidence"


@pytest.mark.parametrize(
    "schema", [0, 8, "1", "2", None, True, 1.5, [1], {"schema": 1}, "\x1b[2J" * 99]
)
def test_unknown_schema_says_what_to_install(contract, schema):
    sentence = refusal({**as_json(contract), "schema": schema})
    assert sentence.startswith("the contract has schema ")
    assert "this version reads 1 to 7: install" in sentence


@pytest.mark.parametrize(
    "changed",
    [
        {"channels": 3},
        {"pad_value": 1.0},
        {"z_range": None},
        {"window": [1, 2]},
        {"object": None},
        {"kind": "image"},
    ],
)
def test_a_field_that_the_kind_cannot_have_is_refused(contract, changed):
    slices = {"kind": "modality", "z_range": 5.0, "object": "head"}
    sentence = refusal(as_json(contract) | slices | changed)
    assert sentence.startswith(
        f"the contract has {next(iter(changed.keys() - {'kind'}), 'z_range')} = "
    )
    assert sentence.endswith(", which is impossible")


@pytest.mark.parametrize(
    ("name", "value"), [("object", "head"), ("field_of_view", 240.0), ("acquisitions", [{}])]
)
def test_pictures_have_no_object(contract, name, value):
    assert refusal(as_json(contract) | {name: value}).startswith(f"the contract has {name} = ")


def test_slices_of_schema_5_show_what_is_not_0_and_are_looked_at_whole(contract):
    slices = dataclasses.replace(contract, kind="modality", z_range=5.0, object="nonzero")
    fields = as_schema_5(slices)
    assert Contract.from_json(json.dumps(fields)) == slices
    sentence = refusal(fields | {"object": "head"})
    assert sentence == "the contract has a field that schema 5 does not know: 'object'"
    assert Contract.from_json(json.dumps(as_schema_5(contract))) == contract


def test_schema_6_does_not_say_how_light_normals_were(contract):
    known = dataclasses.replace(contract.calibration, greys=tuple(RISING), whites=tuple(RISING))
    read = Contract.from_json(json.dumps(as_schema_6(contract.with_calibration(known))))
    assert (read.calibration.greys, read.calibration.whites) == (None, None)
    fields = as_schema_6(contract)
    fields["calibration"]["greys"] = RISING
    assert "calibration has a field that schema 6 does not know: 'greys'" in refusal(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("manufacturer", ""),
        ("model", "x" * 65),
        ("field_strength", 0),
        ("sequence", 3),
        ("echo_time", -1),
        ("flip_angle", 361),
        ("spacing", [1.0, 0.9]),
        ("spacing", None),
        ("kernel", "H30"),
    ],
)
def test_an_acquisition_is_checked(contract, name, value):
    slices = {"kind": "modality", "z_range": 5.0, "object": "head"}
    fields = as_json(dataclasses.replace(contract, **slices, acquisitions=(SCANNER,)))
    fields["acquisitions"][0][name] = value
    assert refusal(fields).startswith(
        f"an acquisition of the contract has {'a field' if name == 'kernel' else name}"
    )


def test_more_acquisitions_than_20_are_refused(contract):
    slices = {"kind": "modality", "z_range": 5.0, "object": "head"}
    fields = as_json(dataclasses.replace(contract, **slices, acquisitions=(SCANNER,) * 21))
    assert "acquisitions" in refusal(fields)


def test_a_calibration_covers_what_it_was_made_with_and_what_tells_nothing(contract):
    assert contract.covers(None)
    assert not contract.covers(SCANNER)
    slices = dataclasses.replace(contract, kind="modality", acquisitions=(SCANNER, OTHER))
    assert slices.covers(None)
    assert slices.covers(OTHER)
    assert slices.covers(dataclasses.replace(SCANNER, field_strength=2.8936))
    assert not slices.covers(dataclasses.replace(SCANNER, model="C"))


def test_a_picture_has_no_modality(contract):
    assert refusal(as_json(contract) | {"modality": "t1"}).startswith(
        "the contract has modality = 't1'"
    )


def test_slices_of_one_patient_are_no_independent_normals(contract):
    assert contract.promise == contract.calibration.promise
    slices = dataclasses.replace(contract, kind="modality", z_range=5.0)
    assert (
        slices.promise
        == contract.calibration.promise + ", for slices of the patients that calibrated it"
    )


def test_missing_schema_is_unknown(contract):
    fields = as_json(contract)
    del fields["schema"]
    assert "schema None" in refusal(fields)


def test_schema_is_checked_before_the_fields():
    assert "schema 8" in refusal({"schema": 8, "something": "new"})


@pytest.mark.parametrize(
    "text", ["", "{", "contract", "\ufeff{}", '{"schema": 1,}', "{'schema': 1}", "9" * 5000]
)
def test_text_that_is_not_json_is_refused(text):
    assert refusal(text) == "the contract is not JSON"


@pytest.mark.parametrize("text", ["null", "1", '"contract"', "[]", "[{}]", "NaN"])
def test_json_that_is_no_object_is_refused(text):
    assert refusal(text) == "the contract is not a JSON object"


@pytest.mark.parametrize("name", ["schema", "side", "calibration"])
@pytest.mark.parametrize("pair", ["[]", ('{"a":', "}")])
def test_deep_nesting_is_refused(contract, name, pair):
    """Depths that are parsed, depths that are not, and those between, where repr() may fail."""
    text = json.dumps({**as_json(contract), name: "HERE"})
    for depth in [*range(100, 1100, 9), 100_000]:
        refusal(
            text.replace(
                '"HERE"', pair[0] * depth + ("0" if pair[1] == "}" else "") + pair[1] * depth
            )
        )


def parses_or_is_refused(text):
    try:
        contract = Contract.from_json(text)
    except ContractError:
        return False
    assert Contract.from_json(contract.to_json()) == contract
    return True


@fuzz
@given(st.text())
def test_no_text_does_worse_than_being_refused(text):
    assert not parses_or_is_refused(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
places = [
    *FIELDS,
    "schema",
    *(("calibration", name) for name in CALIBRATION),
    *(("network", name) for name in NETWORK),
]


@fuzz
@given(place=st.sampled_from(places), value=values)
def test_no_value_does_worse_than_being_refused(contract, place, value):
    fields = as_json(contract)
    if isinstance(place, tuple):
        fields[place[0]][place[1]] = value
    else:
        fields[place] = value
    parses_or_is_refused(json.dumps(fields))


@fuzz
@given(level=st.sampled_from([0, 50, 100]), value=st.integers(-(10**400), 10**400) | st.floats())
def test_no_quantile_does_worse_than_being_refused(contract, level, value):
    fields = as_json(contract)
    fields["calibration"]["quantiles"][level] = value
    parses_or_is_refused(json.dumps(fields))


@fuzz
@given(data=st.data())
def test_no_damaged_json_does_worse_than_being_refused(contract, data):
    text = contract.to_json()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 5)))
        text = (
            text[:start]
            + data.draw(st.text('0123456789eE+-.,:{}[]"\\untrefalsNI \x00é', max_size=4))
            + text[end:]
        )
    parses_or_is_refused(text)
