"""A table for people: TABLE.md."""

from __future__ import annotations

from typing import Any

from adae_edge.train.tables.request import TablePlan

_YARDSTICKS = """## Yardsticks

What simple scores reach on the same test frames, fitted to 5000 training normals at the most. The
best one of each class is chosen with the labels, and so is the better side of a property such as
the area: that favours them. The last row is the best one that is the same for all classes."""

_SEEDS = """## Seeds

The AUROC of each seed, in the order of the seeds. The last row is the largest standard deviation
over seeds, and the class that has it."""

_NO_RESULT = """## No result: the best epoch by the test set

To keep the epoch that is best on the test frames is to read their labels, so nothing here is a
figure of the method. It says how much that choice alone would give: the AUROC after the last epoch,
after the best one (the highest of all, and which it is), and the lowest of all."""

_CLASS = ("class_mean", "class_spread")


def as_markdown(plan: TablePlan, summary: dict[str, Any]) -> str:
    """Write the table as a page, with the paper's columns beside ours.

    Args:
        plan: the table.
        summary: its figures, as ``summarise`` puts them together.
    """
    lines = [f"# {summary['table']}", "", *_lost(summary), _introduction(plan, summary)]
    if summary["scores"]:
        lines.append(_frames(summary))
    lines += ["", *_aligned(_rows(plan, summary)), ""]
    if summary["yardsticks"]["one_for_all"]["name"]:
        lines += [_YARDSTICKS, "", *_aligned(_yardstick_rows(plan, summary)), ""]
    if len(plan.seeds) > 1 and summary["scores"]:
        lines += [_SEEDS, "", *_aligned(_seed_rows(plan, summary)), ""]
    if summary["no_result_best_epoch_by_the_test_set"]:
        lines += [_NO_RESULT, "", *_aligned(_epoch_rows(plan, summary)), ""]
    lines += [f"`{summary['command']}`", ""]
    seconds = summary["training_seconds"]
    if summary["epochs"]:
        lines += [f"Trained for {seconds} s in all cells together, AUROCs of epochs included.", ""]
    lines += map(_machine, summary["machines"])
    return "\n".join([*lines, ""])


def _lost(summary: dict[str, Any]) -> list[str]:
    """Say first for how many classes a yardstick is better than the paper's score, if for any."""
    if not summary["scores"]:
        return []
    own, yardsticks = summary["scores"]["l2"]["class_mean"], summary["yardsticks"]["class_mean"]
    known = [name for name in own if own[name] is not None and yardsticks[name] is not None]
    lost = sum(yardsticks[name] > own[name] for name in known)
    if not lost:
        return []
    return [f"**l2 loses to a yardstick for {lost} of {len(known)} classes.**", ""]


def _introduction(plan: TablePlan, summary: dict[str, Any]) -> str:
    """Say what the figures are."""
    seeds = ", ".join(map(str, plan.seeds))
    averaged = (
        f"mean ± standard deviation of seeds {seeds}" if len(plan.seeds) > 1 else f"seed {seeds}"
    )
    finished, wanted = summary["cells"]["finished"], summary["cells"]["wanted"]
    part = f" {finished} of {wanted} cells are finished." if finished != wanted else ""
    epochs = f", epochs {summary['epochs']}" if summary["epochs"] else ""
    return (
        f"AUROC {plan.table.measured}, {averaged}; recipe {plan.recipe}{epochs}.{part} "
        f"{summary['note']}"
    )


def _frames(summary: dict[str, Any]) -> str:
    """Say how many frames a cell tests, as "7 to 9" where cells differ, and how many patients."""
    ranges = {}
    for kind, by_class in summary["test"].items():
        counts = {count for of_seeds in by_class.values() for count in of_seeds} - {None}
        ranges[kind] = " to ".join(map(str, sorted({min(counts), max(counts)})))
    patients = ""
    if summary["patients"]:
        patients = f"; {summary['patients']} patients in all cells together"
    return (
        f"Test frames of a cell: {ranges['normals']} normal, {ranges['anomalous']} anomalous"
        f"{patients}."
    )


def _rows(plan: TablePlan, summary: dict[str, Any]) -> list[list[str]]:
    """Make the cells of the Markdown table: a heading, a row for each class, and the means."""
    scores, paper = [*summary["scores"].values()], summary["paper"].values()
    heading = [plan.table.heading]
    heading += [f"{method}, paper" for method in summary["paper"]]
    heading += [f"{name}, ours" for name in summary["scores"]]
    if summary["yardsticks"]["one_for_all"]["name"]:
        heading.append("best yardstick")
        scores.append(summary["yardsticks"])

    rows = [heading]
    for class_name, title in summary["classes"].items():
        row = [title]
        row += [_figure(method["auroc"].get(class_name)) for method in paper]
        for score in scores:
            row.append(_figure(score["class_mean"][class_name], score["class_spread"][class_name]))
        rows.append(row)

    means = ["**mean**"]
    means += [f"{method['mean']:.3f}" for method in paper]
    means += [f"**{_figure(score['mean'], score['spread'])}**" for score in scores]
    rows.append(means)

    if any("same_area" in score for score in scores):
        for class_name, title in summary["classes"].items():
            row = [f"{title}, same area"] + ["-"] * len(paper)
            for score in scores:
                pairs = score.get("same_area", {"class_mean": {}, "class_spread": {}})
                row.append(_figure(*(pairs[which].get(class_name) for which in _CLASS)))
            rows.append(row)

    if plan.table.development:
        others = ["mean of others"] + ["-"] * len(paper)
        for score in scores:
            outside = score.get("outside_development", {"mean": None, "spread": None})
            others.append(_figure(outside["mean"], outside["spread"]))
        rows.append(others)
    return rows


def _yardstick_rows(plan: TablePlan, summary: dict[str, Any]) -> list[list[str]]:
    """Make the cells of the table of yardsticks: the best of each class, and one for all."""
    yardsticks = summary["yardsticks"]
    rows = [[plan.table.heading, "AUROC", "best yardstick"]]
    for class_name, title in summary["classes"].items():
        mean, spread = (yardsticks[kind][class_name] for kind in ("class_mean", "class_spread"))
        rows.append([title, _figure(mean, spread), yardsticks["best"][class_name] or "-"])
    alone = yardsticks["one_for_all"]
    rows.append(["**mean**", _figure(yardsticks["mean"], yardsticks["spread"]), "of each class"])
    rows.append(["mean", _figure(alone["mean"]), alone["name"]])
    return rows


def _seed_rows(plan: TablePlan, summary: dict[str, Any]) -> list[list[str]]:
    """Make the cells of the table of seeds: each seed's figure, and the class that differs most."""
    scores = summary["scores"]
    rows = [[plan.table.heading, *(f"{name}, ours" for name in scores)]]
    for class_name, title in summary["classes"].items():
        figures = (score["auroc"][class_name] for score in scores.values())
        rows.append([title, *(", ".join(map(_figure, of_seeds)) for of_seeds in figures)])

    last = ["largest spread"]
    for score in scores.values():
        known = [(spread, name) for name, spread in score["class_spread"].items() if spread]
        spread, name = max(known, default=(None, ""))
        last.append(_figure(spread) + f" ({summary['classes'].get(name)})" * bool(known))
    return [*rows, last]


def _epoch_rows(plan: TablePlan, summary: dict[str, Any]) -> list[list[str]]:
    """Make the cells of the table of best epochs: means over seeds, and each seed's best epoch."""
    scores = summary["no_result_best_epoch_by_the_test_set"]
    paper = {name: figures for name, figures in summary["paper"].items() if name == "ADAE"}
    heading = [plan.table.heading, *(f"{name}, paper" for name in paper)]
    for name in scores:
        heading += [f"{name}, last", f"{name}, best", "at epoch", f"{name}, lowest"]
    rows = [heading]
    for class_name, title in summary["classes"].items():
        row = [title, *(_figure(method["auroc"].get(class_name)) for method in paper.values())]
        for score in scores.values():
            last, best, lowest = (
                _figure(score[which]["class_mean"][class_name])
                for which in ("last", "best", "lowest")
            )
            epochs = ["-" if epoch is None else str(epoch) for epoch in score["epoch"][class_name]]
            row += [last, best, ", ".join(epochs), lowest]
        rows.append(row)

    means = ["**mean**", *(_figure(method["mean"]) for method in paper.values())]
    for score in scores.values():
        means += [_figure(score[which]["mean"]) for which in ("last", "best", "lowest")]
        means.insert(-1, "-")
    return [*rows, means]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Write rows as a Markdown table whose columns are aligned in its source, too."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append(f"| {' | '.join(padded)} |")
    rule = "|".join("-" * (width + 2) for width in widths)
    return [lines[0], f"|{rule}|", *lines[1:]]


def _figure(mean: float | None, spread: float | None = None) -> str:
    """Write a figure with three decimals, and its spread where there is one."""
    if mean is None:
        return "-"
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"


def _machine(host: dict[str, Any]) -> str:
    """Say on what some cells were made."""
    cells = f"{host['cells']} cell{'s' * (host['cells'] > 1)}"
    gpu = f"{host['gpu']}, " if host["gpu"] else ""
    return (
        f"- {cells}: {gpu}{host['cpu']}, {host['usable_cpus']} CPUs; PyTorch {host['torch']}, "
        f"Python {host['python']}, adae-edge {host['adae_edge']}"
    )
