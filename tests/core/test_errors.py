"""The tree of errors, and what is printed of somebody else's."""

import inspect

import pytest

from adae_edge import errors
from adae_edge.errors import AdaeEdgeError, UsageError, first_line


def test_the_tree_on_the_page_is_the_tree_of_the_classes():
    drawn, above = {}, {0: None}
    for line in errors.__doc__.splitlines():
        before, _, name = line.partition("── ")
        if line.startswith("    AdaeEdgeError"):
            before, name = "", line.strip()
        if name:
            depth = len(before) // 4
            drawn[name.split()[0]] = above[depth]
            above[depth + 1] = name.split()[0]
    classes = {
        name: None if error is AdaeEdgeError else error.__base__.__name__
        for name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, Exception)
    }
    assert drawn == classes
    assert len(drawn) > 12


def test_wrong_use_alone_has_another_exit_code():
    for error in vars(errors).values():
        if inspect.isclass(error) and issubclass(error, AdaeEdgeError):
            assert error.exit_code == (2 if issubclass(error, UsageError) else 1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n the first \nand more"), "the first "),
        (ValueError("a \x1b[31mname\nof its own"), "a \\x1b[31mname"),
        (ValueError(), "ValueError"),
        ("said\rso", "said"),
        ("", "it does not say why"),
        ("x" * 300, "x" * 200),
    ],
)
def test_the_first_line_of_an_error_is_safe_to_print(error, line):
    assert first_line(error) == line
