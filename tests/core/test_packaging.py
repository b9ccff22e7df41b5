"""The wheel, outside of the checkout: what it holds, that it type-checks, that the core scores."""

import csv
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from adae_edge.runtime import Scorer
from tests.support.checkout import ROOT, STAGES
from tests.support.environments import environment
from tests.support.models import mean_model

# The command line where no extra but [cpu] is installed.
WITHOUT_EXTRAS = """
import importlib.util, sys
for name in ("torch", "onnx", "cv2", "pydicom", "sklearn"):
    assert importlib.util.find_spec(name) is None, name
from adae_edge.cli import main
main()
"""


def sources():
    """Module files by their name in the wheel."""
    folders = {"adae_edge": "adae_edge", **{stage: f"adae_edge/{stage}" for stage in STAGES}}
    return {
        f"{installed}/{path.relative_to(ROOT / folder)}"
        for folder, installed in folders.items()
        for path in (ROOT / folder).rglob("*.py")
    }


def test_the_wheel_holds_every_module_and_no_test(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if name.endswith(".py")} == sources()
    assert "adae_edge/py.typed" in names


def test_the_installed_package_passes_mypy_strict(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path),
        "-p",
        "adae_edge",
    ]
    variables = {**os.environ, "MYPYPATH": str(site)}
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"Success: no issues found in {len(sources())} source files", (
        done.stdout
    )


def test_a_clean_environment_with_the_cpu_extra_scores_pictures(wheel, tmp_path):
    """Neither torch, onnx nor cv2 is installed there."""
    python = environment(tmp_path / "clean", f"{wheel}[cpu]")
    model, frames = tmp_path / "m.onnx", tmp_path / "frames"
    model.write_bytes(mean_model(3))
    frames.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(frames / "a.png")
    Image.fromarray(pixels).save(frames / "b.jpg")
    scores = tmp_path / "scores.csv"
    score = ["score", str(model), str(frames), "--to", f"csv:{scores}"]
    command = [str(python), "-c", WITHOUT_EXTRAS, *score]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(scores.read_text().splitlines()))
    assert len(rows) == 2
    assert float(rows[0]["score"]) == pytest.approx(
        float(Scorer(model).score(pixels[None])[0]), rel=1e-6
    )
