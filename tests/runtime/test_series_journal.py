"""What is known of a series outlives its process, and says when it is complete."""

import os
import time

import pytest

from adae_edge.runtime.dicom.received import hash_of
from adae_edge.runtime.dicom.series import Journals, Part


def name_of(number, content=0):
    return f"{hash_of(f'1.2.{number}')}-{content:032x}"


def journals_of(folder):
    journals = Journals(folder)
    journals.load()
    return journals


def filled(folder, *parts, first=0):
    """Journals with a series 1.2 of parts, and the series."""
    journals = journals_of(folder)
    for number, part in enumerate(parts, first):
        series = journals.add("1.2", name_of(number), part)
    return journals, series


def test_a_killed_process_goes_on_where_it_was(tmp_path):
    journals, series = filled(tmp_path, Part(1), Part(2))
    journals.decide(series, "quiet")
    journals.add("1.2", name_of(2), Part(1))
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"kept": 1')  # half a line
    again = journals_of(tmp_path).series["1.2"]
    assert (again.revision, again.complete, again.kept, again.frames) == (1, "quiet", False, 3)
    assert again.newest == [name_of(0), name_of(1)]
    assert list(again.parts) == [name_of(0), name_of(1), name_of(2)]
    journals.keep(series)
    assert journals_of(tmp_path).series["1.2"].kept


@pytest.mark.parametrize("damage", [b"", b"\0\xff\n", b"[1]\n", b'{"revision": 3}\n', b"{}\n" * 9])
def test_a_damaged_line_costs_itself(tmp_path, damage):
    filled(tmp_path, Part(1), Part(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage + path.read_bytes())
    assert len(journals_of(tmp_path).series["1.2"].parts) == 2


def test_another_ones_journal_is_none(tmp_path):
    filled(tmp_path, Part(1))
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / f"{'0' * 64}.jsonl")
    assert not journals_of(tmp_path).series


@pytest.mark.parametrize(
    ("parts", "sign"),
    [
        ([Part(1)] * 3, ""),
        ([Part(1, declared=3)] * 3, "declared"),
        ([Part(1, declared=4)] * 3, ""),
        ([Part(1, declared=2)] * 3, ""),
        ([Part(3, declared=6)] * 2, "declared"),
        ([Part(1, declared=2), Part(1)], ""),
        ([Part(1, declared=2, acquisition="1"), Part(1, declared=2, acquisition="2")], ""),
        ([Part(1, declared=1, acquisition="1"), Part(1, declared=1, acquisition="2")], "declared"),
        ([Part(20, enhanced=True)], "enhanced"),
        ([Part(20, enhanced=True), Part(1)], ""),
    ],
)
def test_signs_that_are_in_the_instances(tmp_path, parts, sign):
    assert filled(tmp_path, *parts)[1].sign(1000) == sign


def test_an_instance_of_two_contents_is_declared_once(tmp_path):
    journals, series = filled(tmp_path, Part(1, declared=2), Part(1, declared=2))
    journals.add("1.2", name_of(1, content=1), Part(1, declared=2))
    assert series.sign(1000) == "declared"
    journals.decide(series, "declared")
    assert series.newest == [name_of(0), name_of(1, content=1)]


def test_a_commitment_has_to_name_all_that_came(tmp_path):
    journals, series = filled(tmp_path, Part(1), Part(1))
    hashes = [hash_of(f"1.2.{number}") for number in range(3)]
    journals.commit(frozenset(hashes[:1]))
    assert series.sign(1000) == ""
    journals.commit(frozenset(hashes))
    assert series.sign(1000) == "commitment"
    assert journals_of(tmp_path).series["1.2"].sign(1000) == "commitment"
    journals.add("1.2", name_of(7), Part(1))
    assert series.sign(1000) == ""


def test_what_was_deleted_may_come_again(tmp_path):
    journals, series = filled(tmp_path, Part(1), Part(1))
    journals.decide(series, "quiet")
    journals.keep(series)
    journals.renew(name_of(0))
    assert series.sign(0) == ""
    journals.add("1.2", name_of(0), Part(1))
    again = journals_of(tmp_path).series["1.2"]
    assert again.sign(0) == series.sign(0) == "quiet"
    assert list(again.parts) == [name_of(1), name_of(0)]
    assert again.old == {name_of(1)}


def test_what_is_over_for_long_is_forgotten(tmp_path):
    journals, series = filled(tmp_path, Part(1))
    (path,) = tmp_path.iterdir()
    journals.decide(series, "quiet")
    os.utime(path, (0, 0))
    journals.forget(60)
    assert path.exists()  # its results are not kept
    journals.keep(series)
    os.utime(path, (time.time() - 61,) * 2)
    again = journals_of(tmp_path)
    again.forget(60)
    assert not path.exists()
    assert not again.series
    assert not again.of
