"""What a training tells of itself while it runs: each update, and metrics for each epoch."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from adae_edge.formats.files import write_atomically


@dataclass(frozen=True)
class Update:
    """Where a training is after an update. Losses are means over the epoch so far."""

    epoch: int
    epochs: int
    update: int
    updates: int
    loss_real: float
    loss_fake: float
    loss_generator: float
    fake_weight: float
    lr_g: float
    lr_d: float

    @property
    def loss_d(self) -> float:
        """L_D of section 3, with the weight that the balance gives the generated term."""
        return self.loss_real - self.fake_weight * self.loss_fake

    @property
    def loss_g(self) -> float:
        """L_G of section 3."""
        return self.loss_generator + self.loss_fake


class Metrics:
    """One JSON line for each epoch, in a file beside the checkpoint.

    A resumed training goes on behind the lines of the epochs that are done.
    """

    def __init__(self, out: Path, done: int) -> None:
        """
        Args:
            out: the checkpoint file.
            done: how many epochs the checkpoint to go on from has.
        """
        self.path = metrics_path(out)
        kept: list[bytes] = []
        if done and self.path.is_file():
            kept = self.path.read_bytes().splitlines(keepends=True)[:done]
        write_atomically(self.path, b"".join(kept))
        self.started = time.monotonic() - training_seconds(out)

    def write(self, update: Update) -> None:
        """Add an epoch by its last update.

        ``seconds`` counts all epochs so far, over all resumptions.
        """
        row = asdict(update) | {
            "epoch": update.epoch + 1,
            "loss_d": update.loss_d,
            "loss_g": update.loss_g,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        del row["update"]
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def metrics_path(out: Path) -> Path:
    """The file of a training's metrics, beside its checkpoint ``out``."""
    return out.with_name(out.name.removesuffix(".safetensors") + ".metrics.jsonl")


def training_seconds(out: Path) -> float:
    """The seconds that all epochs in the metrics took together.

    0 where no metrics tell them: a training goes on without.
    """
    try:
        return float(json.loads(metrics_path(out).read_text().splitlines()[-1])["seconds"])
    except (OSError, IndexError, ValueError, TypeError, KeyError):
        return 0.0
