"""Brain data sets: layouts, labels, the split by patient, refusals, and from volumes to scores."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from adae_edge.errors import CheckpointError, DatasetError, FrameError, UsageError
from adae_edge.export import exporter
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.model import load_network
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Scorer
from adae_edge.runtime.sources.registry import open_for, open_source
from adae_edge.runtime.sources.source import Wanted
from adae_edge.train.data.brain import MIN_TUMOUR
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.data.splits import split
from adae_edge.train.evaluate import evaluate
from adae_edge.train.loading import score_frames
from adae_edge.train.settings import describe
from tests.support.models import complaints, run
from tests.support.pictures import write_pictures
from tests.support.shared import real
from tests.support.trained import settings_for, train_on
from tests.support.volumes import head, read_brain, write_patients, write_volume


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    return write_patients(tmp_path_factory.mktemp("brats"))


@pytest.fixture(scope="module")
def dataset(patients):
    return load_dataset(f"brats:{patients}")


@pytest.fixture(scope="module")
def trained(patients, tmp_path_factory):
    """A checkpoint and its model file."""
    folder = tmp_path_factory.mktemp("trained")
    train_on(f"brats:{patients}", folder / "c.safetensors", epochs=3)
    exported = exporter.export(folder / "c.safetensors", folder / "m.onnx")
    assert exported.parity.flipped == 0
    return folder


LAYOUTS = {
    "2017": {"name": "HGG/Brats17_CBICA_{:03}_1"},
    "2020": {"name": "BraTS20_Training_{:03}", "end": ".nii"},
    "2021": {"name": "BraTS2021_{:05}"},
    "2023": {"name": "BraTS-GLI-{:05}-000", "volume": "-t2f", "mask": "-seg"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_brats(tmp_path, layout):
    options = {"volume": "_flair", "mask": "_seg", "end": ".nii.gz"} | LAYOUTS[layout]
    others = ("-t1n", "-t1c", "-t2w") if layout == "2023" else ("_t1", "_t1ce", "_t2")
    for number in range(2):
        values, tumour = head(number, tumour=True)
        patient = tmp_path / options["name"].format(number)
        for times, modality in enumerate(others, start=2):
            write_volume(patient / f"{patient.name}{modality}{options['end']}", values * times)
        write_volume(patient / f"{patient.name}{options['volume']}{options['end']}", values)
        write_volume(patient / f"{patient.name}{options['mask']}{options['end']}", tumour * 4)
    dataset = load_dataset(f"brats:{tmp_path}")
    assert len(np.unique(dataset.groups)) == 2
    last = read_brain(patient / f"{patient.name}{options['volume']}{options['end']}")
    assert np.array_equal(
        dataset.frames[len(dataset.frames) - 1][..., 0], last.values[last.shown[-1]]
    )
    for times, modality in enumerate(("t1", "t1ce", "t2"), start=2):
        other = load_dataset(f"brats:{tmp_path}", modality=modality)
        assert np.array_equal(other.anomalous, dataset.anomalous)
        assert np.allclose(other.statistics, dataset.statistics * times)


def test_the_layout_of_the_shared_cases(tmp_path):
    values, tumour = head(0, tumour=True)
    for name, content in (("FLAIR", values), ("T1", values + 1), ("GT_W", tumour)):
        write_volume(tmp_path / "case_0" / f"{name}.nii.gz", content, dtype=np.float32)
    assert load_dataset(f"brats:{tmp_path}").anomalous.any()


def test_a_patient_who_was_examined_twice_is_one_patient(tmp_path):
    for visit in ("000", "001"):
        write_patients(tmp_path, 2, "BraTS-GLI-{:05}-" + visit, "-t2f", "-seg")
    assert len(np.unique(load_dataset(f"brats:{tmp_path}").groups)) == 2


def test_labels_and_the_slices_that_are_left_out(tmp_path):
    values, _ = head(0)
    tumour = np.zeros(values.shape, bool)
    middle = values.shape[2] // 2
    for index, count in ((middle, MIN_TUMOUR), (middle + 1, MIN_TUMOUR - 1), (middle + 2, 1)):
        tumour[:, :, index].flat[np.flatnonzero(values[:, :, index])[:count]] = True
    write_volume(tmp_path / "p" / "p_flair.nii.gz", values)
    write_volume(tmp_path / "p" / "p_seg.nii.gz", tumour)
    dataset = load_dataset(f"brats:{tmp_path}")
    brain = read_brain(tmp_path / "p" / "p_flair.nii.gz")
    expected = [index for index in brain.shown if index not in (middle + 1, middle + 2)]
    frames = [dataset.frames[index].tobytes() for index in range(len(dataset.frames))]
    assert frames == [brain.values[index].tobytes() for index in expected]
    assert dataset.anomalous.tolist() == [index == middle for index in expected]
    assert dataset.statistics == pytest.approx(
        np.tile([brain.mean, brain.std], (len(expected), 1)), rel=1e-6
    )


def test_values_that_16_bits_cannot_hold_stay_as_they_are(tmp_path):
    values, tumour = head(0, tumour=True)
    values = values * 0.37 + (values > 0) * 1e5
    write_volume(tmp_path / "p" / "p_flair.nii.gz", values, dtype=np.float32)
    write_volume(tmp_path / "p" / "p_seg.nii.gz", tumour)
    dataset = load_dataset(f"brats:{tmp_path}")
    assert dataset.frames[0].dtype == np.float32
    brain = read_brain(tmp_path / "p" / "p_flair.nii.gz")
    assert np.array_equal(dataset.frames[0][..., 0], brain.values[brain.shown[0]])


def test_patients_stay_whole_and_five_seeds_test_each_once(dataset):
    tested = []
    for seed in range(5):
        parts = split(dataset.anomalous, seed, dataset.groups)
        of = {
            name: set(dataset.groups[getattr(parts, name)])
            for name in ("train", "calibration", "test")
        }
        assert of["train"].isdisjoint(of["calibration"])
        assert of["test"].isdisjoint(of["train"] | of["calibration"])
        assert set.union(*of.values()) == set(dataset.groups)
        assert len(of["calibration"]) == 1
        assert not dataset.anomalous[np.concatenate([parts.train, parts.calibration])].any()
        assert len(parts.test) == np.isin(dataset.groups, list(of["test"])).sum()
        tested += of["test"]
    assert sorted(tested) == sorted(set(dataset.groups))
    first, again = (split(dataset.anomalous, 0, dataset.groups) for _ in range(2))
    for name in ("train", "calibration"):
        # whoever takes the first of them takes slices from everywhere
        part = getattr(first, name)
        assert not np.array_equal(part, np.sort(part))
        assert np.array_equal(part, getattr(again, name))
    assert not np.array_equal(
        split(dataset.anomalous, 5, dataset.groups).test,
        split(dataset.anomalous, 0, dataset.groups).test,
    )


def test_healthy_volumes_with_masks_as_ixi_lays_them_out(tmp_path):
    for number in range(3):
        values, _ = head(number)
        skull = np.where(values == 0, 999, values)
        write_volume(tmp_path / "t1" / f"IXI{number:03}-HH_T1.nii.gz", skull, "PSR")
        write_volume(
            tmp_path / "dlmuse_seg" / f"IXI{number:03}-HH_T1_DLMUSE.nii.gz",
            values != 0,
            "PSR",
            np.uint8,
        )
    dataset = load_dataset(f"nifti:{tmp_path}", modality="t1")
    assert not dataset.anomalous.any()
    assert len(np.unique(dataset.groups)) == 3
    assert (dataset.frames[0] == 0).any()
    assert not any((dataset.frames[index] == 999).any() for index in range(len(dataset.frames)))
    (tmp_path / "dlmuse_seg" / "IXI001-HH_T1_DLMUSE.nii.gz").unlink()
    with pytest.raises(
        DatasetError, match=r"no brain mask for .*IXI001-HH_T1.nii.gz, and others have one"
    ):
        load_dataset(f"nifti:{tmp_path}", modality="t1")


def test_healthy_volumes_as_hcp_lays_them_out(tmp_path):
    for person in ("100307", "100408"):
        values, _ = head(int(person))
        folder = tmp_path / person / "T1w"
        write_volume(folder / "T1w_acpc_dc_restore.nii.gz", values + 50)
        write_volume(folder / "T1w_acpc_dc_restore_brain.nii.gz", values)
        write_volume(folder / "brainmask_fs.nii.gz", values != 0, dtype=np.uint8)
        write_volume(folder / "aparc+aseg.nii.gz", values != 0)
    dataset = load_dataset(f"nifti:{tmp_path}", modality="t1")
    assert len(np.unique(dataset.groups)) == 2
    brain = read_brain(tmp_path / "100307" / "T1w" / "T1w_acpc_dc_restore_brain.nii.gz")
    assert np.array_equal(dataset.frames[0][..., 0], brain.values[brain.shown[0]])
    with pytest.raises(DatasetError, match="there are no flair volumes"):
        load_dataset(f"nifti:{tmp_path}")


@pytest.mark.parametrize("folders", [("T1w",), ("T1w", "MNINonLinear")])
def test_one_person_is_never_divided(tmp_path, folders):
    """HCP without the stripped volume, and HCP in two spaces: several volumes of a person."""
    for person in range(5):
        values, _ = head(person)
        for folder in folders:
            end = "_brain" if len(folders) > 1 else ""
            for name in ("T1w_acpc_dc", f"T1w_acpc_dc_restore{end}"):
                write_volume(tmp_path / f"1003{person:02}" / folder / f"{name}.nii.gz", values)
    dataset = load_dataset(f"nifti:{tmp_path}", modality="t1")
    assert len(np.unique(dataset.groups)) == 5
    shown = read_brain(tmp_path / "100300" / "T1w" / f"T1w_acpc_dc_restore{end}.nii.gz").shown
    assert len(dataset.frames) == 5 * 2 * len(shown)


def no_mask(patient):
    (patient / f"{patient.name}_seg.nii.gz").unlink()


def no_volume(patient):
    (patient / f"{patient.name}_flair.nii.gz").unlink()


def two_masks(patient):
    shutil.copy(patient / f"{patient.name}_seg.nii.gz", patient / f"{patient.name}_2_seg.nii.gz")


def mask_of_another_shape(patient):
    write_volume(patient / f"{patient.name}_seg.nii.gz", np.ones((40, 48, 23)))


def not_a_number(patient):
    values = head(0)[0].astype(np.float32)
    values[20, 20, 10] = np.nan
    write_volume(patient / f"{patient.name}_flair.nii.gz", values, dtype=np.float32)


def cut_short(patient):
    path = patient / f"{patient.name}_flair.nii.gz"
    path.write_bytes(path.read_bytes()[:-500])


def empty_brain(patient):
    write_volume(patient / f"{patient.name}_flair.nii.gz", np.zeros((40, 48, 24)))


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (no_mask, "BraTS2021_00001 has no mask of the tumour"),
        (no_volume, "BraTS2021_00001 has no flair volume"),
        (
            two_masks,
            "BraTS2021_00001 has more than one mask of the tumour: BraTS2021_00001_2_seg.nii.gz "
            "and ",
        ),
        (
            mask_of_another_shape,
            "BraTS2021_00001_seg.nii.gz has another shape than .*BraTS2021_00001_flair.nii.gz",
        ),
        (not_a_number, "BraTS2021_00001_flair.nii.gz has voxels that are not finite numbers"),
        (cut_short, "BraTS2021_00001_flair.nii.gz is cut short or damaged"),
        (empty_brain, "BraTS2021_00001_flair.nii.gz shows no brain"),
    ],
)
def test_damaged_patients_are_refused_by_name(tmp_path, broken, sentence):
    write_patients(tmp_path, 2)
    broken(tmp_path / "BraTS2021_00001")
    with pytest.raises(DatasetError, match=sentence):
        load_dataset(f"brats:{tmp_path}")


def test_wrong_use_is_refused(tmp_path, dataset):
    with pytest.raises(UsageError, match="there is no folder"):
        load_dataset(f"brats:{tmp_path / 'nowhere'}")
    with pytest.raises(DatasetError, match="there are no NIfTI volumes"):
        load_dataset(f"brats:{tmp_path}")
    with pytest.raises(UsageError, match="there is no modality pet: choose flair, t1, t1ce, t2"):
        load_dataset(f"brats:{tmp_path}", modality="pet")
    with pytest.raises(UsageError, match="--modality is for the volumes"):
        load_dataset("digits", 0, modality="t1")
    with pytest.raises(UsageError, match="--anomalous chooses a class"):
        load_dataset(f"brats:{tmp_path}", 1)
    with pytest.raises(DatasetError, match="4 patients cannot be split into 5 parts"):
        split(np.zeros(8, bool), 0, np.arange(8) // 2)
    with pytest.raises(DatasetError, match="no normal slices"):
        split(np.ones(10, bool), 0, np.arange(10) // 2)
    with pytest.raises(UsageError, match="--pad-value is a grey level"):
        settings_for(dataset, "brats:.", pad_value=100.0)


def test_z_scores_are_clipped_and_the_background_and_the_padding_are_the_lowest():
    frames = torch.zeros(2, 4, 6, 1)
    frames[0, 1:3, 1:5] = torch.tensor([[60.0, 100, 120, 900], [100, 100, -900, 100]])[..., None]
    frames[1] = 10 * frames[0]
    mean, std = torch.tensor([100.0, 1000]), torch.tensor([20.0, 200])
    x = Preprocess(8, "pad", z_range=4.0)(frames, mean, std)
    assert torch.allclose(x[0], x[1])
    assert x.shape == (2, 1, 8, 8)
    assert torch.equal(x[0, 0, 0], torch.full((8,), -1.0))
    exact = Preprocess(6, "stretch", z_range=4.0).standardise(frames, mean, std)[0, 1:3, 1:5, 0]
    assert torch.allclose(exact, torch.tensor([[-0.5, 0, 0.25, 1], [0, 0, -1, 0]]))


def test_the_exported_file_scores_volumes_as_pytorch_does(trained, patients, tmp_path):
    checkpoint = Checkpoint.load(trained / "c.safetensors")
    contract = modelfile.read(trained / "m.onnx").contract
    assert (contract.kind, contract.z_range, contract.resize, contract.side) == (
        "modality",
        5.0,
        "pad",
        32,
    )
    _, expected, unseen = evaluate(checkpoint)
    folders = sorted(patients.iterdir())
    tested = np.unique(unseen.dataset.groups[unseen.indices])
    scores = {}
    for group in tested:
        volume = next(folders[group].glob("*_flair.nii.gz"))
        rows = tmp_path / f"{group}.jsonl"
        scored = run("score", trained / "m.onnx", volume, "--to", f"jsonl:{rows}", cwd=tmp_path)
        assert (scored.returncode, complaints(scored)) == (0, [])
        results = [json.loads(line) for line in rows.read_text().splitlines()]
        assert [row["frame"] for row in results] == read_brain(volume).shown.tolist()
        slices = read_brain(volume).values
        scores |= {slices[row["frame"]].tobytes(): row["score"] for row in results}
    ours = [scores[unseen.dataset.frames[int(index)].tobytes()] for index in unseen.indices]
    assert len(ours) > 10
    assert ours == pytest.approx(expected, rel=1e-5)


def test_the_checkpoint_carries_what_the_gate_needs(trained, dataset):
    checkpoint = Checkpoint.load(trained / "c.safetensors")
    mean, std = checkpoint.statistics
    assert len(checkpoint.references) == len(mean) == len(std) > 0
    parts = split(dataset.anomalous, 0, dataset.groups)
    assert np.array_equal(checkpoint.references[0], dataset.frames[int(parts.calibration[0])])
    assert np.array_equal(mean, dataset.statistics[parts.calibration, 0])
    scores, _ = score_frames(load_network(checkpoint), dataset, parts.calibration)
    assert np.median(scores) == pytest.approx(
        checkpoint.contract.calibration.quantiles[50], rel=1e-5
    )


def test_a_checkpoint_whose_references_lack_their_statistics_is_refused(trained, tmp_path):
    checkpoint = Checkpoint.load(trained / "c.safetensors")
    for broken in ([], checkpoint.statistics[:1], [values[1:] for values in checkpoint.statistics]):
        dataclasses.replace(checkpoint, statistics=broken).save(tmp_path / "c.safetensors")
        with pytest.raises(CheckpointError, match="no checkpoint of adae-edge"):
            Checkpoint.load(tmp_path / "c.safetensors")


def test_an_export_without_reference_frames_takes_volumes(patients, tmp_path):
    train_on(
        f"brats:{patients}", tmp_path / "c.safetensors", epochs=1, network="a", references=False
    )
    assert not Checkpoint.load(tmp_path / "c.safetensors").statistics
    with pytest.raises(UsageError, match="--frames"):
        exporter.export(tmp_path / "c.safetensors", tmp_path / "m.onnx")
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    shutil.copy(next(patients.rglob("*_flair.nii.gz")), volumes)
    assert (
        exporter.export(
            tmp_path / "c.safetensors", tmp_path / "m.onnx", frames=volumes
        ).parity.scores
        > 60
    )
    (volumes / "a_flair.nii.gz").write_bytes(b"damaged")
    with pytest.raises(FrameError, match=r"a_flair\.nii\.gz is cut short or damaged"):
        exporter.export(tmp_path / "c.safetensors", tmp_path / "m.onnx", frames=volumes)


def test_healthy_volumes_set_another_threshold(trained, tmp_path):
    model = shutil.copy(trained / "m.onnx", tmp_path / "m.onnx")
    for number in range(8):
        values, _ = head(number + 50)
        write_volume(tmp_path / "healthy" / f"h{number}.nii.gz", np.where(values == 0, 7, values))
        write_volume(tmp_path / "masks" / f"h{number}_mask.nii.gz", values != 0)
    done = run("calibrate", model, "healthy", "--brain-mask", "masks", "--fpr", 0.05, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = (
        modelfile.read(path).contract.calibration for path in (trained / "m.onnx", model)
    )
    assert after.normals > 100
    assert after.threshold != before.threshold


def test_of_a_folder_the_volumes_of_the_model_s_modality_are_scored(trained, tmp_path):
    """Masks and other modalities are no normals, and would set the threshold."""
    values, tumour = head(99, tumour=True)
    for name, content in (
        ("p_flair", values),
        ("p_t1", values),
        ("p_seg", tumour * 4),
        ("p_brain_mask", values > 0),
    ):
        write_volume(tmp_path / "p" / f"{name}.nii.gz", content)
    contract = modelfile.read(trained / "m.onnx").contract
    assert contract.modality == "flair"
    frames = list(open_for(contract, str(tmp_path)))
    assert {frame.source for frame in frames} == {str(tmp_path / "p" / "p_flair.nii.gz")}
    (tmp_path / "p" / "p_flair.nii.gz").unlink()
    for place in (tmp_path, tmp_path / "p" / "p_t1.nii.gz", tmp_path / "p" / "p_seg.nii.gz"):
        with pytest.raises(UsageError, match="gives no flair volumes by their names"):
            open_for(contract, str(place))
    assert "of flair volumes" in modelfile.describe(modelfile.read(trained / "m.onnx"))


def test_the_promise_is_for_the_patients_that_calibrated(trained, dataset):
    assert "slices of 1 patient calibrate" in describe(dataset, settings_for(dataset, "brats:."))
    done = run("inspect", "m.onnx", cwd=trained)
    assert "with 95 % confidence, for slices of the patients that calibrated it\n" in done.stdout


def test_what_is_no_volume_is_refused_for_a_model_of_slices_and_the_reverse(
    trained, patients, small_model, tmp_path
):
    (tmp_path / "i.onnx").write_bytes(small_model)
    (tmp_path / "picture.png").write_bytes(b"")
    (tmp_path / "scan.dcm").write_bytes(b"")
    volume = next(patients.rglob("*_flair.nii.gz"))
    for arguments, sentence in (
        (
            (trained / "m.onnx", "picture.png"),
            "picture.png gives no NIfTI volumes and no DICOM series",
        ),
        ((trained / "m.onnx", "scan.dcm"), "scan.dcm gives DICOM series, which show the skull"),
        ((trained / "m.onnx", "camera:0"), "camera:0 gives pictures, and this model takes the"),
        (("i.onnx", volume), "is a volume, and this model takes pictures"),
        (
            ("i.onnx", ".", "--brain-mask", volume),
            "a brain mask goes with a model for the slices of volumes",
        ),
        ((trained / "m.onnx", volume, "--brain-mask", "nowhere"), "there is no nowhere"),
        ((trained / "m.onnx", patients, "--brain-mask", volume), "has no brain mask for"),
        ((trained / "m.onnx", patients, "--brain-mask", patients), "holds all volumes of"),
        (
            (trained / "m.onnx", volume.parent, "--brain-mask", patients),
            "keep masks in a folder of their own",
        ),
        ((trained / "m.onnx", volume, "--window", "40,400"), "--window is for pictures"),
    ):
        done = run("score", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert len(complaints(done)) == 1
        assert sentence in done.stderr


def test_a_damaged_volume_does_not_stop_the_others(trained, patients, tmp_path):
    shutil.copy(next(patients.rglob("*_flair.nii.gz")), tmp_path / "b.nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(b"damaged")
    done = run("score", trained / "m.onnx", tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    assert "a.nii.gz is cut short or damaged" in done.stderr
    assert "b.nii.gz" in done.stdout


def test_the_scorer_refuses_what_is_no_slice(trained, small_model, tmp_path):
    scorer = Scorer(trained / "m.onnx")
    frames, one = np.ones((2, 9, 9, 1), np.float32), np.ones(2, np.float32)
    assert scorer.score(frames, one, one).shape == (2,)
    broken = frames.copy()
    broken[1, 2, 3] = np.nan
    for inputs, sentence in (
        ((frames.astype(np.uint8), one, one), "frames are a float32 array"),
        ((frames,), "takes a mean and a standard deviation"),
        ((frames, one, one[:1]), "one finite number for each frame"),
        ((frames, one * np.inf, one), "one finite number for each frame"),
        ((frames, one, one * 0), "a standard deviation is above 0"),
        ((broken, one, one), "values that are not finite numbers"),
    ):
        with pytest.raises(FrameError, match=sentence):
            scorer.score(*inputs)
    (tmp_path / "i.onnx").write_bytes(small_model)
    with pytest.raises(FrameError, match="takes pictures, which have no mean"):
        Scorer(tmp_path / "i.onnx").score(frames.astype(np.uint8), one, one)


def test_inspect_and_bench_know_slices(trained):
    described = modelfile.describe(modelfile.read(trained / "m.onnx"))
    assert "float32 [N, H, W, 1] in modality units, with mean and std float32 [N]" in described
    assert "5 standard deviations become 1" in described
    options = ("--batch", "1,2", "--size", "24x24", "--seconds", "0.1")
    done = run("bench", trained / "m.onnx", *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "24x24" in done.stdout


def test_evaluation_refuses_frames_of_the_other_kind(trained, tmp_path):
    checkpoint = Checkpoint.load(trained / "c.safetensors")
    checkpoint.training["settings"]["modality"] = None
    with pytest.raises(UsageError, match=r"takes frames of kind modality, and .* has image"):
        evaluate(checkpoint, str(write_pictures(tmp_path / "data", 5)))


def test_the_report_shows_slices(trained):
    done = run("evaluate", "c.safetensors", "--out", "report", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
    assert (trained / "report" / "report.html").stat().st_size > 10_000


def test_the_real_cases():
    folder = real("brain/brats2018", "brats2018")
    dataset = load_dataset(f"brats:{folder}", modality="flair")
    assert len(np.unique(dataset.groups)) == 10
    assert len(dataset.frames) == len(dataset.anomalous) == 1112
    assert dataset.anomalous.sum() == 650
    assert dataset.frames[0].shape == (240, 240, 1)
    source = open_source(str(folder / "case_0" / "FLAIR.nii.gz"), Wanted("modality"))
    frames = list(source)
    assert len(frames) > 100
    z = (frames[50].pixels - frames[50].mean) / frames[50].std
    assert np.abs(z[frames[50].pixels != 0].mean()) < 1
