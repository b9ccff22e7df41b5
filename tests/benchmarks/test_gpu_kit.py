"""The kit that measures on a GPU: all of it that a machine without one can run."""

import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from adae_edge.benchmarks.gpu import __main__ as kit
from adae_edge.benchmarks.gpu import prune
from adae_edge.benchmarks.gpu.commands import CommandError, adae_edge
from adae_edge.benchmarks.gpu.report import failures, short, without_paths
from adae_edge.benchmarks.gpu.results import Results, Settings
from adae_edge.benchmarks.gpu.sections import standin
from tests.support.environments import ROOT
from tests.support.imitation import Cuda

RUN = ROOT / "benchmarks/gpu/run.sh"
MODELS = ("a1-any", "a1-32", "a1-32-fp16")
# All but the one that trains a table.
SECTIONS = [name for name in kit.LIMITS if name != "reproduce"]
# What cannot be measured without a GPU; each case says so.
ON_A_GPU_ALONE = {
    "speed": ["a1-32 batch 1 bound, graph", "a1-32 energy"],
    "large": [
        "a1-32 batch 64, computing, channels last",
        "a1-32 batch 64, computing, graph",
        "a1-32 batch 64, computing, heuristic search",
        "a1-32 batch 64, copying in, pinned",
        "b3-32",
    ],
    "standin": ["backend"],
    "torch": [
        "a batch 1 compiled",
        "a batch 1 graph",
        "a batch 1024 compiled",
        "a batch 64 graph",
    ],
    "training": ["a batch 64 compiled"],
    "engines": ["engines"],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with some of the kit's model files."""
    folder = tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "adae_edge.benchmarks.gpu.models", folder, *MODELS]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def run_kit(folder, *arguments, **environment):
    """Start the kit in the checkout's top folder, as its first user did."""
    environment = {
        "PYTHON": sys.executable,
        "DEVICE": "cpu",
        "SECONDS_A_CASE": "0.001",
        "WORK": str(folder / "work"),
        "OUT": str(folder / "out"),
        "OMP_NUM_THREADS": "1",
    } | environment
    return subprocess.run(
        ["bash", RUN, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(models, tmp_path_factory):
    """What the kit's sections leave without a GPU, and what they print."""
    folder = tmp_path_factory.mktemp("kit")
    done = run_kit(folder, *SECTIONS, MODELS=str(models))
    assert done.returncode == 0, done.stdout + done.stderr
    return SimpleNamespace(out=folder / "out", printed=done.stdout)


@pytest.fixture(scope="module")
def record(measured):
    return json.loads((measured.out / "results.json").read_text())


def cases(record, key):
    """The cases of all sections whose result has a key, by section and name."""
    return {
        (section, name): result
        for section, of_section in record["sections"].items()
        for name, result in of_section["results"].items()
        if isinstance(result, dict) and key in result
    }


def test_every_section_ends_well_and_no_case_fails(record):
    assert list(record["sections"]) == SECTIONS
    for name, section in record["sections"].items():
        assert section["code"] == 0, name
        assert section["ended"] == "done", name
        assert section["results"], name
    assert cases(record, "failed") == {}
    assert failures(record) == []


def test_what_takes_a_gpu_is_said(record):
    skipped = {}
    for section, name in sorted(cases(record, "skipped")):
        skipped.setdefault(section, []).append(name)
    assert skipped == {name: sorted(names) for name, names in ON_A_GPU_ALONE.items()}
    assert all(case["skipped"] for case in cases(record, "skipped").values())


def test_scores_agree_with_those_of_the_cpu(record):
    compared = cases(record, "worst_relative")
    assert set(compared) == {
        *(("parity", name) for name in MODELS),
        ("training", "the trained model's scores"),
    }
    for name, case in compared.items():
        assert 0 <= case["worst_relative"] < 1e-4, name
        assert case["decisions_changed"] == 0, name
    sets = record["sections"]["parity"]["results"]["a1-any"]["by_set"]
    assert {"noise", "1920x1080", "1x1", "one hot pixel", "shuffled"} <= set(sets)
    same = cases(record, "same")
    assert {section for section, _ in same} == {"speed", "large"}
    assert all(case["same"] for case in same.values())


def test_times_are_in_order_and_rates_are_positive(record):
    timed = cases(record, "p50")
    assert {section for section, _ in timed} == {"speed", "large", "torch"}
    assert len(timed) > 12
    for name, case in timed.items():
        order = [case[key] for key in ("min", "p50", "p90", "p99", "p999", "max")]
        assert order == sorted(order), name
        assert order[0] > 0, name
        assert case["n"] >= 20, name
        assert case["frames_per_s"] > 0, name
    for (_, name), case in cases(record, "images_per_s").items():
        assert case["images_per_s"] > 0, name
    for case in cases(record, "each").values():
        assert sum(case["each"]) == pytest.approx(case["frames_per_s"], abs=len(case["each"]))
        assert min(case["each"]) > 0
    assert record["sections"]["roof"]["results"]["fp32_tflops"] > 0


def test_the_commands_are_those_of_the_installed_package(record):
    results = record["sections"]["bench"]["results"]
    assert "scores on   cpu" in results["doctor"]["says"]
    batches = [row["batch"] for row in results["bench"]["figures"]["measurements"]]
    assert batches == [1, 64] * 3  # the network's size, a camera's, and what a video is shrunk to
    results = record["sections"]["training"]["results"]
    assert "threshold" in results["train"]["says"]
    assert "parity: " in results["export"]["says"]


def test_results_can_be_committed_as_they_are(record, measured):
    text = (measured.out / "results.json").read_text()
    assert record["machine"]["usable_cpus"] >= 1
    assert "gpu" in record
    assert record["command"] == (
        f"python -m adae_edge.benchmarks.gpu {' '.join(SECTIONS)} --device cpu --seconds 0.001 "
        "--budget 480"
    )
    assert re.findall(r"(?<![\w/:])/\w+/[^\s\"]*", text) == []
    assert str(measured.out.parent) not in text
    assert sorted(path.name for path in measured.out.iterdir()) == ["logs.txt", "results.json"]
    logs = (measured.out / "logs.txt").read_text()
    assert re.findall("^==== (.*)$", logs, re.MULTILINE) == SECTIONS


def test_the_short_form_is_printed(record, measured):
    lines = measured.printed.splitlines()
    assert [line.partition(":")[0] for line in lines[: len(SECTIONS)]] == SECTIONS
    printed = json.loads(lines[-1])
    case = record["sections"]["speed"]["results"]["a1-32 batch 64"]
    expected = [case["p50"], case["p99"], case["frames_per_s"]]
    assert printed["speed"]["a1-32 batch 64"] == expected
    assert printed["parity"]["a1-32"][1:] == [True, 0]


def test_a_section_that_fails_costs_no_other(models, tmp_path):
    (tmp_path / "few").mkdir()
    (tmp_path / "few/a1-any.onnx").write_bytes((models / "a1-any.onnx").read_bytes())
    (tmp_path / "few/damaged.onnx").write_bytes(b"no model")
    done = run_kit(tmp_path, "parity", "scale", "machine", MODELS=str(tmp_path / "few"))
    assert done.returncode == 1
    record = json.loads((tmp_path / "out/results.json").read_text())
    assert list(cases(record, "failed")) == [
        ("parity", "damaged"),
        ("scale", "1 processes"),
        ("scale", "2 processes"),
    ]
    assert "worst_relative" in record["sections"]["parity"]["results"]["a1-any"]
    assert "packages" in record["sections"]["machine"]["results"]
    first, *_ = done.stderr.splitlines()
    assert first.startswith("parity, damaged: ModelFileError: damaged.onnx")


def test_a_command_that_fails_is_told_by_its_last_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=r"there is no .* m\.onnx.* \(exit code 2\)"):
        adae_edge("bench", "m.onnx")


def test_a_section_is_stopped_with_what_it_started_and_none_is_begun_too_late(models, tmp_path):
    begun = time.monotonic()
    done = run_kit(tmp_path, "training", "machine", "--budget", "2", MODELS=str(models))
    assert done.returncode == 1
    assert time.monotonic() - begun < 60
    sections = json.loads((tmp_path / "out/results.json").read_text())["sections"]
    assert sections["training"]["ended"] == "stopped after 2 s"
    assert sections["training"]["code"] == -9
    assert sections["machine"]["ended"] == "not begun: the time is over"
    assert "not begun" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("speeds",), "no section speeds: choose among machine"),
        (("machine", "--device", "tpu"), "no device tpu"),
    ],
)
def test_wrong_use_measures_nothing(tmp_path, arguments, sentence):
    done = run_kit(tmp_path, *arguments)
    assert done.returncode == 2
    assert sentence in re.sub(r"[\s│]+", " ", done.stderr)
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_that_are_missing_are_said(tmp_path):
    (tmp_path / "main").mkdir()
    for name, text in (("parts", "2"), ("site.sha256", "0" * 64), ("site.tar.xz.00", "x")):
        (tmp_path / "main" / name).write_text(text)
    script = tmp_path / "main/run.sh"
    script.write_bytes(RUN.read_bytes())
    environment = os.environ | {"PYTHON": sys.executable, "WORK": str(tmp_path / "work")}

    def run():
        return subprocess.run(
            ["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = run()
    assert (done.returncode, done.stderr) == (0, "1 of 2 parts are here: carry the others too\n")
    (tmp_path / "more-1").mkdir()
    (tmp_path / "more-1/site.tar.xz.01").write_text("y")
    done = run()
    assert (done.returncode, done.stderr) == (
        1,
        "the parts do not fit together: pack them again\n",
    )


@pytest.mark.parametrize(
    ("arguments", "mnist", "sentence"),
    [
        (["--all"], "", "there is no option --all\n"),
        ([], "/nowhere", "there is no folder /nowhere\n"),
    ],
)
def test_wrong_use_packs_nothing(tmp_path, arguments, mnist, sentence):
    command = ["bash", ROOT / "benchmarks/gpu/pack.sh", *arguments]
    environment = os.environ | {"MNIST": mnist}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_paths_of_a_machine_are_cut_down_to_names():
    found = {
        "/a/b/python3": ["mnist:/tmp/x/mnist", "'/opt/v-1.0/lib/t.py', line 3", 7, None],
        "kept": "1024 frames/s, 2/3, https://example.org/a/b, a/b/c.py, ~50 %",
    }
    assert without_paths(found) == {
        "/a/b/python3": ["mnist:mnist", "'t.py', line 3", 7, None],
        "kept": found["kept"],
    }


def test_every_section_has_a_time_limit_and_a_file():
    files = {path.stem for path in (ROOT / "benchmarks/gpu/sections").glob("*.py")}
    assert files - {"__init__"} == set(kit.LIMITS)
    assert set(kit.ASKED_FOR) < set(kit.LIMITS)


def test_failed_cases_are_shown():
    case = {"failed": "OSError: no"}
    section = {"code": 0, "seconds": 1, "ended": "done", "results": {"load": case, "name": "x"}}
    record = {"sections": {"machine": section}}
    assert failures(record) == ["machine, load: OSError: no"]
    assert '"load":"FAILED OSError: no","name":"x"' in short(record)


class Gpu(Cuda):
    """An imitation of CUDA that says how much of its memory is free."""

    cudaMemcpyKind = SimpleNamespace(  # noqa: N815
        cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
    )

    def cudaMemGetInfo(self):  # noqa: N802
        total = 2**34
        return 0, total - sum(len(memory) for memory, _ in self.held.values()), total


def measure_stand_in(cuda, models, folder, monkeypatch):
    """The section's results; the backend and the stand-in are the real ones."""
    monkeypatch.setattr("adae_edge.runtime.backends.tensorrt.load_cuda", lambda: cuda)
    monkeypatch.setattr(standin, "load_cuda", lambda: cuda)
    results = Results(folder / "results.json")
    standin.measure(Settings("cuda", models, None, folder, 0.001), results)
    return results.values


def test_the_stand_in_finds_nothing_wrong(models, tmp_path, monkeypatch):
    cuda = Gpu()
    values = measure_stand_in(cuda, models, tmp_path, monkeypatch)
    assert values == json.loads((tmp_path / "results.json").read_text())
    assert not [name for name, result in values.items() if "failed" in result]
    assert values["scores"] == {"runs": 33, "wrong": 0}
    assert values["threads"] == {"runs": 800, "wrong": 0}
    assert "is closed" in values["closed"]
    assert values["replay 1920x1080 batch 1"]["p50"] > 0
    assert values["memory"] == {"bytes_kept_after_close": [0, 0, 0, 0], "grows": False}
    assert cuda.launches > 33 + 800
    assert cuda.held == {}


def test_the_stand_in_finds_a_leak(models, tmp_path, monkeypatch):
    """A byte is that of a stream."""
    cuda = Gpu()
    cuda._calls["cudaStreamDestroy"] = lambda stream: None
    values = measure_stand_in(cuda, models, tmp_path, monkeypatch)
    assert values["memory"] == {"bytes_kept_after_close": [1, 2, 3, 4], "grows": True}


def test_the_stand_in_finds_wrong_scores(models, tmp_path, monkeypatch):
    class Deaf(Gpu):
        def _copy(self, target, source, size, kind, stream):
            if kind != self.cudaMemcpyKind.cudaMemcpyHostToDevice:
                super()._copy(target, source, size, kind, stream)

    values = measure_stand_in(Deaf(), models, tmp_path, monkeypatch)
    assert values["scores"]["failed"] == "RuntimeError: 33 of 33 runs gave other scores"


def cuda_library(binaries):
    """An ELF file with fat binaries of kernels, each a pair of compute capability and code."""
    fat = b""
    for kernels in binaries:
        body = b""
        for capability, code in kernels:
            header = np.zeros(64, np.uint8)
            header[4:8] = np.frombuffer(np.uint32(64).tobytes(), np.uint8)
            header[8:16] = np.frombuffer(np.uint64(len(code)).tobytes(), np.uint8)
            header[28:32] = np.frombuffer(np.uint32(capability).tobytes(), np.uint8)
            body += header.tobytes() + code
        head = np.uint32(0xBA55ED50).tobytes() + np.uint16([1, 16]).tobytes()
        fat += head + np.uint64(len(body)).tobytes() + body
    names = b"\0.shstrtab\0.nv_fatbin\0"
    rest = b"all else"
    begin = 64
    table = begin + len(fat) + len(names) + len(rest)
    header = bytearray(64)
    header[0x28:0x30] = np.uint64(table).tobytes()
    header[0x3A:0x40] = np.uint16([64, 3, 1]).tobytes()

    def section(name, first, size):
        row = np.uint32([name, 0]).tobytes() + np.uint64([0, 0, first, size]).tobytes()
        return row.ljust(64, b"\0")

    sections = section(0, 0, 0) + section(1, begin + len(fat), len(names))
    return bytes(header) + fat + names + rest + sections + section(11, begin, len(fat))


@pytest.mark.parametrize("options", [(), ("--hopper",)])
def test_a_library_keeps_the_kernels_of_one_capability(tmp_path, options):
    for_all = [(75, b"old" * 10), (90, b"new" * 10), (120, b"newest" * 5)]
    for_new_ones = [(90, b"attention")]
    library = cuda_library([for_all, for_new_ones])
    (tmp_path / "before.so").write_bytes(library)
    command = [sys.executable, "-m", "adae_edge.benchmarks.gpu.prune", "before.so", "after.so"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True)
    pruned = (tmp_path / "after.so").read_bytes()
    expected = library.replace(b"old" * 10, bytes(30)).replace(b"newest" * 5, bytes(30))
    if not options:
        expected = expected.replace(b"attention", bytes(9))
    assert pruned == expected
    found = [[kernel.capability for kernel in kernels] for kernels in prune.fat_binaries(pruned)]
    assert found == [[75, 90, 120], [90]]


def test_a_library_without_such_kernels_is_refused(tmp_path):
    (tmp_path / "before.so").write_bytes(cuda_library([[(75, b"old")]]))
    command = [sys.executable, "-m", "adae_edge.benchmarks.gpu.prune", "before.so", "after.so"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert not (tmp_path / "after.so").exists()
