"""Environments of their own, with adae-edge installed from its wheel as a user's device has it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT


def build_wheel(folder: Path) -> None:
    """Build the package's wheel in ``folder/wheel``, from a copy that the build may litter."""
    copy, out = folder / "source", folder / "wheel"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", str(out)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True, cwd=folder
    )


def environment(folder: Path, requirement: str) -> Path:
    """Install the requirement at the pinned versions into a new environment.

    The test is skipped without a network.

    Returns:
        The environment's Python.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    _pip(folder, "--python", str(python), "install", requirement)
    return python


def unpacked(folder: Path, requirement: str) -> Path:
    """Put one package, without those that it needs, into a folder, to read its files.

    The test is skipped without a network.
    """
    _pip(folder, "install", "--no-deps", "--target", str(folder), requirement)
    return folder


def _pip(folder: Path, *arguments: str) -> None:
    """Run pip with the pinned versions."""
    command = [sys.executable, "-m", "pip", *arguments]
    command += ["--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and "connection" in done.stderr.lower():
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
