"""Synthetic defects: the same by the same seed, only inside their mask, of the size asked for."""

import numpy as np
import pytest

from adae_edge.defects import KINDS, grey_levels, pixels_of, spoil

SIZES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def frame(height=120, width=160, channels=1, seed=0):
    """Waves under noise, in which every kind of defect changes something."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 40 * np.sin(rows / 5) * np.sin(columns / 7)
    noisy = waves[:, :, None] + random.normal(0, 8, (height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def spoiled(picture, kind, size=0.1, contrast=1.0, seed=0, other=None):
    other = frame(channels=picture.shape[2], seed=9) if other is None else other
    return spoil(picture, kind, size, contrast, other, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_gives_one_defect_and_another_seed_another(kind, channels):
    picture = frame(channels=channels)
    once, again, other = (spoiled(picture, kind, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once.picture, again.picture)
    np.testing.assert_array_equal(once.mask, again.mask)
    assert (once.mask != other.mask).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_defect_changes_its_mask_alone_and_leaves_the_frame(kind, size):
    picture = frame(channels=3)
    before = picture.copy()
    for seed in range(20):
        result = spoiled(picture, kind, size, 2.0, seed)
        assert (result.picture.dtype, result.picture.shape) == (np.uint8, picture.shape)
        assert (result.mask.dtype, result.mask.shape) == (bool, picture.shape[:2])
        np.testing.assert_array_equal(result.picture[~result.mask], picture[~result.mask])
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_defect_is_as_long_as_it_should_be(kind, size):
    picture = frame()
    length = pixels_of(size, picture)
    assert length == round(size * 120)
    for seed in range(20):
        rows, columns = np.nonzero(spoiled(picture, kind, size, seed=seed).mask)
        points = np.stack([rows, columns], axis=1)
        # The longest distance in any of 36 directions.
        angles = np.linspace(0, np.pi, 36, endpoint=False)
        along = points @ np.stack([np.sin(angles), np.cos(angles)])
        longest = float((along.max(axis=0) - along.min(axis=0)).max()) + 1
        assert length * 0.85 - 1.5 <= longest <= length * 1.05 + 1.5


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if name != "blur"])
def test_a_defect_of_some_size_changes_much_of_its_mask(kind):
    result = spoiled(frame(), kind, 0.2, 1.0)
    changed = (result.picture != frame()).any(axis=2)
    assert changed[result.mask].mean() > 0.7


def test_blur_makes_noise_less():
    picture = frame()
    for seed in range(5):
        result = spoiled(picture, "blur", 0.3, seed=seed)
        before, after = (
            np.diff(p[:, :, 0].astype(float), axis=1) for p in (picture, result.picture)
        )
        inside = result.mask[:, 1:]
        assert after[inside].std() < before[inside].std() / 2


@pytest.mark.parametrize("contrast", [0.5, 1.0, 2.0])
def test_contrast_is_in_standard_deviations_of_the_frame(contrast):
    picture = (frame() // 4 + 96).astype(np.uint8)  # so that nothing ends at 0 or 255
    level = contrast * picture.std()
    assert grey_levels(contrast, picture) == pytest.approx(level, rel=1e-6)
    signs = set()
    for seed in range(12):
        result = spoiled(picture, "spot", 0.3, contrast, seed)
        change = result.picture.astype(int) - picture
        middle = np.median(change[result.mask])
        assert abs(middle) == pytest.approx(level, abs=1)
        signs.add(np.sign(middle))
    assert signs == {-1, 1}


def test_place_and_shape_do_not_depend_on_the_contrast():
    masks = [spoiled(frame(), "scratch", 0.2, contrast, 3).mask for contrast in (0.5, 1.0, 2.0)]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_defect_shows_on_black_and_on_white(level):
    """Constant frames have no deviation, so a level counts as one."""
    picture = np.full((50, 50, 1), level, np.uint8)
    for seed in range(10):
        assert (spoiled(picture, "spot", 0.2, 1.0, seed).picture != picture).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2), (16, 16)])
@pytest.mark.parametrize("size", [0.02, 1.0])
def test_tiny_frames_and_defects_as_large_as_the_frame_work(kind, shape, size):
    picture, other = frame(*shape), frame(2, 2)
    result = spoiled(picture, kind, size, 2.0, other=other)
    assert result.picture.shape == picture.shape
    assert result.mask.any()


def test_a_missing_part_shows_what_is_behind():
    picture = frame()
    picture[:, :40] = 5
    result = spoiled(picture, "missing", 0.2, seed=4)
    assert np.bincount(result.picture[result.mask].ravel()).argmax() in (5, 6, *range(150, 190))


def test_half_of_the_pieces_come_from_the_other_frame():
    picture, other = np.full((60, 60, 1), 100, np.uint8), np.full((60, 60, 1), 200, np.uint8)
    from_other = [
        (spoiled(picture, "paste", 0.2, seed=seed, other=other).picture == 200).any()
        for seed in range(40)
    ]
    assert 8 < sum(from_other) < 32
