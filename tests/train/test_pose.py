"""Parts at any angle: the rule that turns them, the exported graph, and where the map lies."""

import numpy as np
import pytest
import torch

from adae_edge.contract import Form
from adae_edge.export.exporter import export
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.local import Local, grey_of
from adae_edge.model import load_network
from adae_edge.pose import Pose
from adae_edge.runtime import Scorer
from adae_edge.train.data.opening import load_dataset
from adae_edge.train.pose import Trial, choose_pose, fit_pose
from adae_edge.train.report import run_evaluation
from adae_edge.train.request import TrainRequest, plan
from adae_edge.train.trainer import train
from tests.support.parts import SHAPE, part, write_parts

ANGLES = np.arange(0.1, 2 * np.pi, 0.5)
CENTRES = ((0.45, 0.45), (0.5, 0.55), (0.55, 0.5))
SPOT = (22, 1)


def trained_on(folder, out):
    """A linear training on the folder's normals with the score local; returns what it tells."""
    notes = []
    dataset = load_dataset(str(folder))
    request = TrainRequest(data=str(folder), recipe="linear", score="local")
    train(dataset, plan(dataset, request), out, on_note=notes.append)
    return notes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of parts at any angle in frames that are not square."""
    place = tmp_path_factory.mktemp("turned")
    notes = trained_on(write_parts(place / "parts", 120, 0), place / "c.safetensors")
    assert notes[0].startswith("parts are turned upright: made-up defects on held-out normals")
    return place / "c.safetensors"


@pytest.fixture(scope="module")
def exported(trained):
    """Its model file, with an anomaly map of the frame's size."""
    out = trained.with_name("frame.onnx")
    export(trained, out, form=Form(anomaly_map="frame"))
    return out


def turned_parts(defect=None):
    """The same part at every angle, uint8 [N, H, W, 1], and where its spot lies."""
    made = [part(angle, CENTRES[n % 3], None, defect) for n, angle in enumerate(ANGLES)]
    return np.stack([picture for picture, _ in made])[..., None], [spot for _, spot in made]


def test_the_rule_turns_parts_at_any_angle_and_leaves_still_ones(trained, tmp_path):
    trial = Checkpoint.load(trained).training["pose"]
    assert trial["rigid"] > trial["none"] + 0.05
    note, *_ = trained_on(write_parts(tmp_path / "still", 60, 0, still=True), tmp_path / "s")
    assert note.startswith("parts are looked at as they lie")
    checkpoint = Checkpoint.load(tmp_path / "s")
    assert checkpoint.training["pose"]["none"] > 0.9
    assert load_network(checkpoint).local.pose is None


def test_an_evaluation_tells_the_pose(trained):
    evaluation, _ = run_evaluation(trained, None, None)
    told = [line for line in evaluation.table().splitlines() if line.startswith("pose")]
    assert told == [f"{'pose':<21}{Trial(**Checkpoint.load(trained).training['pose']).sentence()}"]
    assert "are turned upright" in told[0]


def test_a_part_scores_nearly_the_same_at_any_angle(exported):
    normal, _ = turned_parts()
    spoiled, _ = turned_parts(SPOT)
    with Scorer(exported) as scorer:
        low, high = scorer.score(normal), scorer.score(spoiled)
    assert high.std() < 0.05 * high.mean()
    assert low.max() < 0.3 * high.min()


def test_the_map_lies_on_the_defect_at_any_angle(exported):
    spoiled, spots = turned_parts(SPOT)
    with Scorer(exported) as scorer:
        _, maps = scorer.score_with_map(spoiled)
    assert maps.shape == spoiled.shape[:3]
    for pixels, spot in zip(maps, spots, strict=True):
        found = np.unravel_index(pixels.argmax(), pixels.shape)
        assert np.hypot(*np.subtract(found, spot)) < 6


def test_the_graph_computes_what_the_network_does(trained, exported):
    frames = np.concatenate([turned_parts()[0], turned_parts(SPOT)[0]])
    model = load_network(Checkpoint.load(trained))
    with torch.inference_mode():
        expected, pixels = model.local.with_map(model.preprocess(torch.from_numpy(frames)))
        pixels = model.preprocess.restore(pixels, *SHAPE).numpy()
    with Scorer(exported) as scorer:
        scores, maps = scorer.score_with_map(frames)
        alone = np.concatenate([scorer.score(frame[None]) for frame in frames])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    np.testing.assert_allclose(alone, scores, rtol=1e-4)
    np.testing.assert_allclose(maps, pixels, atol=2e-3)


def test_a_fixed_size_and_the_networks_map(trained, exported, tmp_path):
    form = Form(size=SHAPE, batch=2, anomaly_map="network")
    export(trained, tmp_path / "fixed.onnx", form=form)
    frames, _ = turned_parts(SPOT)
    with Scorer(tmp_path / "fixed.onnx") as fixed, Scorer(exported) as scorer:
        scores, maps = fixed.score_with_map(frames[:2])
        np.testing.assert_allclose(scores, scorer.score(frames[:2]), rtol=1e-4)
    assert maps.shape == (2, 64, 64)


@pytest.mark.parametrize("level", [0, 190, 255])
def test_a_frame_without_a_part_is_anomalous(exported, level):
    normal, _ = turned_parts()
    with Scorer(exported) as scorer:
        score = scorer.score(np.full((1, *SHAPE, 1), level, np.uint8))[0]
        assert np.isfinite(score)
        assert score > 2 * scorer.threshold
        assert score > scorer.score(normal).max()


def grey(pictures):
    """Pictures uint8 [N, H, W] as the network sees them in 64 x 64 pixels, 0 to 1."""
    frames = torch.from_numpy(np.stack(pictures))[:, None].float()
    small = torch.nn.functional.adaptive_avg_pool2d(frames, 64)
    return grey_of(small / 127.5 - 1)


@pytest.mark.parametrize("shape", [(96, 96), (96, 144), (144, 96)])
def test_a_canvas_shows_the_part_in_its_own_shape(shape):
    """The bar of 64 x 16 pixels keeps its length whatever its angle in a stretched frame."""
    pictures = grey([part(angle, shape=shape)[0] for angle in ANGLES])
    pose = fit_pose(pictures, shape[0] / shape[1])
    assert pose.size[0] < pose.size[1]
    canvases, place = pose(pictures)
    first = canvases[0]
    for canvas, (x, y, cosine, sine) in zip(canvases, place.tolist(), strict=True):
        assert (canvas - first).abs().mean() < 0.02
        assert cosine**2 + sine**2 == pytest.approx(1, abs=1e-5)
        assert np.hypot(x, y) < 5
    again = pose.back(canvases, place)
    inside = pose.back(torch.ones_like(canvases), place) > 0.999
    assert (again - pictures).abs()[inside].mean() < 0.03


def test_the_direction_is_that_of_most_normals():
    pictures = grey([part(angle)[0] for angle in ANGLES])
    pose = fit_pose(pictures, SHAPE[0] / SHAPE[1])
    place = pose(pictures)[1].numpy()
    found = np.arctan2(place[:, 3], place[:, 2])
    difference = np.exp(1j * (found - ANGLES))
    assert np.abs(difference - difference[0]).max() < 0.1


def test_frames_without_anything_have_no_pose():
    assert fit_pose(torch.full((6, 64, 64), 0.5), 1.0) is None


def test_weights_tell_the_canvas():
    local = Local(64, 5, Pose(64, (48, 160)))
    again = Local.like(64, local.state_dict())
    assert again.pose.size == (48, 160)
    assert (again.coarse.size, again.fine.size) == ((32, 106), (48, 160))
    again.load_state_dict(local.state_dict())
    assert Local(256, 5, Pose(256, (272, 304))).fine.size == (128, 144)


def test_copies_of_one_frame_have_a_trial_too():
    pictures = grey([part(0.5)[0]] * 6)
    pose, trial = choose_pose(pictures, torch.arange(6) % 3 == 0, SHAPE[0] / SHAPE[1])
    assert (pose is not None) == trial.turned
    assert 0 <= trial.none <= 1
