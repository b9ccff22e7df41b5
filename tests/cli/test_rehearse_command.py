"""``adae-edge rehearse``: which made-up defects a model finds, or one sentence and no file."""

import dataclasses
import json
import os

import numpy as np
import pytest
from PIL import Image

from adae_edge.contract import Form, Region
from adae_edge.errors import FrameError, SourceError, UsageError
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.runtime import rehearse as rehearsing
from adae_edge.runtime.rehearse import CONTRASTS, DEFECTS, SIZES, RehearsalRequest, rehearse
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources import registry
from tests.support.models import mean_model, run
from tests.support.pictures import noise, save, write_scratched
from tests.support.trained import train_on


@pytest.fixture
def model(tmp_path):
    """A model that scores a grey frame by its mean; 130 is its threshold."""
    path = tmp_path / "model.onnx"
    path.write_bytes(mean_model(1, 130.0))
    return path


def write_frames(folder, count, shape=(40, 50)):
    """Noise around 100, and each frame a little brighter than the one before."""
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = random.normal(100 + index, 10, shape).clip(0, 255).astype(np.uint8)
        save(folder / f"{index:03}.png", pixels)
    return folder


@pytest.fixture
def normals(tmp_path):
    return write_frames(tmp_path / "normals", 6)


def share(rehearsal, **wanted):
    """The share found of the defect with these attributes."""
    chosen = [
        figures
        for figures in rehearsal.figures
        if all(getattr(figures.defect, name) == value for name, value in wanted.items())
    ]
    assert len(chosen) == 1
    return chosen[0].share


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A trained model that sees small defects, with a map, and the folder of its normals."""
    folder = tmp_path_factory.mktemp("rehearse")
    data = write_scratched(folder / "parts", 80, 0)
    checkpoint, path = folder / "local.safetensors", folder / "local.onnx"
    train_on(str(data), checkpoint, score="local", recipe="linear", epochs=None, fpr=0.35)
    export(checkpoint, path, form=Form(anomaly_map="frame"))
    return path, data / "normal"


def test_a_trained_model_finds_what_is_strong_and_misses_what_is_faint(local):
    model, normals = local
    rehearsal = rehearse(RehearsalRequest(model, str(normals), frames=12))
    assert (rehearsal.frames, rehearsal.of_frames, rehearsal.shorter_side) == (12, 80, (48, 48))
    assert [figures.defect for figures in rehearsal.figures] == list(DEFECTS)
    assert share(rehearsal, kind="spot", size=SIZES[-1], contrast=CONTRASTS[-1]) > 0.7
    assert share(rehearsal, kind="spot", size=SIZES[0], contrast=CONTRASTS[0]) < 0.3
    by_size = [
        figures.auroc
        for figures in rehearsal.figures
        if (figures.defect.kind, figures.defect.contrast) == ("spot", CONTRASTS[-1])
    ]
    assert by_size[-1] > by_size[0] + 0.2


def test_the_figures_are_those_of_the_scores(model, normals):
    """Against the mean, computed here: no spot of a fiftieth lifts it by 25 grey levels."""
    rehearsal = rehearse(RehearsalRequest(model, str(normals)))
    assert (rehearsal.threshold, rehearsal.false_alarms, rehearsal.frames) == (130.0, 0, 6)
    assert all(figures.found == 0 for figures in rehearsal.figures)
    small = next(f for f in rehearsal.figures if f.defect.size == SIZES[0])
    assert small.auroc == pytest.approx(0.5, abs=0.1)  # the frames' own means decide
    spots = [f for f in rehearsal.figures if f.defect.kind == "spot" and f.defect.size == SIZES[-1]]
    levels = [figures.grey_levels for figures in spots]
    assert levels[1] == pytest.approx(2 * levels[0], rel=0.1)

    # A threshold below the frames' means: all are called anomalous, spoiled or not.
    model.write_bytes(mean_model(1, 50.0))
    rehearsal = rehearse(RehearsalRequest(model, str(normals)))
    assert rehearsal.false_alarms == 6
    assert all(figures.share > 0.99 for figures in rehearsal.figures)


def test_frames_that_score_as_trained_ones_are_told(model, normals):
    contract = Scorer(model).contract
    assert not rehearse(RehearsalRequest(model, str(normals), frames=2)).familiar
    quantiles = tuple(np.linspace(120, 130, len(contract.calibration.quantiles)).tolist())
    calibration = dataclasses.replace(contract.calibration, quantiles=quantiles)
    contract = contract.with_calibration(calibration)
    model.write_bytes(modelfile.with_contract(model.read_bytes(), contract))
    done = run("rehearse", model, normals, "--frames", 2, cwd=model.parent)
    assert "as if the training had seen them" in done.stdout


def test_the_command_prints_and_writes_all_of_it(local, tmp_path):
    model, normals = local
    options = ("--frames", 12, "--json", "r.json", "--pictures", "pictures")
    done = run("rehearse", model, normals, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")

    # The table has a row for each kind and contrast, under the sizes.
    lines = done.stdout.splitlines()
    assert lines[0] == "12 of 80 normal frames, each with each defect"
    assert lines[4].split() == ["defect", "contrast", "2", "%", "5", "%", "10", "%", "20", "%"]
    rows = [line.split()[:2] for line in lines[5 : 5 + len(DEFECTS) // len(SIZES)]]
    assert rows[:3] == [["spot", "0.5"], ["spot", "1"], ["spot", "2"]]
    assert rows[-3:] == [["paste", "-"], ["blur", "-"], ["missing", "-"]]
    assert "In at least 80 % of the frames the model finds " in done.stdout
    assert "of the 12 untouched frames anomalous" in done.stdout
    assert "These defects are rehearsed: the figures of real ones may differ." in done.stdout

    # The file says the same.
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["frames"], result["seed"], result["model"]) == (12, 0, "local.onnx")
    assert len(result["figures"]) == len(DEFECTS)
    strong = result["figures"][2 * len(SIZES) + 3]
    assert (strong["kind"], strong["size"], strong["contrast"]) == ("spot", 0.2, 2.0)
    assert f"{100 * strong['share']:.0f} %  {strong['auroc']:.3f}" in lines[7]
    assert strong["share"] == strong["found"] / 12

    # The sheet has a row for each, with the normal frame, four spoiled ones, and five maps.
    with Image.open(tmp_path / "pictures" / "rehearsal.png") as sheet:
        width, height = sheet.size
        pixels = np.asarray(sheet.convert("L"))
    assert (width % 10, height % len(rows)) == (0, 0)
    assert pixels.std() > 20
    maps = pixels[:, width // 10 : width // 5]
    assert (maps < 50).mean() > 0.05
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "r.json"]


def test_a_seed_gives_one_rehearsal(local, tmp_path):
    model, normals = local
    first, again, other = (
        rehearse(RehearsalRequest(model, str(normals), frames=3, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.figures != other.figures


def test_a_model_without_a_map_has_a_sheet_without_maps(model, normals, tmp_path):
    done = run("rehearse", model, normals, "--pictures", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "rehearsal.png") as sheet:
        assert sheet.width % 5 == 0
        assert sheet.width < sheet.height


def test_frames_are_evenly_chosen(model, normals, monkeypatch):
    taken = []
    monkeypatch.setattr(
        rehearsing._Run, "take", lambda self, frame, other: taken.append(frame.place[-7:])
    )
    monkeypatch.setattr(rehearsing._Run, "result", lambda self, count: count)
    assert rehearse(RehearsalRequest(model, str(normals), frames=3)) == 6
    assert taken == ["000.png", "002.png", "005.png"]


def test_colour_frames_of_different_sizes_in_a_region(tmp_path):
    model = tmp_path / "model.onnx"
    region = Region(5, 4, 30, 20)
    model.write_bytes(mean_model(3, 130.0, region))
    for index, shape in enumerate([(40, 50), (30, 36, 3), (60, 90, 3)]):
        save(tmp_path / "normals" / f"{index}.png", noise(*shape))
    seen = []
    rehearsal = rehearse(RehearsalRequest(model, str(tmp_path / "normals")), seen.append)
    assert rehearsal.shorter_side == (20, 20)
    assert [example.defect for example in seen] == list(DEFECTS)
    for example in seen:
        outside = example.spoiled.mask.copy()
        outside[4:24, 5:35] = False
        assert not outside.any()


def refused(done, code, sentence):
    """One sentence, and no result."""
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"adae-edge: {sentence}\n"


def test_no_frames_and_one_frame_are_refused(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="there are no images"):
        rehearse(RehearsalRequest(model, str(tmp_path / "empty")))
    one = write_frames(tmp_path / "one", 1)
    done = run("rehearse", model, one, "--json", "r.json", "--pictures", "p", cwd=tmp_path)
    refused(done, 2, f"a rehearsal takes two normal frames or more, and {one} has 1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "model.onnx", "one"]
    done = run("rehearse", model, one, "--frames", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "--frames" in done.stderr


def test_frames_too_small_for_defects_are_refused(model, tmp_path):
    small = write_frames(tmp_path / "small", 3, (15, 40))
    done = run("rehearse", model, small, cwd=tmp_path)
    refused(
        done,
        1,
        f"{small / '000.png'}: the model sees 40 x 15 pixels of it, too few for defects of "
        "different sizes: 16 is the least",
    )


def test_a_frame_without_the_region_is_named(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(mean_model(1, 130.0, Region(0, 0, 50, 40)))
    normals = write_frames(tmp_path / "normals", 3)
    save(normals / "001.png", noise(40, 49))
    with pytest.raises(FrameError, match=r"001\.png: the model looks at .* lies outside"):
        rehearse(RehearsalRequest(model, str(normals)))


def test_a_broken_frame_is_refused(model, normals):
    (normals / "003.png").write_bytes(b"no picture")
    with pytest.raises(FrameError, match=r"003\.png cannot be decoded"):
        rehearse(RehearsalRequest(model, str(normals)))


def test_a_camera_is_refused(model, monkeypatch):
    class Camera:
        endless = True

        def close(self):
            closed.append(True)

    closed = []
    monkeypatch.setattr(registry, "open_for", lambda *arguments: Camera())
    with pytest.raises(UsageError, match="never ends: record"):
        rehearse(RehearsalRequest(model, "camera:0"))
    assert closed == [True]


def test_a_model_of_slices_is_refused(model, normals, monkeypatch):
    contract = dataclasses.replace(Scorer(model).contract, kind="modality")
    monkeypatch.setattr(
        rehearsing.Scorer, "__init__", lambda self, *file: setattr(self, "contract", contract)
    )
    monkeypatch.setattr(rehearsing.Scorer, "close", lambda self: None)
    with pytest.raises(UsageError, match="this model takes the slices of volumes"):
        rehearse(RehearsalRequest(model, str(normals)))


@pytest.mark.parametrize(
    ("option", "place", "sentence"),
    [
        ("--pictures", "model.onnx", "cannot write model.onnx: it is no folder"),
        (
            "--pictures",
            "model.onnx/x",
            "cannot write model.onnx/x: there is no folder {}/model.onnx",
        ),
        ("--json", "normals", "cannot write normals: it is a folder"),
        ("--json", "no/r.json", "cannot write no/r.json: there is no folder {}/no"),
    ],
)
def test_places_that_cannot_be_written_are_known_first(
    model, normals, tmp_path, option, place, sentence
):
    done = run("rehearse", model, normals, option, place, cwd=tmp_path)
    refused(done, 2, sentence.format(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "normals"]


def test_a_read_only_folder_is_known_first(model, normals, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("nothing is read-only for this user")
    done = run("rehearse", model, normals, "--pictures", "locked/p", cwd=tmp_path)
    refused(done, 1, f"cannot write locked/p: {locked} is read-only")
    assert list(locked.iterdir()) == []
