"""The contract: everything that scoring needs to know about a model, and nothing else.

It travels as JSON in the checkpoint's header and in the model file's metadata, so that the
preprocessing, the score's meaning and the threshold cannot be separated from the weights.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_CEILING, Context
from typing import Annotated, Any, NamedTuple

from adae_edge.acquisition import Acquisition
from adae_edge.errors import AdaeEdgeError, ContractError, FrameError
from adae_edge.fields import (
    NULL,
    OBJECT,
    SHA256,
    Key,
    Of,
    Rule,
    fields_of,
    nullable,
    number,
    one_of,
    parse,
    printable_text,
    read,
    sequence,
    up_to,
    whole,
)
from adae_edge.schemas import as_newest

SCHEMA = 7
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
    "density": "how rare normals make what the encoders of G and D see in x; if those are linear, "
    "x itself",
    "local": "how rare normals make the rarest places of x",
}

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("portable", "openvino", "tensorrt")
MAPS = ("network", "frame")
# What counts as object in a volume, by the rule of ``decoding/objects.py``.
OBJECTS = ("nonzero", "mask", "head")
SIDES = (8, 16, 32, 64, 128, 256, 512, 1024)  # pixels that a network can see, 4 * 2**n
MAX_BATCH = 4096
MAX_ACQUISITIONS = 20
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


_SIDE = Rule("8, 16 ... 1024", one_of(*SIDES).accepts)
_START, _LENGTH = whole(0, MAX_SIDE), whole(1, MAX_SIDE)
_REGION = sequence(
    f"[left, top, width, height]: whole numbers, 0 to {MAX_SIDE}, the last two from 1",
    *(_START, _START, _LENGTH, _LENGTH),
    read=lambda value: Region(*value),
)
_WINDOW = sequence(
    "[centre, width]: -1e9 to 1e9, 1 to 1e9",
    *(number(-1e9, 1e9), number(1, 1e9)),
    read=lambda value: Window(*map(float, value)),
)
_SIZE = sequence(f"[height, width], 1 to {MAX_SIDE}", _LENGTH, _LENGTH)
_SCORES_AT_LEVELS = sequence("", *[number(0, sys.float_info.max)] * QUANTILES)
_QUANTILES = Rule(
    f"{QUANTILES} numbers from 0 on, rising",
    lambda value: _SCORES_AT_LEVELS.accepts(value) and value == sorted(value),
    lambda value: tuple(map(float, value)),
)
_NAMES = up_to(20, printable_text(60), "up to 20 names, 1 to 60 printable characters each")


@dataclass(frozen=True)
class Network:
    """The size of G and of D, Appendix A."""

    width: Annotated[
        int | None,
        nullable(whole(1, 1024)),
        "channels of the first layer; 16 in the paper's network (a), 64 in (b); null: it is linear",
    ]
    latent: Annotated[
        int,
        whole(1, 4096),
        "size of the narrowest layer; 32 in the paper's network (a), 128 in (b); of a linear one "
        "the number of components",
    ]

    @property
    def linear(self) -> bool:
        """Whether G and D are principal components in place of convolutions."""
        return self.width is None

    def __str__(self) -> str:
        """Its size in words for the terminal."""
        if self.linear:
            return f"linear, {self.latent} components"
        return f"width {self.width}, latent {self.latent}"


@dataclass(frozen=True)
class Form:
    """In which form the network was exported, on which no number that it returns depends."""

    precision: Annotated[str, one_of(*PRECISIONS), "of both autoencoders; the rest is float32"] = (
        "fp32"
    )
    target: Annotated[
        str,
        one_of(*TARGETS),
        "how transposed convolutions and int8 are written: for any runtime, or for one",
    ] = "portable"
    size: Annotated[
        tuple[int, int] | None, nullable(_SIZE), "the only size of frames that it takes; null: any"
    ] = None
    batch: Annotated[
        int | None, nullable(whole(1, MAX_BATCH)), "the only N that it takes; null: any"
    ] = None
    anomaly_map: Annotated[
        str | None,
        nullable(one_of(*MAPS)),
        "the second output, in the network's pixels or the frame's; null: there is none",
    ] = None
    verified: Annotated[
        tuple[str, ...], _NAMES, "backends whose scores were those of PyTorch at the export"
    ] = ()
    unverified: Annotated[tuple[str, ...], _NAMES, "backends that were not there"] = ()


def rate_words(rate: float) -> str:
    """A false-positive rate in three digits, rounded up, as a lower one may not be kept."""
    return f"{float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(repr(rate))):.3g}"


@dataclass(frozen=True)
class Calibration:
    """What the scores of normals that the training did not see say about the threshold."""

    threshold: Annotated[
        float, number(0, 1e30), "in the score's units; a frame is anomalous if its score is greater"
    ]
    target_fpr: Annotated[float, number(0, 1), "bound on the rate of normals above the threshold"]
    confidence: Annotated[
        float | None,
        nullable(number(0, 1)),
        "probability, over the draw of the normals, that the bound holds; null: on average",
    ]
    normals: Annotated[int, whole(1, 10**12), "how many normals were scored for it"]
    quantiles: Annotated[
        tuple[float, ...], _QUANTILES, "those normals' scores at the levels 0, 0.01 ... 1"
    ]
    map_threshold: Annotated[
        float | None,
        nullable(number(-1e30, 1e30)),
        "in the map's units, with the same promise; a pixel is anomalous if it is greater; null: "
        "none was chosen",
    ] = None
    greys: Annotated[
        tuple[float, ...] | None,
        nullable(_QUANTILES),
        "the same normals' mean grey levels at those levels; null: not known, or slices of volumes",
    ] = None
    whites: Annotated[
        tuple[float, ...] | None,
        nullable(_QUANTILES),
        "as `greys`, the share of their pixels that are white",
    ] = None

    @property
    def promise(self) -> str:
        """What the threshold promises, in words for the terminal."""
        surely = "on average"
        if self.confidence is not None:
            surely = f"with {100 * self.confidence:g} % confidence"
        return f"false-positive rate at most {rate_words(self.target_fpr)} {surely}"


@dataclass(frozen=True)
class Contract:
    """What a model expects and returns."""

    kind: Annotated[
        str,
        one_of("image", "modality"),
        "of frames: pictures, or slices of volumes in modality units",
    ]
    channels: Annotated[int, one_of(1, 3), "C of the frames", Of("modality", one_of(1))]
    side: Annotated[int, _SIDE, "height and width that the network sees, pixels"]
    resize: Annotated[
        str,
        one_of("stretch", "pad"),
        "each axis to the side by itself, or in a square that is padded first",
    ]
    pad_value: Annotated[
        float, number(0, 255), "grey level of the padding", Of("modality", number(0, 0))
    ]
    region: Annotated[
        Region | None,
        nullable(_REGION),
        "part of the frame that is looked at, pixels of the raw frame; null: all of it",
    ]
    network: Annotated[Network, OBJECT, "the size of G and of D"]
    score: Annotated[str, one_of(*SCORES), "what the score is"]
    calibration: Annotated[Calibration, OBJECT, "the threshold and what it rests on"]
    weights_sha256: Annotated[
        str,
        SHA256,
        "over the names and little-endian bytes of the trained weights, in order of name",
    ]
    data_sha256: Annotated[str, SHA256, "over the training frames"]
    version: Annotated[str, printable_text(40), "of the adae-edge that trained the weights"]
    z_range: Annotated[
        float | None,
        nullable(number(1, 100)),
        "standard deviations that become 1",
        Of("image", NULL),
        Of("modality", number(1, 100)),
    ] = None
    modality: Annotated[
        str | None,
        nullable(printable_text(20)),
        "what the volumes show, such as `flair`",
        Of("image", NULL),
    ] = None
    window: Annotated[
        Window | None,
        nullable(_WINDOW),
        "grey values of DICOM files, as in the training; null: by each file's own window",
        Of("modality", NULL),
    ] = None
    bits: Annotated[
        int | None,
        nullable(whole(9, 16)),
        "of a camera's grey values, which lie in the low ones of 16-bit files; null: all 16",
        Of("modality", NULL),
    ] = None
    decoding: Annotated[
        str | None,
        nullable(printable_text(100)),
        "the rules by which files became the frames that calibrated it; null: those of the first "
        "version",
    ] = None
    measured: Annotated[
        str,
        one_of("frame", "interior"),
        "over what `l2` and `generator` are summed: all pixels, or the inside of what a slice "
        "shows",
        Of("image", one_of("frame")),
    ] = "frame"
    object: Annotated[
        str | None,
        nullable(one_of(*OBJECTS)),
        "the rule by which voxels of a volume are object and not background",
        Of("image", NULL),
        Of("modality", one_of(*OBJECTS)),
    ] = None
    field_of_view: Annotated[
        float | None,
        nullable(number(1, 1000)),
        "side of the square around the object that is looked at in each slice, mm; null: all of "
        "the slice",
        Of("image", NULL),
    ] = None
    acquisitions: Annotated[
        tuple[Acquisition, ...],
        up_to(MAX_ACQUISITIONS, OBJECT, f"up to {MAX_ACQUISITIONS} objects"),
        "of the series that calibrated it; none: it was by volumes that do not say theirs",
        Of("image", up_to(0, OBJECT, "none")),
    ] = ()
    form: Annotated[
        Form,
        Key("graph"),
        nullable(OBJECT),
        "in which form the network was exported; null, or the plain one, in a checkpoint",
    ] = Form()

    @property
    def promise(self) -> str:
        """What the threshold promises, in words for the terminal."""
        if self.kind == "image":
            return self.calibration.promise
        # Slices of one patient are alike.
        return self.calibration.promise + ", for slices of the patients that calibrated it"

    def covers(self, acquisition: Acquisition | None) -> bool:
        """Whether the threshold holds for frames of an acquisition; None is one that is not told.

        Pictures and NIfTI volumes tell none, and their threshold is taken to hold.
        """
        return acquisition is None or any(
            not known.differences(acquisition) for known in self.acquisitions
        )

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
        fields = parse(text, "the contract", ContractError)
        schema = fields.pop("schema", None)
        if not whole(1, SCHEMA).accepts(schema):
            raise ContractError(
                f"the contract has schema {schema!r:.40}, and this version reads 1 to {SCHEMA}: "
                "install the adae-edge that wrote it, or a newer one"
            )
        fields = as_newest(fields, schema)
        values = _read(Contract, fields, "the contract")
        _check_kind(fields)
        values["network"] = Network(**_read(Network, values["network"], "the contract's network"))
        values["calibration"] = Calibration(
            **_read(Calibration, values["calibration"], "the contract's calibration")
        )
        values["acquisitions"] = tuple(
            Acquisition(**_read(Acquisition, each, "an acquisition of the contract"))
            for each in values["acquisitions"]
        )
        form = values.pop("graph")
        if form is not None:
            values["form"] = Form(**_read(Form, form, "the contract's graph"))
        return Contract(**values)


def _read(declaring: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    return read(values, fields_of(declaring), where, SCHEMA, ContractError)


def _check_kind(values: dict[str, Any]) -> None:
    """Refuse a value that frames of this kind cannot have."""
    kind = values["kind"]
    for name, field in fields_of(Contract).items():
        for of, rule in field.narrower:
            if of == kind and not rule.accepts(values[name]):
                raise ContractError(
                    f"the contract has {name} = {values[name]!r:.60} and kind = {kind!r}, which is "
                    "impossible"
                )
