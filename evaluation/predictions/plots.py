"""Plots of scored runs."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

INK, ACCENT, PALE = "#222222", "#1f6f8b", "#c9d6dc"


def plot_label_f1(per_label: dict[str, dict], n: int, path: Path) -> None:
    """F1 of every label (uncertain = 0) with its 95 % interval and its number of positive references."""
    of = {name: values["uncertain_0"] for name, values in per_label.items()}
    names = sorted(of, key=lambda name: (of[name]["support"] > 0, of[name]["f1"]["value"]))
    cells = [of[name] for name in names]
    figure, axes = plt.subplots(figsize=(7.5, 5.2), layout="constrained")
    for row, cell in enumerate(cells):
        f1 = cell["f1"]
        if not cell["support"]:
            axes.text(0.01, row, "no positive reference", va="center", color="#888888", fontsize=8)
            continue
        if f1["low"] is not None:
            axes.plot([f1["low"], f1["high"]], [row, row], color=ACCENT, linewidth=2, solid_capstyle="butt")
        axes.plot(f1["value"], row, "o", color=ACCENT, markersize=6)
    labels = [f"{name}  ({cell['support']})" for name, cell in zip(names, cells, strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.6, len(names) - 0.4))
    axes.set(xlabel=f"F1 with 95 % bootstrap interval over {n} reports (uncertain = 0)")
    axes.set_title("Label F1 (positive references)", loc="left", color=INK)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_reliability(reliability: dict, path: Path) -> None:
    """Share of findings that are there against the clue score that announced them, and how many scores lie where.

    Args:
        reliability: `ClueReliability.summary()`.
        path: PNG file.
    """
    bins = reliability["all"]["bins"]
    scores = [cell["mean_score"] for cell in bins]
    figure, (axes, below) = plt.subplots(
        2, 1, figsize=(5.5, 6.2), sharex=True, height_ratios=(4, 1), layout="constrained"
    )
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.plot(scores, [cell["share_present"] for cell in bins], "o-", color=ACCENT, label="clues")
    axes.legend(frameon=False, loc="best")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.02, 1.02))
    axes.set(ylabel="share of findings present in the reference")
    error = reliability["all"]["expected_calibration_error"]
    kinds = {"report": "read in {} reports, absent where not mentioned", "study": "known of {} studies"}
    sources = reliability["studies_by_source_of_labels"]
    labels = "\nand ".join(text.format(sources[kind]) for kind, text in kinds.items() if sources[kind])
    axes.set_title(f"Expected calibration error {error:.3f}. Labels:\n{labels}", loc="left", color=INK, fontsize=9)
    below.bar(scores, [cell["count"] for cell in bins], width=0.05, color=ACCENT)
    below.set(xlabel="clue score (mean of its bin)", ylabel="clues")
    for one in (axes, below):
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color=PALE, linewidth=0.6)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_dials(dials: list[tuple[str, np.ndarray, np.ndarray, dict[str, float]]], path: Path) -> None:
    """The precision-recall curve of each clue, and where on it the points of the dial lie.

    Args:
        dials: name, scores `[N]`, labels `[N]` (1 and 0) and thresholds by name of each clue.
        path: PNG file.
    """
    columns = min(len(dials), 4)
    rows = -(-len(dials) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3 * columns, 2.8 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat[len(dials) :]:
        axes.set_axis_off()
    for axes, (name, scores, labels, thresholds) in zip(grid.flat, dials, strict=False):
        hits = np.cumsum(labels[np.argsort(-scores, kind="stable")])
        axes.plot(hits / hits[-1], hits / np.arange(1, len(hits) + 1), color=ACCENT, linewidth=1.2)
        for (point, threshold), mark in zip(thresholds.items(), "^os", strict=False):
            told = scores > threshold
            precision = labels[told].mean() if told.any() else 1.0
            axes.plot(labels[told].sum() / hits[-1], precision, mark, color=INK, markersize=5, label=point)
        axes.axhline(labels.mean(), color=PALE, linewidth=0.8, linestyle="--", label="share of positives")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="recall", ylabel="precision")
        axes.set_title(f"{name} ({int(labels.sum())} of {len(labels)})", loc="left", color=INK, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=130)


def plot_subgroups(results: dict, measures: Sequence[str], path: Path) -> None:
    """Each measure of each group with its interval, a panel a measure; small groups pale, the worst one filled."""
    rows = [(axis, name, row) for axis, result in results.items() for name, row in result["groups"].items()]
    figure, panels = plt.subplots(
        1, len(measures), figsize=(3.2 * len(measures) + 1.5, 0.4 * len(rows) + 1.4), sharey=True, layout="constrained"
    )
    for axes, measure in zip(panels, measures, strict=True):
        for place, (axis, name, row) in enumerate(rows):
            cell, colour = row[measure], PALE if row["small"] else ACCENT
            if cell["value"] is not None:
                worst = results[axis]["worst"].get(measure, {}).get("worst") == name
                axes.plot([cell["low"], cell["high"]], [place, place], color=colour, linewidth=2)
                axes.plot(cell["value"], place, "o", color=colour, markerfacecolor=colour if worst else "white")
        axes.set(xlim=(-0.02, 1.02), xlabel=measure)
        axes.grid(axis="x", color=PALE, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), [f"{axis} {name}  ({row['patients']})" for axis, name, row in rows])
    panels[0].invert_yaxis()
    figure.suptitle("By group (patients), 95 % intervals; filled: worst group; pale: too small", color=INK, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)
