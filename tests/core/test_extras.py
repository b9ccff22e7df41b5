"""Packages of an extra: what is said where one is missing, and where one is there and broken."""

import pytest

from adae_edge.errors import AdaeEdgeError, MissingExtra
from adae_edge.extras import needs


def test_a_missing_package_becomes_the_line_that_installs_it():
    with pytest.raises(MissingExtra) as raised, needs("Reading DICOM files", "dicom"):
        import a_package_that_nobody_has  # noqa: F401
    assert str(raised.value) == (
        "Reading DICOM files needs an extra that is not installed: pip install 'adae-edge[dicom]'"
    )
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise ImportError('libGL.so.1: no such file\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AdaeEdgeError) as raised, needs("Reading a camera or a video", "camera"):
        import broken  # noqa: F401
    assert str(raised.value) == (
        "Reading a camera or a video needs a package that is installed and cannot be loaded: "
        "libGL.so.1: no such file"
    )
    assert not isinstance(raised.value, MissingExtra)


def test_a_module_of_adae_edge_that_is_missing_is_a_mistake_of_ours():
    with pytest.raises(ModuleNotFoundError), needs("Training", "train"):
        import adae_edge.nowhere  # noqa: F401
