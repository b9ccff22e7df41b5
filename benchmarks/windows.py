"""Do the paper's networks see defects through windows of a large frame?

``python -m adae_edge.benchmarks.windows elpv:DIR`` trains network a on windows of 32 x 32 pixels of
a fold's normal cells, with several weights of the adversarial term, and scores the fold's own cells
through overlapping windows. Principal components of the same windows stand beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from adae_edge.benchmarks.inspection import Parts, open_cells
from adae_edge.benchmarks.record import record
from adae_edge.contract import Network
from adae_edge.formats.files import write_atomically, write_json
from adae_edge.local import energy, of_rarest
from adae_edge.model import ADAE
from adae_edge.preprocess import Preprocess
from adae_edge.resampling import mean_of_three
from adae_edge.train.components import principal_components
from adae_edge.train.recipes import RECIPES
from adae_edge.train.run import Run
from adae_edge.train.yardsticks import small_pictures

WINDOW = 32
STRIDE = 8
BATCH = 64
COMPONENTS = 128
# Of the normals, for the standardisation: the last part, which trains nothing.
HELD_OUT = 3

Errors = Callable[[Tensor], dict[str, Tensor]]


def main(
    data: Annotated[str, typer.Argument(help="elpv:DIR, as for the benchmark detection.")],
    out: Annotated[Path, typer.Option(help="Figures go to OUT.json and OUT.md.")] = Path("windows"),
    folds: Annotated[str, typer.Option(help="Folds, separated by commas.")] = "A,B,C",
    side: Annotated[int, typer.Option(help="Pixels of the frame that is cut into windows.")] = 128,
    weights: Annotated[str, typer.Option(help="Of the adversarial term.")] = "0,0.1,1",
    updates: Annotated[int, typer.Option(help="Of the weights of G and D.")] = 800,
) -> None:
    """Score cells through windows, by networks and by principal components of windows."""
    cells = open_cells(Path(data.partition(":")[2]))
    rows: dict[str, dict[str, Any]] = {}
    for fold in folds.split(","):
        known, held_out, tested = pictures_of(cells, fold, side)
        methods: dict[str, tuple[Errors, float | None]] = {
            f"adversarial weight {weight}": trained_on_windows(known, float(weight), updates)
            for weight in weights.split(",")
        }
        methods["principal components"] = (components_of_windows(known), None)
        for method, (errors, loss) in methods.items():
            for score, values in scores_of(errors, held_out, tested).items():
                row = rows.setdefault(f"{method}, {score}", {"auroc": {}, "loss": {}})
                row["auroc"][fold] = round(cells.auroc(values, cells.folds[fold][1]), 4)
                row["loss"][fold] = loss
            typer.echo(f"fold {fold}, {method}")
    result = record(side=side, updates=updates, rows=rows)
    table = as_markdown(result)
    typer.echo(table)
    write_json(out.with_suffix(".json"), result)
    write_atomically(out.with_suffix(".md"), (table + "\n").encode())


def pictures_of(cells: Parts, fold: str, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A fold's normals that train, normals that are held out, and its own cells.

    Returns:
        float32 [N, side, side] each, in [-1, 1].
    """
    normals, tested = cells.folds[fold]
    model = ADAE(Preprocess(side), 1, Network(None, 1))
    count = len(normals) // HELD_OUT
    parts = (normals[:-count], normals[-count:], tested)
    levels = (small_pictures(model, cells.dataset, part, side) for part in parts)
    known, held_out, new = (torch.from_numpy(part.copy()).float() / 127.5 - 1 for part in levels)
    return known, held_out, new


def windows_of(frames: Tensor) -> Tensor:
    """Overlapping windows: float32 [N, S, S] -> [N, P, 32, 32]."""
    cut = frames.unfold(1, WINDOW, STRIDE).unfold(2, WINDOW, STRIDE)
    return cut.flatten(1, 2)


def put_together(windows: Tensor, side: int) -> Tensor:
    """The mean of overlapping windows at each pixel: float32 [N, P, 32, 32] -> [N, S, S]."""
    across = (side - WINDOW) // STRIDE + 1
    total, count = torch.zeros(len(windows), side, side), torch.zeros(side, side)
    for place in range(across**2):
        top, left = (STRIDE * index for index in divmod(place, across))
        rows, columns = slice(top, top + WINDOW), slice(left, left + WINDOW)
        total[:, rows, columns] += windows[:, place]
        count[rows, columns] += 1
    return total / count


def trained_on_windows(frames: Tensor, weight: float, updates: int) -> tuple[Errors, float]:
    """Train G and D on random windows, as the recipe default does but for the weight.

    Args:
        frames: float32 [N, S, S] in [-1, 1].
        weight: of the adversarial term in L_G; with 0 D is trained all the same.
        updates: how many.

    Returns:
        The squared errors of G(x) and of D(G(x)) at each pixel, and the loss of G at the end.
    """
    torch.manual_seed(0)
    model = ADAE(Preprocess(WINDOW), 1, Network(16, 32))
    # A recipe of weight 0 would train no D.
    recipe = replace(RECIPES["default"], adversarial=max(weight, 1e-6))
    run, side = Run(model, recipe), frames.shape[1]
    losses = []
    for update in range(updates):
        places = torch.randint(side - WINDOW + 1, (BATCH, 2)).tolist()
        chosen = torch.randint(len(frames), (BATCH,)).tolist()
        batch = [
            frames[index, top : top + WINDOW, left : left + WINDOW]
            for index, (top, left) in zip(chosen, places, strict=True)
        ]
        losses.append(run.update(torch.stack(batch)[:, None], update / updates)[2])
    model.eval()

    def errors(pictures: Tensor) -> dict[str, Tensor]:
        windows = windows_of(pictures)
        x = windows.reshape(-1, 1, WINDOW, WINDOW)
        with torch.inference_mode():
            generated = model.generator(x)
            again = model.discriminator(generated)
        return {
            name: (x - made).square().reshape(windows.shape)
            for name, made in (("G(x)", generated), ("D(G(x))", again))
        }

    return errors, round(float(np.mean(losses[-50:])), 4)


def components_of_windows(frames: Tensor) -> Errors:
    """The squared error of the principal components of all windows, for all places the same."""
    windows = windows_of(frames).flatten(2).flatten(0, 1)
    some = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:12_000]
    centre, basis = principal_components(windows[some], COMPONENTS)

    def errors(pictures: Tensor) -> dict[str, Tensor]:
        cut = windows_of(pictures)
        deviation = cut.flatten(2) - centre
        left = deviation - deviation @ basis @ basis.T
        return {"components": left.square().reshape(cut.shape)}

    return errors


def scores_of(errors: Errors, held_out: Tensor, tested: Tensor) -> dict[str, Any]:
    """The scores of frames by what is reconstructed and how: float32 [N] each.

    ``sum`` is the root of the sum of squared errors, as the paper has it. ``local`` takes each
    pixel's error in logarithms, in standard deviations of what held-out normals have at that place,
    and averages the rarest hundredth.
    """
    of_normals, of_tested = (_maps(errors, frames) for frames in (held_out, tested))
    scores = {}
    for name, squared in of_tested.items():
        scores[f"{name}, sum"] = squared.sum(dim=(1, 2)).sqrt().numpy()
        spread, mean = torch.std_mean(smoothed(of_normals[name]), dim=0)
        z = (smoothed(squared) - mean) / (spread + 0.05)
        scores[f"{name}, local"] = of_rarest(z).numpy()
    return scores


def _maps(errors: Errors, frames: Tensor) -> dict[str, Tensor]:
    """The squared errors of frames, a few at a time: float32 [N, S, S] each."""
    parts = [errors(part) for part in torch.split(frames, 16)]
    side = frames.shape[1]
    return {
        name: torch.cat([put_together(part[name], side) for part in parts]) for name in parts[0]
    }


def smoothed(squared: Tensor) -> Tensor:
    """Logarithms of squared errors, averaged over 3x3 pixels: float32 [N, S, S]."""
    box = mean_of_three(squared.shape[1])
    return energy(box @ squared @ box.T)


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    folds = list(next(iter(result["rows"].values()))["auroc"])
    lines = [
        "# The paper's networks on windows of larger frames",
        "",
        f"Solar cells of `elpv_mono`, {result['side']} x {result['side']} pixels through windows "
        f"of {WINDOW} x {WINDOW}, {result['updates']} updates of network a. AUROC within modules. "
        f"`{result['command']}`",
        "",
        f"| | {' | '.join(f'fold {fold}' for fold in folds)} | mean | loss of G |",
        f"|---|{'---:|' * (len(folds) + 2)}",
    ]
    for name, row in result["rows"].items():
        shown = " | ".join(f"{row['auroc'][fold]:.3f}" for fold in folds)
        losses = [loss for loss in row["loss"].values() if loss is not None]
        loss = f"{np.mean(losses):.3f}" if losses else ""
        lines.append(f"| {name} | {shown} | {np.mean([*row['auroc'].values()]):.3f} | {loss} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
