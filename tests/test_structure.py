"""The rules between the folders, and what the command line loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("train", "export", "runtime", "benchmarks")
STDLIB = sys.stdlib_module_names

# What each folder may import besides the standard library and adae_edge itself. A file named here
# alone may import the packages behind its name.
ALLOWED = {
    "adae_edge": {"numpy", "PIL"},
    "adae_edge/cli.py": {"typer", *STAGES},
    "adae_edge/checkpoint.py": {"numpy", "safetensors"},
    "adae_edge/dicom.py": {"numpy", "pydicom"},
    "adae_edge/doctor.py": {"numpy", "runtime"},
    "adae_edge/enginefile.py": set(),
    "adae_edge/model.py": {"torch"},
    "adae_edge/nifti.py": {"numpy", "nibabel"},
    "adae_edge/tensorrt.py": set(),  # imports either flavour by its name
    "train": {"numpy", "torch", "PIL", "rich", "sklearn", "typer", "matplotlib"},
    "train/demo.py": {"numpy", "PIL", "typer", "runtime"},
    "train/download.py": {"pooch", "rich"},
    "export": {"numpy", "torch", "onnx", "runtime"},
    "export/engine.py": set(),
    "export/compare.py": {"numpy", "runtime"},
    "export/extremes.py": {"numpy"},
    "export/precision.py": {"numpy", "onnx", "onnxruntime", "sklearn", "runtime"},
    "runtime": {"numpy", "typer"},
    "runtime/backends/onnxruntime.py": {"numpy", "onnxruntime"},
    "runtime/sources/opencv.py": {"numpy", "cv2"},
    "runtime/backends/tensorrt.py": {"numpy", "cuda"},
    "benchmarks": {"numpy", "typer", "onnxruntime", "runtime"},
    "benchmarks/ablations.py": {"typer", "torch"},
    "benchmarks/graphs.py": {
        "numpy",
        "typer",
        "torch",
        "onnxruntime",
        "openvino",
        "cv2",
        "export",
        "runtime",
        "train",
    },
    "benchmarks/linear.py": {"numpy", "typer", "torch", "sklearn", "train"},
    "benchmarks/precisions.py": {"typer", "torch", "onnxruntime", "export"},
    "benchmarks/training.py": {"numpy", "typer", "torch", "train"},
    "benchmarks/variants.py": {"numpy", "typer", "torch", "sklearn", "train"},
}
FILES = [path.relative_to(ROOT) for folder in ("adae_edge", *STAGES) for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path):
    """Names of what a file imports: packages, or the stage of a module of adae_edge."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            head, _, rest = name.partition(".")
            yield rest.partition(".")[0] if head == "adae_edge" and rest.partition(".")[0] in STAGES else head


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_what_its_folder_may(path):
    folder = path.parts[0]
    allowed = ALLOWED.get(str(path), ALLOWED[folder]) | {folder, "adae_edge"}
    assert set(imported(path)) - STDLIB <= allowed


def test_the_walk_sees_the_files_and_the_imports():
    assert len(FILES) > 30
    assert {"torch", "adae_edge"} <= set(imported(Path("adae_edge/model.py")))
    assert "runtime" in set(imported(Path("export/gate.py")))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_unsafe_is_used(path):
    text = (ROOT / path).read_text()
    for word in (
        r"\bpickle\b",
        r"torch\.load\(",
        r"\beval\((?!\))",
        r"\bexec\(",
        r"shell=True",
        r"\burllib\b",
        r"\brequests\b",
    ):
        assert not re.search(word, text), f"{path} uses {word}"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_loads_no_stage_and_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['adae-edge', '--help']\n"
        "from adae_edge.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', *sys.modules)"
    )
    output, _, loaded = run(code).partition("LOADED")
    heads = {name.partition(".")[0] for name in loaded.split()}
    assert "Commands" in output
    assert heads.isdisjoint(
        {"torch", "onnx", "onnxruntime", "cv2", "numpy", "sklearn", "pydicom", "nibabel", "matplotlib", "PIL"}
    )
    assert not {f"adae_edge.{stage}" for stage in STAGES} & set(loaded.split())


def test_the_runtime_loads_neither_torch_nor_onnx():
    loaded = run(
        "import sys, adae_edge.runtime, adae_edge.runtime.stream, adae_edge.runtime.calibrate\nprint(*sys.modules)"
    )
    assert "adae_edge.runtime.scorer" in loaded.split()
    heads = {name.partition(".")[0] for name in loaded.split()}
    assert heads.isdisjoint({"torch", "onnx", "cv2", "pydicom", "nibabel", "safetensors", "sklearn"})


def test_every_command_explains_itself():
    commands = ("demo", "download", "train", "evaluate", "reproduce", "export", "inspect", "score")
    commands += ("calibrate", "bench", "engine", "doctor")
    for command in commands:
        output = subprocess.run(
            [sys.executable, "-m", "adae_edge", command, "--help"], capture_output=True, text=True, check=True
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
    from tests.models import mean_model

    model = tmp_path / "m.onnx"
    model.write_bytes(mean_model(1))
    (tmp_path / "scan.dcm").write_bytes(b"")
    for package, (arguments, extra) in hidden.items():
        code = f"import sys; sys.modules['{package}'] = None; from adae_edge.cli import main; main()"
        arguments = [str(model) if argument == "MODEL" else argument for argument in arguments]
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, package
        assert f"pip install '{extra}'" in done.stderr
        assert done.stderr.count("\n") == 1
