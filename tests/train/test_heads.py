"""Models of whole heads and of masked brains: NIfTI volumes and series have the same scores."""

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from adae_edge.errors import DatasetError, UsageError
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.runtime import Scorer
from adae_edge.runtime.frame import Frame
from adae_edge.runtime.sources.registry import open_for
from adae_edge.train.data.dataset import Viewing
from adae_edge.train.data.opening import load_dataset
from tests.support.heads import scan
from tests.support.models import complaints, run
from tests.support.series import turned, write_enhanced, write_series

PEOPLE = 6


def write_nifti(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(turned(values, **options), path)
    return path


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """The same people as NIfTI volumes with brain masks, and as DICOM series."""
    folder = tmp_path_factory.mktemp("heads")
    for person in range(PEOPLE):
        values, brain = scan(person)
        write_nifti(folder / "nifti" / f"p{person}_T1.nii.gz", values)
        write_nifti(folder / "masks" / f"p{person}_T1_mask.nii.gz", brain)
        write_series(folder / "dicom" / f"p{person}", turned(values), PatientID=f"p{person}")
        write_nifti(folder / "masks-of-series" / f"p{person}_brain.nii.gz", brain)
    return folder


@pytest.fixture(scope="module")
def models(heads, tmp_path_factory):
    """Model files by their object, trained as a user trains them; of heads, on series."""
    folder = tmp_path_factory.mktemp("models")
    for name, arguments in {
        "head": (f"dicom:{heads / 'dicom'}", "--object", "head"),
        "mask": (
            *(f"nifti:{heads / 'nifti'}", "--modality", "t1"),
            *("--brain-mask", heads / "masks"),
        ),
    }.items():
        made = run("train", *arguments, "--out", f"{name}.safetensors", cwd=folder)
        assert (made.returncode, complaints(made)) == (0, []), made.stderr
        export(folder / f"{name}.safetensors", folder / f"{name}.onnx")
    return folder


def scores_of(model, place, brain_mask=None):
    """The score of each slice of a place, in order; what is no frame and no series' end fails."""
    with Scorer(model) as scorer:
        source = open_for(scorer.contract, str(place), brain_mask=brain_mask)
        frames = [item for item in source if getattr(item, "kind", "") != "series"]
        assert all(isinstance(frame, Frame) for frame in frames), frames
        batch = [np.stack([frame.pixels for frame in frames])]
        batch += [
            np.float32([getattr(frame, name) for frame in frames]) for name in ("mean", "std")
        ]
        return scorer.score(*batch)


@pytest.fixture(scope="module")
def head_as_nifti(tmp_path_factory):
    return write_nifti(tmp_path_factory.mktemp("head") / "v.nii.gz", scan(99)[0])


@pytest.mark.parametrize("axes", ["LPS", "RAI", "PSR", "ASL", "LSA", "SRP"])
def test_a_head_has_the_same_scores_as_nifti_and_as_a_series(tmp_path, models, head_as_nifti, axes):
    expected = scores_of(models / "head.onnx", head_as_nifti)
    image = turned(scan(99)[0], axes)
    order = np.random.default_rng(2).permutation(image.shape[2])
    write_series(tmp_path / "series", image, order, shift=1024)
    write_enhanced(tmp_path / "enhanced" / "e.dcm", image, order)
    for place in ("series", "enhanced"):
        scores = scores_of(models / "head.onnx", tmp_path / place)
        assert len(scores) > 10
        assert scores == pytest.approx(expected, rel=1e-5)


def middle_of(contract, place):
    """The frame in the middle of a volume, [H, W]."""
    frames = list(open_for(contract, str(place)))
    return frames[len(frames) // 2].pixels[..., 0]


def test_a_network_pixel_means_the_same_length_whatever_the_voxels(tmp_path, models, head_as_nifti):
    contract = modelfile.read(models / "head.onnx").contract
    assert (contract.object, contract.resize) == ("head", "stretch")
    assert contract.field_of_view == 50  # the largest head is 38 mm long
    frame = middle_of(contract, head_as_nifti)
    assert frame.shape == (50, 50)
    values = scan(99)[0]
    fine = values.repeat(2, axis=0).repeat(3, axis=1)
    path = write_nifti(tmp_path / "fine.nii.gz", fine, spacing=(0.5, 1 / 3, 2))
    finer = middle_of(contract, path)
    assert finer.shape == (150, 100)
    assert np.mean((finer[1::3, ::2] != 0) == (frame != 0)) > 0.95  # a voxel's shift apart
    framed = np.pad(values, ((20, 4), (0, 32), (0, 0)))
    path = write_nifti(tmp_path / "framed.nii.gz", framed)
    assert np.mean(middle_of(contract, path) != frame) < 0.01


def segmentation(path, slices, brain, moved=None, **changed):
    """Mark the brain in slices, by their own UIDs; or by where they lie, moved by some mm."""
    source = pydicom.dcmread(slices[0])
    data = Dataset()
    data.file_meta = source.file_meta
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Modality, data.SegmentationType = "SEG", "BINARY"
    data.FrameOfReferenceUID = source.FrameOfReferenceUID
    data.Rows, data.Columns, data.NumberOfFrames = source.Rows, source.Columns, len(slices)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = data.PixelRepresentation = 0
    data.PerFrameFunctionalGroupsSequence = []
    for slice_ in slices:
        image, derived, group = Dataset(), Dataset(), Dataset()
        header = pydicom.dcmread(slice_)
        if moved is None:
            image.ReferencedSOPInstanceUID = header.SOPInstanceUID
            derived.SourceImageSequence = [image]
            group.DerivationImageSequence = [derived]
        else:
            for macro, name, value in (
                ("PlanePosition", "ImagePositionPatient", header.ImagePositionPatient),
                ("PlaneOrientation", "ImageOrientationPatient", header.ImageOrientationPatient),
                ("PixelMeasures", "PixelSpacing", header.PixelSpacing),
            ):
                item = Dataset()
                setattr(item, name, value)
                setattr(group, f"{macro}Sequence", [item])
            group.PlanePositionSequence[0].ImagePositionPatient[0] += moved
        data.PerFrameFunctionalGroupsSequence.append(group)
    bits = np.concatenate([brain[:, :, number].T.ravel() for number in range(brain.shape[2])])
    data.PixelData = np.packbits(bits, bitorder="little").tobytes()
    data.PixelData += bytes(len(data.PixelData) % 2)
    for name, value in changed.items():
        setattr(data, name, value)
    path.parent.mkdir(exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def test_a_series_has_the_scores_of_the_masked_volume_by_either_kind_of_mask(tmp_path, models):
    values, brain = scan(98)
    nifti = write_nifti(tmp_path / "v.nii.gz", values)
    mask = write_nifti(tmp_path / "m.nii.gz", brain)
    expected = scores_of(models / "mask.onnx", nifti, mask)
    slices = write_series(tmp_path / "series", turned(values))
    segment = segmentation(tmp_path / "seg" / "s.dcm", slices, np.asarray(turned(brain).dataobj))
    for place in (mask, segment, segment.parent):
        scores = scores_of(models / "mask.onnx", tmp_path / "series", place)
        assert scores == pytest.approx(expected, rel=1e-5)
    unnamed = segmentation(
        tmp_path / "unnamed" / "s.dcm", slices, np.asarray(turned(brain).dataobj), moved=0.01
    )
    scores = scores_of(models / "mask.onnx", tmp_path / "series", unnamed)
    assert scores == pytest.approx(expected, rel=1e-5)
    beside = segmentation(tmp_path / "series" / "s.dcm", slices, np.asarray(turned(brain).dataobj))
    scores = scores_of(models / "mask.onnx", tmp_path / "series", beside)
    assert scores == pytest.approx(expected, rel=1e-5)


def test_a_mask_of_something_else_is_refused(tmp_path, models):
    values, brain = scan(98)
    slices = write_series(tmp_path / "series", turned(values))
    others = write_series(tmp_path / "others", turned(values))
    marks = np.asarray(turned(brain).dataobj)
    foreign = {"FrameOfReferenceUID": "1.2.3"}
    silent = segmentation(tmp_path / "e" / "s.dcm", slices, marks)
    data = pydicom.dcmread(silent)
    data.PerFrameFunctionalGroupsSequence[3].clear()
    data.save_as(silent)
    for mask, sentence in (
        (segmentation(tmp_path / "a" / "s.dcm", others, marks), "no segmentation names its slices"),
        (
            segmentation(tmp_path / "b" / "s.dcm", slices, marks, **foreign),
            "has another frame of reference than",
        ),
        (
            segmentation(tmp_path / "c" / "s.dcm", slices, marks, moved=0.2),
            "s.dcm, which names none, does not lie exactly on them",
        ),
        (
            segmentation(tmp_path / "d" / "s.dcm", slices, marks, moved=0.0, **foreign),
            "s.dcm, which names none, does not lie exactly on them",
        ),
        (silent, "has frames that name no slice, and others that do"),
        (write_nifti(tmp_path / "m.nii.gz", brain[1:]), "has the shape 39 x 48 x 16"),
        (write_nifti(tmp_path / "n.nii.gz", brain, spacing=(1, 1.2, 2)), "lies elsewhere"),
    ):
        done = run("score", models / "mask.onnx", "series", "--brain-mask", mask, cwd=tmp_path)
        (first, *_) = complaints(done)
        assert sentence in first
        assert done.returncode == 1


def test_a_model_of_brains_refuses_a_series_without_mask_and_names_the_ways_out(heads, models):
    for place in ("dicom", "nifti"):
        done = run("score", models / "mask.onnx", heads / place, cwd=heads)
        assert done.returncode != 0
        first = complaints(done)[0]
        assert "--brain-mask" in first
        assert "--object head" in first


def test_a_model_of_heads_takes_no_mask(heads, models):
    with pytest.raises(UsageError, match="looks at the whole head: leave out --brain-mask"):
        open_for(
            modelfile.read(models / "head.onnx").contract,
            str(heads / "nifti"),
            brain_mask=heads / "masks",
        )


def test_localisers_are_noted_and_pictures_are_counted(tmp_path, models):
    write_series(tmp_path / "a", turned(scan(97)[0]))
    write_series(tmp_path / "b", turned(scan(97)[0][:, :, :3]), SeriesNumber=1)
    done = run("score", models / "head.onnx", tmp_path, "--to", "jsonl:r.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert any("has 3 slices" in line for line in complaints(done))


def test_series_and_volumes_of_the_same_people_train_alike(heads):
    viewing = Viewing("head", chosen=True)
    one = load_dataset(f"dicom:{heads / 'dicom'}", viewing=viewing)
    other = load_dataset(f"nifti:{heads / 'nifti'}", modality="t1", viewing=viewing)
    assert one.field_of_view == other.field_of_view
    assert len(np.unique(one.groups)) == PEOPLE
    assert len(one.frames) == len(other.frames)
    assert all(map(np.array_equal, one.frames, other.frames))
    assert np.array_equal(one.statistics, other.statistics)
    assert one.acquisitions[0].manufacturer == "SIEMENS"
    assert other.acquisitions == []


def test_series_of_one_person_stay_together(tmp_path):
    for number in range(3):
        write_series(tmp_path / str(number), turned(scan(number)[0]), PatientID=f"p{number // 2}")
    dataset = load_dataset(f"dicom:{tmp_path}", viewing=Viewing("head", chosen=True))
    assert len(np.unique(dataset.groups)) == 2


@pytest.mark.parametrize(
    ("spec", "masks", "rule"),
    [("nifti", "masks", None), ("dicom", "masks-of-series", None), ("nifti", None, "head")],
)
def test_masks_and_rules_of_a_training(heads, spec, masks, rule):
    viewing = Viewing(rule, heads / masks if masks else None, chosen=True)
    modality = "t1" if spec == "nifti" else None
    dataset = load_dataset(f"{spec}:{heads / spec}", modality=modality, viewing=viewing)
    assert dataset.object == (rule or "mask")
    _, brain = scan(0)
    largest = max((dataset.frames[index] != 0).sum() for index in range(8))
    assert (largest > 1.2 * brain.sum(axis=(0, 1)).max()) == (rule == "head")


def test_a_checkpoint_keeps_what_was_looked_at(models, heads):
    checkpoint = Checkpoint.load(models / "mask.safetensors")
    assert checkpoint.training["settings"]["object"] == "mask"
    assert checkpoint.training["settings"]["brain_mask"] == str(heads / "masks")
    assert checkpoint.training["settings"]["field_of_view"] == checkpoint.contract.field_of_view
    evaluated = run("evaluate", models / "mask.safetensors", cwd=models)
    assert (evaluated.returncode, complaints(evaluated)) == (0, []), evaluated.stderr


@pytest.mark.parametrize(
    ("spec", "viewing", "error", "sentence"),
    [
        ("dicom:dicom", Viewing(), UsageError, "series show the skull: train on the whole head"),
        ("dicom:dicom", Viewing("brain"), UsageError, "there is no object brain: choose nonzero"),
        ("dicom:masks", Viewing("head"), DatasetError, "there are no DICOM series of volumes in"),
        ("dicom:nowhere", Viewing("head"), UsageError, "there is no folder"),
        ("brats:nifti", Viewing("head"), UsageError, "are skull-stripped: their object is nonzero"),
        ("digits", Viewing("head"), UsageError, "--object and --brain-mask are for the volumes"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(heads, monkeypatch, spec, viewing, error, sentence):
    monkeypatch.chdir(heads)
    with pytest.raises(error, match=sentence):
        load_dataset(spec, anomalous=0 if spec == "digits" else None, viewing=viewing)
