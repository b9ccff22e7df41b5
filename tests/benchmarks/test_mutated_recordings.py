"""Damaged DICOM files and videos: what dcm2pnm or ffmpeg makes of each, or a sentence."""

from collections import Counter

import numpy as np
import pytest

from adae_edge.benchmarks import mutated_dicom, mutated_videos, mutations
from tests.support.peers import peer


def test_dcm2pnm_reads_every_sound_dicom_file_and_makes_the_same_of_it(tmp_path, monkeypatch):
    peer("dcm2pnm")
    monkeypatch.setattr(mutated_dicom, "_sound", list)
    files = mutated_dicom.write_sound(tmp_path)
    assert len(files) >= 20
    for path in files:
        frames = mutated_dicom.decode(path)
        assert mutated_dicom.judge(path, frames) == ("equal", "dcm2pnm"), path.name
        assert mutated_dicom.judge(path, [255 - frame for frame in frames])[0] == "differs"


def test_ffmpeg_shows_every_frame_of_the_sound_videos(tmp_path):
    peer("ffmpeg")
    files = mutated_videos.write_sound(tmp_path)
    assert len(files) >= 20
    for path in files:
        frames = mutated_videos.decode(path)
        assert len(frames) == mutated_videos.FRAMES
        assert mutated_videos.judge(path, frames) == ("equal", "ffmpeg"), path.name
        patched = [*frames[:20], np.roll(frames[20], 5, axis=1), *frames[21:]]
        assert mutated_videos.judge(path, patched)[0] == "differs"


@pytest.mark.parametrize(
    ("kind", "program", "count"), [("dicom", "dcm2pnm", 96), ("videos", "ffmpeg", 63)]
)
def test_some_damaged_files(kind, program, count, tmp_path):
    peer(program)
    rows = mutations.run(kind, tmp_path, count, seed=0)
    assert not [row for row in rows if row["outcome"] not in ("equal", "sentence")]
    assert min(Counter(row["outcome"] for row in rows).values()) > count // 10
