"""Fixtures that several test files share, and what a whole run has in common."""

import os

# Two processes share two cores, and further threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from adae_edge.export import extremes
from tests.support.bindings import bindings_in, install_bindings
from tests.support.environments import build_wheel
from tests.support.models import a_contract, many_pictures, mean_model

# The rooms with the longest files first, so that no process is left with one at the end.
ROOMS = ("train", "export", "runtime", "benchmarks", "cli", "core", "attacks")


def pytest_collection_modifyitems(items):
    """Order the files by their rooms."""
    here = Path(__file__).parent
    items.sort(key=lambda item: ROOMS.index(item.path.relative_to(here).parts[0]))


@pytest.fixture(scope="session", autouse=True)
def _smaller_largest_frame():
    """Exports in this process compare a smaller largest frame; test_export.py has that of all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extremes, "LARGEST", 500)
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder once in the whole run, in whichever process asks for it first."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # has a folder of each process
    shared = run / "once"
    shared.mkdir(exist_ok=True)

    def make(name, fill):
        """The folder of this name, filled by ``fill(folder)``; nothing in it may be changed."""
        folder, made = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder

    return make


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
def checkpoints(once):
    """Really trained checkpoints by the names in ``tests.support.trained.KINDS``.

    Each is ``c.safetensors`` in a folder of its own, with the pictures or volumes that trained it
    in ``data``.
    """

    def checkpoint(kind):
        from tests.support.trained import train_kind

        return once(kind, lambda folder: train_kind(kind, folder)) / "c.safetensors"

    return checkpoint


@pytest.fixture(scope="session")
def wheel(once):
    """The package's wheel."""
    return next(once("wheel", build_wheel).glob("wheel/*.whl"))


@pytest.fixture(scope="session")
def bindings(once):
    """The variables with which Python imports a package of ``tests.support.bindings``; may skip."""

    def variables(package):
        return bindings_in(once(package, lambda folder: install_bindings(folder, package)))

    return variables
