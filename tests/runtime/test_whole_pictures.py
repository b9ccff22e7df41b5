"""Frames that were shrunk for the model, and are shown whole."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from adae_edge.decoding.shrinking import Shrinking
from adae_edge.errors import FrameError
from adae_edge.runtime import Frame
from adae_edge.runtime.batching import MOST_FRAMES, room_for
from adae_edge.runtime.frame import Whole
from adae_edge.runtime.sources.files import Files
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.video import Video
from tests.support import clips

SMALL = Shrinking(8)


def three_ways(source, path):
    """The frames of a source: whole, shrunk, and shrunk for somebody who shows them whole."""
    ways = (None, SMALL, SMALL._replace(keep=True))
    return [list(source(str(path), Wanted(shrinking=way))) for way in ways]


@pytest.mark.parametrize("name", ["mp4", "turned.mp4"])
def test_a_videos_frames_are_scored_as_without_and_shown_as_they_are(tmp_path, name):
    path = clips.write(tmp_path, "h264.mp4")
    if name == "turned.mp4":
        clips.ffmpeg("-i", path, "-metadata:s:v", "rotate=90", "-c", "copy", tmp_path / name)
        path = tmp_path / name
    whole, shrunk, kept = three_ways(Video, path)
    assert len(kept) == len(whole) > 10
    assert kept[0].size == whole[0].pixels.shape[:2]
    for one, other, shown in zip(whole, shrunk, kept, strict=True):
        assert np.array_equal(shown.pixels, other.pixels)
        assert np.array_equal(shown.picture(), one.pixels)
        assert other.picture() is other.pixels
    # each makes its own picture, however late it is asked for
    assert any(not np.array_equal(a.picture(), b.picture()) for a, b in pairwise(kept))
    assert kept[0].without_pixels().picture().shape == (0, 0, 3)


def test_a_jpegs_picture_is_read_again_and_its_loss_is_told(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    (whole,), (shrunk,), (kept,) = three_ways(Files, tmp_path / "a.jpg")
    assert shrunk.full == kept.full == (96, 128)
    assert np.array_equal(kept.pixels, shrunk.pixels)
    assert np.array_equal(kept.picture(), whole.pixels)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FrameError, match="does not exist"):
        kept.picture()


def test_what_is_held_for_showing_bounds_how_many_frames_are_together():
    pixels = np.zeros((16, 16, 3), np.uint8)
    light = Frame("x", 0, 0.0, pixels)
    heavy = Frame("x", 0, 0.0, pixels, whole=Whole(lambda: pixels, 6_000_000))
    assert (room_for(light), room_for(heavy)) == (MOST_FRAMES, 2)
    assert heavy.held_bytes == 6_000_000 + pixels.nbytes
