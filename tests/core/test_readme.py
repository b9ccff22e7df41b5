"""The README's Python is run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.models import mean_model

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL
)


@pytest.mark.parametrize("block", BLOCKS, ids=["with adae-edge", "without adae-edge"])
def test_the_python_of_the_readme_runs(block, tmp_path):
    (tmp_path / "parts.onnx").write_bytes(mean_model(3, threshold=100.0))
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout in ("[ True]\n", "[200.] 100.0\n")
    assert len(block.splitlines()) <= 11


def test_the_second_example_uses_nothing_of_this_project():
    assert "import adae_edge" not in BLOCKS[1]
    assert "from adae_edge" not in BLOCKS[1]
