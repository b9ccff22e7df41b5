"""ONNX Runtime neither identifies the device nor sends events: there is no telemetry.

Its own default is on from version 1.29, and leaves files below HOME from the import on.
"""

import os
import subprocess
import sys

import pytest

from tests.support.models import HANGS_S, complaints

SOURCE = "synthetic://?frames=3&size=8x8"
SCRIPT = "import sys, adae_edge\nadae_edge.Scorer(sys.argv[1])\n"


def outcome(home, *command):
    """A run of Python whose environment has but a PATH and a HOME, or no HOME."""
    environment = {"PATH": os.environ["PATH"]} | ({} if home is None else {"HOME": str(home)})
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def model(small_model, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(small_model)
    return path


@pytest.mark.parametrize("home", ["empty", "/dev/null", None], ids=["empty", "unwritable", "unset"])
def test_scoring_leaves_no_file_about_the_device_and_says_nothing_of_one(home, model, tmp_path):
    if home == "empty":
        home = tmp_path / "home"
        home.mkdir()
    done = outcome(home, "-m", "adae_edge", "score", model, SOURCE)
    assert complaints(done) == []
    assert outcome(home, "-c", SCRIPT, model).stderr == ""
    assert home in ("/dev/null", None) or list(home.iterdir()) == []


def test_events_are_off_also_where_the_caller_imported_onnxruntime_before(model, tmp_path):
    told = "import onnxruntime\nonnxruntime.disable_telemetry_events = lambda: print('off')\n"
    assert outcome(tmp_path, "-c", told + SCRIPT, model).stdout == "off\n"
