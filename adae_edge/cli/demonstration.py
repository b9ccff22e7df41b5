"""What the demo does: the public commands one after another on real digits, and a report."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from adae_edge.errors import AdaeEdgeError, UsageError, command
from adae_edge.formats.checkpoint import Checkpoint
from adae_edge.formats.files import write_json
from adae_edge.model import load_network
from adae_edge.runtime.scorer import Scorer
from adae_edge.train.evaluate import beside_yardsticks, measure
from adae_edge.train.report import write_report
from adae_edge.train.unseen import UnseenFrames, unseen_frames

ANOMALOUS = 0
EPOCHS = 25
FPR = 0.05

# Everything that a demo leaves in its folder.
WRITTEN = {
    "digits.safetensors",
    "digits.metrics.jsonl",
    "digits.onnx",
    "frames",
    "scores.jsonl",
    "summary.json",
    "report.html",
}

# The scoring process: torch cannot be imported in it, whatever is installed.
_WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from adae_edge.cli import main; main()"


def run_demo(out: Path, seed: int) -> None:
    """Train on nine digits, export, score the held-out frames without torch, and write the report.

    Args:
        out: folder for the checkpoint, the model file, the frames, scores.jsonl, summary.json and
            report.html.
        seed: for the split, the first weights and the order of batches.

    Raises:
        UsageError: the folder holds something that no demo writes.
        AdaeEdgeError: one of the commands failed.
    """
    started = time.monotonic()
    checkpoint, model = out / "digits.safetensors", out / "digits.onnx"
    frames, rows = out / "frames", out / "scores.jsonl"
    _clear(out)

    # The public commands
    training = f"train digits --anomalous {ANOMALOUS} --epochs {EPOCHS} --fpr {FPR} --seed {seed}"
    commands = [
        [*training.split(), "--out", str(checkpoint)],
        ["export", str(checkpoint), "--out", str(model)],
        ["score", str(model), str(frames), "--to", f"jsonl:{rows}"],
    ]
    _run(commands[0])
    unseen = unseen_frames(Checkpoint.load(checkpoint))
    paths = write_frames(unseen, frames)
    _run(commands[1])
    _run(commands[2], without_torch=True)

    # How well the scores separate
    every = map(json.loads, rows.read_text().splitlines())
    results = {row["source"]: row for row in every if "event" not in row}
    scores = np.array([results[str(path)]["score"] for path in paths], np.float32)
    evaluation = measure(scores, unseen.anomalous, results[str(paths[0])]["threshold"])
    trained = Checkpoint.load(checkpoint)
    network = load_network(trained)
    evaluation = beside_yardsticks(evaluation, trained, network, unseen)
    best = evaluation.yardsticks[0]
    summary = {
        "auroc": evaluation.auroc,
        "best_yardstick": asdict(best),
        "seconds": round(time.monotonic() - started, 1),
        "latency_p50_ms": _latency(model, unseen),
        "checkpoint": str(checkpoint),
        "model": str(model),
    }

    # The report
    title = f"Digits, {ANOMALOUS} held out as anomalous"
    shown = "\n".join("adae-edge " + shlex.join(command) for command in commands)
    following = _following(checkpoint, model)
    write_report(out / "report.html", title, evaluation, scores, unseen, network, shown, following)
    write_json(out / "summary.json", summary)
    typer.echo(f"\n{title}, scored by the exported graph in a process without torch:")
    if evaluation.verdict:
        typer.echo(evaluation.verdict)
    typer.echo(evaluation.table())
    typer.echo(f"{'best yardstick':<21}{best.auroc:.4f}, {best.name}")
    typer.echo(f"{'latency':<21}{summary['latency_p50_ms']} ms a frame at the median")
    typer.echo(f"{'seconds':<21}{summary['seconds']}")
    typer.echo(f"\nreport: {out / 'report.html'}\n\nnext:\n{following}")


def write_frames(unseen: UnseenFrames, folder: Path) -> list[Path]:
    """Write frames as PNG files into normal/ and anomalous/.

    Returns:
        Their paths, in the frames' order.
    """
    paths = []
    for index, anomalous in enumerate(unseen.anomalous):
        path = folder / ("anomalous" if anomalous else "normal") / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(unseen.frame(index, 1)[:, :, 0]).save(path)
        paths.append(path)
    return paths


def _clear(out: Path) -> None:
    """Make the folder, and remove an earlier demo from it and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    foreign = sorted({path.name for path in out.iterdir()} - WRITTEN)
    if foreign:
        raise UsageError(
            f"{out} is not empty, and {foreign[0]} in it is not of a demo: choose another --out"
        )
    shutil.rmtree(out / "frames", ignore_errors=True)
    for path in out.iterdir():
        path.unlink()


def _run(arguments: list[str], without_torch: bool = False) -> None:
    """Run a public command as its user would; its output goes to the terminal."""
    typer.echo(f"$ {command(*arguments)}")
    prefix = ["-c", _WITHOUT_TORCH] if without_torch else ["-m", "adae_edge"]
    if subprocess.run([sys.executable, *prefix, *arguments], check=False).returncode:  # noqa: S603
        raise AdaeEdgeError(f"the demo stopped: adae-edge {arguments[0]} failed")


def _latency(model: Path, unseen: UnseenFrames) -> float:
    """Median milliseconds of one call of the scorer with one frame."""
    scorer = Scorer(model)
    times = []
    for index in range(min(len(unseen.indices), 200)):
        frame = unseen.frame(index, 1)[None]
        begun = time.perf_counter()
        scorer.score(frame)
        times.append(time.perf_counter() - begun)
    return round(float(np.median(times)) * 1e3, 3)


def _following(checkpoint: Path, model: Path) -> str:
    """The commands to run next, a line each."""
    pictures = "# your own pictures: FOLDER/normal, and FOLDER/anomalous to evaluate"
    return "\n".join(
        [
            command("inspect", model),
            command("bench", model),
            command("evaluate", checkpoint, "--out", "evaluation"),
            f"adae-edge train FOLDER     {pictures}",
            "adae-edge score MODEL camera:0 --to jsonl:scores.jsonl",
        ]
    )
