"""Runs inputs from the field through the program and says of each whether it is treated right.

    python -m adae_edge.benchmarks.cases DIR [--markdown FILE] [NAME ...]

Each folder of DIR is a case: its ``make.py FOLDER`` writes the input. The model is trained for it
on scikit-learn's digits. What is right is another file's score, or a fact about the input.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adae_edge.benchmarks.faults.lab import WrongError, expect
from adae_edge.benchmarks.record import record
from adae_edge.formats.files import check_writable, write_atomically, write_json

_QUICK = ("--epochs", "1", "--network", "a", "--side", "32")
_CINE_FRAMES = 240
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Ran:
    """A command that ran.

    Attributes:
        code: with which it ended.
        out, error: what it printed.
        cpu_s: processor time of it and of the processes that it started, seconds.
    """

    code: int
    out: str
    error: str
    cpu_s: float


@dataclass
class Case:
    """The input of a case, in a folder of its own, and the commands that are run on it."""

    folder: Path
    model: Path
    number: int = field(default=0)

    def run(self, *arguments: object) -> Ran:
        """Run a command of adae-edge in the folder."""
        before = _cpu_s()
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "adae_edge", *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if "Traceback" in done.stderr:
            raise WrongError(done.stderr.splitlines()[-1])
        return Ran(done.returncode, done.stdout, done.stderr, _cpu_s() - before)

    def score(self, source: str) -> tuple[Ran, list[dict[str, Any]]]:
        """Score a source, and the rows of frames that came of it."""
        self.number += 1
        rows = self.folder / f"rows{self.number}.jsonl"
        ran = self.run("score", self.model, source, "--to", f"jsonl:{rows}")
        text = rows.read_text() if rows.exists() else ""
        every = [json.loads(line) for line in text.splitlines()]
        return ran, [row for row in every if "event" not in row]

    def scores(self, source: str) -> list[float]:
        """The scores of a source that is to be scored whole, without a complaint."""
        ran, rows = self.score(source)
        expect(ran.code == 0, f"{source}: {_last(ran)}")
        return [row["score"] for row in rows]

    def refused(self, source: str, *words: str) -> str:
        """The sentence that refuses a source, with one of the words in it."""
        ran, rows = self.score(source)
        sentence = _first(ran)
        expect(ran.code == 1 and not rows, f"{source}: {len(rows)} rows, exit code {ran.code}")
        expect(any(word in sentence.lower() for word in words), sentence)
        return sentence


def same_scores(case: Case, names: tuple[str, ...], right: str) -> str:
    """Files that show the same picture as another one have its score."""
    (wanted,) = case.scores(right)
    for name in names:
        (score,) = case.scores(name)
        expect(abs(score - wanted) < 0.02 * wanted, f"{name} {score:.4f}, and {right} {wanted:.4f}")
    return f"each has {right}'s score, {wanted:.4f}"


def video_trimmed(case: Case) -> str:
    """A clip that an edit list trims is whole."""
    (trimmed, same) = case.scores("trimmed.mp4"), case.scores("same.mkv")
    expect(len(trimmed) == len(same) == 75, f"{len(trimmed)} rows and {len(same)}")
    off = max(abs(a - b) for a, b in zip(trimmed, same, strict=True))
    expect(off < 0.01, f"scores differ by {off:.4f}")
    ran = case.run("calibrate", case.model, "trimmed.mp4", "--fpr", "0.05")
    expect(ran.code == 0, _last(ran))
    return "75 rows as of same.mkv, and calibrate takes it"


def video_no_decoder(case: Case) -> str:
    """A clip is scored, or its decoder is called missing."""
    ran, rows = case.score("av1.mp4")
    if ran.code == 0 and len(rows) == 20:
        return "decoded: 20 rows"
    expect("decoder" in ran.error and "cut short" not in ran.error, _first(ran))
    return _first(ran)


def video_damaged_slice(case: Case) -> str:
    """A frame that the decoder patched up is told and not scored."""
    whole, (ran, rows) = case.scores("whole.mp4"), case.score("damaged.mp4")
    expect(ran.code == 1, f"{len(rows)} rows, exit code {ran.code}")
    off = [row["frame"] for row in rows if abs(row["score"] - whole[row["frame"]]) > 0.01]
    expect(not off, f"{len(off)} of {len(rows)} rows are of other pictures")
    return f"{len(rows)} rows as of whole.mp4, the rest told: {_first(ran)}"


def video_time(case: Case) -> str:
    """A row says when the video shows its frame."""
    _, rows = case.score("uneven.mp4")
    times = [value for value in rows[35].values() if isinstance(value, float)]
    expect(any(abs(value - 3.48) < 0.02 for value in times), f"{rows[35]}")
    return "frame 35 is shown at 3.48 s"


def folder_other_kinds(case: Case) -> str:
    """What a folder holds is scored, or named with its number."""
    ran, rows = case.score("frames")
    last = _last(ran)
    named = all(kind in last for kind in (".jp2", ".mp4", ".ts"))
    expect(len(rows) == 6 and named, f"{len(rows)} rows: {last}")
    recording, _ = case.score("frames/recording.ts")
    picture = case.refused("frames/6.jp2", "jpeg 2000")
    expect("damaged" not in recording.error + picture, recording.error)
    return last


def folder_symlinks(case: Case) -> str:
    """Linked folders are followed, or named."""
    trained = case.run("train", "parts", *_QUICK)
    expect("70 normal" in trained.out, _last(trained))
    rows = case.scores("parts")
    expect(len(rows) == 70, f"{len(rows)} rows")
    return "70 pictures train, and 70 are scored"


def folder_layout(case: Case) -> str:
    """The layout of the field's data sets is read as what it is."""
    ran = case.run("train", "bottle", *_QUICK)
    if ran.code:
        expect("test/DEFECT" in ran.error, _last(ran))
        return _last(ran)
    expect("38 normal" in ran.out and "12 anomalous" in ran.out, ran.out.splitlines()[0])
    return "38 normal and 12 anomalous pictures, no masks"


def dicom_no_number(case: Case) -> str:
    """Numbers that are none, or that make every value the same, are refused by name."""
    for name in ("center.dcm", "slope.dcm", "slope0.dcm"):
        case.refused(name, "window", "slope", "rescal")
        ran = case.run("calibrate", case.model, name)
        expect(ran.code == 1, f"calibrate takes {name}")
    return "each is refused by name"


def dicom_frames_undeclared(case: Case) -> str:
    """Training and scoring count the frames of a file alike."""
    ran, rows = case.score("normal")
    trained = case.run("train", ".", *_QUICK)
    names = {(row["source"], row["frame"]) for row in rows}
    if not rows:
        expect(ran.code == 1 and trained.code == 1, f"scored none, and {_last(trained)}")
        return f"refused by both: {_first(ran)}"
    expect(len(names) == len(rows) == 60, f"{len(rows)} rows with {len(names)} names")
    expect("60 normal" in trained.out, _last(trained))
    return "60 frames with 60 names train and are scored"


def dicom_cd(case: Case) -> str:
    """A study's report and its index are left out, and told."""
    trained = case.run("train", "cd", *_QUICK)
    expect("40 normal" in trained.out, _last(trained))
    ran, rows = case.score("cd")
    expect(ran.code == 0 and len(rows) == 40, f"{len(rows)} rows, exit code {ran.code}")
    expect("left out 2" in ran.error, _last(ran))
    calibrated = case.run("calibrate", case.model, "cd", "--fpr", "0.2")
    expect(calibrated.code == 0, _last(calibrated))
    return "the 40 slices train, calibrate and are scored; 2 files left out"


def dicom_cine(case: Case) -> str:
    """A file of many frames takes no more of the processor's time than as many files."""
    one, many = (
        case.run("train", name, *_QUICK, "--out", f"{name}.safetensors") for name in ("one", "many")
    )
    expect(one.code == many.code == 0, _last(one))
    times = (ran.cpu_s for ran in (one, many))  # a busy machine makes none of them longer
    seen = "processor time: {:.0f} s for one file, {:.0f} s for {}".format(*times, _CINE_FRAMES)
    expect(one.cpu_s < 1.5 * many.cpu_s, seen)
    return seen


def nifti_background(case: Case) -> str:
    """What is brain survives the scaling of stored values."""
    training = "train nifti:train --network a --epochs 3 --out m.safetensors"
    trained = case.run(*training.split())
    expect(trained.code == 0, _last(trained))
    exported = case.run("export", "m.safetensors")
    expect(exported.code == 0, _last(exported))
    brains = Case(case.folder, case.folder / "m.onnx")
    (_, first), (_, second) = brains.score("float_flair.nii.gz"), brains.score("int16_flair.nii.gz")
    expect(len(first) == len(second) == 25, f"{len(first)} and {len(second)} slices")
    off = max(abs(a["score"] / b["score"] - 1) for a, b in zip(first, second, strict=True))
    expect(off < 0.01, f"scores differ by {100 * off:.1f} %")
    return f"25 slices each, scores within {100 * off:.2f} %"


def jsonl_foreign(case: Case) -> str:
    """A file of something else is refused and left as it is."""
    for name in ("settings.json", "metrics.jsonl"):
        before = (case.folder / name).read_bytes()
        ran = case.run("score", case.model, "picture.png", "--to", f"jsonl:{name}")
        expect((case.folder / name).read_bytes() == before, f"{name} is appended to")
        expect(ran.code != 0, f"{name}: exit code 0")
    return _last(ran)


def spaces(case: Case) -> str:
    """The next command can be pasted."""
    out = "my model.safetensors"
    ran = case.run("train", "my parts", "--out", out, *_QUICK)
    expect(ran.code == 0, _last(ran))
    following = ran.out.strip().splitlines()[-1].split("next: ")[-1]
    expect(shlex.split(following)[-1] == out, following)
    return following


def output_without_a_folder(case: Case) -> str:
    """A place that cannot be written is known before the work."""
    ran = case.run("bench", case.model, "--seconds", "2", "--json", "results/bench.json")
    expect(ran.code != 0 and "p50" not in ran.out, "measured first, and then refused")
    return _last(ran)


# What was seen before, and what is asked now.
CASES: dict[str, tuple[str, Callable[[Case], str]]] = {
    "video-trimmed": ("75 rows, then called cut short; exit code 1", video_trimmed),
    "video-no-decoder": ("the sound file is called cut short", video_no_decoder),
    "video-damaged-slice": ("60 rows without a word, 48 of patched pictures", video_damaged_slice),
    "video-time": ("no row says when in the video its frame is", video_time),
    "folder-other-kinds": ("3 rows, and no word of six other files", folder_other_kinds),
    "folder-symlinks": ("10 pictures of 70, without a word", folder_symlinks),
    "folder-layout": ("62 normals: defects and masks train", folder_layout),
    "tiff-white-is-zero": (
        "the picture is inverted",
        lambda case: same_scores(case, ("white.tif",), "right.png"),
    ),
    "tiff-turned": (
        "sheared rows",
        lambda case: same_scores(case, ("turned.tif", "turned16.tif"), "right.png"),
    ),
    "dicom-voi-lut-negative": (
        "a black frame",
        lambda case: same_scores(case, ("lut.dcm", "lut_explicit.dcm"), "right.dcm"),
    ),
    "dicom-no-number": ("three black frames, exit code 0", dicom_no_number),
    "dicom-frames-undeclared": (
        "60 rows of 20 names, and 20 frames train",
        dicom_frames_undeclared,
    ),
    "dicom-cd": ("the report and the index fail the folder", dicom_cd),
    "dicom-cine": ("19 s for one file of 240 frames, 2 s for 240 files", dicom_cine),
    "nifti-background": ("30 slices, all voxels brain, all normal", nifti_background),
    "output without a folder": ("measured for 20 s, then refused", output_without_a_folder),
    "jsonl-foreign": ("a row is appended to both", jsonl_foreign),
    "spaces": ("the next command is not quoted", spaces),
}


def run_case(name: str, cases: Path, model: Path, place: Path) -> dict[str, Any]:
    """Make a case's input and run it.

    Args:
        name: one of ``CASES``.
        cases: the folder with the folders of the cases.
        model: a model file for pictures.
        place: where the input goes.

    Returns:
        Its name, whether it is right, what was seen before and what is seen now.
    """
    before, check = CASES[name]
    folder = place / name.replace(" ", "-")
    folder.mkdir()
    own = folder / "model.onnx"  # calibrate changes it
    own.write_bytes(model.read_bytes())
    script = (cases / name / "make.py").resolve()
    try:
        if script.exists():
            count = [str(_CINE_FRAMES)] if name == "dicom-cine" else []
            command = [sys.executable, str(script), str(folder), *count]
            subprocess.run(command, check=True, cwd=folder)  # noqa: S603
        right, seen = True, check(Case(folder, own))
    except WrongError as wrong:
        right, seen = False, str(wrong)
    except (subprocess.SubprocessError, IndexError, KeyError, ValueError) as error:
        right, seen = False, f"{type(error).__name__}: {error}"
    seen = seen.replace(f"{folder}/", "").replace("|", "\\|")
    return {"case": name, "right": right, "before": before, "now": seen}


def as_markdown(results: list[dict[str, Any]]) -> str:
    """The table of cases."""
    lines = ["| case | before | now | |", "|---|---|---|---|"]
    for result in results:
        verdict = "right" if result["right"] else "**wrong**"
        lines.append(f"| `{result['case']}` | {result['before']} | {result['now']} | {verdict} |")
    right = sum(result["right"] for result in results)
    return "\n".join([*lines, "", f"{right} of {len(results)} cases are right."])


def main() -> int:
    """Run the cases that are named, or all; exit code 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    check_writable(given.markdown)
    check_writable(given.json)
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        base = Case(place, place / "model.onnx")
        training = "train digits --anomalous 0 --fpr 0.05 --epochs 2 --out model.safetensors"
        base.run(*training.split())
        exported = base.run("export", "model.safetensors")
        expect(exported.code == 0, exported.error)
        for name in given.names or CASES:
            results.append(run_case(name, given.cases, base.model, place))
            print(as_markdown(results[-1:]).splitlines()[2], flush=True)
    text = as_markdown(results)
    print(f"\n{text}")
    if given.markdown is not None:
        page = f"# Cases from the field\n\n    python -m adae_edge.benchmarks.cases DIR\n\n{text}\n"
        write_atomically(given.markdown, page.encode())
    if given.json is not None:
        write_json(given.json, record(cases=results))
    return 0 if all(result["right"] for result in results) else 1


def _cpu_s() -> float:
    """Processor time of all commands that have ended, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _first(ran: Ran) -> str:
    """The first complaint."""
    return (ran.error.strip().splitlines() or ["nothing said"])[0].removeprefix("adae-edge: ")


def _last(ran: Ran) -> str:
    """The last complaint, or the last line."""
    lines = (ran.error or ran.out).strip().splitlines()
    return (lines or ["nothing said"])[-1].removeprefix("adae-edge: ")


if __name__ == "__main__":
    sys.exit(main())
