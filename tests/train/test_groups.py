"""Groups of a folder: what is split by them, what is told, and near copies."""

import re
from pathlib import PurePath

import numpy as np
import pytest
from typer.testing import CliRunner

from adae_edge.cli.app import app
from adae_edge.errors import CheckpointError, DatasetError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data.groups import GroupError, groups_of
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.evaluate import evaluate
from adae_edge.train.intervals import auroc_interval
from adae_edge.train.near_copies import near_copies
from adae_edge.train.request import TrainRequest, prepare
from adae_edge.train.unseen import unseen_frames
from tests.support.pictures import save, write_pictures


def write_parts(folder, parts=10, frames=8, faulty=2, deep=False):
    """Frames of several parts, each with a look of its own; some of every part are anomalous."""
    random = np.random.default_rng(0)
    for part in range(parts):
        look = random.integers(60, 180, (6, 6)).repeat(8, 0).repeat(8, 1)
        for number in range(frames + faulty):
            picture = look + random.normal(0, 8, look.shape)
            if number >= frames:
                picture[20:28, 20:28] = 255
            kind = "normal" if number < frames else "anomalous"
            name = f"p{part:02}/{number}.png" if deep else f"p{part:02}_{number}.png"
            save(folder / kind / name, picture.clip(0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts") / "parts")


def request(folder, out, **given):
    return TrainRequest(data=str(folder), out=out, recipe="linear", **given)


def test_no_group_trains_and_calibrates_or_is_tested_too(parts_folder, tmp_path):
    training = prepare(request(parts_folder, tmp_path / "c.safetensors", group="(p[0-9]+)_"))
    training.run()
    parts = split(training.dataset.anomalous, 0, training.dataset.groups)
    by_part = [
        {path.name[:3] for path in np.array(training.dataset.frames.paths)[indices]}
        for indices in (parts.train, parts.calibration, parts.test)
    ]
    assert [len(names) for names in by_part] == [7, 1, 2]
    assert len(set().union(*by_part)) == 10
    told = training.describe().splitlines()[-1]
    assert told.startswith("8 groups train and calibrate and 2 test")
    assert "16 anomalous frames are not tested" in told

    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    evaluation, scores, unseen = evaluate(checkpoint)
    assert np.array_equal(unseen.indices, parts.test)
    assert (evaluation.normals, evaluation.anomalous) == (16, 4)
    groups = unseen.dataset.groups[unseen.indices]
    expected = auroc_interval(scores, unseen.anomalous, groups)
    assert evaluation.auroc_interval == expected
    assert expected != auroc_interval(scores, unseen.anomalous)


def test_sub_folders_are_groups_and_name_the_same_ones(parts_folder, tmp_path):
    folder = write_parts(tmp_path / "deep", deep=True)
    by_folder = load_dataset(str(folder), group="folder")
    by_name = load_dataset(str(parts_folder), group="(p[0-9]+)_")
    assert np.array_equal(by_folder.groups, by_name.groups)


def test_anomalous_frames_of_other_groups_are_all_tested_by_every_seed():
    anomalous = np.arange(60) >= 50
    groups = np.where(anomalous, 100, np.arange(60) // 5)
    for seed in range(5):
        parts = split(anomalous, seed, groups)
        assert anomalous[parts.test].sum() == 10
        assert not anomalous[np.concatenate([parts.train, parts.calibration])].any()
        assert len(np.unique(groups[parts.test])) == 3


@pytest.mark.parametrize(
    ("rule", "error", "told"),
    [
        ("(p[0-9]+", UsageError, "is no regular expression"),
        ("p[0-9]+", UsageError, "needs parentheses"),
        ("(q[0-9]+)", GroupError, "p00_0.png has no group: --group (q[0-9]+) finds none in it"),
        ("folder", GroupError, "p00_0.png has no group: --group folder needs each frame in a sub"),
        ("(p)", DatasetError, "--group (p) finds 1 group among the normals, and 5 are needed"),
    ],
)
def test_rules_that_divide_nothing_are_refused_in_a_sentence(
    parts_folder, tmp_path, rule, error, told
):
    with pytest.raises(error, match=re.escape(told)):
        prepare(request(parts_folder, tmp_path / "c", group=rule))
    assert not list(tmp_path.iterdir())


def listing(folder, name="list.csv", change=lambda lines: lines):
    """A list of the groups of the parts' normals, beside the folder; anomalous ones stand alone."""
    paths = sorted(path.relative_to(folder) for path in (folder / "normal").rglob("*.png"))
    lines = [f"{path.as_posix()},{path.name[:3]}" for path in paths]
    file = folder.parent / name
    file.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines,
        lambda lines: ["\ufeffpath,group", *reversed(lines), "", "  "],
        lambda lines: [line.replace(",p0", ' , "p, 0') + '"' * (",p0" in line) for line in lines],
    ],
)
def test_a_list_gives_the_groups_that_it_names(parts_folder, change):
    by_name = load_dataset(str(parts_folder), group="(p[0-9]+)_")
    by_list = load_dataset(str(parts_folder), group=str(listing(parts_folder, change=change)))
    normal = ~by_name.anomalous
    pairs = set(zip(by_name.groups[normal], by_list.groups[normal], strict=True))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 10
    assert len(np.unique(by_list.groups)) == 10 + by_list.anomalous.sum()


def test_a_training_by_a_list_is_evaluated_by_it(parts_folder, tmp_path):
    rule = str(listing(parts_folder, "kept.txt"))
    prepare(request(parts_folder, tmp_path / "c.safetensors", group=rule)).run()
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    _, _, unseen = evaluate(checkpoint)
    parts = split(unseen.dataset.anomalous, 0, unseen.dataset.groups)
    assert np.array_equal(unseen.indices, parts.test)
    assert len(np.unique(unseen.dataset.groups[parts.train])) == 7


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines, lines[3]], "lists normal/p00_3.png twice"),
        (
            lambda lines: [*lines, "normal/x.png,p1", "y.png,p1"],
            "lists normal/x.png and 1 more, which the data set does not have",
        ),
        (lambda lines: lines[1:], "does not list the normal frame normal/p00_0.png"),
        (
            lambda lines: lines[2:],
            "does not list the normal frame normal/p00_0.png, nor 1 more",
        ),
        (lambda lines: ["a", *lines], "line 1, is not path,group"),
        (lambda lines: [*lines[:7], "a,b,c"], "line 8, is not path,group"),
        (lambda lines: [*lines[:7], "a,"], "line 8, is not path,group"),
        (lambda lines: [*lines[:7], '"a'], "is no line of a CSV file"),
    ],
)
def test_a_list_with_a_mistake_is_refused_in_a_sentence(parts_folder, tmp_path, change, told):
    rule = str(listing(parts_folder, change=change))
    with pytest.raises(GroupError, match=re.escape(told)) as refused:
        prepare(request(parts_folder, tmp_path / "c", group=rule))
    assert str(refused.value).startswith(rule)
    assert str(refused.value).isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot read the groups in"), (b"\xff\xfe,1\n", "UTF-8")]
)
def test_a_list_that_is_no_text_is_refused(parts_folder, tmp_path, content, told):
    rule = tmp_path / "list.csv"
    if content is not None:
        rule.write_bytes(content)
    with pytest.raises(GroupError, match=told):
        load_dataset(str(parts_folder), group=str(rule))


def test_groups_are_for_folders():
    with pytest.raises(UsageError, match="--group is for folders"):
        load_dataset("digits", 0, group="(.)")


def test_an_anomalous_frame_without_a_group_stands_alone():
    paths = [PurePath(name) for name in ("a1.png", "a2.png", "b1.png", "x.png", "y.png", "a9.png")]
    assert list(groups_of(paths, 3, "([ab])[0-9]")) == [2, 2, 3, 0, 1, 2]


def test_another_folder_without_these_groups_is_evaluated_all_the_same(parts_folder, tmp_path):
    prepare(request(parts_folder, tmp_path / "c.safetensors", group="(p[0-9]+)_")).run()
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    other = write_pictures(tmp_path / "other", 12, shape=(48, 48), anomalous=4)
    unseen = unseen_frames(checkpoint, str(other))
    assert unseen.dataset.groups is None
    assert len(unseen.indices) == 16
    evaluation, _, _ = evaluate(checkpoint, str(other))
    assert evaluation.auroc_interval is not None


def test_a_checkpoint_whose_group_is_no_text_is_refused(parts_folder, tmp_path):
    prepare(request(parts_folder, tmp_path / "c.safetensors")).run()
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    checkpoint.training["settings"]["group"] = 5
    with pytest.raises(CheckpointError, match="not those of this version"):
        evaluate(checkpoint)


def write_film(folder, scenes=30, frames=4):
    """Each scene several times, hardly changed, as neighbours in a film are."""
    random = np.random.default_rng(3)
    for scene in range(scenes):
        look = random.integers(40, 200, (8, 8)).repeat(6, 0).repeat(6, 1)
        for number in range(frames):
            picture = look + random.normal(0, 2, look.shape)
            save(folder / f"s{scene:02}_{number}.png", picture.clip(0, 255).astype(np.uint8))
    return folder


def test_near_copies_are_told_with_their_number_and_groups_are_the_remedy(tmp_path):
    folder = write_film(tmp_path / "film")
    runner = CliRunner()
    train = ["train", str(folder), "--recipe", "linear"]
    leaking = runner.invoke(app, [*train, "--out", str(tmp_path / "a.safetensors")])
    assert leaking.exit_code == 0
    told = re.search(r"(\d+) of (\d+) calibration frames are nearly a training", leaking.output)
    assert int(told[1]) >= 0.8 * int(told[2]) > 0
    whole = [*train, "--out", str(tmp_path / "b.safetensors"), "--group", "(s[0-9]+)"]
    honest = runner.invoke(app, whole)
    assert honest.exit_code == 0
    assert "groups train" in honest.output
    assert "nearly a training frame" not in honest.output
    kept = Checkpoint.load(tmp_path / "a.safetensors").contract.calibration.normals
    assert kept == 3 * int(told[2])  # each third calibrates by a fit to the others


def test_frames_that_are_merely_alike_are_no_near_copies():
    random = np.random.default_rng(0)
    scene = random.integers(60, 180, (64, 64))
    frames = (scene + random.normal(0, 4, (120, 64, 64))).clip(0, 255).astype(np.uint8)
    assert near_copies(frames[:100], frames[100:]) == 0
    assert near_copies(frames[:100], frames[:20]) == 20
    assert near_copies(frames[:2], frames[:20]) == 0
    still = np.zeros((50, 64, 64), np.uint8)
    assert near_copies(still, still) == 0


def test_a_resumed_training_has_the_same_groups(parts_folder, tmp_path):
    out = tmp_path / "c.safetensors"
    options = {"side": 8, "network": "a", "epochs": 2, "group": "(p[0-9]+)_"}
    training = prepare(TrainRequest(data=str(parts_folder), out=out, **options))

    def stop(update):
        if update.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.run(stop)
    resumed = prepare(TrainRequest(resume=out))
    assert np.array_equal(resumed.dataset.groups, training.dataset.groups)
    resumed.run()
    unseen = unseen_frames(Checkpoint.load(out))
    assert np.array_equal(
        unseen.indices, split(training.dataset.anomalous, 0, training.dataset.groups).test
    )
    with pytest.raises(UsageError, match="leave out --group"):
        prepare(TrainRequest(resume=out, group="(p[0-9]+)_"))
