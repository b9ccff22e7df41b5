"""The images of deploy/, as far as they can be held to their word where none can be built."""

import json
import re
import shlex
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tomllib
import typer
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from adae_edge.cli.app import app
from adae_edge.runtime import Scorer
from tests.support.checkout import ROOT
from tests.support.environments import environment
from tests.support.models import complaints, mean_model, run, slice_model
from tests.support.peers import peer

FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Of the images: Python's version and the wheels that it takes.
PLATFORMS = {
    "cpu": ("3.12", "x86_64"),
    "cuda": ("3.12", "x86_64"),
    "l4t": ("3.10", "aarch64"),
}
GLIBC = (17, 27, 28, 34)


def instructions(path, name):
    """The values of a Dockerfile's instructions of this name, in order."""
    found = DockerfileParser(fileobj=BytesIO(path.read_bytes())).structure
    return [item["value"] for item in found if item["instruction"] == name]


def copied(path):
    """What a Dockerfile copies out of the repository."""
    lines = [shlex.split(value) for value in instructions(path, "COPY")]
    return [
        source for words in lines if not words[0].startswith("--from=") for source in words[:-1]
    ]


def installed(path):
    """What a Dockerfile's pip lines install, as they are written."""
    found = []
    for value in instructions(path, "RUN"):
        for command in re.split(r"\s&&\s", value):
            words = shlex.split(command)
            if "install" in words and any(word.endswith("pip") for word in words):
                words = words[words.index("install") + 1 :]
                words = [
                    word
                    for before, word in zip(["", *words], words, strict=False)
                    if before != "-c"
                ]
                found += [word for word in words if not word.startswith("-")]
    return found


def requirements(path):
    """What is installed as packages of the index, the project's own and its extras' resolved."""
    found = []
    for text in installed(path):
        if not text.startswith("."):
            found.append(text)
            continue
        extras = re.fullmatch(r"\.\[([\w,]+)\]", text).group(1).split(",")
        assert set(extras) <= PROJECT["optional-dependencies"].keys()
        found += PROJECT["dependencies"]
        found += [
            requirement
            for extra in extras
            for requirement in PROJECT["optional-dependencies"][extra]
        ]
    return found


def parsed(words):
    """Parse the words after adae-edge as the command line does, without running anything."""
    group = typer.main.get_command(app)
    if words[0] == "engine" and "engine" not in group.commands:
        pytest.skip("there is no adae-edge engine yet")
    if words[0].startswith("--"):
        assert words[0] in {option for parameter in group.params for option in parameter.opts} | {
            "--help"
        }
        return
    group.commands[words[0]].make_context(words[0], words[1:])


@pytest.fixture
def unit(tmp_path):
    """The service's unit, with the command where this machine has it."""
    text = (ROOT / "deploy" / "adae-edge.service").read_text()
    program = shlex.quote(str(Path(sys.executable).with_name("adae-edge")))
    assert text.count("/opt/adae-edge/bin/adae-edge") == 1
    path = tmp_path / "adae-edge.service"
    path.write_text(text.replace("/opt/adae-edge/bin/adae-edge", program))
    return path


def test_the_unit_says_nothing_that_systemd_does_not_know(unit):
    done = subprocess.run(
        [peer("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_exposes_little(unit):
    """Of 10, where 10 is a service without any protection; 2 is what systemd calls OK."""
    call = peer("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager"
    done = subprocess.run([*call, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_the_example_of_a_station_passes_its_check(tmp_path):
    for name in ("parts.onnx", "labels.onnx"):
        (tmp_path / name).write_bytes(mean_model())
    (tmp_path / "heads.onnx").write_bytes(slice_model())
    (tmp_path / "incoming").mkdir()
    for credential in ("gate", "uids"):
        (tmp_path / credential).write_text("s3cret-word\n")
    example = ROOT / "deploy" / "station.toml"
    call = "run", "--check", example
    done = run(*call, cwd=tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("[[stream]]") == 3
    assert "s3cret-word" not in done.stdout
    without = run(*call, cwd=tmp_path)
    (said,) = complaints(without)
    assert said.startswith(f"{example}, line 8: ")


def test_each_image_is_one_of_those_described():
    assert {path.name.removesuffix(".Dockerfile") for path in FILES} == PLATFORMS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_not_ignored(path):
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied(path)) == kept
    assert all((ROOT / source).exists() for source in kept)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_image_has_a_tag_and_runs_as_nobody_in_particular(path):
    for image in DockerfileParser(fileobj=BytesIO(path.read_bytes())).parent_images:
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image)
    user, _ = instructions(path, "USER")[-1].split(":")
    assert int(user) > 1000
    (entry,), words = (json.loads(instructions(path, name)[-1]) for name in ("ENTRYPOINT", "CMD"))
    assert entry == "adae-edge"
    assert words == ["run", "station.toml"]
    parsed(words)
    assert not [value for value in instructions(path, "RUN") if "chmod" in value or "sudo" in value]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_index_has_every_package_and_extra_within_its_bounds(path, tmp_path):
    version, machine = PLATFORMS[path.name.removesuffix(".Dockerfile")]
    wanted = requirements(path)
    assert any(Requirement(text).name.startswith("onnxruntime") for text in wanted)
    tags = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC] + [
        f"--platform=manylinux2014_{machine}"
    ]
    options = [
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--ignore-installed",
        "--only-binary=:all:",
        "--report=-",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        *options,
        *tags,
        f"--python-version={version}",
    ]
    done = subprocess.run(
        [*command, "--target", tmp_path, *wanted], capture_output=True, text=True, check=False
    )
    if done.returncode and "connection" in done.stderr.lower():
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    extras = {
        canonicalize_name(item["metadata"]["name"]): set(item["metadata"].get("provides_extra", []))
        for item in json.loads(done.stdout)["install"]
    }
    for requirement in map(Requirement, wanted):
        marker = requirement.marker
        if marker is None or marker.evaluate():  # pip takes this Python for them, too
            assert requirement.extras <= extras[canonicalize_name(requirement.name)]


def test_what_the_image_for_cpus_installs_scores_pictures_and_videos(tmp_path):
    """From the files that it copies, in an environment without pip or any other build tool."""
    dockerfile = ROOT / "deploy" / "cpu.Dockerfile"
    source = tmp_path / "source"
    for name in copied(dockerfile):
        files = [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*.py*")
        for file in files:
            if "__pycache__" not in file.parts:
                (source / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (source / file.relative_to(ROOT)).write_bytes(file.read_bytes())
    (line,) = installed(dockerfile)
    python = environment(tmp_path / "opt", f"{source}{line[1:]}")
    packages = {path.name for path in (tmp_path / "opt").glob("lib/python*/site-packages/*")}
    assert packages.isdisjoint({"pip", "setuptools", "torch", "onnx", "sklearn", "pytest"})
    assert "cv2" in packages

    (tmp_path / "m.onnx").write_bytes(mean_model(3))
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.gif")
    score = [python.with_name("adae-edge"), "score", "m.onnx"]
    command = [*score, "a.png", "--to", "jsonl:scores.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = (tmp_path / "scores.jsonl").read_text().splitlines()
    expected = float(Scorer(tmp_path / "m.onnx").score(pixels[None])[0])
    assert json.loads(row)["score"] == pytest.approx(expected, rel=1e-6)
    command = [*score, "camera:99"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    sentence = "adae-edge: there is no camera 99, or another program is using it"
    assert done.stderr.splitlines()[0] == sentence


def written_commands():
    """All adae-edge commands in the pages: in a shell, after an image's name, in a systemd unit."""
    for page in ("deploy/README.md", "docs/jetson.md"):
        text = (ROOT / page).read_text().replace("\\\n", " ")
        for match in re.finditer(r"^ +.*?adae-edge(?::\w+)? ([a-z].*)$", text, re.MULTILINE):
            words = shlex.split(match.group(1), comments=True)
            if words[0] in ("score", "calibrate", "bench", "inspect", "export", "engine", "train"):
                yield pytest.param(words, id=f"{Path(page).name}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(written_commands()))
def test_a_command_in_the_pages_is_one_that_the_command_line_takes(words):
    parsed(words)


def test_the_pages_have_commands():
    assert len(list(written_commands())) > 6
