"""What is read in a folder, by which names, and what is left out and told."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adae_edge.decoding.folders import left_out_words, list_folder
from adae_edge.decoding.layouts import read_layout
from adae_edge.errors import DatasetError, SourceError, UsageError
from adae_edge.runtime.sources.registry import open_normals, open_source
from adae_edge.train.data.opening import load_dataset


def fill(folder, *names):
    """One-pixel pictures of these names, or other files where the name is of no picture."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".bmp", ".jfif", ".gif", ".jpe"):
            kind = {".jfif": "JPEG", ".jpe": "JPEG"}.get(path.suffix)
            Image.fromarray(np.full((9, 9), len(name), np.uint8)).save(path, kind)
        else:
            path.write_bytes(b"something else")
    return folder


def names(paths, folder):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_every_kind_that_is_read_is_read_in_a_folder(tmp_path):
    fill(tmp_path, "0.png", "1.jfif", "2.jpe", "3.gif", "4.bmp")
    assert len(list(open_source(str(tmp_path)))) == 5
    assert len(load_dataset(str(tmp_path)).frames) == 5


def test_other_and_foreign_files_are_counted(tmp_path):
    fill(tmp_path, "0.png", "._0.png", "Thumbs.db", ".DS_Store", "__MACOSX/._0.png", "a.mp4")
    fill(tmp_path, "@eaDir/0.png", "b.jp2", "c.JP2", "report", ".cache/1.png")
    listing = list_folder(tmp_path)
    assert names(listing.files, tmp_path) == ["0.png"]
    assert left_out_words(listing.left_out) == (
        "left out 10 files: 6 hidden, 2 .jp2, 1 .mp4, 1 without a suffix"
    )


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    fill(tmp_path, "parts/0.png", "store/1.png", "store/deep/2.png")
    parts = tmp_path / "parts"
    (parts / "monday").symlink_to(tmp_path / "store")
    (parts / "again").symlink_to(tmp_path / "store")
    (parts / "loop").symlink_to(parts)
    (tmp_path / "store" / "up").symlink_to(tmp_path)
    listing = list_folder(parts)
    found = names(listing.files, parts)
    assert len(found) == len({(parts / name).resolve() for name in found}) == 3
    assert [frame.source for frame in open_source(str(parts))] == [str(p) for p in listing.files]
    assert load_dataset(str(parts)).frames.paths == listing.files


def test_a_folder_that_may_not_be_read_is_a_failure(tmp_path, monkeypatch):
    fill(tmp_path, "0.png", "locked/1.png")
    real = os.scandir

    def scandir(place):
        if Path(place).name == "locked":  # root may read everything
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    failure, frame = open_source(str(tmp_path))
    assert failure.kind == "failure"
    assert f"{tmp_path / 'locked'} may not be read: permission denied" in failure.detail
    assert frame.source == str(tmp_path / "0.png")
    with pytest.raises(DatasetError, match="locked may not be read"):
        load_dataset(str(tmp_path))


def test_a_folder_without_a_frame_says_what_is_in_it(tmp_path):
    fill(tmp_path, "a.mp4", ".hidden")
    with pytest.raises(SourceError, match=r"left out 2 files: 1 \.mp4, 1 hidden"):
        open_source(str(tmp_path))


LAYOUTS = {
    "mvtec": (
        [
            "train/good/0.png",
            "test/good/1.png",
            "test/crack/2.png",
            "ground_truth/crack/2_mask.png",
        ],
        ["test/good", "train/good"],
        ["test/crack"],
    ),
    "btad": (
        ["train/ok/0.bmp", "test/ok/1.bmp", "test/ko/2.bmp"],
        ["test/ok", "train/ok"],
        ["test/ko"],
    ),
    "upper": (["OK/0.png", "NG/1.png"], ["OK"], ["NG"]),
    "german": (["i.O/0.png", "n.i.O/1.png"], ["i.O"], ["n.i.O"]),
    "bad": (["good/0.png", "bad/1.png"], ["good"], ["bad"]),
    "abnormal": (["Normal/0.png", "Abnormal/1.png"], ["Normal"], ["Abnormal"]),
    "defect": (["normal/0.png", "defect/a/1.png"], ["normal"], ["defect"]),
    "visa": (
        ["Data/Images/Normal/0.png", "Data/Images/Anomaly/1.png", "Data/Masks/Anomaly/1.png"],
        ["Data/Images/Normal"],
        ["Data/Images/Anomaly"],
    ),
    "masks within": (
        ["good/0.png", "ng/1.png", "ng/mask/1.png", "ng/1_mask.png"],
        ["good"],
        ["ng"],
    ),
    "split labels": (
        [
            "train/good/0.png",
            "train/defective/1.png",
            "val/good/3.png",
            "test/Not OK/2.png",
            "test/ok/4.png",
        ],
        ["test/ok", "train/good", "val/good"],
        ["test/Not OK", "train/defective"],
    ),
    "one class": (
        ["train/0.png", "train/1.png", "test/good/2.png", "test/hole/3.png"],
        ["test/good", "train"],
        ["test/hole"],
    ),
    "plain": (["0.png", "monday/1.png", "cam 2/deep/2.png"], ["."], []),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_of_the_field_is_read_as_what_it_is(tmp_path, name):
    files, normal, anomalous = LAYOUTS[name]
    folder = fill(tmp_path / "data", *files)
    layout = read_layout(folder)
    assert (names(layout.normal, folder), names(layout.anomalous, folder)) == (normal, anomalous)
    dataset = load_dataset(str(folder))
    anomalous_files = dataset.anomalous.sum()
    assert len(dataset.frames) == sum("ask" not in file for file in files)
    assert all(
        any(part in path.parents for part in layout.anomalous)
        for path in dataset.frames.paths[len(dataset.frames) - anomalous_files :]
    )
    assert not any("mask" in path.as_posix().lower() for path in dataset.frames.paths)
    assert str(folder) in dataset.read_as


@pytest.mark.parametrize(
    "files",
    [
        ["normal/0.png", "scratched/1.png"],
        ["normal/0.png", "1.png"],
        ["bad/0.png"],
        ["0.png", "defects/1.png"],
        ["a/good/0.png", "a/bad/1.png", "b/good/2.png"],
        ["bottle/train/good/0.png", "cable/train/good/1.png"],
        ["cam1/0.png", "cam1_defect/1.png"],
        ["ok_front/0.png", "def_front/1.png"],
        ["Positive/0.png", "Negative/1.png"],
        ["line_1/0.png", "broken_large/1.png"],
        ["images/0.png", "masks/0.png"],
        ["0.png", "0_label.bmp"],
        ["train/0.png", "train/0_GT.png", "test/1.png"],
        ["train/good/0.png", "test/1.png"],
        ["train/good/0.png", "test/cam1/1.png"],
        ["train/good/0.png", "train/odd/1.png", "test/good/2.png"],
        ["good/defect/0.png", "bad/1.png"],
        ["normal/0.png", "train/good/1.png"],
    ],
)
def test_names_that_leave_it_open_are_refused_with_the_layout_that_is_expected(tmp_path, files):
    with pytest.raises(DatasetError, match="test/DEFECT") as refused:
        load_dataset(str(fill(tmp_path / "data", *files)))
    assert str(refused.value).isprintable()


def test_a_threshold_is_not_chosen_on_anomalous_pictures(tmp_path, contract):
    folder = fill(tmp_path / "data", "good/0.png", "bad/1.png")
    with pytest.raises(UsageError, match=r"bad is not normal by its name: give .*good alone"):
        open_normals(contract, str(folder))
    assert len(list(open_normals(contract, str(folder / "good")))) == 1
    assert len(list(open_normals(contract, str(fill(tmp_path / "plain", "0.png", "a/1.png"))))) == 2


def test_an_export_s_frames_are_read_by_the_same_names(tmp_path, contract):
    from adae_edge.export.references import real_frames

    folder = fill(tmp_path / "data", *LAYOUTS["mvtec"][0])
    frames = real_frames(None, contract, folder)
    assert (len(frames.normals), frames.anomalous) == (2, [False, False, True])
    plain = real_frames(None, contract, folder / "train")
    assert (len(plain.normals), plain.anomalous) == (1, None)
