"""The contract: everything that scoring needs to know about a model, and nothing else.

It travels as JSON in the checkpoint's header and in the model file's metadata, so that the
preprocessing, the score's meaning and the threshold cannot be separated from the weights.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from adae_edge.errors import AdaeEdgeError, ContractError, FrameError

SCHEMA = 3
QUANTILES = 101

# Standard deviations that become the network's -1 to 1, for frames of kind "modality": in the ten
# shared FLAIR volumes 0.02 % of the healthy brain lies beyond and 0.5 % of the tumours, which 3
# would clip to a fifth.
Z_RANGE = 5.0


# What a model may return, by name; each rises with how anomalous a frame is. In the words of
# section 3.1:
SCORES = {
    "l2": "||x - D(G(x))||, the paper's",
    "generator": "||x - G(x)||",
    "density": "how rare normals make what the encoders of G and D see in x",
}


PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("portable", "openvino", "tensorrt")
MAPS = ("network", "frame")
MAX_BATCH = 4096
MAX_SIDE = 8192  # pixels of a frame's height and width


class Region(NamedTuple):
    """A rectangle of a frame, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def check(self, height: int, width: int, refusal: type[AdaeEdgeError] = FrameError) -> None:
        """Refuse frames of this height and width, pixels, if they do not contain the region.

        Raises:
            FrameError: they do not; or ``refusal``, where that is given.
        """
        if self.left + self.width > width or self.top + self.height > height:
            raise refusal(
                f"the model looks at {tuple(self)}, which lies outside of a frame of {width} x "
                f"{height} pixels"
            )


class Window(NamedTuple):
    """Centre and width of the values that become black to white, in modality units."""

    center: float
    width: float


@dataclass(frozen=True)
class Network:
    """The size of G and of D, Appendix A: ``width`` 16 and ``latent`` 32 are (a), 64 and 128 are (b)."""

    width: int
    latent: int


@dataclass(frozen=True)
class Form:
    """In which form the network was exported; the numbers that it returns follow from the rest of the contract.

    Attributes:
        precision: of both autoencoders, one of ``PRECISIONS``; preprocessing and score are always
            float32.
        target: "portable"; "openvino" with the transposed convolutions in a form that it runs
            faster; or "tensorrt" with int8 in the form that it takes.
        size: height and width of every frame, or None for any.
        batch: frames in every run of the graph, or None for any number.
        anomaly_map: second output ``anomaly_map``, float32: "network" [N, side, side], "frame" [N,
            H, W], or None.
        verified: backends whose scores were found to be PyTorch's when the file was written.
        unverified: backends that were not there to be asked.
    """

    precision: str = "fp32"
    target: str = "portable"
    size: tuple[int, int] | None = None
    batch: int | None = None
    anomaly_map: str | None = None
    verified: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """What the scores of normals that the training did not see say about the threshold.

    Attributes:
        threshold: a frame is anomalous if its score is greater (section 3.1).
        target_fpr: bound on the rate at which normals are called anomalous.
        confidence: probability, over the draw of the normals, that the bound holds; None in files
            of schema 1, whose bound holds on average over such draws.
        normals: how many normals were scored.
        quantiles: their scores at the levels 0, 0.01 ... 1.
    """

    threshold: float
    target_fpr: float
    confidence: float | None
    normals: int
    quantiles: tuple[float, ...]

    @property
    def promise(self) -> str:
        """What the threshold promises, in words for the terminal."""
        surely = (
            "on average"
            if self.confidence is None
            else f"with {100 * self.confidence:g} % confidence"
        )
        return f"false-positive rate at most {self.target_fpr:.3g} {surely}"


@dataclass(frozen=True)
class Contract:
    """What a model expects and returns.

    Attributes:
        kind: "image", frames uint8 [N, H, W, C] of any H and W; or "modality", frames float32 [N,
            H, W, 1] in modality units with a mean and a standard deviation for each, where 0 is
            what lies outside of the object.
        channels: C, 1 (grey) or 3 (RGB).
        side: height and width that the network sees, 4 * 2**n pixels.
        resize: "stretch" to the side, or "pad" to a square first.
        pad_value: grey level around a padded frame; 0 for kind "modality".
        region: the only part of a frame that is looked at, or None.
        network: the size of G and D.
        score: one of ``SCORES``, with x in [-1, 1].
        calibration: threshold and what it rests on.
        weights_sha256: identity of the trained weights.
        data_sha256: identity of the training frames.
        version: of the adae-edge that trained the weights.
        z_range: standard deviations that become -1 to 1; None for kind "image".
        modality: what the volumes show, by the names of ``nifti.MODALITIES``; None for kind
            "image".
        window: centre and width that made grey values of DICOM files in the training, so that
            scoring takes them too; None for each file's own.
        form: the form in which a model file holds the network, "graph" in JSON; the plain one in a
            checkpoint.
    """

    kind: str
    channels: int
    side: int
    resize: str
    pad_value: float
    region: Region | None
    network: Network
    score: str
    calibration: Calibration
    weights_sha256: str
    data_sha256: str
    version: str
    z_range: float | None = None
    modality: str | None = None
    window: Window | None = None
    form: Form = Form()

    @property
    def promise(self) -> str:
        """What the threshold promises, in words for the terminal. Slices of one patient are alike."""
        of_whom = (
            ", for slices of the patients that calibrated it" if self.kind == "modality" else ""
        )
        return self.calibration.promise + of_whom

    def with_calibration(self, calibration: Calibration) -> Contract:
        """The same model under another threshold."""
        return replace(self, calibration=calibration)

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        fields = {"schema": SCHEMA, **asdict(self)}
        fields["graph"] = fields.pop("form")
        return json.dumps(fields, sort_keys=True, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> Contract:
        """Parse and check a contract, of this schema or an older one.

        Raises:
            ContractError: not JSON, an unknown schema, or a field that is missing, unknown or
                absurd.
        """
        try:
            fields = json.loads(text, object_pairs_hook=_unrepeated)
        except (ValueError, RecursionError) as error:
            raise ContractError("the contract is not JSON") from error
        if not isinstance(fields, dict):
            raise ContractError("the contract is not a JSON object")
        schema = fields.pop("schema", None)
        if not _whole(schema, 1, SCHEMA):
            raise ContractError(
                f"the contract has schema {schema!r:.40}, and this version reads 1 to {SCHEMA}: "
                "install the adae-edge that wrote it, or a newer one"
            )
        if schema == 1:
            fields = _from_schema_1(fields)
        if schema < 3:
            fields = _with_added(fields, "the contract", 3, graph=None)
        parsed = _checked(fields, "the contract", _FIELDS)
        _check_kind(parsed["kind"], parsed)
        parsed["network"] = Network(
            **_checked(parsed["network"], "the contract's network", _NETWORK)
        )
        calibration = _checked(parsed["calibration"], "the contract's calibration", _CALIBRATION)
        calibration["quantiles"] = tuple(float(q) for q in calibration["quantiles"])
        parsed["calibration"] = Calibration(**calibration)
        if parsed["region"] is not None:
            parsed["region"] = Region(*parsed["region"])
        if parsed["window"] is not None:
            parsed["window"] = Window(*map(float, parsed["window"]))
        form = parsed.pop("graph")
        if form is not None:
            form = _checked(form, "the contract's graph", _GRAPH)
            lists = {name: tuple(value) for name, value in form.items() if isinstance(value, list)}
            parsed["form"] = Form(**form | lists)
        return Contract(**parsed)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ContractError("the contract says something twice")
    return fields


def _from_schema_1(fields: dict[str, Any]) -> dict[str, Any]:
    """The same contract in schema 2: each field that it added, with what a file without it says."""
    calibration = fields.get("calibration")
    if isinstance(calibration, dict):
        calibration = _with_added(calibration, "the contract's calibration", 2, confidence=None)
        fields = fields | {"calibration": calibration}
    if fields.get("score", "l2") != "l2":
        raise ContractError(
            f"the contract has score = {fields['score']!r:.60}, which schema 1 does not know"
        )
    return _with_added(fields, "the contract", 2, z_range=None, modality=None, window=None)


def _with_added(fields: dict[str, Any], where: str, schema: int, **added: Any) -> dict[str, Any]:
    """The fields of an older schema and what ``schema`` added to them."""
    if early := sorted(fields.keys() & added.keys()):
        raise ContractError(
            f"{where} has a field that schema {schema - 1} does not know: {early[0]!r}"
        )
    return fields | added


def valid_side(side: int) -> bool:
    """Whether a network can have this side: 4 * 2**n pixels, 8 to 1024."""
    return 8 <= side <= 1024 and side & (side - 1) == 0


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _rising(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == QUANTILES
        and all(_number(value, 0, sys.float_info.max) for value in values)
        and values == sorted(values)
    )


def _hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _region(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 4
        and all(_whole(edge, 0, MAX_SIDE) for edge in value[:2])
        and all(_whole(edge, 1, MAX_SIDE) for edge in value[2:])
    )


def _size(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and len(value) == 2 and all(_whole(v, 1, MAX_SIDE) for v in value)
    )


def _names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= 20
        and all(
            isinstance(name, str) and 0 < len(name) <= 60 and name.isprintable() for name in value
        )
    )


def _window(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 2
        and _number(value[0], -1e9, 1e9)
        and _number(value[1], 1, 1e9)
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "kind": lambda v: v in ("image", "modality"),
    "channels": lambda v: _whole(v, 1, 3) and v != 2,
    "side": lambda v: _whole(v, 8, 1024) and valid_side(v),
    "resize": lambda v: v in ("stretch", "pad"),
    "pad_value": lambda v: _number(v, 0, 255),
    "region": _region,
    "network": lambda v: isinstance(v, dict),
    "score": lambda v: isinstance(v, str) and v in SCORES,
    "calibration": lambda v: isinstance(v, dict),
    "weights_sha256": _hash,
    "data_sha256": _hash,
    "version": lambda v: isinstance(v, str) and 0 < len(v) <= 40 and v.isprintable(),
    "z_range": lambda v: v is None or _number(v, 1, 100),
    "modality": lambda v: (
        v is None or (isinstance(v, str) and 0 < len(v) <= 20 and v.isprintable())
    ),
    "window": _window,
    "graph": lambda v: v is None or isinstance(v, dict),
}
_GRAPH: dict[str, Callable[[Any], bool]] = {
    "precision": lambda v: isinstance(v, str) and v in PRECISIONS,
    "target": lambda v: isinstance(v, str) and v in TARGETS,
    "size": _size,
    "batch": lambda v: v is None or _whole(v, 1, MAX_BATCH),
    "anomaly_map": lambda v: v is None or (isinstance(v, str) and v in MAPS),
    "verified": _names,
    "unverified": _names,
}
_NETWORK: dict[str, Callable[[Any], bool]] = {
    "width": lambda v: _whole(v, 1, 1024),
    "latent": lambda v: _whole(v, 1, 4096),
}
_CALIBRATION: dict[str, Callable[[Any], bool]] = {
    "threshold": lambda v: _number(v, 0, 1e30),
    "target_fpr": lambda v: _number(v, 0, 1),
    "confidence": lambda v: v is None or _number(v, 0, 1),
    "normals": lambda v: _whole(v, 1, 10**12),
    "quantiles": _rising,
}


def _check_kind(kind: str, fields: dict[str, Any]) -> None:
    """Refuse a field that frames of this kind cannot have."""
    fixed: dict[str, Any] = {"z_range": None, "modality": None}
    if kind == "modality":
        fixed = {"channels": 1, "pad_value": 0, "window": None}
    wrong = [name for name, value in fixed.items() if fields[name] != value]
    if kind == "modality" and fields["z_range"] is None:
        wrong.append("z_range")
    for name in wrong:
        raise ContractError(
            f"the contract has {name} = {fields[name]!r:.60} and kind = {kind!r}, which is "
            "impossible"
        )


def _checked(
    fields: dict[str, Any], where: str, rules: dict[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    """The fields, if they are exactly those of the rules and each passes its own."""
    if missing := sorted(rules.keys() - fields.keys()):
        raise ContractError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(fields.keys() - rules.keys()):
        raise ContractError(
            f"{where} has a field that schema {SCHEMA} does not know: {unknown[0]!r:.60}"
        )
    for name, accept in rules.items():
        if not accept(fields[name]):
            raise ContractError(f"{where} has {name} = {fields[name]!r:.60}, which is impossible")
    return dict(fields)
