"""The comparison that recommends a score, on normal pictures alone."""

import json

import numpy as np
import pytest

from adae_edge.benchmarks.recommendation import main
from adae_edge.errors import UsageError
from tests.support.pictures import save


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder of parts that lie still: a bright plate under noise."""
    folder, random = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for number in range(45):
        pixels = random.normal(60, 4, (64, 64))
        pixels[16:48, 12:52] += 100
        save(folder / f"{number:02}.png", pixels.clip(0, 255).astype(np.uint8))
    return folder


def test_candidates_are_compared_by_defects_that_they_did_not_train_with(parts, tmp_path):
    main(parts, tmp_path / "table", candidates="linear:local,linear:l2")
    result = json.loads((tmp_path / "table.json").read_text())
    assert result["pictures"] == [30, 15]
    local, l2 = (result["candidates"][name] for name in ("linear:local", "linear:l2"))
    assert local["mean"] > 0.8
    assert local["false_alarms"][1] == 15
    assert local["mean"] == pytest.approx(np.mean([*local["auroc"].values()]), abs=1e-3)
    assert l2["auroc"].keys() == local["auroc"].keys()
    page = (tmp_path / "table.md").read_text()
    assert f"| linear:local | {local['auroc']['spot']:.3f} | " in page


def test_too_few_pictures_are_refused(parts, tmp_path):
    with pytest.raises(UsageError, match="has 10 pictures"):
        main(parts, tmp_path / "table", pattern="0*.png")
    assert not list(tmp_path.iterdir())
