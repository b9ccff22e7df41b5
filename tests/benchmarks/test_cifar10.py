"""The benchmark of CIFAR-10 on a few made-up frames."""

import json

import numpy as np
import pytest
import torch

from adae_edge.benchmarks.cifar10 import DESCRIPTIONS, Rotation, main
from tests.support.official import write_binary


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Frames brighter at the top, but those of class 3 at the left."""
    folder, random = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for number in range(1, 6):
        labels = np.arange(60, dtype=np.uint8) % 10
        frames = random.uniform(0, 90, (60, 32, 32, 3))
        ramp = np.linspace(160, 0, 32)[:, None, None] * random.uniform(0.5, 1, (60, 1, 1, 1))
        frames += np.where((labels == 3)[:, None, None, None], ramp.transpose(0, 2, 1, 3), ramp)
        path = folder / "cifar-10-batches-bin" / f"data_batch_{number}.bin"
        write_binary(path, labels, frames.astype(np.uint8))
    return folder


def test_every_figure_is_written(folder, tmp_path):
    every = ",".join([*DESCRIPTIONS, "rotation"])
    main(f"cifar10:{folder}", tmp_path / "table", every, "3,5", updates=30, width=4)
    result = json.loads((tmp_path / "table.json").read_text())
    assert list(result["auroc"]) == [*DESCRIPTIONS, "rotation, turns", "rotation, density"]
    assert result["labels_seen"] == 2 * len(result["auroc"])
    for name, row in result["auroc"].items():
        assert row["3"] > 0.95, name
        assert result["mean"][name] == pytest.approx((row["3"] + row["5"]) / 2, abs=1e-4)
    page = (tmp_path / "table.md").read_text()
    assert all(f"| {name} |" in page for name in result["auroc"])


def test_a_network_that_tells_every_turn_finds_nothing_rare():
    network = Rotation(2).eval()
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network.head.weight.zero_()
        network.head.bias.zero_()
        torch.testing.assert_close(network.rarity(x), torch.full((5,), np.log(4)))
