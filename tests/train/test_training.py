"""Training: the losses, the balance, determinism, resuming bit for bit, and refusals."""

import dataclasses
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from adae_edge.contract import Network, Region
from adae_edge.errors import CheckpointError, DatasetError, TrainingError, UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import ADAE, load_network, weights_digest
from adae_edge.preprocess import Preprocess
from adae_edge.train.balance import Balance
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.distributed import Group
from adae_edge.train.evaluate import evaluate
from adae_edge.train.loading import score_frames
from adae_edge.train.metrics import Metrics, Update, metrics_path, training_seconds
from adae_edge.train.recipes import RECIPES
from adae_edge.train.request import TrainRequest, plan, prepare
from adae_edge.train.run import Run
from adae_edge.train.settings import Settings
from adae_edge.train.trainer import train
from adae_edge.train.unseen import unseen_frames
from tests.support.models import HANGS_S, command, run
from tests.support.pictures import write_pictures
from tests.support.trained import settings_for, train_on


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", 0)


@pytest.fixture
def _two_threads():
    """As many as a user with two cores has; other tests have one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def small(dataset, count=200):
    """The first frames of a data set."""
    return dataclasses.replace(
        dataset, frames=dataset.frames[:count], anomalous=dataset.anomalous[:count]
    )


def test_the_statistics_of_d_are_of_the_frames_of_g_alone():
    """D scores nothing else; those of both together made it rebuild neither."""
    torch.manual_seed(0)
    model = ADAE(Preprocess(32), 1, Network(16, 32)).train()
    twin = ADAE(Preprocess(32), 1, Network(16, 32)).train()
    twin.load_state_dict(model.state_dict())
    x = torch.rand(8, 1, 32, 32) * 2 - 1
    Run(model, RECIPES["default"]).gradients(x)

    with torch.no_grad():
        twin.discriminator(twin.generator(x))
    expected = dict(twin.named_buffers())
    means = {name: value for name, value in model.named_buffers() if "running" in name}
    assert len(means) == 28
    for name, value in means.items():
        torch.testing.assert_close(value, expected[name], msg=name)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_one_backward_pass_gives_both_losses_gradients(weight):
    """L_D moves D alone and L_G moves G alone, as if each were differentiated alone (section 3)."""
    torch.manual_seed(0)
    model = ADAE(Preprocess(32), 1, Network(16, 32)).train()
    twin = ADAE(Preprocess(32), 1, Network(16, 32)).train()
    twin.load_state_dict(model.state_dict())
    x = torch.rand(8, 1, 32, 32) * 2 - 1

    run = Run(model, dataclasses.replace(RECIPES["default"], slope_floor=0.0))
    run.balance.fake_weight = weight
    run.update(x, progress=0.0)

    generated = twin.generator(x)
    loss_d = (x - twin.discriminator(x)).abs().mean()
    loss_d = (
        loss_d - weight * (generated.detach() - twin.discriminator(generated.detach())).abs().mean()
    )
    expected_d = torch.autograd.grad(loss_d, list(twin.discriminator.parameters()))
    loss_g = (x - generated).abs().mean() + (generated - twin.discriminator(generated)).abs().mean()
    expected_g = torch.autograd.grad(loss_g, list(twin.generator.parameters()))

    for network, expected in ((model.discriminator, expected_d), (model.generator, expected_g)):
        for parameter, gradient in zip(network.parameters(), expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-7, rtol=1e-4)


def test_the_lagging_network_learns_faster_and_the_rates_add_up():
    balance = Balance(slope=20.0, gamma=None)
    balance.update(real=0.2, fake=0.1)
    assert balance.share_d == pytest.approx(1 / (1 + np.exp(-2.0)))
    balance.update(real=0.1, fake=0.2)
    assert balance.share_d == pytest.approx(1 / (1 + np.exp(2.0)))
    balance.update(real=0.0, fake=1000.0)
    assert 0 <= balance.share_d < 1e-20


def test_the_papers_balance_keeps_the_adversarial_term_whole():
    balance = Balance(slope=20.0, gamma=None)
    balance.update(real=0.1, fake=0.9)
    assert balance.fake_weight == 1.0


def test_the_controller_lets_go_when_the_discriminator_runs_away():
    balance = Balance(slope=20.0, gamma=1.0)
    for _ in range(50):
        balance.update(real=0.3, fake=0.1)
    risen = balance.fake_weight
    assert risen == pytest.approx(50 * 0.01 * 0.2)
    for _ in range(50):
        balance.update(real=0.1, fake=0.5)
    assert balance.fake_weight == 0.0
    for _ in range(10_000):
        balance.update(real=0.3, fake=0.1)
    assert balance.fake_weight == 1.0


def test_the_paper_recipe_is_the_papers():
    recipe = RECIPES["paper"]
    assert (recipe.learning_rate, recipe.beta1, recipe.batch, recipe.epochs) == (1e-5, 0.5, 64, 100)
    assert recipe.gamma is None
    assert not recipe.cosine


@pytest.mark.usefixtures("_two_threads")
def test_training_is_deterministic_for_a_seed(digits, tmp_path):
    hashes = [
        train(
            small(digits),
            settings_for(digits, "digits", 0, seed=seed),
            tmp_path / f"{index}.safetensors",
        ).weights_sha256
        for index, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.usefixtures("_two_threads")
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(digits, tmp_path):
    data = small(digits, 500)
    settings = settings_for(data, "digits", 0, epochs=4)
    whole = train(data, settings, tmp_path / "whole.safetensors")

    class Interrupted(BaseException):
        pass

    def interrupt(update):
        if (update.epoch, update.update) == (2, 3):
            raise Interrupted

    out = tmp_path / "broken.safetensors"
    with pytest.raises(Interrupted):
        train(data, settings, out, on_update=interrupt)
    unfinished = Checkpoint.load(out)
    assert unfinished.contract is None
    assert unfinished.training["epoch"] == 2
    torch.manual_seed(999)  # whatever the process did before
    resumed = train(data, Settings.from_header(unfinished.training), out, resume=unfinished)
    assert resumed == whole
    first, second = Checkpoint.load(tmp_path / "whole.safetensors"), Checkpoint.load(out)
    assert all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert second.training == first.training
    epochs = [json.loads(line)["epoch"] for line in metrics_path(out).read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


def test_metrics_are_one_json_line_an_epoch(digits, tmp_path):
    out = tmp_path / "c.safetensors"
    train(small(digits), settings_for(digits, "digits", 0, epochs=3), out)
    rows = [json.loads(line) for line in metrics_path(out).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss_g"] == pytest.approx(row["loss_generator"] + row["loss_fake"])
        assert row["loss_d"] == pytest.approx(
            row["loss_real"] - row["fake_weight"] * row["loss_fake"]
        )
        assert 0 < row["lr_g"] + row["lr_d"] <= RECIPES["default"].learning_rate


def test_the_seconds_of_a_resumed_training_are_those_of_all_its_epochs(tmp_path):
    """Also where the first epoch after the resumption takes longer than all before it did."""
    out = tmp_path / "c.safetensors"
    assert training_seconds(out) == 0
    metrics_path(out).write_text('{"seconds": 1e6}\n{"seconds": 2e6}\n{"seconds": 9e6}\n')
    Metrics(out, done=2).write(Update(2, 3, 0, 1, 0.5, 0.5, 0.5, 0.5, 1e-3, 1e-3))
    rows = [json.loads(line)["seconds"] for line in metrics_path(out).read_text().splitlines()]
    assert rows[:2] == [1e6, 2e6]
    assert 2e6 <= rows[2] == training_seconds(out) < 9e6


def test_resuming_on_other_data_is_refused(digits, tmp_path):
    out = tmp_path / "c.safetensors"
    settings = settings_for(digits, "digits", 0)
    unfinished = Checkpoint({}, {"data_sha256": "0" * 64, "epoch": 1, "fake_weight": 0.0})
    with pytest.raises(CheckpointError, match="not the data"):
        train(small(digits), settings, out, resume=unfinished)
    assert not out.exists()


def test_the_threshold_keeps_its_rate_on_normals_that_were_never_seen(digits, tmp_path):
    contract = train(
        digits, settings_for(digits, "digits", 0, epochs=5, fpr=0.1), tmp_path / "c.safetensors"
    )
    model = load_network(Checkpoint.load(tmp_path / "c.safetensors"))
    parts = split(digits.anomalous, 0)
    scores, _ = score_frames(model, digits, parts.calibration)
    assert contract.calibration.normals == len(parts.calibration) == 130
    assert (scores > contract.calibration.threshold).mean() <= 0.1
    normals = parts.test[~digits.anomalous[parts.test]]
    unseen, _ = score_frames(model, digits, normals)
    assert (
        unseen > contract.calibration.threshold
    ).mean() < 0.2  # 0.1 and four standard errors of 324 and 130


def test_evaluation_uses_only_what_training_did_not_see(digits, tmp_path):
    train_on("digits", tmp_path / "c.safetensors", 0, epochs=5, seed=3)
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    evaluation, scores, unseen = evaluate(checkpoint)
    parts = split(digits.anomalous, 3)
    assert np.array_equal(unseen.indices, parts.test)
    assert (evaluation.normals, evaluation.anomalous) == (324, 178)
    anomalous, normal = scores[unseen.anomalous], scores[~unseen.anomalous]
    pairs = (anomalous[:, None] > normal[None]).mean() + 0.5 * (
        anomalous[:, None] == normal[None]
    ).mean()
    assert evaluation.auroc == pytest.approx(pairs)
    called = scores > evaluation.threshold
    assert evaluation.false_positive_rate == pytest.approx(called[~unseen.anomalous].mean())
    assert evaluation.true_positive_rate == pytest.approx(called[unseen.anomalous].mean())


def test_a_folder_is_trained_on_and_separates_what_is_anomalous(tmp_path):
    data = write_pictures(tmp_path / "data", 120, anomalous=20)
    out = tmp_path / "c.safetensors"
    contract = train_on(str(data), out, epochs=30, side=32)
    assert (contract.channels, contract.side) == (3, 32)
    evaluation, _, _ = evaluate(Checkpoint.load(out))
    assert (evaluation.normals, evaluation.anomalous) == (24, 20)
    assert evaluation.auroc > 0.9


def test_frames_of_another_data_set_are_all_unseen(tmp_path):
    data = write_pictures(tmp_path / "data", 40)
    train_on(str(data), tmp_path / "c.safetensors", epochs=1)
    other = write_pictures(tmp_path / "other", 15, shape=(30, 30), anomalous=4)
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    unseen = unseen_frames(checkpoint, str(other))
    assert unseen.left_out == 0
    assert len(unseen.indices) == 19
    evaluation, _, _ = evaluate(checkpoint, str(other))  # grey frames for a colour model
    assert (evaluation.normals, evaluation.anomalous) == (15, 4)
    moved = data.rename(tmp_path / "moved")
    assert np.array_equal(
        unseen_frames(checkpoint, str(moved)).indices, split(np.zeros(40, bool), 0).test
    )


def test_frames_that_trained_never_count_as_unseen_in_a_changed_folder(tmp_path):
    data = write_pictures(tmp_path / "data", 40)
    train_on(str(data), tmp_path / "c.safetensors", epochs=1)
    parts = split(np.zeros(40, bool), 0)
    added = write_pictures(tmp_path / "new", 42) / "normal" / "041.png"
    added.rename(data / "normal" / "aaa.png")
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match="no longer the data"):
        unseen_frames(checkpoint)
    unseen = unseen_frames(checkpoint, str(data))
    assert unseen.left_out == len(parts.train) + len(parts.calibration) == 32
    assert sorted(unseen.indices) == [*sorted(parts.test), 40]
    for index in parts.test:
        (data / "normal" / f"{index:03}.png").unlink()
    (data / "normal" / "aaa.png").unlink()
    with pytest.raises(DatasetError, match="saw every one"):
        evaluate(checkpoint, str(data))


def test_reference_frames_are_raw_normals_or_stay_at_home(tmp_path):
    data = write_pictures(tmp_path / "data", 100)
    train_on(str(data), tmp_path / "with.safetensors", epochs=1)
    train_on(str(data), tmp_path / "without.safetensors", epochs=1, references=False)
    references = Checkpoint.load(tmp_path / "with.safetensors").references
    dataset = load_dataset(str(data))
    expected = [dataset.frames[index] for index in split(dataset.anomalous, 0).calibration]
    assert len(references) == len(expected) == 8
    assert all(np.array_equal(a, b) for a, b in zip(references, expected, strict=True))
    assert Checkpoint.load(tmp_path / "without.safetensors").references == []
    assert b"reference." not in (tmp_path / "without.safetensors").read_bytes()


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_last_epoch(
    digits, tmp_path, monkeypatch
):
    out = tmp_path / "c.safetensors"
    settings = settings_for(digits, "digits", 0, epochs=3)
    original = Run.update

    def poisoned(self, x, progress):
        return original(self, x * float("nan") if progress >= 0.5 else x, progress)

    monkeypatch.setattr(Run, "update", poisoned)
    with pytest.raises(TrainingError, match="not finite in epoch 2"):
        train(small(digits), settings, out)
    assert Checkpoint.load(out).training["epoch"] == 1
    assert np.isfinite(Checkpoint.load(out).weights["generator.0.weight"]).all()


@pytest.mark.parametrize(
    ("changed", "kind", "sentence"),
    [
        ({"recipe": "magic"}, UsageError, "no recipe magic"),
        ({"network": "c"}, UsageError, "no network c"),
        ({"side": 33}, UsageError, "33 is not"),
        ({"side": 2048}, UsageError, "2048 is not"),
        ({"fpr": 1e-6}, UsageError, "at the lowest"),
        ({"fpr": 2.0}, UsageError, "between 0 and 1"),
        ({"region": Region(5, 5, 20, 20)}, DatasetError, "outside of a frame of 8 x 8"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(digits, tmp_path, changed, kind, sentence):
    out = tmp_path / "c.safetensors"
    with pytest.raises(kind, match=sentence):
        train(digits, settings_for(digits, "digits", 0, **changed), out)
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_refused(digits, tmp_path):
    for device in ("cuda:77", "abacus"):
        with pytest.raises(UsageError, match="nothing else is used"):
            train(
                digits,
                settings_for(digits, "digits", 0),
                tmp_path / "c.safetensors",
                group=Group(device),
            )
    assert list(tmp_path.iterdir()) == []


def test_the_recommended_side_follows_the_frames(tmp_path):
    sides = {(120, 160): 32, (480, 640): 64, (1080, 1920): 256, (4000, 6000): 256, (20, 20): 32}
    for shape, side in sides.items():
        data = write_pictures(tmp_path / f"{shape[0]}", 1, shape=shape)
        dataset = load_dataset(str(data))
        assert settings_for(dataset, str(data)).side == side
    region = Region(0, 0, 640, 600)
    assert settings_for(dataset, str(data), region=region).side == 128


def test_a_checkpoint_whose_weights_were_exchanged_is_refused(digits, tmp_path):
    out = tmp_path / "c.safetensors"
    train(small(digits), settings_for(digits, "digits", 0, epochs=1), out)
    checkpoint = Checkpoint.load(out)
    assert weights_digest(load_network(checkpoint)) == checkpoint.contract.weights_sha256
    checkpoint.weights["generator.0.weight"] = checkpoint.weights["generator.0.weight"] + 1
    with pytest.raises(CheckpointError, match="not those"):
        load_network(checkpoint)
    del checkpoint.weights["generator.0.weight"]
    with pytest.raises(CheckpointError, match="do not fit"):
        load_network(checkpoint)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 4000, None])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "c.safetensors"
    if content is None:
        import safetensors.numpy

        path.write_bytes(safetensors.numpy.save({"a": np.zeros(3)}))
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)


def test_ctrl_c_keeps_the_finished_epochs_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "c.safetensors"
    arguments = ("train", "digits", "--anomalous", 0, "--epochs", 200, "--out", out)
    process = subprocess.Popen(
        command(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + HANGS_S
    while not out.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130
    assert f"adae-edge train --resume {out}" in errors
    assert "Traceback" not in errors
    checkpoint = Checkpoint.load(out)
    assert checkpoint.contract is None
    assert checkpoint.training["epoch"] >= 1
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    refused = run(*arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    refused = run("export", out, cwd=tmp_path)
    assert refused.returncode == 1
    assert "unfinished" in refused.stderr


def test_the_settings_of_version_0_1_0_are_read(digits):
    """It knew neither the weight of the generated term, nor the floor, windows and scores."""
    plain = settings_for(digits, "digits", 0, recipe="paper")
    header = json.loads(json.dumps(dataclasses.asdict(plain)))
    for later in ("adversarial", "slope_floor", "reach", "interior"):
        del header["recipe"][later]
    del (
        header["window"],
        header["modality"],
        header["score"],
    )
    assert set(header["recipe"]) == {
        "learning_rate",
        "beta1",
        "batch",
        "epochs",
        "slope",
        "gamma",
        "cosine",
    }
    assert Settings.from_header({"settings": header}) == plain


def test_plan_needs_no_option(digits):
    settings = plan(digits, TrainRequest(data="digits", anomalous="0"))
    assert (settings.side, settings.network) == (32, Network(16, 32))
    epochs_for = RECIPES["default"].epochs_for
    assert [epochs_for(updates) for updates in (5, 18, 500, 790, 5000)] == [200, 139, 5, 4, 4]


@pytest.mark.parametrize(
    ("changed", "option"),
    [
        ({"seed": 0}, "--seed"),
        ({"out": Path("c.safetensors")}, "--out"),
        ({"resize": "pad", "epochs": 3, "region": Region(0, 0, 8, 8)}, "--epochs"),
        ({"resize": "pad", "region": Region(0, 0, 8, 8)}, "--pad"),
        ({"region": Region(0, 0, 8, 8)}, "--roi"),
        ({"references": False}, "--no-reference-frames"),
    ],
)
def test_a_resumed_training_keeps_its_settings(tmp_path, changed, option):
    """Also where the option says what the default is; nothing is read before."""
    with pytest.raises(UsageError, match=f"keeps its settings: leave out {option}$"):
        prepare(TrainRequest(resume=tmp_path / "none.safetensors", data="digits", **changed))


def test_a_finished_training_is_not_resumed(digits, tmp_path):
    out = tmp_path / "c.safetensors"
    train(small(digits), settings_for(digits, "digits", 0, epochs=1), out)
    with pytest.raises(UsageError, match="finished: there is nothing to resume"):
        prepare(TrainRequest(resume=out))


@pytest.mark.usefixtures("_two_threads")
def test_a_training_interrupted_before_its_calibration_is_finished_by_resuming(digits, tmp_path):
    data = small(digits)
    settings = settings_for(data, "digits", 0)
    out, whole = tmp_path / "c.safetensors", tmp_path / "whole.safetensors"
    contract = train(data, settings, whole)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adae_edge.train.trainer.score_frames", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(data, settings, out)
    assert train(data, settings, out, resume=Checkpoint.load(out)) == contract
    assert Checkpoint.load(out).training == Checkpoint.load(whole).training
