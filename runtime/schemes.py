"""Schemes: the module of a folder that stands behind the word before a colon."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def schemes(package: ModuleType, others: set[str]) -> list[str]:
    """Schemes of the modules of a package, less those that stand behind none, in order.

    A hyphen in a scheme is an underscore in its module's name.
    """
    names = {module.name for module in pkgutil.iter_modules(package.__path__)}
    return sorted(name.replace("_", "-") for name in names - others)


def split_scheme(spec: str, known: list[str]) -> tuple[str | None, str]:
    """A known scheme and what follows its colon; or None and the whole text."""
    scheme, colon, place = spec.partition(":")
    return (scheme, place) if colon and scheme in known else (None, spec)


def load_scheme(package: ModuleType, scheme: str) -> ModuleType:
    """Import the module behind a scheme, and with it the optional package that it may need.

    Raises:
        MissingExtra: that package is not installed.
    """
    return importlib.import_module(f"{package.__name__}.{scheme.replace('-', '_')}")
