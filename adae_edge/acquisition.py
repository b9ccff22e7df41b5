"""How a series of slices was acquired: the scanner, the sequence and the spacing of its voxels.

A threshold holds for acquisitions like those that calibrated it, and for no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any

from adae_edge.fields import nullable, number, printable_text, sequence

# Numbers of one protocol differ by less, as 2.89 and 3 tesla or 2300 and 2250 ms do.
TOLERANCE = 0.05

_TEXT = nullable(printable_text(64))
_TIME = nullable(number(0, 1e6))
_LENGTH = number(0.001, 1000)
_SPACING = sequence(
    "[slices, rows, columns], 0.001 to 1000 each",
    *(_LENGTH, _LENGTH, _LENGTH),
    read=lambda value: tuple(map(float, value)),
)


@dataclass(frozen=True)
class Acquisition:
    """What a series says of its scanner and sequence; None is what it does not say."""

    manufacturer: Annotated[str | None, _TEXT, "of the scanner"]
    model: Annotated[str | None, _TEXT, "of the scanner"]
    field_strength: Annotated[float | None, nullable(number(0.001, 100)), "tesla"]
    sequence: Annotated[str | None, _TEXT, "scanning sequence, its variant, and 2D or 3D"]
    repetition_time: Annotated[float | None, _TIME, "ms"]
    echo_time: Annotated[float | None, _TIME, "ms"]
    inversion_time: Annotated[float | None, _TIME, "ms"]
    flip_angle: Annotated[float | None, nullable(number(0, 360)), "degrees"]
    spacing: Annotated[
        tuple[float, float, float], _SPACING, "from one slice, row and column to the next, mm"
    ]

    @property
    def unknown(self) -> list[str]:
        """The missing attributes without which no other acquisition can be compared."""
        needed = ("manufacturer", "model", "field_strength", "sequence")
        return [_words(name) for name in needed if getattr(self, name) is None]

    def differences(self, other: Acquisition) -> list[str]:
        """What differs from another acquisition, by name; none where one calibration covers both.

        Texts are equal in any case and with any spaces. Numbers may differ by 5 % of the larger
        one, but one may not be there in one acquisition alone. Scanner, field strength and sequence
        have to be known.
        """
        return [
            _words(field.name)
            for field in fields(self)
            if not _alike(getattr(self, field.name), getattr(other, field.name))
            or _words(field.name) in self.unknown
        ]

    def __str__(self) -> str:
        """Scanner, sequence and spacing in words."""
        scanner = " ".join(filter(None, [self.manufacturer, self.model])) or "unknown scanner"
        times = (
            ("TR", self.repetition_time, "ms"),
            ("TE", self.echo_time, "ms"),
            ("TI", self.inversion_time, "ms"),
            ("flip angle", self.flip_angle, "degrees"),
        )
        parts = [
            scanner,
            "" if self.field_strength is None else f"{self.field_strength:g} T",
            self.sequence or "",
            *(f"{name} {value:g} {unit}" for name, value, unit in times if value is not None),
            " x ".join(f"{length:.3g}" for length in self.spacing) + " mm",
        ]
        return ", ".join(filter(None, parts))


def distinct(acquisitions: Iterable[Acquisition]) -> tuple[Acquisition, ...]:
    """The acquisitions that none before them covers, in order.

    One that does not say enough to be told from others covers nothing, and is left out.
    """
    kept: list[Acquisition] = []
    for one in dict.fromkeys(acquisitions):
        if not one.unknown and all(known.differences(one) for known in kept):
            kept.append(one)
    return tuple(kept)


def listed(names: list[str]) -> str:
    """Join words as in a sentence: "manufacturer, model and sequence"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _alike(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    if isinstance(one, str):
        return one.casefold().split() == str(other).casefold().split()
    if isinstance(one, tuple):
        return all(map(_alike, one, other))
    return math.isclose(one, other, rel_tol=TOLERANCE)
