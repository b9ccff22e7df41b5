"""Fixtures that several test files share."""

import pytest

from tests.support.environments import build_wheel
from tests.support.models import a_contract, many_pictures, mean_model


@pytest.fixture(scope="session")
def contract():
    """The contract of the file ``small_model``."""
    return a_contract()


@pytest.fixture(scope="session")
def small_model():
    """The bytes of a valid model file whose score is the mean of a frame's pixels."""
    return mean_model()


@pytest.fixture(scope="session")
def long_folder(tmp_path_factory):
    """A folder of pictures that takes seconds to score."""
    return many_pictures(tmp_path_factory.mktemp("long") / "frames")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package's wheel."""
    return build_wheel(tmp_path_factory.mktemp("built"))
