"""ZIP archives and DICOMDIR: files are read in place, and what leads elsewhere is refused."""

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest

from adae_edge.decoding import archives
from adae_edge.decoding.archives import list_archive, open_member
from adae_edge.decoding.dicom import decode_dicom
from adae_edge.decoding.dicomdir import list_dicomdir
from adae_edge.decoding.kinds import Member
from adae_edge.errors import FrameError, SourceError
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_source
from tests.support.slices import write_slice

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
CD = SHIPPED / "dicomdirtests"


@pytest.fixture
def slices(tmp_path):
    """The bytes of slices, by the grey value that they have."""

    def write(value):
        path = write_slice(tmp_path / "slice", np.full((6, 8), value, np.uint8))
        return path.read_bytes()

    return write


@pytest.fixture
def archive(tmp_path):
    """Writes an archive of these members."""

    def write(members, method=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "study.zip", "w", method) as file:
            for name, data in members:
                file.writestr(name, data)
        return tmp_path / "study.zip"

    return write


def test_an_archive_is_scored_member_by_member(archive, slices, tmp_path):
    path = archive(
        [
            ("DICOM/IM2", slices(2)),
            ("DICOM/IM1", slices(1)),
            ("DICOM/IM3.dcm", b"broken"),
            ("DICOM/", b""),
            ("report.dcm", (SHIPPED / "rtplan.dcm").read_bytes()),
            ("README.txt", b"a text"),
            ("picture.png", b"no DICOM"),
            ("__MACOSX/._IM1", b"of a file manager"),
        ]
    )
    before = sorted(tmp_path.iterdir())
    with open_source(str(path)) as source:
        first, second, third = source
        assert source.left_out == {".txt": 1, ".png": 1, "hidden": 1, "without a picture": 1}
    assert sorted(tmp_path.iterdir()) == before
    assert isinstance(first, Frame)
    assert [first.source, second.source] == [f"{path}/DICOM/IM1", f"{path}/DICOM/IM2"]
    assert [int(frame.pixels[0, 0, 0]) for frame in (first, second)] == [1, 2]
    assert third.kind == "failure"
    assert third.source == f"{path}/DICOM/IM3.dcm"
    assert third.detail.startswith(f"{path}/DICOM/IM3.dcm ")


def test_the_frames_of_a_member_are_those_of_the_file(archive):
    name = "examples_ybr_color.dcm"
    path = archive([(name, (SHIPPED / name).read_bytes())])
    with open_source(str(path)) as source:
        frames = [item for item in source if isinstance(item, Frame)]
    expected = list(decode_dicom(SHIPPED / name))
    assert [frame.id for frame in frames] == [uid for uid, _ in expected]
    for frame, (_, pixels) in zip(frames, expected, strict=True):
        assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize(
    "name",
    ["../IM1", "a/../../IM1", "/etc/IM1", "C:/IM1", "a\\..\\IM1", "..\\IM1", "a" * 1025],
)
def test_a_name_that_leads_elsewhere_costs_that_member(archive, slices, name):
    listing = list_archive(archive([(name, slices(1)), ("IM2", slices(2))]))
    assert [member.name for member in listing.files] == ["IM2"]
    (sentence,) = listing.unreadable
    assert "is refused: its name" in sentence


def test_two_members_of_one_name_are_not_guessed_at(archive, slices):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive([("IM1", slices(1)), ("IM1", slices(2))])
    listing = list_archive(path)
    assert len(listing.files) == len(listing.unreadable) == 1
    assert "is there twice" in listing.unreadable[0]


def test_an_archive_without_dicom_files_is_no_source(archive):
    path = archive([("picture.png", b"")])
    with pytest.raises(SourceError, match=r"no DICOM files in .*left out 1 file: 1 \.png"):
        open_source(str(path))


def test_damage_costs_the_member_that_it_is_in(archive, slices):
    path = archive([("IM1", slices(1)), ("IM2", slices(2))], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"IM1") + 400] ^= 1
    path.write_bytes(data)
    with pytest.raises(FrameError, match=r"study\.zip/IM1 cannot be read: the archive is damaged"):
        open_member(Member(path, "IM1"))
    assert open_member(Member(path, "IM2")).read() == slices(2)


def test_what_cannot_be_inflated_is_named(archive, slices):
    path = archive([("IM1", slices(1))], zipfile.ZIP_BZIP2)
    assert "another method than deflate" in list_archive(path).unreadable[0]
    path = archive([("IM1", slices(1))])
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + at] |= 1
    path.write_bytes(data)
    assert "is encrypted" in list_archive(path).unreadable[0]


def test_a_member_that_declares_too_much_is_not_inflated(archive):
    path = archive([("IM1.dcm", bytes(300_000_000))])
    with pytest.raises(FrameError, match="has 300 MB, and a file of an archive 256 at most"):
        open_member(Member(path, "IM1.dcm"))


def test_a_member_that_lies_about_its_size_is_not_inflated_further(archive):
    path = archive([("IM1.dcm", bytes(300_000_000))])
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        data[data.index(mark) + at :][:4] = struct.pack("<I", 1000)
        start = data.index(mark) + at
        data[start : start + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises(FrameError, match="the archive is damaged"):
        open_member(Member(path, "IM1.dcm"))


def overlapping(count):
    """An archive whose members are all the same bytes, as in a bomb of 2019."""
    packed = zlib.compress(bytes(10**6))[2:-4]
    sizes = struct.pack("<III", zlib.crc32(bytes(10**6)), len(packed), 10**6)
    local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
    local += struct.pack("<HH", 2, 0) + b"00" + packed
    central = b"".join(
        b"PK\1\2"
        + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0)
        + sizes
        + struct.pack("<HHHHHII", 2, 0, 0, 0, 0, 0, 0)
        + b"%02d" % number
        for number in range(count)
    )
    counts = struct.pack("<HHHHIIH", 0, 0, count, count, len(central), len(local), 0)
    return local + central + b"PK\5\6" + counts


def test_members_that_overlap_are_refused_at_once(tmp_path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(overlapping(1))
    assert sum(list_archive(path).left_out.values()) == 1
    path.write_bytes(overlapping(50))
    with pytest.raises(SourceError, match="files in it overlap"):
        open_source(str(path))


def test_an_archive_of_too_many_members_is_refused(archive, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 2)
    path = archive([(f"{number}.dcm", b"") for number in range(3)])
    with pytest.raises(FrameError, match="has 3 files, and 2 are the most"):
        list_archive(path)


@pytest.mark.parametrize("end", [20, 200])
def test_an_archive_that_is_cut_is_refused(archive, slices, end):
    path = archive([("IM1", slices(1))])
    path.write_bytes(path.read_bytes()[:-end])
    with pytest.raises(SourceError, match="damaged"):
        open_source(str(path))


def index(folder, change=lambda data: None):
    """A folder with the files of a CD, and its DICOMDIR with a change."""
    for path in CD.glob("[0-9]*/**/*"):
        if path.is_file():
            (folder / path.relative_to(CD)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(CD)).write_bytes(path.read_bytes())
    data = pydicom.dcmread(CD / "DICOMDIR")
    change(data)
    data.save_as(folder / "DICOMDIR")
    return folder / "DICOMDIR"


def images(data):
    return [each for each in data.DirectoryRecordSequence if "ReferencedFileID" in each]


def test_a_dicomdir_is_the_files_that_it_names():
    named = {"/".join(each.ReferencedFileID) for each in images(pydicom.dcmread(CD / "DICOMDIR"))}
    listing = list_dicomdir(CD / "DICOMDIR")
    assert not listing.unreadable
    assert len(listing.files) == len(named) == 31
    assert {str(path.relative_to(CD)) for path in listing.files} == named
    with open_source(str(CD / "DICOMDIR")) as source:
        frames = [item.source for item in source if isinstance(item, Frame)]
    assert frames == [*map(str, listing.files)]


def test_a_folder_with_its_dicomdir_is_scored_without_it(tmp_path):
    index(tmp_path)
    with open_source(str(tmp_path)) as source:
        items = list(source)
        assert source.left_out["without a picture"] >= 1
    assert {item.kind for item in items if not isinstance(item, Frame)} == {"series"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"..\\secret", "leads elsewhere"),
        (b"/etc\\passwd", "leads elsewhere"),
        (b"a/b", "leads elsewhere"),
        (b"GONE", "is not there"),
        (b"LINK", "is a link out of its folder"),
    ],
)
def test_a_record_that_leads_elsewhere_costs_itself(tmp_path, name, reason):
    (tmp_path / "secret").write_bytes((SHIPPED / "MR_small.dcm").read_bytes())
    cd = tmp_path / "cd"
    cd.mkdir()
    (cd / "LINK").symlink_to(tmp_path / "secret")
    path, before = index(cd), b"77654033\\CR1\\6154"
    path.write_bytes(path.read_bytes().replace(before, name.ljust(len(before))))
    listing = list_dicomdir(path)
    assert len(listing.files) == 30
    assert [reason in sentence for sentence in listing.unreadable] == [True]


def test_names_in_small_letters_are_found(tmp_path):
    path = index(tmp_path)
    (tmp_path / "77654033" / "CR1").rename(tmp_path / "77654033" / "cr1")
    assert len(list_dicomdir(path).files) == 31


def test_a_record_out_of_use_is_left_out(tmp_path):
    path = index(tmp_path, lambda data: setattr(images(data)[0], "RecordInUseFlag", 0))
    assert len(list_dicomdir(path).files) == 30


@pytest.mark.parametrize("name", ["OffsetOfTheNextDirectoryRecord", "lower"])
def test_records_in_a_circle_are_refused(tmp_path, name):
    name = name.replace("lower", "OffsetOfReferencedLowerLevelDirectoryEntity")
    first = pydicom.dcmread(CD / "DICOMDIR").OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity
    path = index(tmp_path, lambda data: setattr(data.DirectoryRecordSequence[5], name, first))
    with pytest.raises(FrameError, match="its records lead in a circle"):
        list_dicomdir(path)
    with pytest.raises(SourceError, match="its records lead in a circle"):
        open_source(str(path))


def test_what_is_no_dicomdir_is_refused(tmp_path):
    path = tmp_path / "DICOMDIR"
    for data in (b"", b"text", (SHIPPED / "MR_small.dcm").read_bytes()):
        path.write_bytes(data)
        with pytest.raises(FrameError, match="is no DICOMDIR"):
            list_dicomdir(path)
    offset = "OffsetOfTheNextDirectoryRecord"
    path = index(tmp_path, lambda data: setattr(data.DirectoryRecordSequence[0], offset, 7))
    with pytest.raises(FrameError, match="a record leads to none"):
        list_dicomdir(path)
