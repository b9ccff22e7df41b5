"""A station's file: streams with the options of ``score``, checked before anything starts."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from adae_edge.cli.score import request_of, score
from adae_edge.errors import AdaeEdgeError, UsageError, first_line, shows_password, without_password
from adae_edge.formats.files import real_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from adae_edge.runtime.frame import Event
    from adae_edge.runtime.opening import StreamRequest
    from adae_edge.runtime.sinks.sink import Sink
    from adae_edge.runtime.stream import Stream

_HEADER = "stream"


class _Statement(NamedTuple):
    """A statement of a TOML file: the number of its first line, its lines, and what it says."""

    number: int
    lines: list[str]
    says: dict[str, Any]


@dataclass
class Plan:
    """A stream as the file has it.

    Attributes:
        header: the line of its ``[[stream]]``.
        statements: by key.
        options: of ``score``, by the names of its parameters, with their defaults.
    """

    header: int
    statements: dict[str, _Statement] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def request(self) -> StreamRequest:
        """What is asked for."""
        return request_of(self.options)

    def line(self, part: str) -> int:
        """The line where a key stands, or a text that is a key's value or in its list."""
        for key, (number, lines, says) in self.statements.items():
            if key == part:
                return number
            values = says[key] if isinstance(says[key], list) else [says[key]]
            if part in values or part in [str(Path(str(value))) for value in values]:
                quoted = f'"{part}"', f"'{part}'"
                found = (at for at, line in enumerate(lines) if any(one in line for one in quoted))
                return number + next(found, 0)
        return self.header


def read_station(path: Path) -> list[Plan]:
    """The streams of a file, with every key and value checked that can be without opening a part.

    Raises:
        UsageError: it cannot be read, or something in it is wrong; the sentence has the line.
    """
    plans: list[Plan] = []
    for statement in _statements(path):
        for key, value in statement.says.items():
            if key == _HEADER and value == [{}]:
                plans.append(Plan(statement.number))
                continue
            if _is_table(value, statement) or key == _HEADER:
                why = f"a station has only streams, each under [[{_HEADER}]], and no {key}"
            elif not plans:
                why = f"{key} stands before the first [[{_HEADER}]]"
            elif key not in _parameters():
                near = get_close_matches(key.lower(), _parameters(), 1)
                meant = f"did you mean {near[0]}? Its" if near else "its"
                why = f"a stream has no {key}: {meant} keys are {', '.join(_parameters())}"
            else:
                plans[-1].statements[key] = statement
                continue
            raise UsageError(f"{path}, line {statement.number}: {why}")
    if not plans:
        raise UsageError(f"{path} has no [[{_HEADER}]]")
    for plan in plans:
        with _told_with_line(path, plan):
            _fill(plan)
    _check_sources(path, plans)
    return plans


def check_parts(path: Path, plans: Sequence[Plan]) -> None:
    """Open models and sources and close them again; sinks are looked at, and not opened.

    Raises:
        AdaeEdgeError: a part cannot be opened; the sentence has the line.
    """
    from adae_edge.runtime.opening import open_stream

    _shared_names(path, plans)
    _check_sinks(path, plans)
    for plan in plans:
        stream = open_stream(plan.request, lambda event: None, with_sinks=False)
        with _told_with_line(path, plan), stream:
            pass


@contextlib.contextmanager
def open_streams(
    path: Path, plans: Sequence[Plan], told: Callable[[Event], object]
) -> Iterator[list[Stream]]:
    """Open every stream; a sink that several of them name is opened once.

    Args:
        path: of the file, for messages.
        plans: its streams.
        told: called with every event.

    Raises:
        AdaeEdgeError: a part cannot be opened; the sentence has the line.
    """
    from adae_edge.runtime.opening import open_stream
    from adae_edge.runtime.sinks.registry import open_sink
    from adae_edge.runtime.sinks.shared import Shared

    _check_sinks(path, plans)
    with contextlib.ExitStack() as opened:
        shared: dict[str, Sink] = {}
        for names, plan in _shared_names(path, plans):
            with _told_with_line(path, plan, names[0]):
                sink = Shared(opened.enter_context(open_sink(names[0], plan.request.keeping)))
            shared.update(dict.fromkeys(names, sink))
        streams = []
        for plan in plans:
            with _told_with_line(path, plan):
                streams.append(opened.enter_context(open_stream(plan.request, told, shared)))
        yield streams


def shown(plans: Sequence[Plan]) -> str:
    """The whole configuration as TOML, with defaults; what a default is called is a comment."""
    from adae_edge.runtime.sinks.registry import shown_name

    lines = []
    for plan in plans:
        lines.append(f"[[{_HEADER}]]")
        for key, parameter in _parameters().items():
            value = plan.options[parameter.name]
            if value is None:
                default = re.search(r"\[default: (.*)\]", parameter.help or "")
                lines.append(f"# {key}: {default[1] if default else 'none'}")
            else:
                value = [*map(str, value)] if isinstance(value, list) else value
                if key == "source":
                    value = [name if "${" in name else without_password(name) for name in value]
                value = [*map(shown_name, value)] if key == "to" else value
                lines.append(f"{key} = {json.dumps(value, default=str, ensure_ascii=False)}")
        lines.append("")
    return "\n".join(lines)


@cache
def _command() -> Any:
    """``score`` as typer has it, whose parameters are a stream's keys."""
    app = typer.Typer(add_completion=False)
    app.command()(score)
    return typer.main.get_command(app)


def _parameters() -> dict[str, Any]:
    """The parameters of ``score``, by their names in the file."""
    return {parameter.opts[0].removeprefix("--"): parameter for parameter in _command().params}


def _statements(path: Path) -> Iterator[_Statement]:
    """The statements of a TOML file, in order.

    tomllib tells no lines. But the lines of one statement can be parsed alone, and fewer of them
    cannot.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is no file")  # a pipe would be waited for
        text = path.read_text("utf-8-sig")
        tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        why, _, place = str(error).partition(" (at ")
        line = re.match(r"line \d+", place)
        raise UsageError(f"{path}, {line[0] if line else 'at its end'}: {why}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error
    lines: list[str] = []
    for number, line_text in enumerate(text.split("\n"), 1):
        lines.append(line_text)
        try:
            says = tomllib.loads("\n".join(lines))
        except tomllib.TOMLDecodeError:
            continue
        yield _Statement(number - len(lines) + 1, lines, says)
        lines = []


def _is_table(value: object, statement: _Statement) -> bool:
    """Whether a statement is the header of a table, or of one in an array."""
    return value in ({}, [{}]) and statement.lines[-1].lstrip().startswith("[")


def _fill(plan: Plan) -> None:
    """Read a stream's keys as ``score`` reads its options; the error's ``part`` is the key."""
    words: dict[str, list[str]] = {}
    for key, statement in plan.statements.items():
        try:
            words[key] = _words(_parameters()[key], statement.says[key])
        except ValueError as error:
            raise _about(key, f"{key} {error}") from error
        for word in filter(shows_password, words[key]):
            elsewhere = "put ${NAME} or ${credential:NAME} in its place"
            raise _about(word, f"{key} has a password in the open: {elsewhere}")
        if statement.says[key] == []:
            raise _about(key, f"{key} has nothing in it")
    for key in ("model", "source"):
        if not words.get(key):
            raise _about(key, f"the stream has no {key}")
    last = ["--", *words.pop("model"), *words.pop("source")]
    options = [word for value in words.values() for word in value]
    try:
        plan.options = _command().make_context("run", [*options, *last]).params
        _ = plan.request
    except typer.BadParameter as error:
        key = next(key for key, known in _parameters().items() if known is error.param)
        why = error.message.removesuffix(".")
        raise _about(key, f"{key}: {why[:1].lower()}{why[1:]}") from error
    except UsageError as error:
        named = set(re.findall(r"--([a-z-]+)", str(error)))
        error.part = next((key for key in words if key in named), "")
        raise


def _words(parameter: Any, value: object) -> list[str]:
    """The words by which a command line says the same; ValueError with the end of a sentence."""
    option = [word for word in parameter.opts if word.startswith("--")]
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ValueError("takes true or false")
        return option if value else []
    many = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    values = value if many and isinstance(value, list) else [value]
    taken = str if many else (str, int, float)
    if any(isinstance(one, bool) or not isinstance(one, taken) for one in values):
        raise ValueError("takes a text, or a list of texts" if many else "takes one text or number")
    return [word for one in values for word in (*option, str(one))]


def _check_sources(path: Path, plans: Sequence[Plan]) -> None:
    """Refuse a source or a spool that an earlier stream has, and a source to which a sink adds."""
    from adae_edge.runtime.opening import check_apart, file_of

    seen: dict[object, int] = {}
    for plan in plans:
        for name in plan.request.sources:
            with _told_with_line(path, plan, name):
                here = file_of(name)
                if here in seen:
                    raise UsageError(f"{name} is a source twice, first in line {seen[here]}")
                seen[here] = plan.line(name)
        if plan.request.receiving is not None:
            with _told_with_line(path, plan, "spool"):
                spool = real_path(plan.request.receiving.spool)
                if spool in seen:
                    raise UsageError(f"{spool} is a spool twice, first in line {seen[spool]}")
                seen[spool] = plan.line("spool")
    sources = [name for plan in plans for name in plan.request.sources]
    for plan in plans:
        with _told_with_line(path, plan):
            check_apart(sources, plan.request.sinks)


def _check_sinks(path: Path, plans: Sequence[Plan]) -> None:
    """Look at every sink before one is opened."""
    from adae_edge.runtime.sinks.registry import check_sink

    for plan in plans:
        for name in plan.request.sinks:
            with _told_with_line(path, plan, name):
                check_sink(name)


def _shared_names(path: Path, plans: Sequence[Plan]) -> list[tuple[list[str], Plan]]:
    """Of each sink that several streams name: its names, and the first of these streams.

    Raises:
        UsageError: a name is no sink's, or these streams keep rows in different ways.
    """
    from adae_edge.runtime.sinks.registry import keeps_rows, place_of

    found: dict[str, tuple[list[str], list[Plan]]] = {}
    for plan in plans:
        for name in plan.request.sinks:
            with _told_with_line(path, plan, name):
                here = place_of(name)
                names, users = found.setdefault(here.key, ([], []))
                if users and users[-1] is plan:
                    raise UsageError("a sink is named twice")
                names.append(name)
                users.append(plan)
                if here != place_of(names[0]):
                    line = users[0].line(names[0])
                    raise UsageError(f"{name} is written by line {line}, too, in another way")
                if keeps_rows(name) and plan.request.keeping != users[0].request.keeping:
                    line = users[0].line(names[0])
                    raise UsageError(f"rows in {name} are kept in another way than by line {line}")
    return [(names, users[0]) for names, users in found.values() if len(users) > 1]


@contextlib.contextmanager
def _told_with_line(path: Path, plan: Plan, part: str = "") -> Iterator[None]:
    """Within, an error's sentence gets the line of the part that it is about."""
    try:
        yield
    except AdaeEdgeError as error:
        error.args = (f"{path}, line {plan.line(error.part or part)}: {error}",)
        raise


def _about(key: str, why: str) -> UsageError:
    error = UsageError(why)
    error.part = key
    return error
