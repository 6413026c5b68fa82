"""Everything that takes time, beside its baseline in the same run: `make bench`, or

    python -m evaluation.bench --out bench                   all of it, some minutes on a quiet core
    python -m evaluation.bench --only pictures model         some subjects
    python -m evaluation.bench --quick                       tiny shapes: does every row run?

Both sides of a row work by turns in one process, on one thread, and each goes first in every second turn; the numbers
are CPU time (a GPU's and those of reading data are wall time): the least of each, and the median of the pairs' ratios
with its quartiles. Writes bench.json, table.md (rows with a goal, ready for a page), explained.md (why each ratio is
what it is), ratios.png and growth.png. It gates nothing. Peers that are not installed, and a GPU that is not there, are
"not measured".
"""

import argparse
import dataclasses
import importlib
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from transformers.utils import logging

from evaluation.bench import reports
from evaluation.bench.turns import Row

SUBJECTS = ("pictures", "model", "reports", "loading", "steps", "memory", "scorers", "device")


HEAD = ["| what | beside | ours | its | ratio (quartiles) | goal |", "|---|---|---|---|---|---|"]


def line(row: Row) -> str:
    """A row of the table in Markdown."""
    if row.ours is None:
        return f"| {row.what} | {row.baseline} | not measured | | | {row.reach} |"
    ours, theirs = ("" if value is None else f"{value:,.{2 if value < 10 else 0}f}" for value in (row.ours, row.theirs))
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    spread = "" if row.spread is None else f" ({row.spread[0]:.2f} to {row.spread[1]:.2f})"
    return f"| {row.what} | {row.baseline} | {ours} {row.unit} | {theirs} | {ratio}{spread} | {row.reach} |"


def explained(row: Row) -> str:
    """A row in words: its ratio, and why."""
    ratio = "not measured" if row.ours is None else "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"- **{row.what}** beside {row.baseline or 'nothing'}: {ratio}. {row.why[:1].upper()}{row.why[1:]}."


def machine(only: Sequence[str], quick: bool) -> dict[str, str]:
    """What the numbers depend on; no path, for this goes onto a page."""
    words = ["python -m evaluation.bench", *(["--only", *only] if tuple(only) != SUBJECTS else [])]
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "date": time.strftime("%Y-%m-%d"), "command": " ".join([*words, *(["--quick"] if quick else [])]),
        "processor": platform.processor() or platform.machine(), "GPU": card, "python": platform.python_version(),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip


def draw(rows: list[Row], curves: list[reports.Curve], out: Path) -> None:
    """Ratios with their quartiles as points, beside what they are measured with and their goals; curves of reports a
    second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    found = [(row, row.ratio) for row in reversed(rows) if row.ratio is not None]
    if found:
        figure, axes = plt.subplots(figsize=(11, 1 + 0.22 * len(found)), layout="constrained")
        for place, (row, ratio) in enumerate(found):
            axes.plot(ratio, place, "o", color="#1f4e79")
            if row.spread is not None:
                axes.plot(row.spread, (place, place), color="#1f4e79")
        axes.axvline(1, color="0.6", linewidth=0.8)
        axes.grid(axis="y", color="0.92")
        axes.set_yticks(range(len(found)), [f"{row.what} / {row.baseline}" for row, _ in found], fontsize=7)
        goals = axes.secondary_yaxis("right")
        goals.set_yticks(range(len(found)), [row.reach and f"goal {row.reach}" for row, _ in found], fontsize=7)
        goals.tick_params(length=0)
        goals.set_ylabel("of the ratio where no unit is named")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_ylim(-1, len(found))
        axes.set_xlabel(
            "ours / the baseline, in time or memory; lines: quartiles of the turns, where there are several"
        )
        figure.savefig(out / "ratios.png", dpi=120)
        plt.close(figure)
    if curves:
        figure, panels = plt.subplots(1, len(curves), squeeze=False, figsize=(4 * len(curves), 3), layout="constrained")
        for axes, (name, unit, steps, rates) in zip(panels[0], curves, strict=True):
            axes.plot(steps, rates, "o-", color="#1f4e79")
            axes.set(title=name, xlabel=unit, ylabel=f"{'looks' if 'look' in name else 'reports'} a second")
            axes.set_ylim(0, 1.08 * max(rates))
            axes.set_xscale("log", base=2)
            axes.set_xticks(steps, map(str, steps))
            axes.minorticks_off()
        figure.savefig(out / "growth.png", dpi=120)
        plt.close(figure)


def write(rows: list[Row], curves: list[reports.Curve], facts: dict[str, str], out: Path) -> None:
    """bench.json, table.md, explained.md and the plots."""
    written = {"machine": facts, "rows": [dataclasses.asdict(row) for row in rows], "growth": curves}
    (out / "bench.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    lines = [*HEAD, *(line(row) for row in rows if row.reach)]
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    (out / "table.md").write_text("\n".join([*lines, "", told]) + "\n", encoding="utf-8")
    (out / "explained.md").write_text("\n".join(map(explained, rows)) + "\n", encoding="utf-8")
    draw(rows, curves, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one turn: the numbers mean nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    print("\n".join(HEAD))
    rows: list[Row] = []
    curves: list[reports.Curve] = []
    try:
        for subject in options.only:
            for row in importlib.import_module(f"evaluation.bench.{subject}").rows(options.quick):
                rows.append(row)
                print(line(row), flush=True)
        if "reports" in options.only:
            curves = reports.growth(options.quick)
    finally:  # what was measured stays, whatever a later row meets
        write(rows, curves, machine(options.only, options.quick), options.out)
    if curves and not options.quick:  # the first one is that of batches
        print(f"\n{86400 * max(curves[0][3]):,.0f} studies a day on one core, small checkpoint")


if __name__ == "__main__":
    main()
