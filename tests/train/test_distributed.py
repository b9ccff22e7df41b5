"""Several processes train as one: real torchrun, real gloo."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from adae_edge.benchmarks.peers.processes import free_port
from adae_edge.errors import UsageError
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.distributed import Group, joined
from adae_edge.train.evaluate import evaluate
from adae_edge.train.metrics import metrics_path
from adae_edge.train.trainer import train
from tests.support.models import HANGS_S, run
from tests.support.trained import settings_for

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

# What each of two processes does. One alone on the whole batch is the measure.
TWO = """
import os
import torch
from adae_edge.contract import Network
from adae_edge.errors import TrainingError, UsageError
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.distributed import joined
from adae_edge.train.recipes import RECIPES
from adae_edge.train.run import Run

def network():
    torch.manual_seed(0)
    return ADAE(Preprocess(32), 1, Network(16, 8)).train().to(memory_format=torch.channels_last)

alone, shared = network(), network()
batch = torch.rand(12, 1, 32, 32) * 2 - 1
expected = Run(alone, RECIPES["default"])
expected.balance.fake_weight = 0.3
losses = expected.update(batch, progress=0.0)
with joined("cpu") as group:
    run = Run(shared, RECIPES["default"], group)
    run.balance.fake_weight = 0.3
    shared_losses = run.update(group.slice(batch), progress=0.0)
    assert torch.allclose(torch.tensor(shared_losses), torch.tensor(losses), rtol=1e-5)
    assert abs(run.balance.fake_weight - expected.balance.fake_weight) < 1e-6
    assert abs(run.lr_d - expected.lr_d) < 1e-7
    for one, other in zip(alone.parameters(), shared.parameters(), strict=True):
        assert (one.grad - other.grad).abs().max() < 1e-3 * one.grad.abs().max()
    assert list(alone.state_dict()) == list(shared.state_dict())
    for (name, one), other in zip(alone.named_buffers(), shared.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6), name

    group.agree("all")
    try:
        group.agree(f"process {group.rank}")
    except UsageError as error:
        assert "do not have the same data" in str(error)
    else:
        raise AssertionError("other data was accepted")

    if group.rank == 1:
        os._exit(0)
    try:
        run.update(group.slice(batch), progress=0.0)
    except TrainingError as error:
        assert "gone" in str(error)
    else:
        raise AssertionError("nobody missed the other process")
"""


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", 0)


def torchrun(*arguments):
    """The command line of two processes of adae-edge."""
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "adae_edge",
    ]
    return [sys.executable, *launcher, *map(str, arguments)]


def test_two_processes_have_one_batch_s_losses_gradients_and_statistics_and_notice_a_missing_one():
    port = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared = ENVIRONMENT | {"WORLD_SIZE": "2", **port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO],
            env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    errors = [process.communicate(timeout=HANGS_S)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def test_two_processes_that_were_stopped_and_resumed_give_what_one_gives(digits, tmp_path):
    """The paper's small steps, so that the rounding of sums in another order does not grow."""
    alone, out = tmp_path / "alone.safetensors", tmp_path / "two.safetensors"
    train(digits, settings_for(digits, "digits", 0, recipe="paper", epochs=5), alone)

    arguments = ["train", "digits", "--anomalous", "0", "--recipe", "paper", "--epochs", "5"]
    process = subprocess.Popen(
        torchrun(*arguments, "--out", out),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + HANGS_S
    while not out.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANGS_S)
    assert process.returncode != 0
    assert errors.count(f"adae-edge train --resume {out}") == 1
    assert errors.count("epoch 1/5 ") == 1
    unfinished = Checkpoint.load(out)
    assert unfinished.contract is None
    assert 1 <= unfinished.training["epoch"] < 5

    resumed = subprocess.run(
        torchrun("train", "--resume", out),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count(f"wrote {out}") == resumed.stdout.count("normal and") == 1
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]

    first, second = Checkpoint.load(alone), Checkpoint.load(out)
    assert first.weights.keys() == second.weights.keys()
    assert first.training == second.training | {"settings": first.training["settings"]}
    rows = [metrics_path(path).read_text().splitlines() for path in (alone, out)]
    for expected, row in zip(*rows, strict=True):
        expected, row = json.loads(expected), json.loads(row)
        for name in ("epoch", "loss_real", "loss_fake", "loss_generator"):
            assert row[name] == pytest.approx(expected[name], rel=1e-4)
        assert row["lr_d"] == pytest.approx(expected["lr_d"], abs=1e-8)
    for name, weights in first.weights.items():
        assert np.allclose(second.weights[name], weights, rtol=1e-2, atol=1e-4), name
    aurocs = [evaluate(checkpoint)[0].auroc for checkpoint in (first, second)]
    assert aurocs[0] == pytest.approx(aurocs[1], abs=1e-3)


def test_a_batch_that_the_processes_cannot_divide_is_refused(digits, tmp_path):
    settings = settings_for(digits, "digits", 0)
    with pytest.raises(UsageError, match="3 processes cannot share a batch of 64 frames"):
        train(digits, settings, tmp_path / "c.safetensors", group=Group(rank=0, size=3))
    assert list(tmp_path.iterdir()) == []


def test_processes_that_torchrun_did_not_start_and_one_gpu_for_all_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for device, sentence in (("cpu", "torchrun"), ("cuda:0", "a GPU for each")):
        with pytest.raises(UsageError, match=sentence), joined(device):
            pass


def test_compile_without_a_compiler_is_refused_in_a_sentence(tmp_path):
    out = tmp_path / "c.safetensors"
    arguments = ("train", "digits", "--anomalous", 0, "--epochs", 1, "--compile", "--out", out)
    done = run(
        *arguments,
        cwd=tmp_path,
        CXX="/nonexistent",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("adae-edge: --compile needs a compiler")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("c++")), reason="torch.compile needs a C++ compiler"
)
def test_a_compiled_training_makes_the_same_checkpoint(digits, tmp_path):
    """The plain autoencoder, because it is one network to compile."""
    out = tmp_path / "compiled.safetensors"
    arguments = [
        "train",
        "digits",
        "--anomalous",
        "0",
        "--recipe",
        "autoencoder",
        "--epochs",
        "1",
        "--compile",
    ]
    done = run(*arguments, "--out", out, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    plain = tmp_path / "plain.safetensors"
    train(digits, settings_for(digits, "digits", 0, recipe="autoencoder", epochs=1), plain)
    assert Checkpoint.load(out).weights.keys() == Checkpoint.load(plain).weights.keys()
    losses = [json.loads(metrics_path(path).read_text())["loss_generator"] for path in (plain, out)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert evaluate(Checkpoint.load(out))[0].auroc is not None
