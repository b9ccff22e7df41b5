"""NVIDIA's own Python bindings of TensorRT, without its libraries, which no package index has.

In place of each library stands an empty one with the same symbols, whose functions return a null
pointer: enough to import the bindings, which name every class, method and constant, and nothing
more.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import ROOT

# JetPack 6's TensorRT, the latest of 10 and the latest of 11.
PACKAGES = (
    "tensorrt-cu12-bindings==10.3.0",
    "tensorrt-cu13-bindings==10.16.1.11",
    "tensorrt-cu13-bindings==11.4.0.106",
)
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)


def install_bindings(folder: Path, package: str) -> None:
    """Install the bindings into a folder, or skip the test where they cannot be had."""
    if not shutil.which("gcc"):
        pytest.skip("there is no C compiler")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", folder, package],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    if done.returncode and re.search(
        "connection|timed out|no matching distribution", done.stderr, re.IGNORECASE
    ):
        pytest.skip("the package index cannot be reached, or has no such bindings for this Python")
    assert done.returncode == 0, done.stderr
    major = re.search(r"==(\d+)", package)[1]
    (folder / "empty.c").write_text(
        "\n".join(f"void *{name}(void) {{ return 0; }}" for name in SYMBOLS)
    )
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        soname = f"lib{library}.so.{major}"
        subprocess.run(
            ["gcc", "-shared", f"-Wl,-soname,{soname}", "-o", soname, "empty.c"],
            cwd=folder,
            check=True,
        )


def bindings_in(folder: Path) -> dict[str, str]:
    """The environment variables with which Python imports ``tensorrt_bindings`` of a folder."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": f"{folder}:{ROOT}"}
