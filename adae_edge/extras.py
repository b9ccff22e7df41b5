"""Packages that an extra brings: one way to import them, and one sentence without them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from adae_edge.errors import AdaeEdgeError, MissingExtra, first_line


@contextlib.contextmanager
def needs(what: str, extra: str) -> Iterator[None]:
    """Import packages of an extra inside this; a missing one becomes the pip line that installs it.

    The imports stay statements, so that type checkers and the rules between the rooms see them:

        with needs("Reading DICOM files", "dicom"):
            import pydicom

    Args:
        what: what needs the packages; begins the sentence.
        extra: the name of the extra, or several with commas between them.

    Raises:
        MissingExtra: a package is not installed.
        AdaeEdgeError: a package is installed and cannot be loaded.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("adae_edge"):
            raise
        if isinstance(error, ModuleNotFoundError):
            raise MissingExtra(what, extra) from error
        raise AdaeEdgeError(
            f"{what} needs a package that is installed and cannot be loaded: {first_line(error)}"
        ) from error
