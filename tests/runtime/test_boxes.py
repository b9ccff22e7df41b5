"""Boxes: the map's regions above its threshold, in the frame's pixels, from a real export too."""

import contextlib
import csv
import dataclasses
import json
import shutil
import sqlite3

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from adae_edge.calibration import threshold_rank
from adae_edge.cli.app import app
from adae_edge.contract import Form, Region
from adae_edge.export.exporter import export
from adae_edge.formats import modelfile
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.maps import score_with_map
from adae_edge.model import load_network
from adae_edge.placement import placement
from adae_edge.preprocess import Preprocess
from adae_edge.runtime import Frame, Scored, Scorer, Sink, Stream, open_for, open_sink
from adae_edge.runtime.boxes import boxes_of
from adae_edge.runtime.calibrate import recalibrate
from adae_edge.runtime.frame import Box, Cut
from adae_edge.runtime.sinks.sink import BOXES
from adae_edge.train.data.dataset import Dataset
from adae_edge.train.loading import map_peaks
from tests.support.heads import scan
from tests.support.models import a_contract, mean_model, slice_model
from tests.support.pictures import save, write_scratched
from tests.support.series import turned
from tests.support.trained import train_on

# How the network sees the frames, and the pixels of the map.
SEEN = {
    "stretch": ({}, "network"),
    "pad": ({"resize": "pad"}, "frame"),
    "region": ({"region": Region(9, 3, 44, 40)}, "network"),
}
SPOT = Box(28, 17, 5, 6, 0.0)


def contract_for(side=32, threshold=0.5, anomaly_map="network", **changed):
    contract = dataclasses.replace(
        a_contract(), side=side, form=Form(anomaly_map=anomaly_map), **changed
    )
    calibration = dataclasses.replace(contract.calibration, map_threshold=threshold)
    return contract.with_calibration(calibration)


def covers(box, other):
    return (
        box.left <= other.left
        and box.top <= other.top
        and box.left + box.width >= other.left + other.width
        and box.top + box.height >= other.top + other.height
    )


@pytest.mark.parametrize("part", [0.001, 0.02, 0.2, 0.4, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (23, 57), (64, 64)])
def test_regions_are_those_of_scipy(part, shape):
    random = np.random.default_rng(7)
    for _ in range(5):
        values = random.random(shape, np.float32)
        threshold = 1 - part - 1e-9
        boxes = boxes_of(values, contract_for(64, threshold, "frame"), *shape, most=10**6)
        labels, _ = ndimage.label(values > threshold, np.ones((3, 3)))
        expected = [
            (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, peak)
            for (rows, columns), peak in zip(
                ndimage.find_objects(labels),
                ndimage.maximum(values, labels, np.arange(labels.max()) + 1),
                strict=True,
            )
        ]
        assert sorted(map(tuple, boxes)) == sorted(expected)
        assert [box.peak for box in boxes] == sorted((b.peak for b in boxes), reverse=True)


def test_a_winding_region_is_one_box():
    spiral = np.zeros((41, 41), np.float32)
    row, column, step_row, step_column = 0, 0, 0, 1
    spiral[0, 0] = 1
    for length in [40, 40, 40, *(n for n in range(38, 0, -2) for _ in range(2))]:
        for _ in range(length):
            row, column = row + step_row, column + step_column
            spiral[row, column] = 1
        step_row, step_column = step_column, -step_row
    boxes = boxes_of(spiral, contract_for(64, 0.5, "frame"), 41, 41)
    assert boxes == (Box(0, 0, 41, 41, 1.0),)


def test_the_highest_peaks_come_first_and_their_number_is_bounded():
    values = np.zeros((64, 64), np.float32)
    values[::2, ::2] = np.random.default_rng(0).random((32, 32)) + 1
    boxes = boxes_of(values, contract_for(64, 0.5, "frame"), 64, 64)
    assert len(boxes) == 20
    assert [box.peak for box in boxes] == sorted(values.ravel().tolist(), reverse=True)[:20]


def test_nothing_is_above_a_threshold_at_the_peak_and_none_is_no_threshold():
    values = np.full((32, 32), 0.5, np.float32)
    assert boxes_of(values, contract_for(), 40, 56) == ()
    assert boxes_of(values, contract_for(threshold=None), 40, 56) is None


def test_what_lies_outside_of_the_region_is_not_above_a_threshold_below_0():
    region = Region(4, 6, 20, 10)
    values = np.zeros((30, 40), np.float32)  # as a map in the frame's pixels has it outside
    values[6:16, 4:24] = -2
    values[9, 11] = -0.5
    contract = contract_for(32, -1.0, "frame", region=region)
    assert boxes_of(values, contract, 30, 40) == (Box(11, 9, 1, 1, -0.5),)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("region", [None, Region(5, 11, 37, 23), Region(0, 0, 9, 40)])
@pytest.mark.parametrize("size", [(40, 56), (200, 91), (64, 64), (51, 47)])
def test_a_pixel_of_the_frame_lies_in_the_box_of_where_the_network_sees_it(resize, region, size):
    preprocess = Preprocess(32, resize, 0.0, region)
    left, top, width, height = region or (0, 0, size[1], size[0])
    random = np.random.default_rng(3)
    for _ in range(8):
        row, column = top + random.integers(height), left + random.integers(width)
        frame = np.zeros((1, *size, 1), np.uint8)
        frame[0, row, column] = 255
        seen = preprocess.resize(torch.from_numpy(frame))[0, 0].numpy()
        contract = contract_for(32, 1e-4 * float(seen.max()), resize=resize, region=region)
        (box,) = boxes_of(seen, contract, *size)
        assert covers(box, Box(column, row, 1, 1, 0))
        assert left <= box.left
        assert box.left + box.width <= left + width
        assert top <= box.top
        assert box.top + box.height <= top + height
        # What else is in the box is within two of the network's pixels.
        span = max(height, width) / 32 if resize == "pad" else max(height / 32, width / 32)
        assert max(box.width, box.height) <= 3 * max(span, 1) + 3


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("region", [None, Region(5, 11, 37, 23), Region(0, 0, 9, 40)])
@pytest.mark.parametrize("size", [(40, 56), (200, 91), (51, 47), (640, 47)])
def test_a_map_in_the_frame_s_pixels_has_no_higher_peak(resize, region, size):
    """So the threshold of the network's pixels keeps its promise there."""
    preprocess = Preprocess(32, resize, 0.0, region)
    pixels = np.random.default_rng(1).normal(-1, 1, (9, 32, 32)).astype(np.float32)
    network = placement(*size, 32, resize == "pad", region)
    frames = preprocess.restore(torch.from_numpy(pixels), *size).numpy()
    left, top, width, height = region or (0, 0, size[1], size[0])
    within = frames[:, top : top + height, left : left + width]
    assert (within.max(axis=(1, 2)) <= network.peaks(pixels) + 1e-5).all()
    # Padding that no pixel of the frame takes anything of counts for nothing.
    outside = np.ones((32, 32), bool)
    outside[network.rows.shown, network.columns.shown] = False
    pixels[:, outside] = 1e6
    assert (preprocess.restore(torch.from_numpy(pixels), *size).numpy() < 1e3).all()
    assert (network.peaks(pixels) < 1e3).all()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Woven parts of 64 x 48 pixels."""
    return write_scratched(tmp_path_factory.mktemp("parts") / "parts", 120, 0)


@pytest.fixture(scope="module", params=SEEN)
def trained(request, parts, tmp_path_factory):
    """A linear checkpoint with the score local that sees the frames in one of these ways."""
    path = tmp_path_factory.mktemp(request.param) / "c.safetensors"
    how = {"recipe": "linear", "score": "local", "epochs": None, "side": 64}
    train_on(str(parts), path, **how, **SEEN[request.param][0])
    return path


@pytest.fixture(scope="module")
def exported(trained):
    """Its model file with a map."""
    out = trained.with_suffix(".onnx")
    _, resolution = SEEN[trained.parent.name[:-1]]
    export(trained, out, form=Form(anomaly_map=resolution))
    return out


def spotted(frame):
    """The frame with a dark spot at ``SPOT``."""
    frame = frame.copy()
    left, top, width, height, _ = SPOT
    frame[top : top + height, left : left + width] //= 3
    return frame


class Kept(Sink):
    wants = frozenset({BOXES})

    def __init__(self):
        self.results = []

    def write(self, scored):
        self.results.append(scored)


def test_the_box_of_an_exported_model_covers_the_spot(exported, parts):
    normals = sorted((parts / "normal").glob("*.png"))
    frames = [np.asarray(Image.open(path))[:, :, None] for path in normals]
    with Scorer(exported) as scorer:
        stream = [Frame("x", i, 0.0, spotted(frame)) for i, frame in enumerate(frames[:20])]
        Stream(scorer, stream, [spots := Kept()]).run()
        Stream(scorer, [Frame("x", 0, 0.0, frame) for frame in frames], [plain := Kept()]).run()
    for scored in spots.results:
        first = scored.boxes[0]
        assert covers(first, SPOT)
        # Patches of a quarter of what the network sees show the spot, also at their edge.
        assert first.width * first.height < 0.7 * 64 * 48
        assert scored.frame.pixels.size == 0
    rate = scorer.contract.calibration.target_fpr
    assert sum(bool(scored.boxes) for scored in plain.results) <= rate * len(plain.results)


def test_every_map_of_a_spot_leads_to_a_box_that_covers_it(trained, parts):
    """In PyTorch, whose maps the export compares with the graph's: both resolutions."""
    checkpoint = Checkpoint.load(trained)
    model = load_network(checkpoint)
    frames = np.stack([spotted(frame) for frame in checkpoint.references])
    with torch.inference_mode():
        _, network = score_with_map(model, model.preprocess(torch.from_numpy(frames)))
    maps = {"network": network, "frame": model.preprocess.restore(network, *frames.shape[1:3])}
    for resolution, values in maps.items():
        contract = dataclasses.replace(checkpoint.contract, form=Form(anomaly_map=resolution))
        for pixels in values.numpy():
            assert covers(boxes_of(pixels, contract, *frames.shape[1:3])[0], SPOT)


def test_the_threshold_of_the_map_is_that_of_the_calibration_frames_peaks(parts, tmp_path):
    how = {"recipe": "linear", "score": "l2", "epochs": None, "resize": "pad"}
    train_on(str(parts), tmp_path / "c.safetensors", **how)
    checkpoint = Checkpoint.load(tmp_path / "c.safetensors")
    calibration, frames = checkpoint.contract.calibration, checkpoint.references
    # Below 59 normals the threshold is the highest, of the score and of the map alike.
    assert len(frames) == calibration.normals < 59
    dataset = Dataset(frames, np.zeros(len(frames), bool), 1, small=False)
    peaks = map_peaks(load_network(checkpoint), dataset, np.arange(len(frames)))
    assert calibration.map_threshold == pytest.approx(peaks.max(), rel=2e-4)


def test_calibrate_sets_it_on_the_device(trained, exported, parts, tmp_path):
    path = shutil.copy(exported, tmp_path / "m.onnx")
    before = modelfile.read(path).contract.calibration.map_threshold
    assert before == Checkpoint.load(trained).contract.calibration.map_threshold
    contract = recalibrate(path, str(parts / "normal"), fpr=0.05).contract
    assert modelfile.read(path).contract == contract
    assert contract.calibration.map_threshold != before
    with Scorer(path) as scorer:
        Stream(scorer, open_for(scorer.contract, str(parts / "normal")), [kept := Kept()]).run()
    # With 120 normals it lies between their second and third highest peak.
    assert sum(bool(scored.boxes) for scored in kept.results) == threshold_rank(120, 0.05, 0.95) - 1


def test_a_model_without_a_map_has_no_boxes_and_calibrate_no_threshold_for_it(tmp_path):
    (tmp_path / "m.onnx").write_bytes(mean_model())
    for value in range(60):
        save(tmp_path / "normal" / f"{value}.png", np.full((4, 5), value, np.uint8))
    contract = recalibrate(tmp_path / "m.onnx", str(tmp_path / "normal"), fpr=0.05).contract
    assert contract.calibration.map_threshold is None
    with Scorer(tmp_path / "m.onnx") as scorer:
        source = open_for(scorer.contract, str(tmp_path / "normal" / "3.png"))
        Stream(scorer, source, [kept := Kept()]).run()
    assert (kept.results[0].boxes, kept.results[0].anomaly_map) == (None, None)


def test_rows_and_the_terminal_say_where(tmp_path, capsys):
    boxes = tuple(Box(16 * i, 3, 5, 7, 9.5 - i) for i in range(5))
    frame = Frame("a.png", 0, 0.0, np.zeros((1, 1, 1), np.uint8))
    scored = [Scored(frame, 2.0, 1.5, boxes=told) for told in (boxes, boxes[:1], (), None)]
    with open_sink(str(tmp_path / "a.jsonl")) as rows, open_sink("terminal") as terminal:
        for result in scored:
            rows.write(result)
            terminal.write(result)
    written = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert written[0]["boxes"][1] == {"left": 16, "top": 3, "width": 5, "height": 7, "peak": 8.5}
    assert [len(row["boxes"]) for row in written[:3]] == [5, 1, 0]
    assert written[3]["boxes"] is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("a.png  at 0,3 5x7; 16,3 5x7; 32,3 5x7 and 2 more")
    assert lines[1].endswith("a.png  at 0,3 5x7")
    assert lines[2].endswith("a.png")
    assert lines[3].endswith("a.png")


def test_every_kind_of_row_has_the_boxes_of_anomalous_frames_in_the_same_form(tmp_path):
    boxes = (Box(16, 3, 5, 7, 9.5), Box(0, 0, 1, 2, 8.25))
    frame = Frame("a.png", 0, 0.0, np.zeros((1, 1, 1), np.uint8))
    names = ("a.jsonl", "a.csv", "a.db")
    for name in names:
        with open_sink(str(tmp_path / name)) as rows:
            rows.write(Scored(frame, 2.0, 1.5, boxes=boxes))
            rows.write(Scored(dataclasses.replace(frame, id=1), 1.0, 1.5, boxes=boxes))
    told = [box._asdict() for box in boxes]
    written = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["boxes"] for line in written] == [told, None]
    with (tmp_path / "a.csv").open(newline="") as file:
        texts = [row["boxes"] for row in csv.DictReader(file)]
    assert (json.loads(texts[0]), texts[1]) == (told, "")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
        cells = database.execute("SELECT boxes FROM frames ORDER BY frame").fetchall()
        peaks = database.execute(
            "SELECT each.value ->> 'peak' FROM frames, json_each(frames.boxes) AS each"
        ).fetchall()
    assert (json.loads(cells[0][0]), cells[1][0]) == (told, None)
    assert peaks == [(9.5,), (8.25,)]


def test_score_prints_the_boxes(exported, parts, tmp_path, capsys):
    normal = sorted((parts / "normal").glob("*.png"))[0]
    save(tmp_path / "spot.png", spotted(np.asarray(Image.open(normal))))
    rows = tmp_path / "rows.jsonl"
    arguments = [str(exported), str(tmp_path / "spot.png"), "--to", "terminal", "--to", str(rows)]
    app(["score", *arguments], standalone_mode=False)
    (line,) = capsys.readouterr().out.splitlines()
    (row,) = map(json.loads, rows.read_text().splitlines())
    box = row["boxes"][0]
    assert f"spot.png  at {box['left']},{box['top']} {box['width']}x{box['height']}" in line
    assert covers(Box(**box), SPOT)


@pytest.mark.parametrize("field_of_view", [None, 30.0, 90.0])
def test_boxes_of_a_field_of_view_are_in_pixels_of_the_whole_slice(tmp_path, field_of_view):
    values, _ = scan(0)
    values[18:22, 30:33, 8] = 9000  # columns from the right, rows from the back, slices from below
    nibabel.save(turned(values), tmp_path / "v.nii.gz")
    model = modelfile.check(slice_model())
    calibration = dataclasses.replace(model.contract.calibration, map_threshold=5000.0)
    contract = dataclasses.replace(
        model.contract.with_calibration(calibration), field_of_view=field_of_view
    )
    rows = tmp_path / "rows.jsonl"
    with (
        Scorer(modelfile.check(modelfile.with_contract(model.data, contract))) as scorer,
        open_sink(f"jsonl:{rows}") as sink,
    ):
        source = open_for(scorer.contract, str(tmp_path / "v.nii.gz"))
        Stream(scorer, source, [sink], threshold=-5.0).run()
    boxes = {row["frame"]: row["boxes"] for row in map(json.loads, rows.read_text().splitlines())}
    (box,) = boxes.pop(8)
    assert box == {"left": 18, "top": 48 - 33, "width": 4, "height": 3, "peak": 9000.0}
    assert not any(boxes.values())


def test_a_box_beyond_the_slice_is_cut_or_left_out():
    cut = Cut(top=-4, left=10, height=20, width=30)
    assert Box(2, 1, 5, 6, 0.5).in_slice(cut) == Box(12, 0, 5, 3, 0.5)
    assert Box(18, 20, 9, 9, 0.5).in_slice(cut) == Box(28, 16, 2, 4, 0.5)
    assert Box(0, 0, 5, 4, 0.5).in_slice(cut) is None
