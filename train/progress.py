"""The training on the terminal: a bar, or plain lines in a log."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from adae_edge.errors import printable
from adae_edge.train.metrics import Update

if TYPE_CHECKING:
    from typing import Self


class _Shown:
    """A bar that is on the terminal within a ``with``."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class TrainingProgress(_Shown):
    """Shows each update; use as a context manager.

    Args:
        shown: whether anything is shown; of several processes that train together, one does.

    Attributes:
        epochs_done: whole epochs so far.
    """

    def __init__(self, shown: bool = True) -> None:
        self.epochs_done = 0
        self._console = Console(stderr=True, quiet=not shown)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", epoch="1", losses="", visible=False)

    def show(self, update: Update) -> None:
        """Show an update of the weights."""
        losses = (
            f"L_G {update.loss_g:.4f}  L_D {update.loss_d:.4f}  "
            f"lr_G {update.lr_g:.1e}  lr_D {update.lr_d:.1e}"
        )
        epoch = f"{update.epoch + 1}/{update.epochs}"
        total = update.epochs * update.updates
        done = update.epoch * update.updates + update.update + 1
        self._bar.update(
            self._task, total=total, completed=done, epoch=epoch, losses=losses, visible=True
        )
        if update.update + 1 == update.updates:
            self.epochs_done = update.epoch + 1
            if self._bar.disable:
                _print(self._console, f"epoch {epoch}  {losses}")


class TableProgress(_Shown):
    """Shows a table's cells: one bar over all of them, and a line for each that ends.

    In a log, where there is no bar, every epoch is a line, too.
    """

    def __init__(self, cells: int, finished: int) -> None:
        self._cells, self._finished = cells, finished
        self._running: dict[object, float] = {}
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.fields[cells]} cells"),
            BarColumn(),
            TextColumn("{task.fields[running]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=cells, completed=finished, cells=f"{finished}/{cells}", running=""
        )

    def epoch(self, cell: object, epoch: int, epochs: int, loss_g: float, loss_d: float) -> None:
        """Show that an epoch of a cell is done."""
        self._running[cell] = epoch / epochs
        if self._bar.disable:
            self._say(f"{cell}: epoch {epoch}/{epochs}  L_G {loss_g:.4f}  L_D {loss_d:.4f}")
        self._show()

    def finished(self, cell: object, auroc: dict[str, float], seconds: float) -> None:
        """Show that a cell is done, and its figures."""
        self._running.pop(cell, None)
        self._finished += 1
        figures = "  ".join(f"{name} {figure:.4f}" for name, figure in auroc.items())
        self._say(
            f"{cell}: AUROC {figures}, {seconds:.0f} s; {self._finished} of {self._cells} cells"
        )
        self._show()

    def failed(self, cell: object, reason: str) -> None:
        """Show that a cell ended without its figures."""
        self._running.pop(cell, None)
        self._say(f"{cell} failed: {printable(reason)}")
        self._show()

    def _show(self) -> None:
        done = self._finished + sum(self._running.values())
        running = "  ".join(f"{cell} {part:.0%}" for cell, part in self._running.items())
        self._bar.update(
            self._task, completed=done, cells=f"{self._finished}/{self._cells}", running=running
        )

    def _say(self, line: str) -> None:
        _print(self._console, line)


def _print(console: Console, line: str) -> None:
    """Print a line; where its disk is full nobody reads it, and the training goes on."""
    with contextlib.suppress(OSError):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
