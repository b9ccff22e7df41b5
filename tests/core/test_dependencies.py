"""What the package asks others to install: nothing that conflicts, and nothing under the GPL."""

import re
from importlib import metadata
from pathlib import Path

import pytest
import tomllib

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names_of(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() for requirement in requirements}


def test_the_core_leaves_to_extras_what_comes_in_several_builds():
    """Two builds of ONNX Runtime, or of OpenCV, overwrite each other's files."""
    core = names_of(PROJECT["dependencies"])
    assert not [name for name in core if name.startswith(("onnx", "opencv", "torch", "tensorrt"))]
    for extra, requirements in EXTRAS.items():
        if extra != "dev":
            several = [name for name in names_of(requirements) if name.startswith("onnxruntime")]
            assert len(several) <= 1, extra


def installed(name):
    try:
        return metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None


@pytest.mark.parametrize("extra", ["", *sorted(set(EXTRAS) - {"dev"})])
def test_no_package_of_an_extra_is_under_the_gpl(extra):
    """A sink or a decoder that is free to use stays so: a product may carry it."""
    names = names_of(EXTRAS[extra] if extra else PROJECT["dependencies"]) - {"adae-edge"}
    described = {name: about for name in names if (about := installed(name)) is not None}
    if not described:
        pytest.skip(f"nothing of {extra} is installed")
    for name, about in described.items():
        licences = [about.get("License-Expression") or "", (about.get("License") or "")[:200]]
        licences += [line for line in about.get_all("Classifier") or () if "License" in line]
        strict = re.search(r"(?<!L)(?<!Lesser )\bA?GPL|Affero", " ".join(licences))
        assert strict is None, f"{name}: {licences}"


def test_the_front_page_says_its_own_licence():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in Path("LICENSE").read_text()[:200]
    assert "Apache-2.0" in Path("README.md").read_text()
