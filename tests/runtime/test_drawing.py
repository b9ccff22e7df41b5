"""Frames that are drawn for people: sizes, the place of the map and of the boxes, and colours."""

import itertools

import numpy as np
import pytest

from adae_edge.contract import Region
from adae_edge.placement import placement
from adae_edge.runtime.drawing import COLORS, LEAST, MOST, annotated, pair
from adae_edge.runtime.frame import Box, Frame, Scored

SIDE = 16


def result(pixels, hot=None, pad=False, region=None, boxes=None, score=2.0, level=1.0):
    """A result whose map is 0 but for one pixel, row and column ``hot``."""
    frame = Frame("belt/a.png", 7, 1.7e9, pixels)
    if hot is None:
        return Scored(frame, score, 1.5, boxes=boxes)
    values = np.zeros((SIDE, SIDE), np.float32)
    values[hot] = 4.0
    place = placement(*frame.size, SIDE, pad, region)
    return Scored(frame, score, 1.5, 0, "", values, boxes, placement=place, map_threshold=level)


def grey(height, width):
    return np.full((height, width, 1), 90, np.uint8)


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((28, 28), (336, 336)),  # twelve times
        ((400, 640), (400, 640)),
        ((2160, 3840), (720, 1280)),
        ((600, 40), (600, LEAST)),  # black beside it, so that text is readable
    ],
)
def test_small_frames_are_enlarged_and_large_ones_shrunk(size, drawn):
    picture = pair(result(grey(*size)))
    assert picture.shape[1] == drawn[1]
    assert 30 < picture.shape[0] - drawn[0] < 80  # the text
    assert max(drawn) <= MOST


def test_sides_of_a_videos_picture_are_even_and_of_a_pair_side_by_side():
    odd = result(grey(401, 641), hot=(3, 3))
    assert [side % 2 for side in annotated(odd).shape[:2]] == [0, 0]
    assert pair(odd).shape[1] == 2 * 641 + 4


@pytest.mark.parametrize(
    ("size", "how", "middle", "step"),
    [
        # the middle of the map's row 4 and column 12 in the frame: rows, columns
        ((400, 320), {}, (4.5 * 25, 12.5 * 20), (25, 20)),
        # a square of 400 pixels, of which 50 lie above the frame
        ((300, 400), {"pad": True}, (4.5 * 25 - 50, 12.5 * 25), (25, 25)),
        ((400, 400), {"region": Region(100, 80, 160, 160)}, (125, 225), (10, 10)),
    ],
    ids=["stretch", "pad", "region"],
)
def test_the_map_lies_where_the_network_saw_it(size, how, middle, step):
    shown = annotated(result(grey(*size), hot=(4, 12), **how)).astype(int)
    plain = annotated(result(grey(*size))).astype(int)
    changed = np.abs(shown - plain).sum(axis=2) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    rows = rows - (len(shown) - size[0])  # below the text
    found = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    assert found == pytest.approx(middle, abs=1)
    # what is drawn fades beside the pixel, and reaches no farther than the next one
    assert step[0] <= len(rows) <= 2 * step[0]
    assert step[1] <= len(columns) <= 2 * step[1]


def test_nothing_is_drawn_where_the_map_is_far_below_its_threshold():
    quiet = result(grey(400, 400), hot=(4, 4), level=10.0)
    assert np.array_equal(annotated(quiet), annotated(result(grey(400, 400))))


def test_nothing_outside_of_a_region_is_drawn_on():
    region = Region(100, 80, 160, 160)
    shown = annotated(result(grey(400, 400), hot=(0, 0), region=region)).astype(int)
    plain = annotated(result(grey(400, 400))).astype(int)
    rows, columns = np.nonzero(np.abs(shown - plain).sum(axis=2))
    assert rows.min() - (shown.shape[0] - 400) == 80
    assert columns.min() == 100


def test_boxes_stand_around_what_they_name():
    box = Box(100, 60, 40, 30, 3.0)
    shown = annotated(result(grey(400, 400), boxes=(box,))).astype(int)
    plain = annotated(result(grey(400, 400))).astype(int)
    rows, columns = np.nonzero(np.abs(shown - plain).sum(axis=2))
    top = shown.shape[0] - 400
    assert (rows.min() - top, rows.max() - top) == (57, 92)
    assert (columns.min(), columns.max()) == (97, 142)
    assert np.array_equal(shown[top + 60 : top + 90, 100:140], plain[top + 60 : top + 90, 100:140])


def test_a_map_that_is_anomalous_everywhere_and_one_without_a_threshold_are_drawn():
    everywhere = result(grey(400, 400), hot=(1, 1), level=-1.0)
    unknown = result(grey(400, 400), hot=(1, 1), level=None)
    plain = annotated(result(grey(400, 400)))
    for scored in (everywhere, unknown):
        assert not np.array_equal(annotated(scored), plain)


def test_a_slice_is_drawn_by_its_volumes_mean_and_deviation():
    values = np.zeros((400, 400, 1), np.float32)
    values[100:200], values[200:300] = 1000.0, 1400.0
    frame = Frame("v.nii.gz", 3, 0.0, values, mean=1000.0, std=100.0)
    drawn = pair(Scored(frame, 2.0, 1.5))[-400:]
    assert [int(drawn[row, 200, 0]) for row in (50, 150, 250)] == [0, 95, 223]


def luminance(color):
    """The relative luminance of WCAG 2."""
    parts = np.array(color) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_text_is_readable_and_verdicts_differ_for_the_colour_blind():
    for color in COLORS.values():
        assert 1.05 / (luminance(color) + 0.05) > 4.5  # white on it, as WCAG asks for
    # What people without red or green cones keep: blue against the mean of red and green.
    kept = [color[2] - (color[0] + color[1]) / 2 for color in COLORS.values()]
    assert kept[0] > 100 > -100 > kept[1]


@pytest.mark.parametrize("verdict", ["normal", "anomalous"])
def test_the_verdict_colours_the_text_and_a_long_path_is_cut(verdict):
    frame = Frame("a/" * 200 + "last.png", 12, 1.7e9, grey(320, 320), video_time=12.4)
    picture = annotated(Scored(frame, 2.0 if verdict == "anomalous" else 1.0, 1.5))
    assert tuple(picture[0, 0]) == COLORS[verdict]
    white = picture[:36].min(axis=2) > 200
    assert white[:18].any()
    assert white[18:].any()
    assert not white[:, -4:].any()


def test_a_picture_of_every_small_size_can_be_drawn():
    for height, width in itertools.product((1, 2, 7, 319, 321), repeat=2):
        annotated(result(grey(height, width), hot=(0, 15), boxes=(Box(0, 0, 1, 1, 2.0),)))
        pair(result(grey(height, width), hot=(15, 0), pad=True))
