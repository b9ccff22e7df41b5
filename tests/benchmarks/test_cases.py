"""The table of cases from the field says of each whether it is treated right."""

import pytest

from adae_edge.benchmarks import cases
from tests.support.shared import DATA

FOLDER = DATA.parent / "cases"


def test_every_case_is_in_the_table():
    if not FOLDER.is_dir():
        pytest.skip("the cases are not here")
    there = {path.parent.name for path in FOLDER.glob("*/make.py")}
    assert there | {"output without a folder"} == set(cases.CASES)


def test_cases_are_made_and_told_right(tmp_path, small_model):
    if not FOLDER.is_dir():
        pytest.skip("the cases are not here")
    model = tmp_path / "m.onnx"
    model.write_bytes(small_model)
    names = ["tiff-white-is-zero", "jsonl-foreign", "output without a folder"]
    results = [cases.run_case(name, FOLDER, model, tmp_path) for name in names]
    assert [result["now"] for result in results if not result["right"]] == []
    assert "3 of 3 cases are right" in cases.as_markdown(results)


def test_a_wrong_case_is_told_with_what_is_seen(tmp_path, monkeypatch):
    def wrong(case):
        raise cases.WrongError(f"{case.folder}/x.png | black")

    monkeypatch.setitem(cases.CASES, "spaces", ("before", wrong))
    model = tmp_path / "m.onnx"
    model.touch()
    result = cases.run_case("spaces", tmp_path, model, tmp_path)
    assert (result["right"], result["now"]) == (False, "x.png \\| black")
    assert "**wrong**" in cases.as_markdown([result])
