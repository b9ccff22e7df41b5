"""Made-up frames: numbered, the same for a seed, and at their times if they are live."""

import io
import itertools
import threading
import time

import numpy as np
import pytest
from PIL import Image

from adae_edge.errors import UsageError
from adae_edge.runtime.scorer import Scorer
from adae_edge.runtime.sources.registry import open_source
from adae_edge.runtime.sources.source import Wanted
from adae_edge.runtime.sources.synthetic import number_of
from adae_edge.runtime.stream import Stream
from tests.support.models import mean_model
from tests.support.streams import Kept


def test_so_many_frames_each_with_its_number_and_another_picture():
    source = open_source("synthetic://?frames=300&size=64x48")
    frames = list(source)

    assert not source.live
    assert not source.endless
    assert [frame.id for frame in frames] == list(range(300))
    assert [number_of(frame.pixels) for frame in frames] == list(range(300))
    assert {frame.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert {frame.source for frame in frames} == {"synthetic://?frames=300&size=64x48"}
    for one, other in itertools.pairwise(frames):
        assert np.abs(one.pixels[10:].astype(int) - other.pixels[10:]).mean() > 5


def test_the_number_is_read_after_compression():
    *_, last = open_source("synthetic://?frames=700&size=320x200")
    data = io.BytesIO()
    Image.fromarray(last.pixels).save(data, "JPEG", quality=60)
    assert number_of(np.asarray(Image.open(data))) == 699


def test_a_seed_is_another_pattern_and_the_same_one_every_time():
    one, again, other = (
        next(iter(open_source(f"synthetic://?frames=1&size=64x48&seed={seed}"))).pixels
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_frame_may_be_written_to_without_changing_the_next():
    first, second = open_source("synthetic:?frames=2&size=33x9")
    again = second.pixels.copy()
    first.pixels[:] = 0
    assert np.array_equal(second.pixels, again)


def test_what_is_kept_already_is_not_made_again():
    wanted = Wanted(done=lambda source, number: number < 3)
    assert [frame.id for frame in open_source("synthetic://?frames=5", wanted)] == [3, 4]


def test_live_frames_come_at_their_times_and_late_ones_are_skipped():
    source = open_source("synthetic://?fps=50&frames=80&size=64x48")
    assert source.live
    assert not source.endless
    frames = []
    for frame in source:
        assert frame.time <= time.time()
        frames.append(frame)
        if len(frames) == 3:
            time.sleep(0.2)

    for frame in frames:
        assert frame.time - frames[0].time == pytest.approx(
            (frame.id - frames[0].id) / 50, abs=0.01
        )
        assert number_of(frame.pixels) == frame.id
    assert frames[3].skipped >= 8
    assert len(frames) + sum(frame.skipped for frame in frames) == 80
    assert frames[-1].id == 79


def test_a_source_without_an_end_stops_when_asked():
    source = open_source("synthetic://?fps=0.1&size=64x48")
    assert source.endless
    frames = iter(source)
    next(frames)
    threading.Timer(0.1, source.stop).start()
    assert list(frames) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("synthetic://?fps=0", "fps in synthetic:// takes frames a second, above 0"),
        ("synthetic://?fps=inf", "takes frames a second"),
        ("synthetic://?size=640", "takes WIDTHxHEIGHT, each from 1 to 8192"),
        ("synthetic://?size=9000x10", "takes WIDTHxHEIGHT, each from 1 to 8192"),
        ("synthetic://?frames=-1", "takes a whole number"),
        ("synthetic://?frames=", "takes a whole number"),
        ("synthetic://?rate=3", "has the option rate, and can have fps, size, frames, seed"),
        ("synthetic://?frames=3&frames=4", "has the option frames twice"),
        ("synthetic://camera", "has a place"),
    ],
)
def test_what_is_no_made_up_source(spec, says):
    with pytest.raises(UsageError, match=says):
        open_source(spec)


def test_a_model_of_slices_takes_no_made_up_frames():
    with pytest.raises(UsageError, match="slices of volumes"):
        open_source("synthetic://?frames=1", Wanted("modality"))


def test_files_beside_a_live_source_that_ends_are_all_scored(tmp_path):
    folder, model = tmp_path / "frames", tmp_path / "model.onnx"
    folder.mkdir()
    model.write_bytes(mean_model(1))
    for number in range(30):
        Image.new("L", (8, 6), number).save(folder / f"{number:02}.png")
    live = open_source("synthetic://?fps=200&frames=10&size=64x48")
    with Scorer(model, threads=1) as scorer:
        stream = Stream(scorer, [live, open_source(str(folder))], [kept := Kept()])
        stream.run()

    scored = [result.frame.source for result in kept.results if result.frame.source != live.name]
    assert scored == sorted(map(str, folder.iterdir()))
    assert stream.metrics.frames + stream.metrics.skipped == 40
