"""The machine's limit: what is counted and computed, not how fast it is."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from typer.testing import CliRunner

from adae_edge.benchmarks import paired, roof


@pytest.mark.parametrize(("name", "mflop", "weights"), [("a", 3.8, 90_534), ("b", 49.7, 1_418_886)])
def test_the_work_of_a_network_is_that_of_its_convolutions(name, mflop, weights):
    one, many = roof.Work.of(name, 1), roof.Work.of(name, 64)
    assert one.operations / 1e6 == pytest.approx(mflop, rel=0.02)
    assert many.operations == 64 * one.operations
    assert many.bytes - one.bytes == 63 * (32 * 32 * 3 + 4)
    assert one.bytes == 32 * 32 * 3 + 4 + 4 * weights


def test_both_products_and_both_copies_are_those_of_the_same_arrays():
    first, second = (call() for call in roof.products(1).values())
    np.testing.assert_allclose(first, second, rtol=1e-4)
    assert first.shape == (512, 512)
    with ThreadPoolExecutor(2) as pool:
        copied, negative = (call() for call in roof.copies(2, pool).values())
    assert np.array_equal(copied, -negative)
    assert np.ptp(copied) > 0.9


def test_every_network_has_its_roof_its_ratio_and_its_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(paired, "SETTLE_S", 0.0)
    monkeypatch.setattr(paired, "BLOCK_S", 0.0)
    monkeypatch.setattr(roof, "available_threads", lambda: 1)
    app = roof.typer.Typer()
    app.command()(roof.main)
    done = CliRunner().invoke(app, ["--rounds", "2", "--json", str(tmp_path / "roof.json")])
    assert done.exit_code == 0, done.output
    (measured,) = json.loads((tmp_path / "roof.json").read_text())["measurements"]
    assert measured["threads"] == 1
    assert min(measured["gflop_per_s"].values()) > 0 < min(measured["copy_gb_per_s"].values())
    rows = measured["networks"]
    assert [(row["network"], row["batch"]) for row in rows] == [
        ("a", 1),
        ("a", 64),
        ("b", 1),
        ("b", 64),
    ]
    for row in rows:
        low, high = row["quartiles"]
        assert 0 < low <= row["over_roof"] <= high
        assert row["min_ms"] <= row["ms"]
        assert row["met"] == (None if row["batch"] == 1 else row["over_roof"] <= row["goal"])
        assert 0.5 < sum(row["profile"].values()) <= 1.01
        assert f"network {row['network']}, batch {row['batch']}:" in done.output
