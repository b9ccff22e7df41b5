"""The training on the terminal: a bar with both losses and both learning rates, or a line an epoch in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from adae_edge.train.trainer import Update


class TrainingProgress:
    """Shows each update; use as a context manager.

    Attributes:
        epochs_done: whole epochs so far.
    """

    def __init__(self) -> None:
        self.epochs_done = 0
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", epoch="1", losses="")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, update: Update) -> None:
        """Take in one update of the weights."""
        losses = f"L_G {update.loss_g:.4f}  L_D {update.loss_d:.4f}  lr_G {update.lr_g:.1e}  lr_D {update.lr_d:.1e}"
        epoch = f"{update.epoch + 1}/{update.epochs}"
        total, done = update.epochs * update.updates, update.epoch * update.updates + update.update + 1
        self._bar.update(self._task, total=total, completed=done, epoch=epoch, losses=losses)
        if update.update + 1 == update.updates:
            self.epochs_done = update.epoch + 1
            if self._bar.disable:
                self._console.print(f"epoch {epoch}  {losses}", highlight=False, soft_wrap=True)
