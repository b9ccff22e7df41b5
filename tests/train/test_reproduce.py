"""A table as its user runs it: what it writes, how it survives any stop, and what it refuses."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adae_edge.errors import AdaeEdgeError, CheckpointError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import NETWORK_SCORES, load_network
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.evaluate import evaluate
from adae_edge.train.loading import score_frames
from adae_edge.train.metrics import training_seconds
from adae_edge.train.tables import reproduce as reproduce_module
from adae_edge.train.tables.cell import Cell, Scores
from adae_edge.train.tables.epochs import read_aurocs
from adae_edge.train.tables.markdown import as_markdown
from adae_edge.train.tables.request import TableRequest, plan_table
from adae_edge.train.tables.slices import auroc_of_same_area
from adae_edge.train.tables.summary import summarise, write_scores
from adae_edge.train.tables.tables import TABLES
from adae_edge.train.tables.worker import run_cell
from adae_edge.train.trainer import train
from adae_edge.train.yardsticks import yardsticks
from tests.support.models import BUFFERED, HANGS_S, command, complaints, run
from tests.support.official import write_idx
from tests.support.volumes import head, write_patients, write_volume

OPTIONS = ["--classes", "0,1", "--seeds", "3", "--epochs", "4"]


def start(folder, *options):
    return subprocess.Popen(
        command("reproduce", "digits", "--out", "table", *options),
        cwd=folder,
        env=BUFFERED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(happened, process):
    deadline = time.monotonic() + HANGS_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children_of(process):
    """Process ids of the cells that run."""
    tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(child) for child in tasks.read_text().split()]


def cells(folder):
    return {path.name: path for path in (folder / "table" / "cells").iterdir()}


def plan_for(out, **changed):
    return plan_table(TableRequest(**({"name": "digits", "out": out} | changed)))


def a_cell(folder, class_name="0", seed=0):
    return Cell(
        table="digits",
        class_name=class_name,
        seed=seed,
        data=None,
        recipe="default",
        epochs=None,
        device="cpu",
        folder=str(folder),
        settings_sha256="0" * 64,
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = run("reproduce", "digits", "--out", "table", *OPTIONS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_json_has_every_figure_and_no_place_of_this_machine(table):
    folder, done = table
    text = (folder / "table" / "digits.json").read_text()
    summary = json.loads(text)
    assert str(folder) not in text
    assert str(Path.home()) not in text
    again = "adae-edge reproduce digits --out table --classes 0,1 --seeds 3 --epochs 4"
    assert summary["command"] == again
    assert (summary["seeds"], summary["epochs"], summary["paper"]) == ([3], 4, {})
    assert summary["recipe"]["name"] == "default"
    assert summary["recipe"]["learning_rate"] == 4e-3
    assert summary["cells"] == {"finished": 2, "wanted": 2}
    (machine,) = summary["machines"]
    assert machine["torch"]
    assert (machine["cells"], machine["gpu"], summary["devices"]) == (2, None, ["cpu"])
    assert summary["test"]["anomalous"] == {"0": [178], "1": [182]}
    assert "Test frames of a cell: 323 to 324 normal, 178 to 182 anomalous." in done.stdout
    own = summary["scores"]["l2"]
    assert set(own["auroc"]) == {"0", "1"}
    assert own["mean"] == pytest.approx(np.mean([*own["auroc"].values()]), abs=1e-5)
    assert own["spread"] is None
    for class_name, (auroc,) in own["auroc"].items():
        evaluation, _, _ = evaluate(
            Checkpoint.load(folder / "table" / "cells" / f"{class_name}-3.safetensors")
        )
        assert evaluation.auroc == pytest.approx(auroc, abs=1e-12)
        assert f"| {class_name}        | {auroc:.3f}" in done.stdout
    assert (folder / "table" / "digits.md").read_text() in done.stdout


def test_every_score_of_every_test_frame_is_kept(table):
    folder, _ = table
    header, *lines = (folder / "table" / "scores.csv").read_text().splitlines()
    summary = json.loads((folder / "table" / "digits.json").read_text())
    assert header == ",".join(["class", "seed", "frame", "label", *summary["scores"]])
    assert set(summary["scores"]) == set(NETWORK_SCORES)
    rows = np.array([line.split(",") for line in lines], float)
    for column, own in enumerate(summary["scores"].values(), start=4):
        for class_name, (auroc,) in own["auroc"].items():
            of_class = rows[rows[:, 0] == int(class_name)]
            _, seeds, frames, labels = of_class.T[:4]
            assert set(seeds) == {3}
            assert len(set(frames)) == len(frames)
            assert roc_auc_score(labels, of_class[:, column]) == pytest.approx(auroc, abs=1e-12)


def test_the_best_yardstick_of_each_class_stands_beside_the_scores(table):
    folder, done = table
    summary = json.loads((folder / "table" / "digits.json").read_text())
    lost = 0
    for class_name in "01":
        dataset = load_dataset("digits", int(class_name))
        parts = split(dataset.anomalous, 3, dataset.groups)
        model = load_network(
            Checkpoint.load(folder / "table" / "cells" / f"{class_name}-3.safetensors")
        )
        scores = yardsticks(model, dataset, parts.train, parts.test)
        aurocs = {
            name: roc_auc_score(dataset.anomalous[parts.test], values)
            for name, values in scores.items()
        }
        best = max(aurocs, key=aurocs.get)
        assert summary["yardsticks"]["best"][class_name] == best
        (auroc,) = summary["yardsticks"]["auroc"][class_name]
        assert auroc == pytest.approx(aurocs[best], abs=1e-6)
        assert f"{auroc:.3f} | {best}" in done.stdout
        lost += auroc > summary["scores"]["l2"]["auroc"][class_name][0]
    assert lost
    assert f"l2 loses to a yardstick for {lost} of 2 classes" in done.stdout.splitlines()[2]


def test_a_yardstick_that_a_seed_lacks_is_the_best_nowhere(tmp_path):
    plan = plan_for(tmp_path, classes="0", seeds="0,1")
    finished = {
        a_cell(tmp_path, "0", 0): a_result(0.7) | {"yardsticks": {"area": 0.9, "mean": 0.6}},
        a_cell(tmp_path, "0", 1): a_result(0.7) | {"yardsticks": {"area, lower": 0.8, "mean": 0.5}},
    }
    summary = summarise(plan, SETTINGS, finished)
    assert summary["yardsticks"]["best"] == {"0": "mean"}
    assert summary["yardsticks"]["one_for_all"] == {"name": "mean", "mean": 0.55}
    assert "loses" not in as_markdown(plan, summary)
    alone = summarise(plan, SETTINGS, dict(list(finished.items())[:1]))
    assert alone["yardsticks"]["best"] == {"0": "area"}
    assert "l2 loses to a yardstick for 1 of 1 classes" in as_markdown(plan, alone)


def test_the_best_epoch_by_the_test_set_stands_apart_as_no_result(table):
    folder, done = table
    summary = json.loads((folder / "table" / "digits.json").read_text())
    header, *lines = (folder / "table" / "epochs.csv").read_text().splitlines()
    assert header == "class,seed,epoch,l2,generator"
    rows = np.array([line.split(",") for line in lines], float)
    assert rows[:, :3].tolist() == [[digit, 3, epoch] for digit in (0, 1) for epoch in (1, 2, 3, 4)]
    for name, column in (("l2", 3), ("generator", 4)):
        told = summary["no_result_best_epoch_by_the_test_set"][name]
        for class_name in "01":
            aurocs = rows[rows[:, 0] == int(class_name)][:, column]
            (last,) = summary["scores"][name]["auroc"][class_name]
            assert told["last"]["auroc"][class_name] == [pytest.approx(last, abs=1e-4)]
            assert told["last"]["auroc"][class_name] == [aurocs[-1]]
            assert told["best"]["auroc"][class_name] == [aurocs.max()]
            assert told["lowest"]["auroc"][class_name] == [aurocs.min()]
            assert told["epoch"][class_name] == [aurocs.argmax() + 1]
    _, _, apart = done.stdout.partition("## No result: the best epoch by the test set")
    assert "l2, best | at epoch" in apart


def test_a_training_whose_epochs_are_measured_has_the_same_weights(tmp_path):
    cell = replace(a_cell(tmp_path), epochs=2)
    dataset = cell.open()
    settings = cell.settings(dataset)
    train(dataset, settings, tmp_path / "alone.safetensors")
    run_cell(cell, print)
    alone, measured = (
        Checkpoint.load(path).weights for path in (tmp_path / "alone.safetensors", cell.checkpoint)
    )
    assert alone.keys() == measured.keys()
    assert all(np.array_equal(alone[name], measured[name]) for name in alone)
    assert [row["epoch"] for row in read_aurocs(cell.epochs_file)] == [1, 2]


def test_epochs_that_a_killed_process_measured_twice_are_kept_once(tmp_path):
    cell = replace(a_cell(tmp_path), epochs=3)

    def stop(update):
        if update.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, stop)
    before = cell.epochs_file.read_text()
    assert before.count("\n") == 2
    cell.epochs_file.write_text(before + '{"epoch": 3, "l2": 0.0, "generator": 0.0}\n')
    run_cell(cell, print)
    result = json.loads(cell.result.read_text())
    after = result["auroc_by_epoch"]
    assert cell.epochs_file.read_text().startswith(before)
    assert [row["epoch"] for row in after] == [1, 2, 3]
    assert after[2]["l2"] == pytest.approx(result["auroc"]["l2"], abs=1e-4)


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON"])
def test_damaged_aurocs_of_epochs_are_named(tmp_path, content):
    path = tmp_path / "0-0.epochs.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"0-0\.epochs\.jsonl has no AUROCs of epochs"):
        read_aurocs(path)


def test_the_pictures_are_there(table):
    folder, _ = table
    for name in ("roc", "histogram", "reconstructions"):
        png = (folder / "table" / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000


def test_a_log_has_a_line_for_every_epoch_and_cell(table):
    _, done = table
    lines = done.stderr.splitlines()
    for class_name in "01":
        epochs = [line for line in lines if line.startswith(f"class {class_name}, seed 3: epoch")]
        assert [re.search(r"epoch (\d)/4", line)[1] for line in epochs] == ["1", "2", "3", "4"]
    assert len(lines) == 10
    assert "2 of 2 cells" in lines[-1]


def test_a_finished_cell_is_never_run_again(table):
    folder, first = table

    def files():
        return {
            name: (path.read_bytes(), path.stat().st_mtime_ns)
            for name, path in cells(folder).items()
        }

    before = files()
    again = run("reproduce", "digits", "--out", "table", *OPTIONS, cwd=folder)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", first.stdout)
    assert files() == before


def test_a_stopped_and_then_a_killed_table_end_as_the_uninterrupted_one(table, tmp_path):
    """Ctrl-C first, then SIGKILL in the middle, half-written files, and one cell at a time."""
    process = start(tmp_path, *OPTIONS)
    wait_for((tmp_path / "table" / "cells" / "0-3.safetensors").exists, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130
    assert "adae-edge: finished cells and epochs are kept: the same command goes on" in errors
    assert "Traceback" not in errors

    checkpoint = tmp_path / "table" / "cells" / "1-3.safetensors"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = start(tmp_path, *OPTIONS)
    wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before, process)
    process.kill()
    process.communicate(timeout=HANGS_S)
    assert "1-3.json" not in cells(tmp_path)
    assert json.loads((tmp_path / "table" / "digits.json").read_text())["cells"]["finished"] < 2

    (tmp_path / "table" / "cells" / ".0-3.json.77.tmp").write_text('{"auroc"')
    done = run("reproduce", "digits", "--out", "table", *OPTIONS, "--jobs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "class 1, seed 3: epoch 1/4" not in done.stderr
    again, whole = cells(tmp_path), cells(table[0])
    assert set(again) == set(whole)
    for name in ("0-3", "1-3"):
        for kept in (f"{name}.csv", f"{name}.epochs.jsonl"):
            assert again[kept].read_bytes() == whole[kept].read_bytes()
        checkpoints = [Checkpoint.load(files[f"{name}.safetensors"]) for files in (again, whole)]
        assert checkpoints[0].contract == checkpoints[1].contract


def test_a_trained_cell_without_figures_is_scored_and_not_trained_again(table, tmp_path):
    shutil.copytree(table[0] / "table", tmp_path / "table")
    figures = cells(tmp_path)["0-3.json"]
    before, trained = figures.read_text(), cells(tmp_path)["0-3.safetensors"].stat().st_mtime_ns
    figures.unlink()
    cells(tmp_path)["0-3.csv"].unlink()
    done = run("reproduce", "digits", "--out", "table", *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0
    assert "epoch" not in done.stderr
    assert figures.read_text() == before
    assert cells(tmp_path)["0-3.safetensors"].stat().st_mtime_ns == trained


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="this system does not list a process's children"
)
def test_a_process_that_dies_is_named_and_the_others_go_on(tmp_path):
    process = start(tmp_path, *OPTIONS, "--jobs", "1")
    wait_for((tmp_path / "table" / "cells" / "0-3.safetensors").exists, process)
    for child in children_of(process):
        # so a terminal's Ctrl-C does not reach it
        assert os.getpgid(child) != os.getpgid(process.pid)
        # so the folder stays locked until a worker that outlives its command has ended
        opened = {descriptor.readlink() for descriptor in Path(f"/proc/{child}/fd").iterdir()}
        assert tmp_path / "table" / ".lock" in opened
        os.kill(child, signal.SIGKILL)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 1
    assert "class 0, seed 3 failed: its process was ended by SIGKILL" in errors
    assert "1 of 2 cells failed (class 0, seed 3): the same command goes on with them" in errors
    summary = json.loads((tmp_path / "table" / "digits.json").read_text())
    assert summary["scores"]["l2"]["auroc"]["0"] == [None]
    assert summary["scores"]["l2"]["auroc"]["1"][0] > 0


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"name": "letters"}, "no table letters"),
        ({"name": "mnist"}, "needs its data set"),
        ({"name": "mnist", "data": Path("nowhere")}, "no folder nowhere"),
        ({"data": Path()}, "brings its own data"),
        ({"classes": ""}, "--classes takes names"),
        ({"classes": "0,,1"}, "leaves one out"),
        ({"classes": "10"}, "no class 10"),
        ({"seeds": "-1"}, "--seeds takes whole numbers"),
        ({"seeds": "one"}, "--seeds takes whole numbers"),
        ({"seeds": "1" * 5000}, "--seeds takes whole numbers"),
        ({"recipe": "autoencoder"}, "trains no D"),
        ({"recipe": "magic"}, "no recipe magic"),
        ({"out": Path("foreign")}, r"precious\.txt in it is of no table"),
        ({"out": Path("file")}, "file is no folder"),
        ({"device": "cuda:77"}, "nothing else is used"),
    ],
)
def test_wrong_use_is_one_sentence_and_harms_nothing(tmp_path, monkeypatch, changed, sentence):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("something")
    Path("foreign").mkdir()
    Path("foreign/precious.txt").write_text("mine")
    with pytest.raises(UsageError, match=sentence):
        reproduce_module.reproduce(plan_for(**{"out": Path("new"), **changed}))
    assert [path.name for path in Path("foreign").iterdir()] == ["precious.txt"]
    assert Path("file").read_text() == "something"
    assert not list(Path().glob("new/cells/*.*"))


def test_a_table_of_the_linear_recipe_has_no_epochs(tmp_path):
    page = reproduce_module.reproduce(
        plan_for(tmp_path / "table", classes="0", seeds="3", recipe="linear")
    )
    summary = json.loads((tmp_path / "table" / "digits.json").read_text())
    assert (summary["epochs"], summary["training_seconds"]) == (0, 0)
    assert summary["scores"]["l2"]["auroc"] == summary["scores"]["generator"]["auroc"]
    assert summary["no_result_best_epoch_by_the_test_set"] == {}
    assert "recipe linear. Fitted without epochs." in page
    assert "best epoch" not in page
    assert set(cells(tmp_path)) == {"0-3.csv", "0-3.json", "0-3.safetensors"}
    assert not (tmp_path / "table" / "epochs.csv").exists()


def test_wrong_use_has_its_exit_code(tmp_path):
    done = run("reproduce", "digits", "--classes", "", cwd=tmp_path)
    assert done.returncode == 2
    assert len(complaints(done)) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["--recipe", "paper"], "recipe.learning_rate 0.004, not 1e-05"),
        (["--epochs", "5"], "epochs 4, not 5"),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(table, options, difference):
    folder, _ = table
    before = {name: path.read_bytes() for name, path in cells(folder).items()}
    done = run("reproduce", "digits", "--out", "table", *OPTIONS, *options, cwd=folder)
    assert done.returncode == 2
    assert complaints(done) == [f"table holds cells with {difference}: choose another --out"]
    assert {name: path.read_bytes() for name, path in cells(folder).items()} == before


def test_one_folder_is_worked_on_by_one_command(table, tmp_path, monkeypatch):
    shutil.copytree(table[0] / "table", tmp_path / "table")
    monkeypatch.setattr(reproduce_module, "_LOCK_WAIT_S", 0.2)
    plan = plan_for(tmp_path / "table", classes="0", seeds="3", epochs=4)
    with (tmp_path / "table" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another adae-edge reproduce is at work"):
            reproduce_module.reproduce(plan)
    assert "| 0        |" in reproduce_module.reproduce(plan)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"table": "digits"}'])
def test_a_damaged_result_is_named(table, tmp_path, content):
    shutil.copytree(table[0] / "table", tmp_path / "table")
    cells(tmp_path)["0-3.json"].write_text(content)
    with pytest.raises(UsageError, match=r"0-3\.json is no finished cell"):
        reproduce_module.reproduce(plan_for(tmp_path / "table", classes="0", seeds="3", epochs=4))


def a_result(auroc, device="cpu", gpu=None, torch="2.6.0", note=""):
    machine = {
        "cpu": "a CPU",
        "usable_cpus": 2,
        "python": "3.11.7",
        "gpu": gpu,
        "torch": torch,
        "adae_edge": "0.2.0",
    }
    return {
        "auroc": {"l2": auroc},
        "epochs": 6,
        "training_seconds": 10.0,
        "device": device,
        "machine": machine,
        "test": {"normals": 7, "anomalous": 9},
        "patients": None,
        "note": note,
    }


SETTINGS = {"recipe": {}, "data_sha256": "0" * 64}


def test_means_and_spreads_are_over_seeds_and_what_is_missing_is_null(tmp_path):
    plan = plan_for(tmp_path, classes="0,1", seeds="0,1")
    figures = {("0", 0): 0.9, ("0", 1): 0.8, ("1", 0): 0.6}
    finished = {a_cell(tmp_path, *key): a_result(auroc) for key, auroc in figures.items()}
    summary = summarise(plan, SETTINGS, finished)
    own = summary["scores"]["l2"]
    assert own["auroc"] == {"0": [0.9, 0.8], "1": [0.6, None]}
    assert own["class_mean"] == {"0": pytest.approx(0.85), "1": 0.6}
    assert own["class_spread"] == {
        "0": pytest.approx(np.std([0.9, 0.8], ddof=1), abs=1e-5),
        "1": None,
    }
    assert own["mean"] == pytest.approx((0.85 + 0.6) / 2)
    assert own["spread"] == pytest.approx(np.std([0.75, 0.8], ddof=1), abs=1e-5)
    page = as_markdown(plan, summary)
    assert "| 0        | 0.850 ± 0.071     |" in page
    _, _, seeds = page.partition("## Seeds")
    assert "| 0              | 0.900, 0.800 |" in seeds
    assert "| 1              | 0.600, -     |" in seeds
    assert "| largest spread | 0.071 (0)    |" in seeds
    assert "3 of 4 cells are finished" in page


def test_the_papers_columns_stand_beside_ours(tmp_path):
    plan = plan_for(tmp_path / "out", name="mnist", data=tmp_path, classes="9,1", seeds="0")
    assert plan.classes == ["1", "9"]
    assert plan.command([]) == "adae-edge reproduce mnist DIR --out out --classes 1,9 --seeds 0"
    summary = summarise(plan, SETTINGS, {})
    assert summary["scores"] == {}
    assert summary["paper"]["ADAE"] == {
        "auroc": {"1": 0.821, "9": 0.631},
        "mean": pytest.approx(0.726),
    }
    assert "ADAE, paper" in as_markdown(plan, summary)
    assert "AUROC where one class is anomalous" in as_markdown(plan, summary)
    for name in ("mnist", "cifar10"):
        for method, figures in TABLES[name].paper.items():
            by_class, average = TABLES[name].paper_figures(method, list(TABLES[name].classes))
            assert len(by_class) == 10
            assert average == figures[-1] == pytest.approx(np.mean(figures[:-1]), abs=6e-4)


def test_a_table_tells_where_its_cells_were_made_and_what_is_to_be_said_of_their_data(tmp_path):
    """Not where the command ran last: a finished table can be written again on any machine."""
    plan = plan_for(tmp_path, classes="0,1", seeds="0")
    note = "the folder has no test batch: the 50000 training images of CIFAR-10 are all there is"
    on_gpu = a_result(0.9, "cuda", "H100", note=note)
    summary = summarise(plan, SETTINGS, {a_cell(tmp_path, name): on_gpu for name in "01"})
    assert summary["command"].endswith(" --device cuda")
    page = as_markdown(plan, summary)
    assert "- 2 cells: H100, a CPU, 2 CPUs; PyTorch 2.6.0, Python 3.11.7, adae-edge 0.2.0\n" in page
    assert (
        " The folder has no test batch: the 50000 training images of CIFAR-10 are all there is.\n"
        in page
    )
    mixed = {a_cell(tmp_path, "0"): on_gpu, a_cell(tmp_path, "1"): a_result(0.8, torch="2.7.0")}
    summary = summarise(replace(plan, device="cuda"), SETTINGS, mixed)
    assert "--device" not in summary["command"]
    made = {(machine["gpu"], machine["torch"]) for machine in summary["machines"]}
    assert made == {("H100", "2.6.0"), (None, "2.7.0")}


def test_each_table_has_the_network_that_the_paper_names():
    networks = {name: table.network for name, table in TABLES.items()}
    assert networks == {"mnist": "a", "cifar10": "b", "brats": "b", "digits": "a"}


ONE_CELL = ("--out", "table", "--classes", "4", "--seeds", "0", "--epochs", "1")


@pytest.fixture(scope="module")
def small_mnist(tmp_path_factory):
    """A table of one cell on data in MNIST's form, with other data of the same shape beside it."""
    folder = tmp_path_factory.mktemp("mnist")
    for number, place in enumerate(("mnist", "other")):
        (folder / place).mkdir()
        for part, count in (("train", 300), ("t10k", 60)):
            pixels = np.random.default_rng(number).integers(0, 256, (count, 28, 28), np.uint8)
            write_idx(folder / place / f"{part}-images-idx3-ubyte", pixels)
            write_idx(
                folder / place / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10
            )
    done = run("reproduce", "mnist", "mnist", *ONE_CELL, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_frames_that_chose_hyper_parameters_are_left_out_of_a_mean_of_their_own(small_mnist):
    folder, page = small_mnist
    frame, label, *_ = scores = np.loadtxt(
        folder / "table" / "cells" / "4-0.csv", delimiter=",", skiprows=1
    ).T
    outside = frame % 3 != 0
    summary = json.loads((folder / "table" / "mnist.json").read_text())
    for own, values in zip(summary["scores"].values(), scores[2:], strict=True):
        expected = roc_auc_score(label[outside], values[outside])
        assert own["outside_development"]["class_mean"] == {"4": pytest.approx(expected, abs=1e-5)}
        assert f"{expected:.3f}" in page.partition("| mean of others ")[2].splitlines()[0]


def test_other_data_in_the_same_folder_are_refused(small_mnist):
    folder, _ = small_mnist
    done = run("reproduce", "mnist", "other", *ONE_CELL, cwd=folder)
    assert done.returncode == 2
    assert complaints(done) == ["table holds cells of other data: choose another --out"]


def test_a_finished_checkpoint_of_other_data_or_settings_is_not_scored(small_mnist, tmp_path):
    folder, _ = small_mnist
    shutil.copytree(folder / "table" / "cells", tmp_path / "cells")
    cell = replace(
        a_cell(tmp_path / "cells", "4"), table="mnist", data=str(folder / "other"), epochs=1
    )
    with pytest.raises(
        CheckpointError, match=r"4-0\.safetensors was trained on other data than mnist:.*other"
    ):
        run_cell(cell, print)
    with pytest.raises(CheckpointError, match=r"4-0\.safetensors was trained with other settings"):
        run_cell(replace(cell, data=str(folder / "mnist"), epochs=2), print)
    before = cell.result.read_bytes()
    run_cell(replace(cell, data=str(folder / "mnist")), print)
    assert json.loads(cell.result.read_bytes())["auroc"] == json.loads(before)["auroc"]


@pytest.fixture(scope="module")
def brain_table(tmp_path_factory):
    """Two folds of a table of brain volumes, and the folder of its patients."""
    folder = tmp_path_factory.mktemp("brains")
    for modality in ("flair", "t1"):
        write_patients(folder / "brats", volume=f"_{modality}")
    options = ("--out", "table", "--seeds", "0,1", "--epochs", "1")
    done = run("reproduce", "brats", "brats", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_table_of_brain_volumes_has_a_row_for_each_modality_and_a_seed_for_each_fold(brain_table):
    folder, _ = brain_table
    summary = json.loads((folder / "table" / "brats.json").read_text())
    assert summary["classes"] == {"flair": "FLAIR", "t1": "T1"}
    assert summary["command"] == "adae-edge reproduce brats DIR --out table --seeds 0,1 --epochs 1"
    for class_name, figures in summary["scores"]["l2"]["auroc"].items():
        dataset = load_dataset(f"brats:{folder / 'brats'}", modality=class_name)
        people = []
        for seed, auroc in enumerate(figures):
            checkpoint = Checkpoint.load(
                folder / "table" / "cells" / f"{class_name}-{seed}.safetensors"
            )
            assert (checkpoint.contract.kind, checkpoint.contract.resize) == ("modality", "pad")
            assert evaluate(checkpoint, f"brats:{folder / 'brats'}")[0].auroc == pytest.approx(
                auroc, abs=1e-12
            )
            scores = np.genfromtxt(
                folder / "table" / "cells" / f"{class_name}-{seed}.csv", delimiter=",", names=True
            )
            assert np.array_equal(scores["label"], dataset.anomalous[scores["frame"].astype(int)])
            people.append(set(dataset.groups[scores["frame"].astype(int)].tolist()))
        assert not people[0] & people[1]
    assert all(
        (folder / "table" / f"{name}.png").exists()
        for name in ("roc", "histogram", "reconstructions")
    )


def test_the_papers_single_figure_for_tumours_stands_beside_the_mean(brain_table):
    folder, page = brain_table
    summary = json.loads((folder / "table" / "brats.json").read_text())
    assert summary["paper"] == {"ADAE": {"auroc": {}, "mean": 0.892}}
    lines = [line.split("|") for line in page.splitlines() if line.count("|") > 2]
    rows = {line[1].strip(): line[2].strip() for line in lines}
    printed = {"volumes": "ADAE, paper", "FLAIR": "-", "T1": "-", "**mean**": "0.892"}
    assert rows.items() >= printed.items()
    assert "AUROC of slices with tumour among those without" in page
    assert "BRATS 2017" in page
    assert "; 6 patients in all cells together." in page


def test_trivial_scores_and_a_plain_autoencoder_stand_beside_the_networks(brain_table):
    folder, page = brain_table
    place = folder / "table" / "cells"
    summary = json.loads((folder / "table" / "brats.json").read_text())
    beside = ["autoencoder", "local", "linear", "area", "mean", "98th percentile"]
    assert list(summary["scores"]) == [*NETWORK_SCORES, *beside]
    dataset = load_dataset(f"brats:{folder / 'brats'}", modality="t1")
    rows = np.genfromtxt(place / "t1-1.csv", delimiter=",", names=True)
    frames = rows["frame"].astype(int)
    assert rows["area"].tolist() == [
        np.count_nonzero(dataset.frames[frame]) for frame in frames.tolist()
    ]
    assert summary["scores"]["area"]["auroc"]["t1"][1] == roc_auc_score(rows["label"], rows["area"])
    alone = place / "t1-1.autoencoder.safetensors"
    scores, _ = score_frames(load_network(Checkpoint.load(alone)), dataset, frames)
    np.testing.assert_allclose(rows["autoencoder"], scores, rtol=1e-5)
    seconds = training_seconds(place / "t1-1.safetensors") + training_seconds(alone)
    assert json.loads((place / "t1-1.json").read_text())["training_seconds"] == round(seconds, 1)
    same = summary["scores"]["local"]["same_area"]
    assert "| T1, same area " in page
    assert f"{same['class_mean']['t1']:.3f}" in page
    patients = dataset.groups[frames]
    expected = auroc_of_same_area(rows["local"], rows["label"] == 1, patients, rows["area"])
    assert same["auroc"]["t1"][1] == pytest.approx(expected, abs=1e-9)


def test_a_fold_without_tumours_is_named_before_the_training(tmp_path):
    for number in range(5):
        values, _ = head(number)
        write_volume(tmp_path / "brats" / f"p{number}" / f"p{number}_flair.nii.gz", values)
        write_volume(tmp_path / "brats" / f"p{number}" / f"p{number}_seg.nii.gz", values * 0)
    options = ("--out", "table", "--classes", "flair", "--seeds", "0")
    done = run("reproduce", "brats", "brats", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "brats:brats has test frames of one kind alone for class flair, seed 0" in done.stderr
    assert not cells(tmp_path)


def test_scores_read_back_as_they_were(tmp_path):
    cell = a_cell(tmp_path)
    random = np.random.default_rng(0)
    scores = {
        "l2": random.random(50, np.float32),
        "other": random.random(50, np.float32) * np.float32(1e-30),
    }
    labels = random.random(50) > 0.5
    cell.scores.write_bytes(Scores(np.arange(50), labels, scores).as_csv())
    frames, again, read = Scores.read(cell.scores)
    assert np.array_equal(frames, np.arange(50))
    assert np.array_equal(again, labels)
    assert all(np.array_equal(read[name], scores[name]) for name in scores)


def test_cells_that_failed_are_named_first_where_the_others_cannot_be_put_together(
    table, tmp_path, monkeypatch
):
    shutil.copytree(table[0] / "table", tmp_path / "table")
    cells(tmp_path)["1-3.json"].unlink()

    def fail(workers, waiting, jobs, progress):
        yield waiting[0], "it failed"

    def refuse(path, done):
        raise AdaeEdgeError("the scores differ")

    monkeypatch.setattr(reproduce_module.Workers, "run", fail)
    monkeypatch.setattr(reproduce_module, "write_scores", refuse)
    with pytest.raises(
        AdaeEdgeError, match=r"^1 of 2 cells failed \(class 1, seed 3\).*; and the scores differ$"
    ):
        reproduce_module.reproduce(plan_for(tmp_path / "table", classes="0,1", seeds="3", epochs=4))


def test_cells_with_other_scores_are_not_mixed(tmp_path):
    first, second = a_cell(tmp_path), a_cell(tmp_path, seed=1)
    values = np.ones(2, np.float32)
    for cell, named in ((first, {"l2": values, "other": values}), (second, {"other": values})):
        cell.scores.write_bytes(Scores(np.arange(2), values > 0, named).as_csv())
    with pytest.raises(AdaeEdgeError, match="scores them again without training"):
        write_scores(tmp_path / "scores.csv", [first, second])
    write_scores(tmp_path / "scores.csv", [first, replace(first, class_name="0")])
    assert (tmp_path / "scores.csv").read_text().count("\n") == 5
