"""The pages say what is so: links, commands, options, modules, files, commands for figures."""

import importlib.util
import re

import pytest
import typer

import adae_edge
from adae_edge.cli.app import app
from adae_edge.runtime.sinks.rows import FIELDS
from tests.support.environments import ROOT

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "deploy" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
COMMANDS = typer.main.get_command(app).commands
OPTIONS = {
    name: {"--help", *(text for option in command.params for text in option.opts)}
    for name, command in COMMANDS.items()
}
# Options that stand alone in a sentence: of docker, torchrun and venv, and of the benchmarks.
OF_OTHERS = {"--cpus", "--nnodes", "--rdzv-endpoint", "--system-site-packages"}
OF_BENCHMARKS = {
    option
    for path in (ROOT / "benchmarks").rglob("*.*")
    if path.suffix in (".py", ".sh")
    for option in re.findall(r"--[a-z][\w-]+", path.read_text())
}
FOLDERS = ("adae_edge", "train", "export", "runtime", "benchmarks", "tests", "docs", "deploy")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def page_id(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    """The relative links of a page: file and anchor, either of which may be empty."""
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    return [target.partition("#")[::2] for target in targets if "://" not in target]


def code(page):
    """What a page prints as code: its spans, and the lines of its indented and fenced blocks."""
    text = page.read_text().replace("\\\n", " ")
    blocks = "\n".join(FENCE.findall(text))
    rest = FENCE.sub("", text)
    indented = re.findall(r"^ {4,}(.+)$", rest, re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", rest)
    lines = [*blocks.splitlines(), *indented, *(" ".join(span.split()) for span in spans)]
    return [line for line in lines if line.strip()]


def options_of(words):
    """The long options among a command's words, without their values."""
    return {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    for name, anchor in links(page):
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {name}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_and_option_is_one_of_the_command_line(page):
    for line in code(page):
        for match in re.finditer(r"(?<![\w/-])adae-edge(?::\w+)? ([a-z]+)(.*)", line):
            name, rest = match.groups()
            assert name in COMMANDS, f"{page.name}: {line}"
            assert options_of(rest.split()) <= OPTIONS[name], f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_an_option_in_a_sentence_is_one_of_the_command_that_it_names_or_of_any(page):
    known = OF_OTHERS.union(OF_BENCHMARKS, *OPTIONS.values())
    for line in code(page):
        first, *words = line.split()
        if first in COMMANDS:
            assert options_of(words) <= OPTIONS[first], f"{page.name}: {line}"
        elif first.startswith("--"):
            assert options_of([first]) <= known, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_module_that_is_run_and_every_file_of_the_project_is_there(page):
    for line in code(page):
        for module in re.findall(r"-m (adae_edge[\w.]*)", line):
            assert importlib.util.find_spec(module), f"{page.name}: {module}"
        for path in re.findall(rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/[\w./-]+\.\w+", line):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_fields_of_a_row_and_the_public_names_in_the_page_are_those_of_the_code():
    text = (ROOT / "docs" / "running.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| `.*` \|$", text, re.MULTILINE)
    assert tuple(rows) == FIELDS
    for names in re.findall(r"from adae_edge import ([\w, ]+)", text):
        assert set(names.split(", ")) <= set(adae_edge.__all__)


def test_the_page_on_running_lists_every_command():
    text = (ROOT / "docs" / "running.md").read_text()
    listed = set(re.findall(r"^\| `([a-z]+)[ `]", text.split("## Sources")[0], re.MULTILINE))
    assert listed == set(COMMANDS)


def test_every_figure_has_its_command():
    """In a table whose last column is "printed by", no row leaves it empty."""
    rows, printed = 0, False
    for line in (ROOT / "docs" / "figures.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            printed = False
        elif cells[-1] == "printed by":
            printed = True
        elif printed and set(cells[-1]) - set("-: "):
            assert cells[-1].startswith(("`", "the same", "the command in")), line
            rows += 1
    assert rows > 20


def test_the_checks_find_something():
    """A pattern that matches nothing would pass every page."""
    assert sum(len(links(page)) for page in PAGES) > 80
    assert any("adae-edge score" in line for line in code(ROOT / "README.md"))
    assert "from-python" in anchors(ROOT / "README.md")
