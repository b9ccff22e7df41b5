"""A table as it is asked for, and as it is going to be made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adae_edge.errors import UsageError
from adae_edge.machine import available_threads
from adae_edge.train.tables.tables import Table, find_table

JOBS_ON_A_GPU = 5


@dataclass(frozen=True)
class TableRequest:
    """The options of ``adae-edge reproduce`` as they are given.

    Attributes:
        name: of the table.
        data: the data set's folder, or None where the table needs none.
        out: the table's folder, or None for one with the table's name.
        classes, seeds: those that are wanted, with commas between them; None for all.
        recipe, epochs, device: as for ``train``.
        jobs: cells at a time, or None for one on each CPU, and 5 on a GPU.
    """

    name: str
    data: Path | None = None
    out: Path | None = None
    classes: str | None = None
    seeds: str | None = None
    recipe: str = "default"
    epochs: int | None = None
    jobs: int | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class TablePlan:
    """A table that can be made, with nothing left open.

    Attributes:
        name: of the table.
        data: the data set's folder, or None where the table needs none.
        out: the table's folder.
        classes, seeds: those that are wanted, in the table's order.
        recipe, epochs, device: as for ``train``.
        jobs: cells at a time.
    """

    name: str
    data: Path | None
    out: Path
    classes: list[str]
    seeds: list[int]
    recipe: str
    epochs: int | None
    jobs: int
    device: str

    @property
    def table(self) -> Table:
        """What the paper's table of this name is."""
        return find_table(self.name)

    def command(self, devices: list[str]) -> str:
        """Write the command that gives the same figures, without the places of this machine.

        Args:
            devices: on which the cells were made, cpu or cuda; of several, none can be asked for by
                one command.
        """
        words = ["adae-edge", "reproduce", self.name]
        if self.data:
            words.append("DIR")
        words += ["--out", self.out.name]
        if self.classes != list(self.table.classes):
            words += ["--classes", ",".join(self.classes)]
        if self.seeds != list(self.table.seeds):
            words += ["--seeds", ",".join(map(str, self.seeds))]
        if self.recipe != "default":
            words += ["--recipe", self.recipe]
        if self.epochs:
            words += ["--epochs", str(self.epochs)]
        if len(devices) == 1 and devices != ["cpu"]:
            words += ["--device", *devices]
        return " ".join(words)


def plan_table(request: TableRequest) -> TablePlan:
    """Check what is asked for, and fill in what is left open.

    Raises:
        UsageError: an unknown table or class, no class, a seed that is no number, a recipe without
            D, or the data set's folder is missing.
    """
    table = find_table(request.name)
    if request.recipe == "autoencoder":
        raise UsageError(
            "the recipe autoencoder trains no D, and two of a table's scores are made by D"
        )
    _check_data(request, table)
    jobs = available_threads() if request.device == "cpu" else JOBS_ON_A_GPU
    return TablePlan(
        name=request.name,
        data=request.data,
        out=request.out or Path(request.name),
        classes=_classes(request, table),
        seeds=_seeds(request, table),
        recipe=request.recipe,
        epochs=request.epochs,
        jobs=request.jobs or jobs,
        device=request.device,
    )


def _check_data(request: TableRequest, table: Table) -> None:
    """Refuse a data set that is missing, or one too much."""
    if table.needs_data and request.data is None:
        raise UsageError(
            f"the table {request.name} needs its data set: adae-edge reproduce {request.name} DIR"
        )
    if not table.needs_data and request.data is not None:
        raise UsageError(f"the table {request.name} brings its own data: leave out {request.data}")
    if request.data is not None and not request.data.is_dir():
        raise UsageError(f"there is no folder {request.data}")


def _classes(request: TableRequest, table: Table) -> list[str]:
    """Read the classes, each once and in the table's order."""
    if request.classes is None:
        return list(table.classes)
    wanted = _listed(request.classes, "--classes")
    for name in wanted:
        if name not in table.classes:
            raise UsageError(
                f"the table {request.name} has no class {name}: choose {', '.join(table.classes)}"
            )
    return [name for name in table.classes if name in wanted]


def _seeds(request: TableRequest, table: Table) -> list[int]:
    """Read the seeds, each once and in the order given."""
    if request.seeds is None:
        return list(table.seeds)
    seeds = []
    for text in _listed(request.seeds, "--seeds"):
        # Python refuses to read numbers of thousands of digits.
        if not (text.isdecimal() and len(text) <= 10 and int(text) < 2**31):
            raise UsageError(
                f"--seeds takes whole numbers from 0 to 2147483647, and {request.seeds[:40]} is "
                "something else"
            )
        seeds.append(int(text))
    return list(dict.fromkeys(seeds))


def _listed(text: str, option: str) -> list[str]:
    """Divide an option's text at its commas.

    Raises:
        UsageError: there is nothing between two of them.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(
            f"{option} takes names with commas between them, and '{text}' leaves one out"
        )
    return parts
