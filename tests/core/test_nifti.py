"""NIfTI volumes: slices in one orientation whatever the file's, and refusals that name the file."""

import gzip
import itertools
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from adae_edge.decoding.nifti import read_volume
from adae_edge.decoding.volume_names import mask_of, modality_of, volumes_of
from adae_edge.errors import FrameError
from adae_edge.runtime.frame import Event
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.volumes import Volumes
from tests.support.volumes import head, read_brain, write_volume

VALUES = np.arange(3 * 4 * 5).reshape(3, 4, 5)


@pytest.mark.parametrize(
    "axes",
    [
        "".join(axes)
        for order in itertools.permutations(("LR", "PA", "SI"))
        for axes in itertools.product(*order)
    ],
)
def test_slices_lie_the_same_way_whatever_the_files_axes(tmp_path, axes):
    volume = read_volume(write_volume(tmp_path / "v.nii.gz", VALUES, axes))
    slices = volume.values
    assert volume.grid.spacing == (2, 1, 1)
    assert np.array_equal(volume.grid.steps, [[0, 0, 2], [0, 1, 0], [1, 0, 0]])
    assert slices.dtype == np.float32
    assert slices.shape == (5, 4, 3)
    feet_front_right = VALUES[2, 3, 0]  # x goes to the right, y to the front, z up
    assert slices[0, 0, 0] == feet_front_right
    assert np.array_equal(slices, VALUES[::-1, ::-1].transpose(2, 1, 0))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("end", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, ">i2"])
def test_every_form_of_file_is_read(tmp_path, kind, end, dtype):
    image = kind(VALUES.astype(dtype), np.diag([-1.0, -1.0, 1.0, 1.0]))
    path = tmp_path / "v.nii.gz"
    nibabel.save(image, path)
    data = gzip.decompress(path.read_bytes())
    path = tmp_path / f"volume{end}"
    path.write_bytes(gzip.compress(data) if end.lower().endswith(".gz") else data)
    assert np.array_equal(read_volume(path).values, VALUES.transpose(2, 1, 0))


def test_values_are_scaled_as_the_header_says(tmp_path):
    image = nibabel.Nifti1Image(VALUES.astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_slope_inter(0.5, -10)
    nibabel.save(image, tmp_path / "v.nii")
    stored = nibabel.load(tmp_path / "v.nii").get_fdata()
    assert np.allclose(read_volume(tmp_path / "v.nii").values, stored.transpose(2, 1, 0))


def nan(path):
    write_volume(path, np.where(VALUES == 7, np.nan, VALUES), dtype=np.float32)


def infinite(path):
    write_volume(path, np.where(VALUES == 7, 1e300, VALUES), dtype=np.float64)


def four_dimensions(path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4)), path)


def colours(path):
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), path)


def cut_short(path):
    write_volume(path, np.random.default_rng(0).integers(0, 999, (20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-300])


def shorter_than_declared(path):
    data = gzip.decompress(write_volume(path, VALUES).read_bytes())
    path.write_bytes(gzip.compress(data[:-20]))


def one_byte_changed(path):
    data = bytearray(write_volume(path, VALUES).read_bytes())
    data[-6] ^= 1  # in gzip's checksum
    path.write_bytes(data)


def absurd_size(path):
    data = bytearray(gzip.decompress(write_volume(path, VALUES).read_bytes()))
    data[42:48] = struct.pack("<3h", 32767, 32767, 32767)
    path.write_bytes(gzip.compress(bytes(data)))


def negative_size(path):
    data = bytearray(gzip.decompress(write_volume(path, VALUES).read_bytes()))
    data[42:48] = struct.pack("<3h", 3, -4, 5)
    path.write_bytes(gzip.compress(bytes(data)))


def long_slices(path):
    write_volume(path, np.zeros((9000, 1, 1)))


def foreign(path):
    path.write_bytes(gzip.compress(b"no volume at all" * 100))


def empty(path):
    path.write_bytes(b"")


def not_gzip(path):
    path.write_bytes(b"no gzip either")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (nan, "voxels that are not finite numbers"),
        (infinite, "voxels that are not finite numbers"),
        (four_dimensions, "has 4 dimensions, and a volume has 3"),
        (colours, "has voxels of type"),
        (cut_short, "is cut short or damaged"),
        (shorter_than_declared, "is cut short or damaged"),
        (one_byte_changed, "is cut short or damaged: it cannot be decompressed"),
        (absurd_size, "declares 32767 x 32767 x 32767 voxels and is cut short or damaged"),
        (negative_size, "declares 3 x -4 x 5 voxels"),
        (long_slices, "is 9000 x 1 pixels"),
        (foreign, "is no NIfTI file"),
        (empty, "is no NIfTI file"),
        (not_gzip, "is cut short or damaged: it cannot be decompressed"),
    ],
)
def test_a_bad_file_is_refused_by_name_in_one_sentence(tmp_path, capfd, broken, sentence):
    path = tmp_path / "bad.nii.gz"
    broken(path)
    with pytest.raises(FrameError, match=sentence) as refused:
        read_brain(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FrameError, match="does not exist"):
        read_volume(tmp_path / "nothing.nii")


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("adae_edge.decoding.nifti.MAX_BYTES", 2**20)
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(bytes(2**20 + 1)))
    with pytest.raises(FrameError, match="is larger than 1 MiB"):
        read_volume(tmp_path / "v.nii.gz")


def test_any_damage_of_a_header_is_refused_or_read(tmp_path):
    data = gzip.decompress(write_volume(tmp_path / "v.nii.gz", VALUES).read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / "damaged.nii"
    for _ in range(300):
        damaged = bytearray(data)
        for at in random.integers(0, 352, 4):
            damaged[at] = random.integers(0, 256)
        path.write_bytes(damaged)
        refusal = ""
        try:
            assert np.isfinite(read_brain(path).values).all()
        except FrameError as refused:
            refusal = str(refused)
        assert refusal == "" or str(path) in refusal


def test_the_brain_of_a_skull_stripped_volume_is_what_is_not_0(tmp_path):
    values, _ = head(0)
    brain = read_brain(write_volume(tmp_path / "v.nii.gz", values))
    inside = values[values != 0]
    assert brain.mean == pytest.approx(inside.mean())
    assert brain.std == pytest.approx(inside.std())
    area = (values != 0).sum((0, 1))
    assert brain.shown.tolist() == np.flatnonzero(area >= 0.2 * area.max()).tolist()
    assert 0 < len(brain.shown) < values.shape[2]


def test_a_mask_says_where_the_brain_is(tmp_path):
    values, _ = head(0)
    skull = np.where(values == 0, 999, values)
    volume = write_volume(tmp_path / "v.nii.gz", skull, "PSR")
    masked = read_brain(
        volume, write_volume(tmp_path / "m.nii.gz", (values != 0) * 207, "RAS", np.uint8)
    )
    stripped = read_brain(write_volume(tmp_path / "s.nii.gz", values))
    assert np.array_equal(masked.values, stripped.values)
    assert np.array_equal(masked.shown, stripped.shown)
    assert masked._replace(volume=None, inside=None, shown=None) == stripped._replace(
        volume=None, inside=None, shown=None
    )


@pytest.mark.parametrize(
    ("values", "mask", "sentence"),
    [
        (np.zeros((4, 4, 4)), None, "v.nii.gz shows no brain: every voxel is background"),
        (
            np.ones((4, 4, 4)),
            np.zeros((4, 4, 4)),
            "v.nii.gz shows no brain: every voxel inside its mask is background",
        ),
        (
            np.pad(np.full((4, 4, 4), 7), 1),
            None,
            "v.nii.gz shows nothing: every voxel of the brain is 7",
        ),
        (
            VALUES,
            np.ones((3, 4, 6)),
            "m.nii.gz has the shape 3 x 4 x 6, and .*v.nii.gz, which it masks, has 3 x 4 x 5",
        ),
    ],
)
def test_a_volume_without_a_brain_is_refused(tmp_path, values, mask, sentence):
    volume = write_volume(tmp_path / "v.nii.gz", values)
    mask = None if mask is None else write_volume(tmp_path / "m.nii.gz", mask)
    with pytest.raises(FrameError, match=sentence):
        read_brain(volume, mask)


def test_a_mask_bears_its_volumes_name(tmp_path):
    masks = [tmp_path / name for name in ("IXI2_T1_DLMUSE.nii.gz", "IXI21_T1_DLMUSE.nii")]
    assert mask_of(tmp_path / "IXI2_T1.nii.gz", masks) == masks[0]
    assert mask_of(tmp_path / "IXI21_T1.NII", masks) == masks[1]
    assert mask_of(tmp_path / "IXI3_T1.nii.gz", masks) is None
    with pytest.raises(FrameError, match="more than one brain mask"):
        mask_of(tmp_path / "IXI2_T1.nii.gz", [*masks, tmp_path / "IXI2_T1_mask.nii.gz"])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("BraTS20_Training_001_flair.nii", "flair"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "flair"),
        ("BraTS2021_00000_t1ce.nii.gz", "t1ce"),
        ("T1_study_07_t2.nii.gz", "t2"),
        ("T1w_acpc_dc_restore.nii.gz", "t1"),
        ("IXI002-Guys-0828-T1.nii.gz", "t1"),
        ("IXI002-Guys-0828-T1_DLMUSE.nii.gz", None),
        ("BraTS20_Training_355_W39_1998.09.19_Segm.nii", None),
        ("GT_W.nii.gz", None),
        ("brainmask_fs.nii.gz", None),
        ("flair_mask.nii.gz", None),
        ("scan7.nii.gz", None),
    ],
)
def test_names_say_what_a_volume_shows(name, shown):
    assert modality_of(Path(name)) == shown
    for modality in ("flair", "t1", "t1ce", "t2"):
        assert volumes_of([Path(name)], modality) == ([Path(name)] if modality == shown else [])


def test_without_a_modality_every_volume_and_no_mask():
    names = ["a.nii", "a_mask.nii", "b_T1.nii", "T1w_restore.nii", "T1w_restore_brain.nii"]
    assert [path.name for path in volumes_of(map(Path, names), None)] == ["T1w_restore_brain.nii"]
    assert [path.name for path in volumes_of(map(Path, names[:3]), None)] == ["a.nii", "b_T1.nii"]


def scaled(path, values, kind):
    """Write a volume as nibabel does where a float volume is saved with another type."""
    image = nibabel.Nifti1Image(np.asarray(values, np.float64), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.set_data_dtype(kind)
    nibabel.save(image, path)
    return path


def normalised(shift=0.0):
    """A head whose brain has the mean 0 and whose background is ``shift``."""
    values = head(3)[0].astype(float)
    brain = values > 0
    values[brain] = (values[brain] - values[brain].mean()) / values[brain].std() * 100
    return np.where(brain, values, shift), brain


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("shift", [0, -1000, 250.5])
def test_the_brain_is_the_same_however_the_volume_is_stored(kind, shift, tmp_path):
    values, brain = normalised(shift)
    whole = read_brain(scaled(tmp_path / "float.nii.gz", values, np.float64))
    other = read_brain(scaled(tmp_path / "other.nii.gz", values, kind))
    # a type of 8 bits has few values, and some of the brain have the background's
    part = 0.04 if kind == np.uint8 else 0.001
    assert np.array_equal(whole.shown, other.shown)
    assert np.mean((other.values != 0) != (whole.values != 0)) < part
    assert abs(other.mean - whole.mean) < 100 * part
    assert abs(other.std / whole.std - 1) < part
    assert (whole.values != 0).sum() == brain.sum()


def test_a_voxel_of_the_brain_whose_value_is_0_is_no_background(tmp_path):
    values, brain = normalised(-500)
    values[brain] = (values[brain] / 40).round()
    read = read_brain(scaled(tmp_path / "v.nii.gz", values, np.int16))
    assert (values == 0).sum() > 10
    assert (read.values != 0).sum() == brain.sum()


def test_a_volume_of_four_dimensions_of_which_the_last_is_1(tmp_path):
    values = head(1)[0]
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values[..., None], affine), tmp_path / "four.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "three.nii.gz")
    four, three = (read_brain(tmp_path / f"{name}.nii.gz") for name in ("four", "three"))
    assert np.array_equal(four.values, three.values)


@pytest.mark.parametrize("labels", [(4,), (1, 2, 4), tuple(range(1, 13))])
def test_labels_are_never_a_picture_whatever_their_name(labels, tmp_path):
    random = np.random.default_rng(0)
    values = np.where(head(1)[0] > 0, random.choice(labels, head(1)[0].shape), 0)
    with pytest.raises(FrameError, match=r"labels|of the brain is 4"):
        read_brain(write_volume(tmp_path / "mine.nii.gz", values))


@pytest.mark.parametrize("field", ["scl_slope", "scl_inter"])
@pytest.mark.parametrize("number", [np.inf, -np.inf])
def test_a_slope_that_is_no_number_is_refused(field, number, tmp_path):
    path = write_volume(tmp_path / "v.nii", head(1)[0])
    data = bytearray(path.read_bytes())
    offset = {"scl_slope": 112, "scl_inter": 116}
    data[112:120] = np.array([1, 0], "<f4").tobytes()
    data[offset[field] : offset[field] + 4] = np.array([number], "<f4").tobytes()
    path.write_bytes(data)
    with pytest.raises(FrameError, match="not finite"):
        read_brain(path)


def test_what_lies_outside_of_a_mask_need_be_no_number(tmp_path):
    values = head(1)[0].astype(float)
    brain = values > 0
    values[~brain] = np.nan
    path = scaled(tmp_path / "v.nii.gz", values, np.float32)
    with pytest.raises(FrameError, match="not finite"):
        read_brain(path)
    read = read_brain(path, scaled(tmp_path / "m.nii.gz", brain * 0.9, np.int16))
    assert (read.values != 0).sum() == brain.sum()


def test_a_brain_mask_beside_a_volume_is_used_and_a_tumour_s_is_not(tmp_path):
    values = head(1)[0]
    inside = values > 0
    skull = np.where(inside, values, 1)  # nothing is background
    write_volume(tmp_path / "a_T1.nii.gz", skull)
    write_volume(tmp_path / "a_T1_mask.nii.gz", inside)
    write_volume(tmp_path / "b_T1.nii.gz", values)
    write_volume(tmp_path / "b_T1_seg.nii.gz", inside & (values > 400))
    for place in (tmp_path, tmp_path / "a_T1.nii.gz"):
        items = list(Volumes(str(place), Wanted("modality")))
        note, *frames = items[: 1 + sum(inside.any(axis=(0, 1)))]
        assert note.kind == "note"
        assert "a_T1_mask.nii.gz" in note.detail
        assert all((frame.pixels == 0).any() for frame in frames)
    assert sum(isinstance(item, Event) for item in Volumes(str(tmp_path), Wanted("modality"))) == 1
    assert {frame.decoding for frame in frames} == {"volumes 2"}
