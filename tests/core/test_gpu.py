"""Asking NVIDIA's driver: a library of its name stands in for it where there is none."""

import os
import shutil
import subprocess
import sys

import pytest

from adae_edge.gpu import first_gpu

# Two GPUs, an Orin and a second one; cuInit fails with the code in the environment.
DRIVER = """
#include <stdlib.h>
#include <string.h>
int cuInit(int flags) { const char *code = getenv("CODE"); return code ? atoi(code) : 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 10; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strcpy(name, device == 10 ? "Orin\\x1b" : "other");
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return 0;
}
"""
ASK = """
from adae_edge.errors import DeviceError
from adae_edge.gpu import ask_driver, first_gpu
try:
    print(*ask_driver(), first_gpu())
except DeviceError as error:
    print(error, first_gpu())
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    command = [compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"]
    subprocess.run(command, check=True)
    return folder


def ask(libraries, **environment):
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries)} | environment
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_driver_tells_its_version_and_its_gpus(libraries):
    orin = r"Gpu(name='Orin\\x1b', compute_capability='8.7')"
    other = "Gpu(name='other', compute_capability='8.7')"
    assert ask(libraries) == f"12.6 [{orin}, {other}] {orin}"


def test_a_driver_that_cannot_be_used_says_why(libraries):
    assert ask(libraries, CODE="999") == "the NVIDIA driver cannot be used, CUDA error 999 None"
    assert ask(libraries, CODE="100") == "the NVIDIA driver sees no GPU None"


def test_without_a_driver_there_is_no_gpu(tmp_path):
    if first_gpu():
        pytest.skip("there is a GPU here")
    (tmp_path / "libcuda.so.1").write_text("no library")
    assert ask(tmp_path) == "there is no NVIDIA driver None"
