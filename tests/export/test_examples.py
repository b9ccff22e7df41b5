"""The ways out: what ``export --example`` writes gives the scores of ``adae-edge score``."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from adae_edge.decoding.images import decode_image
from adae_edge.export.examples import examples, write_examples
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from tests.support.models import complaints, run
from tests.support.pictures import write_pictures
from tests.support.volumes import read_brain

# ONNX Runtime's wheel has the library without its headers; this package has them among its plugins.
HEADERS = "com.github.asus4.onnxruntime@0.4.9"


@pytest.fixture(scope="module")
def models(checkpoints, tmp_path_factory):
    """The model file of each kind of checkpoint and its example; made on first use."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            place = folder / "example"
            exported = export(checkpoints(kind), folder / "m.onnx", example=place)
            wrote = f"wrote {place / 'score.py'} and {place / 'score.cpp'}"
            assert exported.lines().splitlines()[-1] == wrote
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures as cameras and tools write them."""
    folder = tmp_path_factory.mktemp("pictures")
    colour = np.random.default_rng(0).integers(0, 256, (30, 44, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colour[..., 0]).save(folder / "grey.png")
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(colour).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(colour[..., 1]).save(folder / "turned-grey.jpg", exif=turned)
    Image.fromarray(np.dstack([colour, colour[..., 0]])).save(folder / "alpha.png")
    Image.fromarray(colour[..., 2].astype(np.uint16) * 256 + 201).save(folder / "deep.png")
    Image.fromarray(colour[..., 0]).convert("P").save(folder / "palette.png")
    return folder


def scored(model, source, cwd):
    """Score, threshold and verdict of each frame by the runtime, in its order."""
    done = run("score", model, source, "--to", "jsonl:/dev/stdout", cwd=cwd)
    assert (done.returncode, complaints(done)) == (0, [])
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [(row["score"], row["threshold"], row["verdict"]) for row in rows]


def example(*arguments):
    """The same of an example, and the names behind them; it writes no file about the device."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [*map(str, arguments)],
            env={"PATH": os.environ["PATH"], "HOME": home},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert list(Path(home).iterdir()) == []
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split(" ", 3) for line in done.stdout.splitlines()]
    return [(float(score), float(threshold), verdict) for score, threshold, verdict, _ in rows], [
        row[3] for row in rows
    ]


def same(found, expected):
    """One float32 has one graph, but how many threads run it may differ."""
    assert [row[1:] for row in found] == [
        (pytest.approx(threshold, rel=1e-8), verdict) for _, threshold, verdict in expected
    ]
    assert [row[0] for row in found] == pytest.approx([score for score, _, _ in expected], rel=1e-6)


@pytest.mark.parametrize("kind", ["digits", "colour"])
def test_the_python_script_scores_any_picture_as_the_runtime_does(models, pictures, kind):
    folder = models(kind)
    files = sorted(pictures.iterdir())
    found, names = example(
        sys.executable, folder / "example" / "score.py", folder / "m.onnx", *files
    )
    assert names == [str(file) for file in files]
    assert (
        len({score for score, _, _ in found}) == len(files) - 2
    )  # alpha.png is colour.png, and palette.png grey.png
    same(found, scored(folder / "m.onnx", pictures, folder))


def test_the_python_script_tells_normal_from_anomalous_by_the_model_files_threshold(
    models, tmp_path
):
    folder = models("colour")
    data = write_pictures(tmp_path / "data", 3, anomalous=3)
    expected = scored(folder / "m.onnx", data, folder)
    assert {verdict for _, _, verdict in expected} == {"normal", "anomalous"}
    files = sorted(data.rglob("*.png"))
    same(
        example(sys.executable, folder / "example" / "score.py", folder / "m.onnx", *files)[0],
        expected,
    )


def test_the_python_script_refuses_what_it_would_score_wrongly(models, tmp_path):
    Image.new("F", (20, 20)).save(tmp_path / "a.tif")
    pages = [Image.new("L", (20, 20), value) for value in (0, 255)]
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    folder = models("digits")
    for name in ("a.tif", "b.tif"):
        command = [
            sys.executable,
            folder / "example" / "score.py",
            folder / "m.onnx",
            tmp_path / name,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert (
            done.stderr
            == f"{tmp_path / name}: save it as one picture with 8 or 16 bits a channel\n"
        )


def test_the_python_script_scores_the_slices_of_a_volume(models, checkpoints):
    folder = models("slices")
    volumes = sorted(checkpoints("slices").parent.rglob("*_flair.nii.gz"))[:2]
    found, names = example(
        sys.executable, folder / "example" / "score.py", folder / "m.onnx", *volumes
    )
    assert names == [f"{path} {number}" for path in volumes for number in read_brain(path).shown]
    same(found, [row for path in volumes for row in scored(folder / "m.onnx", path, folder)])


@pytest.mark.parametrize("field_of_view", [20.0, 100.0])
def test_the_python_script_looks_at_the_field_of_view(models, checkpoints, tmp_path, field_of_view):
    folder = models("slices")
    model = modelfile.read(folder / "m.onnx")
    contract = dataclasses.replace(model.contract, field_of_view=field_of_view)
    (tmp_path / "m.onnx").write_bytes(modelfile.with_contract(model.data, contract))
    (volume, *_) = sorted(checkpoints("slices").parent.rglob("*_flair.nii.gz"))
    found, _ = example(sys.executable, folder / "example" / "score.py", tmp_path / "m.onnx", volume)
    same(found, scored(tmp_path / "m.onnx", volume, tmp_path))


def test_models_of_whole_heads_have_no_example(checkpoints, tmp_path):
    checkpoint = Checkpoint.load(checkpoints("slices"))
    head = dataclasses.replace(checkpoint.contract, object="head")
    dataclasses.replace(checkpoint, contract=head).save(tmp_path / "head.safetensors")
    done = run("export", "head.safetensors", "--example", "e", cwd=tmp_path)
    assert done.returncode == 2
    assert "skull-stripped brains, and this model at whole heads" in complaints(done)[0]
    assert not (tmp_path / "head.onnx").exists()


@pytest.mark.parametrize("kind", ["digits", "colour"])
def test_the_program_in_cpp_scores_pictures_as_the_runtime_does(
    models, pictures, build, kind, tmp_path
):
    folder = models(kind)
    program = build(folder / "example" / "score.cpp")
    for file in pictures.iterdir():
        Image.fromarray(decode_image(file).squeeze()).save(tmp_path / f"{file.stem}.ppm")
    commented = (
        (tmp_path / "colour.ppm")
        .read_bytes()
        .replace(b"P6\n", b"P6\n# by a tool\n# that talks\n", 1)
    )
    (tmp_path / "commented.ppm").write_bytes(commented)
    files = sorted(tmp_path.iterdir())
    found, names = example(program, folder / "m.onnx", *files)
    assert names == [str(file) for file in files]
    same(found, scored(folder / "m.onnx", tmp_path, folder))
    assert (
        found[files.index(tmp_path / "commented.ppm")]
        == found[files.index(tmp_path / "colour.ppm")]
    )


def test_the_program_in_cpp_refuses_with_one_sentence(models, build, tmp_path):
    folder = models("digits")
    program = build(folder / "example" / "score.cpp")
    (tmp_path / "short.pgm").write_bytes(b"P5 4 4 255\n" + bytes(15))
    (tmp_path / "deep.pgm").write_bytes(b"P5 4 4 65535\n" + bytes(32))
    (tmp_path / "huge.pgm").write_bytes(b"P5 99999999999 99999999999 255\n")
    (tmp_path / "text.pgm").write_text("no picture")
    model = folder / "m.onnx"
    for arguments, sentence in (
        ([model, tmp_path / "short.pgm"], "short.pgm is cut short"),
        ([model, tmp_path / "deep.pgm"], "deep.pgm is no PGM or PPM file of 8 bits"),
        ([model, tmp_path / "huge.pgm"], "huge.pgm is no PGM or PPM file of 8 bits"),
        ([model, tmp_path / "text.pgm"], "text.pgm is no PGM or PPM file of 8 bits"),
        ([model, tmp_path / "nowhere.pgm"], "nowhere.pgm is no PGM or PPM file of 8 bits"),
        ([tmp_path / "nowhere.onnx", tmp_path / "short.pgm"], "nowhere.onnx"),
        ([model], "usage: score MODEL PICTURE..."),
    ):
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_program_in_cpp_scores_slices(models, checkpoints, build, tmp_path):
    folder = models("slices")
    program = build(folder / "example" / "score.cpp")
    (volume, *_) = sorted(checkpoints("slices").parent.rglob("*_flair.nii.gz"))
    brain = read_brain(volume)
    for number in brain.shown:
        brain.values[number].astype("<f4").tofile(tmp_path / f"{number:03}")
    files = sorted(tmp_path.iterdir())
    sizes = (*brain.values.shape[1:], repr(brain.mean), repr(brain.std))
    found, _ = example(program, folder / "m.onnx", *sizes, *files)
    same(found, scored(folder / "m.onnx", volume, folder))
    done = subprocess.run(
        [program, folder / "m.onnx", "7", "9", "1", "1", files[0]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"{files[0]} does not hold HEIGHT x WIDTH float32 values\n"


def test_the_examples_fill_a_batch_of_one_size(models, pictures, build, tmp_path):
    """As files of ``--fixed-batch`` declare it."""
    import onnx

    folder = models("colour")
    fixed = onnx.load(folder / "m.onnx")
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(fixed, tmp_path / "fixed.onnx")
    Image.open(pictures / "colour.png").save(tmp_path / "colour.ppm")
    (expected,), _ = example(
        sys.executable, folder / "example" / "score.py", folder / "m.onnx", pictures / "colour.png"
    )
    for command in (
        (sys.executable, folder / "example" / "score.py"),
        (build(folder / "example" / "score.cpp"),),
    ):
        found, _ = example(*command, tmp_path / "fixed.onnx", tmp_path / "colour.ppm")
        same(found, [expected])


def test_an_example_that_was_changed_is_not_overwritten(checkpoints, contract, tmp_path):
    (tmp_path / "score.py").write_text(examples("image", 3)["score.py"])
    assert write_examples(contract, tmp_path) == [tmp_path / "score.py", tmp_path / "score.cpp"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == examples("image", 1)
    (tmp_path / "score.cpp").write_text("mine")
    checkpoint = checkpoints("colour")
    for place, sentence in (
        (".", "score.cpp is there and not as --example writes it"),
        ("score.py", "is no folder"),
    ):
        done = run("export", checkpoint, "--out", "m.onnx", "--example", place, cwd=tmp_path)
        assert done.returncode == 2
        (complaint,) = complaints(done)
        assert sentence in complaint
        assert (tmp_path / "score.cpp").read_text() == "mine"
        assert not (tmp_path / "m.onnx").exists()
    done = run("export", checkpoint, "--out", "m.onnx", "--example", "e", cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "wrote e/score.py and e/score.cpp", done.stderr


def test_an_export_that_fails_writes_no_example(models, tmp_path):
    done = run("export", "nowhere.safetensors", "--example", "example", cwd=tmp_path)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "channels"), [("image", 1), ("image", 3), ("modality", 1)])
def test_the_scripts_are_tidy_and_short(kind, channels, tmp_path):
    texts = examples(kind, channels)
    (tmp_path / "score.py").write_text(texts["score.py"])
    options = ["--isolated", "--line-length", "100"]
    for check in (["check", "--select", "E,F,W,I,B,UP"], ["format", "--diff"]):
        command = [sys.executable, "-m", "ruff", *check, *options, tmp_path / "score.py"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert len(texts["score.py"].splitlines()) <= (42 if kind == "image" else 60)
    assert max(map(len, texts["score.cpp"].splitlines())) <= 100
    assert "adae_edge import" not in texts["score.py"]


@pytest.fixture(scope="module")
def build(request, tmp_path_factory):
    """Compiles a program of ONNX Runtime with the library that this Python runs."""
    compiler = shutil.which("g++") or pytest.skip("there is no g++ to compile with")
    include = headers(request.config.cache, tmp_path_factory.mktemp("package"))
    wanted = int(
        re.search(r"ORT_API_VERSION (\d+)", (include / "onnxruntime_c_api.h").read_text()).group(1)
    )
    if wanted > int(onnxruntime.__version__.split(".")[1]):
        pytest.skip(
            f"onnxruntime {onnxruntime.__version__} is older than the headers, which are of "
            f"1.{wanted}"
        )
    libraries = tmp_path_factory.mktemp("lib")
    found = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)
    if found is None:
        pytest.skip("this onnxruntime does not come with its library in a file of its own")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (libraries / name).symlink_to(found)
    built = {}

    def compiled(source):
        text = source.read_text()
        if text not in built:
            program = tmp_path_factory.mktemp("program") / "score"
            flags = ["-std=c++17", "-Wall", "-Werror", "-isystem", include, "-L", libraries]
            link = ["-lonnxruntime", f"-Wl,-rpath,{libraries}"]
            subprocess.run([compiler, source, "-o", program, *flags, *link], check=True)
            built[text] = program
        return built[text]

    return compiled


def headers(cache, folder):
    """The folder of ONNX Runtime's headers: the system's, or an npm package's, which is kept."""
    for place in ("/usr/include/onnxruntime", "/usr/local/include/onnxruntime"):
        if (Path(place) / "onnxruntime_cxx_api.h").is_file():
            return Path(place)
    kept = cache.mkdir("onnxruntime-headers")
    if (kept / "complete").exists():
        return kept
    if shutil.which("npm") is None:
        pytest.skip("ONNX Runtime's headers are not here, and there is no npm to fetch them")
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), HEADERS]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(
            f"ONNX Runtime's headers are not here, and npm did not bring {HEADERS} in 300 s"
        )
    if done.returncode != 0:
        pytest.skip(
            f"ONNX Runtime's headers are not here, and npm cannot bring {HEADERS}: "
            f"{done.stderr[:200]}"
        )
    (package,) = folder.glob("*.tgz")
    with tarfile.open(package) as archive:
        for member in archive:
            if "/ios-arm64/onnxruntime.framework/Headers/" in member.name and member.isfile():
                (kept / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    package.unlink()
    (kept / "complete").touch()
    return kept
