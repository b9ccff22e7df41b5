"""Signals under load, and a process that is short of descriptors or memory."""

from __future__ import annotations

import signal
import time

from adae_edge.benchmarks.faults.fault import fault
from adae_edge.benchmarks.faults.lab import Lab, Run, Seen, expect, judge
from adae_edge.benchmarks.peers import numbers
from adae_edge.benchmarks.peers.numbers import write_clip
from adae_edge.runtime.batching import MOST_FRAMES

_FRAMES = range(1, 241)
_IN_HAND = 2 * MOST_FRAMES  # the batch that the model has, and one on its way to the sink


def _rows_are_a_start(run: Run, seen: str) -> Seen:
    rows = run.rows()
    return judge(rows, range(1, len(rows) + 1), seen)


def _stopped(lab: Lab, *kinds: signal.Signals) -> tuple[Run, int, float, int]:
    """Stop a run over a clip: the run, its exit code, the seconds and the rows that it took."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with lab.score(clip, model=lab.slow) as run:
        run.wait_for_rows(5)
        begun = time.monotonic()
        run.peer.tell(kinds[0])
        before = len(run.rows())
        for kind in kinds[1:]:
            time.sleep(1)  # a run of the model ends before Python sees the signal
            run.peer.tell(kind)
        code = run.end(None)
        return run, code, time.monotonic() - begun, len(run.rows()) - before


@fault("55a", "SIGTERM while a file is scored", fast=True)
def terminated(lab: Lab) -> Seen:
    """The batch in hand is scored and nothing else, and the exit code tells of the stop."""
    return _drained(lab, signal.SIGTERM)


def _drained(lab: Lab, kind: signal.Signals) -> Seen:
    run, code, seconds, after = _stopped(lab, kind)
    expect(code == 130, f"exit code {code}")
    expect(after <= _IN_HAND, f"{after} rows came after the signal")
    return _rows_are_a_start(run, f"{after} rows in {seconds:.2f} s, exit code {code}")


@fault("55b", "SIGINT while a file is scored")
def interrupted(lab: Lab) -> Seen:
    """As SIGTERM."""
    return _drained(lab, signal.SIGINT)


@fault("55c", "SIGTERM twice")
def terminated_twice(lab: Lab) -> Seen:
    """The second one ends it at once, also while the model runs; rows are whole."""
    run, code, seconds, after = _stopped(lab, signal.SIGTERM, signal.SIGTERM)
    ended = -signal.SIGTERM, 128 + signal.SIGTERM
    expect(code in ended, f"exit code {code}, and {after} rows after the first")
    return _rows_are_a_start(run, f"ended after {seconds:.2f} s, exit code {code}")


def _hung_up(lab: Lab, change: str) -> tuple[Run, int]:
    """Score a clip, change the model's file and send SIGHUP thrice."""
    clip = write_clip(lab.folder / "clip.mp4", _FRAMES)
    with lab.score(clip, model=lab.slow) as run:
        run.wait_for_rows(20)
        if change == "damaged":
            lab.slow.write_bytes(lab.slow.read_bytes()[:-100])
        elif change == "absent":
            lab.slow.unlink()
        else:
            lab.slow.write_bytes(numbers.model(6))  # slow, too, so that the next signals find it
        for _ in range(3):
            run.peer.tell(signal.SIGHUP)
            run.wait_for_rows(5)
        return run, run.end(None)


@fault("55d", "SIGHUP, another model being there", fast=True)
def reloaded(lab: Lab) -> Seen:
    """The new model scores what comes, and no frame is lost."""
    run, code = _hung_up(lab, "good")
    expect(code == 0, f"exit code {code}: {run.last_words}")
    return judge(run.rows(), _FRAMES, f"loaded again, exit code {code}")


@fault("55e", "SIGHUP, the model being damaged", fast=True)
def reloaded_damaged(lab: Lab) -> Seen:
    """The old model stays, with a sentence."""
    run, code = _hung_up(lab, "damaged")
    expect("slow.onnx" in run.text, "it said nothing")
    return judge(run.rows(), _FRAMES, f"the old model stays and says so, exit code {code}")


@fault("55f", "SIGHUP, the model being absent")
def reloaded_absent(lab: Lab) -> Seen:
    """The old model stays, with a sentence."""
    run, code = _hung_up(lab, "absent")
    expect("slow.onnx" in run.text, "it said nothing")
    return judge(run.rows(), _FRAMES, f"the old model stays and says so, exit code {code}")


@fault("57a", "at most 32 descriptors, 40 files")
def few_descriptors(lab: Lab) -> Seen:
    """A file is closed before the next one is opened."""
    folder = lab.folder / "clips"
    folder.mkdir()
    clips = [write_clip(folder / f"{n:02}.mp4", range(n * 5, n * 5 + 5)) for n in range(1, 41)]
    limited = ("bash", "-c", 'ulimit -n 32; exec "$@"', "bash")
    with lab.score(*clips, before=limited) as run:
        code = run.end(None)
    expect(code in (0, 1), f"exit code {code}: {run.last_words}")
    sentence = "" if code == 0 else f": {run.last_words}"
    rows = run.rows()
    sent = range(5, 205) if code == 0 else [int(row["score"]) for row in rows]
    return judge(rows, sent, f"exit code {code}{sentence}")


@fault("57b", "address space of 700 MB, then of 250 MB")
def little_memory(lab: Lab) -> Seen:
    """It scores, or ends with a sentence; no row is half."""
    clip = write_clip(lab.folder / "clip.mp4", range(1, 61))
    told = []
    for size in (700_000, 250_000):
        limited = ("bash", "-c", f'ulimit -v {size}; exec "$@"', "bash")
        with lab.score(clip, before=limited) as run:
            code = run.end(None)
        told.append(f"{size // 1000} MB: exit code {code}, {run.last_words}")
        expect(code >= 0, f"killed by signal {-code}")
    rows = run.rows()
    return judge(rows, [int(row["score"]) for row in rows], "; ".join(told))
