"""doctor: what it says of whole, bare, conflicting and broken environments.

None of them takes it down.
"""

import base64
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from adae_edge.cli import doctor, examination
from adae_edge.cli.surroundings import surroundings
from tests.support.environments import environment
from tests.support.models import run

no_gpu = pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
# The file systems of machines, as far as doctor looks at them.
ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, "
    "EABI: aarch64\n",
    "usr/lib/python3.10/dist-packages/tensorrt/__init__.py": "",
}
WORKSTATION = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue "
    "Mar  5\n",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}


def packaged(folder, *packages, **modules):
    """A folder for PYTHONPATH, with metadata of packages as pip writes it, and modules.

    A package is given as "NAME-VERSION MODULE", and a module by its name and its code. In the place
    of torch and onnx, which take seconds to load, stand empty ones.
    """
    folder.mkdir()
    modules = {"torch": "", "onnx": ""} | modules
    for package in packages:
        name, _, module = package.partition(" ")
        info = folder / f"{name}.dist-info"
        info.mkdir()
        title, _, version = name.partition("-")
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {title.replace('_', '-')}\nVersion: {version}\n"
        )
        (info / "top_level.txt").write_text(f"{module}\n")
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


def root(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def problems(done):
    assert done.stderr == ""
    return {found["problem"]: found["command"] for found in json.loads(done.stdout)["problems"]}


@no_gpu
def test_a_machine_that_scores_is_told_with_its_next_command(tmp_path):
    done = run("doctor", cwd=tmp_path, **packaged(tmp_path / "site"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("adae-edge   ")
    assert lines[-1] == "next        adae-edge demo"
    assert any(line.startswith("scores on   cpu       onnxruntime ") for line in lines)
    assert "GPU         none: there is no NVIDIA driver" in lines
    assert "--device cuda on any GPU but an NVIDIA H100" in done.stdout
    assert max(map(len, lines)) < 140
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_it_scores_with_a_model_whose_score_is_the_mean():
    model = onnx.load_from_string(examination.MEAN_MODEL)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Cast", "ReduceMean"]
    assert base64.b64encode(model.SerializeToString()) == base64.b64encode(examination.MEAN_MODEL)


def test_without_a_backend_nothing_scores(wheel, tmp_path):
    """In an environment of its own, without any extra."""
    python = environment(tmp_path / "bare", str(wheel))
    command = [str(python), "-m", "adae_edge", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "next        pip install 'adae-edge[cpu]'"
    assert (
        "not there   [cpu], [openvino], [tensorrt], [tensorrt-rtx], [camera], [dicom], [nifti], "
        "[train], [export]" in (done.stdout)
    )
    assert (
        "not on      cpu       onnxruntime is not installed: pip install 'adae-edge[cpu]'"
        in done.stdout
    )


@no_gpu
def test_packages_that_overwrite_each_other_are_a_problem(tmp_path):
    """Both in one folder, where the modules themselves are the real ones."""
    twins = packaged(
        tmp_path / "site",
        "onnxruntime-1.30.0 onnxruntime",
        "onnxruntime_gpu-1.31.1 onnxruntime",
        "opencv_python-5.0.0.93 cv2",
        "opencv_python_headless-5.0.0.93 cv2",
    )
    for module in ("onnxruntime", "cv2"):
        real = importlib.util.find_spec(module).submodule_search_locations[0]
        (tmp_path / "site" / module).symlink_to(real)
    done = run("doctor", "--json", cwd=tmp_path, **twins)
    assert done.returncode == 0
    found = problems(done)
    assert list(found.values()) == [
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'adae-edge[cpu]'",
        "pip uninstall -y opencv-python opencv-python-headless && pip install 'adae-edge[camera]'",
    ]
    assert json.loads(done.stdout)["next"] == next(iter(found.values()))


@no_gpu
def test_packages_in_folders_of_their_own_overwrite_nothing(tmp_path):
    """The one that Python loads is the one that counts: the first on the path."""
    real = importlib.util.find_spec("onnxruntime").submodule_search_locations[0]
    site = packaged(tmp_path / "site", "onnxruntime_gpu-1.31.1 onnxruntime")
    (tmp_path / "site" / "onnxruntime").symlink_to(real)
    done = run("doctor", "--json", cwd=tmp_path, **site)
    assert problems(done) == {}
    modules = json.loads(done.stdout)["modules"]
    assert modules["onnxruntime"]["packages"] == ["onnxruntime-gpu 1.31.1"]


def test_broken_packages_are_named_and_take_nothing_down(tmp_path):
    """numpy, too, without which nothing else of adae-edge runs."""
    broken = packaged(
        tmp_path / "site",
        cv2="import os\nprint('garbage')\nos.abort()\n",
        nibabel="raise SystemExit(3)\n",
        numpy="raise ImportError('one\\x1b[31m line\\nand another')\n",
        pydicom="import sys\nprint('noise', file=sys.stderr)\nraise RuntimeError\n",
        tensorrt="raise ImportError('libnvinfer.so.10: cannot open shared object file: No such "
        "file or directory')\n",
    )
    done = run("doctor", "--json", cwd=tmp_path, **broken)
    assert done.returncode == 1
    found = "\n".join(problems(done))
    assert "cv2 is installed and does not load: it ended Python, with signal 6" in found
    assert "nibabel is installed and does not load: it ended Python, with exit code 3" in found
    assert "numpy is installed and does not load: one\\x1b[31m line\n" in found
    assert "pydicom is installed and does not load: RuntimeError" in found
    assert "tensorrt is installed without its libraries: libnvinfer.so.10" in found
    shown = run("doctor", cwd=tmp_path, **broken)
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "garbage" not in shown.stdout


def test_what_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(examination, "TIMEOUT_S", 0.001)
    assert examination._ask("gpu") == {"error": "it gave no answer within 0.001 seconds"}


def test_metadata_that_cannot_be_read_is_left_out(tmp_path):
    site = packaged(tmp_path / "site")
    (tmp_path / "site" / "broken-1.0.dist-info").mkdir()
    (tmp_path / "site" / "broken-1.0.dist-info" / "top_level.txt").write_bytes(b"\xff\xfe")
    assert run("doctor", "--json", cwd=tmp_path, **site).returncode == 0


@no_gpu
def test_a_jetson_is_told_where_its_tensorrt_is(tmp_path, monkeypatch):
    monkeypatch.setattr(
        examination,
        "_ask",
        lambda question: {"error": "it was not asked"} if question == "engine" else {},
    )
    report = doctor.diagnose(root(tmp_path, ORIN))
    assert report["jetson"] == {
        "board": "NVIDIA Jetson Orin Nano Developer Kit",
        "l4t": "36.4.3",
        "jetpack": 6,
    }
    (problem,) = report["problems"]
    assert problem["problem"].startswith("the system's TensorRT, ")
    assert problem["command"].startswith("python3 -m venv --system-site-packages")
    assert (
        "Jetson      NVIDIA Jetson Orin Nano Developer Kit, Jetson Linux 36.4.3, JetPack 6"
        in doctor.describe(report)
    )


def test_a_gpu_without_a_driver_is_a_problem(tmp_path, monkeypatch):
    answer = {"error": "there is no NVIDIA driver"}
    monkeypatch.setattr(
        examination, "_ask", lambda question: answer if question in ("gpu", "engine") else {}
    )
    report = doctor.diagnose(root(tmp_path, WORKSTATION))
    assert report["gpu"] == answer | {"driver": "550.54.15", "plugged_in": True}
    assert [found["problem"] for found in report["problems"]] == [
        "an NVIDIA GPU is plugged in, and there is no NVIDIA driver"
    ]


def test_a_gpu_and_an_old_driver_are_told(monkeypatch):
    """Answers of probes as a machine with such a driver gives them; there is none to ask here."""
    old = (
        "the NVIDIA driver knows CUDA 12.6, and cuda-bindings is for CUDA 13.5: "
        "pip install 'cuda-bindings==12.*'"
    )
    cards = [{"name": "Orin", "compute_capability": "8.7"}]
    answers = {"gpu": {"cuda": "12.6", "gpus": cards}, "engine": {"error": old}}
    monkeypatch.setattr(examination, "_ask", lambda question: answers.get(question, {}))
    report = doctor.diagnose()
    assert report["problems"] == [
        {
            "problem": "the NVIDIA driver knows CUDA 12.6, and cuda-bindings is for CUDA 13.5",
            "command": "pip install 'cuda-bindings==12.*'",
        }
    ]
    assert report["next"] == "pip install 'cuda-bindings==12.*'"
    assert "GPU         Orin, compute capability 8.7 (cuda 12.6)" in doctor.describe(report)


def test_it_imports_no_package_itself():
    code = (
        "import sys\nfrom adae_edge.cli import doctor, examination\n"
        "examination._ask = lambda question: {'error': 'not asked'}\n"
        "doctor.describe(doctor.diagnose())\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heads = {name.partition(".")[0] for name in done.stdout.split()}
    assert heads.isdisjoint({module.partition(".")[0] for module in examination.MODULES})


def test_surroundings_are_told_as_far_as_they_are_known(tmp_path, monkeypatch):
    """A device that gives no frames is left out, and one that cannot be opened says why."""
    files = {
        "sys/class/video4linux/video0/name": "a camera that was unplugged\n",
        "sys/class/video4linux/video1/name": "what describes another one\n",
        "dev/video1": "",
    }
    monkeypatch.setenv("PATH", str(tmp_path))  # no GStreamer
    about = surroundings(root(tmp_path, files))
    assert about["cameras"] == {
        "/dev/video0": {
            "name": "a camera that was unplugged",
            "error": "No such file or directory",
        }
    }
    assert about["gstreamer"] is None
    assert about["disk"] > 0
    assert about["clock"] in (True, False)


def test_cameras_and_what_a_night_needs_are_in_the_lines():
    report = doctor.diagnose()
    modes = {"YUYV": [f"{width}x360" for width in range(640, 648)], "MJPG": []}
    report["surroundings"] = {
        "cameras": {"/dev/video0": {"name": "USB camera", "modes": modes}},
        "gstreamer": "GStreamer 1.22.0",
        "disk": 5e8,
        "clock": False,
    }
    report["modules"]["av"] = {"packages": ["av 18.1.0"], "ffmpeg": "8.0", "lacks": ["hevc"]}
    report["problems"] = doctor._problems(report, Path("/"))
    text = doctor.describe(report)
    shown = "YUYV 640x360, 641x360, 642x360, 643x360, 644x360, 645x360 ...; MJPG"
    assert f"cameras     v4l2:///dev/video0, USB camera: {shown}" in text
    assert "GStreamer   GStreamer 1.22.0\ndisk        0.5 GB are free here" in text
    assert "clock       nothing keeps it right" in text
    assert "this av, with FFmpeg 8.0, lacks hevc" in text
    assert "only 0.50 GB are free in this folder" in text
