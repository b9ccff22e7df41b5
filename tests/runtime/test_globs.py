"""Patterns of paths: what they match, in which order, and what wins over them."""

import pytest
from PIL import Image

from adae_edge.errors import SourceError, UsageError
from adae_edge.runtime.sources.registry import open_source

NAMES = ["a/1.png", "a/10.png", "a/2.jpg", "a/deep/3.png", "b/4.png", "c[1]/5.png", "c1/6.png"]


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(tmp_path / name)
    (tmp_path / "a/.hidden.png").write_bytes(b"")
    (tmp_path / "a/notes.txt").write_bytes(b"")
    return tmp_path


def found(pattern):
    return [item.source for item in open_source(pattern)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/*.png", ["a/1.png", "a/10.png"]),
        ("a/?.*", ["a/1.png", "a/2.jpg"]),
        ("a/[!1].jpg", ["a/2.jpg"]),
        ("[ab]/*.png", ["a/1.png", "a/10.png", "b/4.png"]),
        ("*/deep/*", ["a/deep/3.png"]),
        ("**/*.png", ["a/1.png", "a/10.png", "a/deep/3.png", "b/4.png", "c1/6.png", "c[1]/5.png"]),
        ("a/**/3.png", ["a/deep/3.png"]),
        ("**/1.png", ["a/1.png"]),
        ("c[1]/*.png", ["c[1]/5.png"]),
        ("c?/*.png", ["c1/6.png"]),
    ],
)
def test_a_pattern_gives_what_it_matches_in_order_of_path(pattern, names):
    assert found(pattern) == names
    assert found(f"./{pattern}") == names


def test_a_pattern_may_be_absolute(tree):
    assert found(f"{tree}/b/*") == [f"{tree}/b/4.png"]


def test_a_file_of_that_very_name_wins(tree):
    Image.new("L", (8, 6)).save(tree / "a" / "[1].png")
    assert found("a/[1].png") == ["a/[1].png"]
    Image.new("L", (8, 6)).save(tree / "a" / "*.png")
    assert found("a/*.png") == ["a/*.png"]


def test_what_matches_and_is_no_picture_is_left_out_and_counted():
    source = open_source("a/*")
    assert len(list(source)) == 3
    assert source.left_out == {".txt": 1, "hidden": 1}
    with pytest.raises(SourceError, match=r"no DICOM files in a/\*\.txt: left out 1 file: 1 \.txt"):
        open_source("a/*.txt")


@pytest.mark.parametrize("pattern", ["a/*.bmp", "nowhere*/1.png", "*/*/*/*/*.png"])
def test_a_pattern_that_matches_nothing_is_a_sentence(pattern):
    with pytest.raises(UsageError) as refused:
        open_source(pattern)
    assert str(refused.value) == f"nothing matches {pattern}"


def test_each_real_folder_is_looked_into_once(tree):
    for name in ("x", "y", "z"):
        (tree / "a" / name).symlink_to(".")
    assert found("a/**/*.png") == ["a/1.png", "a/10.png", "a/deep/3.png"]


def test_folders_that_cannot_match_are_not_read(tree, monkeypatch):
    (tree / "b" / "gone.png").symlink_to("nowhere.png")
    assert found("a/*.png") == ["a/1.png", "a/10.png"]
    gone, picture = open_source("b/*.png")
    assert gone.kind == "failure"
    assert picture.source == "b/4.png"
