"""Every hostile model file is refused with one sentence, in under a second and 200 MB."""

import json
import subprocess
import sys

import pytest

from adae_edge.errors import ModelFileError
from adae_edge.formats import modelfile
from tests.attacks.files import ATTACKS, write
from tests.support.models import HANGS_S, mean_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def load(path):
    """What a process of its own says of loading the file. It hangs no longer than the timeout."""
    line = [sys.executable, "-m", "tests.attacks.load", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=HANGS_S, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_at_once(name, tmp_path):
    build, reason = ATTACKS[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(build())
    loaded = load(path)
    assert loaded["refusal"] is not None
    assert loaded["refusal"].startswith(f"{path} is refused: {reason}")
    assert loaded["refusal"].isprintable()
    # Of this process; on a machine that does nothing else, the time that passes.
    assert loaded["seconds"] < 1
    assert loaded["bytes"] < 200e6


def test_the_honest_file_is_loaded(tmp_path):
    (tmp_path / "model.onnx").write_bytes(mean_model())
    assert load(tmp_path / "model.onnx")["refusal"] is None


def test_the_script_writes_them_all(tmp_path):
    write(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == set(ATTACKS)
    for path in tmp_path.iterdir():
        with pytest.raises(ModelFileError):
            modelfile.read(path)
