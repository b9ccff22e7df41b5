"""The page that shows what ``detection.py`` measured."""

from __future__ import annotations

from typing import Any


def as_markdown(result: dict[str, Any]) -> str:
    """The figures as a page."""
    lines = ["# Detection of defects, and yardsticks", "", f"{result['about']}.", ""]
    lines += [f"`{result['command']}`", ""]
    if result["yardsticks"]:
        lines += ["## Frames", "", "AUROC of the score.", "", *_frames(result)]
    if result["map_yardsticks"]:
        lines += ["", "## Pixels", ""] if result["yardsticks"] else ["## Pixels", ""]
        lines += [
            "AUROC of the anomaly map's values, all pixels of the frames with a mask pooled.",
            "",
            *_pixels(result),
        ]
    for choice, row in result["trained"].items():
        if any(all(seeds) for seeds in row["pose"].values()):
            lines += ["", f"## What decides about turning parts, {_option(choice)}", ""]
            lines += [
                "AUROC of made-up defects on held-out normals, mean over the seeds; parts are "
                "turned where it is 0.05 better.",
                "",
                *_trials(row["pose"]),
            ]
    return "\n".join(lines)


def _trials(pose: dict[str, list[dict[str, float]]]) -> list[str]:
    lines = _head(list(pose))
    for name, shown in (("none", "as they lie"), ("rigid", "turned upright")):
        means = {fold: _mean([trial[name] for trial in seeds]) for fold, seeds in pose.items()}
        lines.append(_line(shown, means, _mean([*means.values()])))
    return lines


def _frames(result: dict[str, Any]) -> list[str]:
    folds, table = list(result["folds"]), result["yardsticks"]
    lines = _head(folds, "largest spread over seeds")
    for choice, row in result["trained"].items():
        lines.append(_line(_option(choice), row["auroc"], row["mean"], f"{row['spread']:.3f}"))
    best = {fold: max(row["auroc"][fold] for row in table.values()) for fold in folds}
    lines.append(_line("the best yardstick of each fold", best, _mean([*best.values()]), ""))
    lines += [_line(name, row["auroc"], row["mean"], "") for name, row in table.items()]
    return lines


def _pixels(result: dict[str, Any]) -> list[str]:
    lines = _head(list(result["folds"]))
    for choice, row in result["trained"].items():
        lines.append(_line(_option(choice), row["pixels"], row["pixels_mean"]))
    for name, row in result["map_yardsticks"].items():
        lines.append(_line(name, row["auroc"], row["mean"]))
    return lines


def _head(folds: list[str], *more: str) -> list[str]:
    names = [*(f"fold {fold}" for fold in folds), "mean", *more]
    return [f"| | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]


def _line(name: str, figures: dict[str, float], mean: float, *more: str) -> str:
    shown = [*(f"{figure:.3f}" for figure in figures.values()), f"{mean:.3f}", *more]
    return f"| {name} | {' | '.join(shown)} |"


def _option(choice: str) -> str:
    recipe, score = choice.split(":")
    return f"`--recipe {recipe} --score {score}`"


def _mean(figures: list[float]) -> float:
    return sum(figures) / len(figures)
