"""The table of variants: what they change, and a file that finished runs stay in."""

import json
from pathlib import Path

import pytest
import torch
import typer

from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.train.run import Run
from adae_edge.train.tables.ablations import main
from adae_edge.train.tables.runs import ChangedRun, Margin, damaged, rectangles
from adae_edge.train.tables.variants import DEFAULT, NETWORK, VARIANTS


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.rand(24, 1, 32, 32) * 2 - 1


def model():
    torch.manual_seed(0)
    return ADAE(Preprocess(32), 1, NETWORK).train()


def test_without_a_change_the_gradients_are_those_of_the_product(x):
    runs = [kind(model(), DEFAULT) for kind in (Run, ChangedRun)]
    for run in runs:
        run.balance.fake_weight = 0.3
        run.update(x, progress=0.0)
    for expected, parameter in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.allclose(parameter.grad, expected.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_moves_both_networks(name, x):
    trained = model()
    run = VARIANTS[name].run(trained, VARIANTS[name].recipe)
    assert all(0 < loss < 2 for loss in run.update(x, progress=0.0))
    for network, untrained in zip(trained.children(), model().children(), strict=True):
        for parameter, before in zip(network.parameters(), untrained.parameters(), strict=True):
            assert parameter.isfinite().all()
            assert not torch.equal(parameter, before)


def test_the_margin_ends_what_the_discriminator_wins():
    run = Margin(model(), DEFAULT)
    assert (run.fake_weight(0.1, 0.19), run.fake_weight(0.1, 0.21)) == (1, 0)


def test_damage_is_where_it_should_be(x):
    marks = rectangles(x, 1.0)
    for mark in marks[:, 0]:
        rows, columns = mark.any(dim=1).sum(), mark.any(dim=0).sum()
        assert 6 <= rows <= 20
        assert 6 <= columns <= 20
        assert mark.sum() == rows * columns
    assert not rectangles(x, 0.0).any()

    bad = damaged(x)
    assert bad.shape == x.shape
    assert bad.abs().max() <= 1
    assert not any(torch.equal(one, other) for one, other in zip(bad, x, strict=True))
    assert torch.equal(bad[6:12, :, :16], x[6:12, :, :16])  # the cut ones keep their upper half
    assert torch.equal(bad[-1], x[-1].rot90(3, (1, 2)))


def test_the_table_grows_and_runs_nothing_twice(tmp_path, capsys):
    out = tmp_path / "a.json"
    main("digits", out, variants="default", classes="1", seeds="1000", updates=5, jobs=1)
    table = json.loads(out.read_text())
    assert table["settings"]["frames"] == 599
    figures = table["variants"]["default"]["classes"]["1"]["1000"]
    assert list(figures) == ["l2", "generator", "density", "seconds"]
    assert all(0 <= figures[score] <= 1 for score in ("l2", "generator", "density"))

    figures["l2"] = 0.125  # which no second run would give
    out.write_text(json.dumps(table))
    capsys.readouterr()
    main("digits", out, variants="default,pseudo", classes="1", seeds="1000", updates=5, jobs=2)
    grown = json.loads(out.read_text())["variants"]
    assert grown["default"] == table["variants"]["default"]
    assert grown["pseudo"]["what"] == VARIANTS["pseudo"].what
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| default", "| pseudo"]
    assert "0.125 (0.125)" in rows[2]

    with pytest.raises(typer.BadParameter, match="other settings"):
        main("digits", out, variants="default", classes="1", seeds="1000", updates=6, jobs=1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"variants": "nonsense"}, "no variant nonsense"),
        ({"classes": "0,ten"}, "0,ten"),
        ({"seeds": "-1"}, "-1"),
        ({"data": "mnist:nowhere"}, "nowhere"),
        ({"out": Path("nowhere/a.json")}, "no folder nowhere"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path, changed, message):
    options = {
        "data": "digits",
        "out": tmp_path / "a.json",
        "variants": "default",
        "classes": "1",
        "seeds": "1000",
    } | changed
    with pytest.raises(typer.BadParameter, match=message):
        main(**options, updates=1, jobs=1)
    assert not list(tmp_path.iterdir())
