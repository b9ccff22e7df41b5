"""Hostile DICOM files: each is small, costs a sentence, and leaves those beside it their scores."""

import re

import pytest
from pydicom.uid import JPEG2000Lossless

from adae_edge.benchmarks import hostile, hostile_files
from adae_edge.benchmarks.hostile_files import write_all, write_sound
from adae_edge.decoding.workers import Workers


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("hostile"))


def test_each_is_small(inputs):
    assert len(inputs) == 16
    assert max(path.stat().st_size for path in inputs.values()) < 5 * 10**6


def test_each_costs_a_sentence_and_the_sound_ones_nothing(inputs, tmp_path):
    write_sound(sound := tmp_path / "sound.dcm")
    with Workers(1) as pool:
        for what, path in inputs.items():
            if path.suffix == ".dcm":
                outcome, words = hostile._outcome(pool, path)
                assert outcome == ("frames" if "UID" in what else "sentence"), (what, words)
                assert hostile._outcome(pool, sound) == ("frames", "")


def test_the_measure_tells_a_sentence_a_score_and_a_lost_file(tmp_path):
    hostile_files._compressed(JPEG2000Lossless, 20_000, 64)(tmp_path / "m.dcm")
    found = hostile._row("a codestream that lies", tmp_path / "m.dcm")
    assert re.search("codestream has 20000 rows", found["words"])
    assert found["others"]
    assert 20 < found["mb"] < hostile.MOST_MB
    write_sound(tmp_path / "m.dcm")
    (tmp_path / "z.dcm").write_bytes(b"broken")
    found = hostile._measured(tmp_path)
    assert found["words"].endswith("scored")
    assert not found["others"]


def test_damaged_files_are_counted_by_what_becomes_of_them():
    damaged = hostile._damaged(8, 0)
    assert sum(damaged["outcomes"].values()) == 8
    assert (damaged["lost"], len(damaged["files"]) > 16) == (0, True)
    assert "damaged 8 times" in hostile._damaged_words(damaged)
