"""Fields of JSON objects from files: declared once, with their rule and meaning, and read alike.

A field stands in a dataclass, as in ``side: Annotated[int, whole(8, 1024), "height and width"]``.
A field without a rule is not in the file. The tables in docs/model-file.md and docs/engine-file.md
say the same, and a test compares them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from adae_edge.errors import ModelFileError


class Rule(NamedTuple):
    """Which values of JSON types are allowed.

    Attributes:
        text: says so, for the table.
        accepts: whether a value is allowed; never fails.
        read: turns an allowed value into the field's.
    """

    text: str
    accepts: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


class Key(NamedTuple):
    """The name of a field in JSON where the dataclass has another."""

    name: str


class Of(NamedTuple):
    """A narrower rule for frames of one kind."""

    kind: str
    rule: Rule


class Field(NamedTuple):
    """One declared field.

    Attributes:
        rule: for its values.
        meaning: what it says, for people.
        narrower: rules that hold for frames of one kind.
    """

    rule: Rule
    meaning: str
    narrower: tuple[Of, ...] = ()

    @property
    def allowed(self) -> str:
        """All rules as text."""
        narrower = (f"{rule.text} for `{kind}`" for kind, rule in self.narrower)
        return "; ".join([self.rule.text, *narrower])


@functools.cache
def fields_of(declaring: type) -> Mapping[str, Field]:
    """The declared fields of a dataclass by their name in JSON, in order."""
    fields = {}
    for name, hint in get_type_hints(declaring, include_extras=True).items():
        if get_origin(hint) is not Annotated:
            continue
        _, *extras = get_args(hint)
        keys = [extra.name for extra in extras if isinstance(extra, Key)]
        (rule,) = (extra for extra in extras if isinstance(extra, Rule))
        (meaning,) = (extra for extra in extras if isinstance(extra, str))
        narrower = tuple(extra for extra in extras if isinstance(extra, Of))
        fields[keys[0] if keys else name] = Field(rule, meaning, narrower)
    return fields


def parse(text: str, where: str, refusal: type[ModelFileError]) -> dict[str, Any]:
    """Read a JSON object from a text.

    Args:
        text: JSON.
        where: what the text is; begins each sentence.
        refusal: the class of what is raised.

    Raises:
        ModelFileError: it is not JSON, no object, or says something twice at any depth.
    """

    def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise refusal(f"{where} says something twice")
        return dict(pairs)

    try:
        values = json.loads(text, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError) as error:
        raise refusal(f"{where} is not JSON") from error
    if not isinstance(values, dict):
        raise refusal(f"{where} is not a JSON object")
    return values


def read(
    values: dict[str, Any],
    fields: Mapping[str, Field],
    where: str,
    schema: int,
    refusal: type[ModelFileError],
) -> dict[str, Any]:
    """Check the values of an object and turn each into its field's.

    Args:
        values: of JSON types, by name.
        fields: what has to be there, and nothing else.
        where: what the object is; begins each sentence.
        schema: that has these fields.
        refusal: the class of what is raised.

    Raises:
        ModelFileError: a field is missing or unknown, or its value is not allowed.
    """
    if missing := sorted(fields.keys() - values.keys()):
        raise refusal(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(values.keys() - fields.keys()):
        raise refusal(f"{where} has a field that schema {schema} does not know: {unknown[0]!r:.60}")
    for name, field in fields.items():
        if not field.rule.accepts(values[name]):
            raise refusal(f"{where} has {name} = {values[name]!r:.60}, which is impossible")
    return {name: field.rule.read(values[name]) for name, field in fields.items()}


def whole(low: int, high: int, text: str = "") -> Rule:
    """Whole numbers from ``low`` to ``high``."""

    def accepts(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Rule(text or f"whole, {_short(low)} to {_short(high)}", accepts)


def number(low: float, high: float) -> Rule:
    """Finite numbers from ``low`` to ``high``."""

    def accepts(value: Any) -> bool:
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return known and low <= value <= high

    return Rule(_short(low) if low == high else f"{_short(low)} to {_short(high)}", accepts)


def one_of(*values: str | int) -> Rule:
    """One of some texts or whole numbers."""

    def accepts(value: Any) -> bool:
        return any(type(value) is type(allowed) and value == allowed for allowed in values)

    names = (f"`{value}`" if isinstance(value, str) else str(value) for value in values)
    return Rule(", ".join(names), accepts)


def printable_text(longest: int) -> Rule:
    """Texts of 1 to ``longest`` printable characters."""

    def accepts(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()

    return Rule(f"1 to {longest} printable characters", accepts)


def pattern(expression: str, text: str) -> Rule:
    """Texts of up to 100 characters that a regular expression matches as a whole."""
    compiled = re.compile(expression, re.ASCII)

    def accepts(value: Any) -> bool:
        return isinstance(value, str) and len(value) <= 100 and bool(compiled.fullmatch(value))

    return Rule(text, accepts)


def sequence(text: str, *rules: Rule, read: Callable[[Any], Any] = tuple) -> Rule:
    """Lists with one value for each rule; ``text`` describes them all."""

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) == len(rules)
            and all(rule.accepts(part) for rule, part in zip(rules, value, strict=True))
        )

    return Rule(text, accepts, read)


def up_to(most: int, rule: Rule, text: str) -> Rule:
    """Lists of at most so many values, each of which the rule allows."""

    def accepts(value: Any) -> bool:
        return isinstance(value, list) and len(value) <= most and all(map(rule.accepts, value))

    return Rule(text, accepts, tuple)


def nullable(rule: Rule) -> Rule:
    """What the rule allows, and null."""
    return Rule(
        f"null, or {rule.text}",
        lambda value: value is None or rule.accepts(value),
        lambda value: None if value is None else rule.read(value),
    )


NULL = Rule("null", lambda value: value is None)
OBJECT = Rule("an object", lambda value: isinstance(value, dict))
SHA256 = pattern("[0-9a-f]{64}", "64 hexadecimal digits, small letters")


def _short(value: float) -> str:
    return f"{value:g}".replace("e+", "e")
