"""Damaged files: each is what another decoder makes of it, or a sentence, and nothing else."""

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adae_edge.benchmarks import mutations
from adae_edge.benchmarks.mutated_pictures import write_sound
from adae_edge.decoding.images import decode_image
from adae_edge.errors import FrameError
from tests.support.peers import peer


def test_every_sound_picture_is_decoded(tmp_path):
    files = write_sound(tmp_path)
    assert len(files) > 20
    assert {decode_image(path).shape[:2] for path in files} == {(45, 61), (61, 45)}


def test_damage_is_the_same_for_the_same_number():
    data = bytes(range(256)) * 8
    made = [mutations.mutated(data, np.random.default_rng((0, n))) for n in range(200)]
    again = [mutations.mutated(data, np.random.default_rng((0, n))) for n in range(200)]
    assert made == again
    assert len({way for _, way in made}) == 8
    assert sum(changed != data for changed, _ in made) > 190


def test_some_hundred_damaged_pictures(tmp_path):
    peer("djpeg")
    rows = mutations.run("pictures", tmp_path, 216, seed=1)
    outcomes = Counter(row["outcome"] for row in rows)
    faults = [row for row in rows if row["outcome"] not in ("equal", "sentence")]
    assert not faults
    assert min(outcomes.values()) > 30
    assert mutations.run("pictures", tmp_path, 216, seed=1) == rows
    assert "| all |" in mutations.table(rows)


def resident_mb():
    """The resident memory of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


@pytest.mark.parametrize(
    ("decode", "outcome"),
    [
        (lambda path: [np.zeros((1, 1, 1))], "frames"),
        (lambda path: (_ for _ in ()).throw(FrameError(f"{path} is damaged")), "sentence"),
        (lambda path: [1 / 0], "traceback"),
        (lambda path: [np.ones((9000, 9000), np.float64)], "memory"),
    ],
)
def test_what_a_decoder_does_with_a_file_is_told_apart(
    tmp_path, capsys, monkeypatch, decode, outcome
):
    path = tmp_path / "file"
    # The process of the tests is larger than a decoder's.
    monkeypatch.setattr(mutations, "MOST_MB", resident_mb() + 300)
    mutations.decode_all(SimpleNamespace(decode=decode), iter([f"{path}\n"]))
    answer = capsys.readouterr().out
    assert answer.startswith(f'["{outcome}"')
    assert str(path) not in answer


def test_a_decoder_that_hangs_or_dies_is_told_and_replaced(tmp_path, monkeypatch):
    script = tmp_path / "decoder.py"
    script.write_text(
        "import os, sys, time\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin:\n"
        "    name = line.strip()\n"
        "    if name == 'die': os.abort()\n"
        "    if name == 'hang': time.sleep(60)\n"
        '    print(\'["frames", ""]\', flush=True)\n'
    )
    monkeypatch.setattr(mutations, "LONGEST_S", 3.0)
    with mutations.Worker("pictures", "decode") as worker:
        worker._command = [sys.executable, str(script)]
        outcomes = [worker.ask(name).outcome for name in ("a", "die", "b", "hang", "c")]
    assert outcomes == ["frames", "death", "frames", "hang", "frames"]
