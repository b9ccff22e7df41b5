"""The rules between the rooms, and what the command line loads."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import FILES, ROOT, STAGES


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The package as it is installed, where tools can follow its imports."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def lint_imports(site):
    """Ask import-linter for the rules of pyproject.toml."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(
        [*command, ROOT / "pyproject.toml"],
        cwd=site,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_rules_between_the_rooms_are_kept(site):
    done = lint_imports(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: [6-9] kept, 0 broken", done.stdout)


@pytest.mark.parametrize(
    ("path", "line", "broken"),
    [
        (
            "formats/modelfile.py",
            "from adae_edge.runtime.scorer import Scorer",
            "A stage imports what stands below it",
        ),
        (
            "runtime/stream.py",
            "import torch",
            "What scores on a device needs neither PyTorch nor onnx",
        ),
        ("train/loading.py", "from adae_edge.train import trainer", "No circle anywhere"),
        ("runtime/sinks/rows.py", "import cv2", "An optional package stands in one file"),
    ],
)
def test_a_broken_rule_is_found(site, path, line, broken):
    file = site / "adae_edge" / path
    before = file.read_text()
    file.write_text(f"{before}\n{line}\n")
    try:
        done = lint_imports(site)
    finally:
        file.write_text(before)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout


# They run in environments that have no adae_edge, as a package of their own.
ALONE = Path("benchmarks/rivals")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_stage_is_imported_by_its_installed_name(path):
    """``import train`` would make a second copy of the module."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names}.isdisjoint(STAGES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == (1 if path.parent == ALONE and node.level else 0)
            assert node.level or node.module.partition(".")[0] not in STAGES


# dicomweb-client asks by requests, whose sessions and errors are seen there.
BY_DICOM_WEB = {
    "runtime/dicom/answers.py",
    "runtime/dicom/pulling_web.py",
    "runtime/sinks/dicomweb.py",
}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_unsafe_is_used(path):
    text = (ROOT / path).read_text()
    for word in (
        r"\bpickle\b",
        r"torch\.load\(",
        r"\beval\((?!\))",
        r"\bexec\(",
        r"shell=True",
        r"\burllib\b(?!\.parse\b)",  # parse takes names apart, and opens nothing
        *((r"\brequests\b",) if str(path) not in BY_DICOM_WEB else ()),
    ):
        assert not re.search(word, text), f"{path} uses {word}"


def run(code):
    """What a program prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


HELPING = """
import sys
sys.argv = ["adae-edge", "--help"]
from adae_edge.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
print("LOADED", *sys.modules)
"""


def test_help_loads_no_stage_and_nothing_heavy():
    output, _, loaded = run(HELPING).partition("LOADED")
    heads = {name.partition(".")[0] for name in loaded.split()}
    assert "Commands" in output
    assert heads.isdisjoint({"torch", "onnx", "onnxruntime", "cv2", "numpy", "sklearn", "PIL"})
    assert heads.isdisjoint({"pydicom", "nibabel", "matplotlib"})
    assert not {f"adae_edge.{stage}" for stage in STAGES} & set(loaded.split())


def test_the_runtime_loads_neither_torch_nor_onnx():
    names = ("scorer", "stream", "calibrate", "rehearse", "contactsheet")
    modules = ", ".join(f"adae_edge.runtime.{name}" for name in names)
    loaded = run(f"import sys, {modules}; print(*sys.modules)")
    assert "adae_edge.runtime.scorer" in loaded.split()
    heads = {name.partition(".")[0] for name in loaded.split()}
    assert heads.isdisjoint(
        {"torch", "onnx", "cv2", "pydicom", "nibabel", "safetensors", "sklearn"}
    )


def test_every_command_explains_itself():
    commands = ("demo", "download", "train", "evaluate", "reproduce", "export", "inspect", "score")
    commands += ("calibrate", "rehearse", "bench", "engine", "doctor")
    for command in commands:
        output = subprocess.run(
            [sys.executable, "-m", "adae_edge", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "Usage" in output
        assert len(output.splitlines()) > 8


def test_missing_extras_are_named_with_the_line_that_installs_them(tmp_path):
    hidden = {
        "torch": (["train", "digits", "--anomalous", "0"], "adae-edge[train]"),
        "sklearn": (["train", "digits", "--anomalous", "0"], "adae-edge[train]"),
        "pooch": (["download", "mnist", "."], "adae-edge[train]"),
        "nibabel": (["train", "brats:."], "adae-edge[nifti]"),
        "onnx": (["export", "c.safetensors"], "adae-edge[export,cpu]"),
        "cv2": (["score", "MODEL", "camera:0"], "adae-edge[camera]"),
        "onnxruntime": (["score", "MODEL", "."], "adae-edge[cpu]"),
        "pydicom": (["score", "MODEL", "scan.dcm"], "adae-edge[dicom]"),
    }
    from tests.support.models import mean_model

    model = tmp_path / "m.onnx"
    model.write_bytes(mean_model(1))
    (tmp_path / "scan.dcm").write_bytes(b"")
    for package, (arguments, extra) in hidden.items():
        code = (
            f"import sys; sys.modules['{package}'] = None; from adae_edge.cli import main; main()"
        )
        arguments = [str(model) if argument == "MODEL" else argument for argument in arguments]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, package
        assert f"pip install '{extra}'" in done.stderr
        assert done.stderr.count("\n") == 1
