"""What of a volume is object: the silhouette of a head, masks, and the field around the object."""

import numpy as np
import pytest

from adae_edge.decoding.objects import BrainMask, Field, slices_of
from adae_edge.decoding.silhouette import filled, mask_of, silhouette, words_of
from adae_edge.decoding.volumes import Place, Volume
from adae_edge.errors import FrameError
from adae_edge.grid import Grid

SPACING = (3.0, 1.0, 2.0)


def volume_of(values, stored=None, padded=False, spacing=SPACING):
    grid = Grid(np.zeros(3), np.diag(spacing)[:, ::-1])
    places = [Place("v", number) for number in range(len(values))]
    return Volume("v", np.array(values, np.float32), grid, places, stored, padded)


def scan(shape=(12, 64, 48), seed=0):
    """A head with skull over noise, and where it is: both [S, H, W]."""
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    radius = np.sqrt(0.3 * axes[0] ** 2 + axes[1] ** 2 / 0.6 + axes[2] ** 2 / 0.7)
    random = np.random.default_rng(seed)
    values = np.abs(random.normal(0, 8, shape)) + np.where(radius < 0.9, 300, 0)
    values = np.where((radius > 0.78) & (radius < 0.84), random.normal(20, 5, shape), values)
    return values, radius < 0.9


def test_a_head_is_its_silhouette_with_everything_inside():
    values, head = scan()
    slices = slices_of(volume_of(values), "head")
    found = slices.values != 0
    assert (found & head).sum() > 0.98 * head.sum()  # the dark skull is inside
    assert (found & ~head).sum() < 0.005 * head.sum()
    assert slices.mean == pytest.approx(values[found].mean(), rel=1e-5)
    assert slices.std == pytest.approx(values[found].std(), rel=1e-5)


def head_by_the_page(values):
    """The rule "head" by the words of docs/model-file.md alone, as another program reads them."""
    k = int(np.ceil(np.sqrt(values.size / 2**21)))
    sample = values[:, ::k, ::k].astype(np.float64)
    sample = sample[~np.isnan(sample)]
    a, b = np.quantile(sample, [0.001, 0.999])
    counts, edges = np.histogram(np.clip(sample, a, b), 256, (a, b))
    centres, between = (edges[:-1] + edges[1:]) / 2, np.zeros(257)
    for edge in range(1, 256):
        low, high = counts[:edge], counts[edge:]
        if counts[edge - 1] and high.sum():
            means = (
                np.average(centres[:edge], weights=low),
                np.average(centres[edge:], weights=high),
            )
            between[edge] = low.sum() * high.sum() * (means[0] - means[1]) ** 2
    above = values > a + (edges[between.argmax()] - a) / 2
    padded = np.pad(above, ((0, 0), (1, 1), (1, 1))).astype(int)
    rows, columns = values.shape[1:]
    around = sum(padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3))
    inside = ~np.isnan(values)
    for axis in (1, 2):
        before = np.maximum.accumulate(around >= 5, axis=axis)
        behind = np.flip(np.maximum.accumulate(np.flip(around >= 5, axis), axis=axis), axis)
        inside &= before & behind
    return inside


@pytest.mark.parametrize("seed", range(4))
def test_another_program_finds_the_same_head_by_the_page(seed):
    values, _ = scan((9, 41, 52), seed)
    values = np.round(values * 7).astype(np.float32)
    values[:, :3] = np.nan
    slices = slices_of(volume_of(values, padded=True), "head")
    inside = head_by_the_page(values)
    assert np.array_equal(np.unpackbits(slices.inside, axis=-1, count=52).view(bool), inside)
    exact = values[inside].astype(np.float64)
    assert (slices.mean, slices.std) == pytest.approx((exact.mean(), exact.std()), rel=1e-12)

    field_of_view = 37.0
    starts, sizes = [], []
    for other, spacing in ((2, SPACING[1]), (1, SPACING[2])):
        part = inside.sum(axis=(0, other)).cumsum() / inside.sum()
        sizes.append(max(1, round(field_of_view / spacing)))
        ends = int(np.argmax(part > 0.005)) + int(np.argmax(part >= 0.995)) + 1
        starts.append((ends - sizes[-1]) // 2)
    assert slices.field(field_of_view) == (*starts, *sizes)


@pytest.mark.parametrize(
    ("slope", "intercept"), [(4, 0), (0.25, 0), (1, 1000), (2, -512), (4, 4e6)]
)
def test_a_head_is_the_same_in_other_units(slope, intercept):
    values = np.round(scan()[0])
    one = slices_of(volume_of(values), "head")
    other = slices_of(volume_of(values * slope + intercept), "head")
    assert np.array_equal(one.values != 0, other.values != 0)
    assert other.mean == pytest.approx(one.mean * slope + intercept)
    assert other.std == pytest.approx(one.std * slope)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (40, 3), (30, 64), (64, 65)])
@pytest.mark.parametrize("part", [0, 0.02, 0.3, 1])
def test_a_silhouette_is_filled_between_the_first_and_the_last_voxel_of_rows_and_columns(
    size, part
):
    mask = np.random.default_rng(0).random(size) < part
    expected = np.ones(size, bool)
    for axis in (0, 1):
        before = np.logical_or.accumulate(mask, axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
        expected &= before & behind
    assert np.array_equal(mask_of(filled(words_of(mask)), size[1]), expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (40, 3), (30, 64), (20, 130)])
@pytest.mark.parametrize("part", [0, 0.3, 0.6, 1])
def test_a_silhouette_is_the_majority_of_nine_voxels_filled(size, part):
    above = np.random.default_rng(0).random(size) < part
    nine = np.lib.stride_tricks.sliding_window_view(np.pad(above, 1), (3, 3))
    majority = nine.sum(axis=(2, 3)) >= 5
    expected = mask_of(filled(words_of(majority)), size[1])
    assert np.array_equal(silhouette(above), expected)


def test_what_the_scanner_did_not_see_is_no_head():
    values, _ = scan()
    values[:, 20:24, 20:24] = np.nan
    found = slices_of(volume_of(values, padded=True), "head").values
    assert (found[:, 20:24, 20:24] == 0).all()
    assert (found[:, 19, 20:24] != 0).all()
    with pytest.raises(FrameError, match="v has voxels that are not finite numbers"):
        slices_of(volume_of(values), "head")


@pytest.mark.parametrize("values", [np.zeros((9, 8, 8)), np.full((9, 8, 8), 7.0)])
def test_nothing_shows_no_head(values):
    with pytest.raises(FrameError, match="v shows no head: every voxel is background"):
        slices_of(volume_of(values), "head")


def test_a_voxel_of_a_head_whose_value_is_0_is_no_background():
    values, _ = scan()
    values[4:8, 30:34, 20:24] = 0
    slices = slices_of(volume_of(values), "head")
    assert slices.values[4:8, 30:34, 20:24] == pytest.approx(slices.std * 1e-6)


@pytest.mark.parametrize("rule", ["mask", "nonzero"])
def test_a_series_needs_a_mask_where_the_brain_alone_is_looked_at(rule):
    values, head = scan()
    with pytest.raises(FrameError, match="--brain-mask, or train a model with --object head"):
        slices_of(volume_of(values), rule)
    mask = BrainMask("m", head, volume_of(values).grid)
    assert np.array_equal(slices_of(volume_of(values), rule, mask).values != 0, head)


def test_a_mask_model_takes_no_volume_without_mask():
    values, _ = scan()
    with pytest.raises(FrameError, match="v has no brain mask"):
        slices_of(volume_of(values, stored=values), "mask")


@pytest.mark.parametrize("moved", [(2.0, 0, 0), (0, 0, 0.6)])
def test_a_mask_that_lies_elsewhere_is_refused(moved):
    values, head = scan()
    volume = volume_of(values)
    mask = BrainMask("m", head, Grid(volume.grid.corner + moved, volume.grid.steps))
    with pytest.raises(FrameError, match="m lies elsewhere in the patient than v"):
        slices_of(volume, "mask", mask)
    with pytest.raises(FrameError, match="m has the shape 47 x 64 x 12, and v, which it masks"):
        slices_of(volume, "mask", mask._replace(voxels=head[..., 1:]))


def test_the_field_of_view_is_centred_on_the_object_and_measured_in_millimetres():
    values = np.zeros((9, 40, 30))
    values[2:7, 4:14, 20:30] = np.random.default_rng(0).uniform(50, 90, (5, 10, 10))
    slices = slices_of(volume_of(values, stored=values), "nonzero")
    assert slices.spans == ((4, 14), (20, 30))
    assert slices.extent == 20  # ten columns of 2 mm
    field = slices.field(24.0)
    assert field == Field(top=-3, left=19, height=24, width=12)
    seen = field.of(slices.values[3])
    assert seen.shape == (24, 12)
    assert np.array_equal(seen[7:17, 1:11], slices.values[3, 4:14, 20:30])
    assert np.count_nonzero(seen) == 100
    assert np.array_equal(slices.field(None).of(slices.values[3]), slices.values[3])


@pytest.mark.parametrize("field", [Field(-9, -9, 4, 4), Field(50, 2, 4, 4), Field(3, 50, 4, 4)])
def test_a_field_beyond_the_slice_shows_nothing(field):
    assert (field.of(np.ones((40, 30))) == np.zeros((4, 4))).all()


@pytest.mark.parametrize("spacing", [(1.0, 0.0, 1.0), (1.0, 1.0, np.nan), (1.0, 1e-6, 1.0)])
def test_a_field_of_view_needs_the_size_of_voxels(spacing):
    values, _ = scan()
    slices = slices_of(volume_of(values, spacing=spacing), "head")
    with pytest.raises(FrameError, match="does not say how large its voxels are"):
        slices.field(200.0)
