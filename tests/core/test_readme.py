"""The Python of the README and of the pages is run as it stands there."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.support.environments import ROOT
from tests.support.models import mean_model

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {
    f"{page.name} {number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}
WITH, STREAM, WITHOUT = "README.md 0", "running.md 0", "running.md 1"
PRINTED = {WITH: "[ True]\n", STREAM: "1\n", WITHOUT: "[200.] 100.0\n"}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_python_of_the_pages_runs(name, tmp_path):
    (tmp_path / "parts.onnx").write_bytes(mean_model(3, threshold=100.0))
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "picture.png")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == PRINTED[name]
    assert len(BLOCKS[name].splitlines()) <= 11


def test_the_first_example_scores_and_the_second_streams():
    assert BLOCKS.keys() == PRINTED.keys()
    assert "from adae_edge import Scorer\n" in BLOCKS[WITH]
    assert "Stream(" in BLOCKS[STREAM]


def test_the_last_example_uses_nothing_of_this_project():
    assert "import adae_edge" not in BLOCKS[WITHOUT]
    assert "from adae_edge" not in BLOCKS[WITHOUT]
