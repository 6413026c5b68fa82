"""Studies to look at, good and bad, chosen by a rule: picture, labels, clues, report.

    python -m evaluation.examples RUN/predictions.jsonl --data DIR --split validation --count 12 --out RUN

The predictions are those of generate.py for labelled studies. Each report is judged by the F1 of its findings (rule
labeler) against the labels of its study, 1 where neither has any; of all studies, sorted by that and then by their
id, `--count` are taken at equal distances, from the best to the worst. Writes examples.md and examples.png. The
pictures are of the data set: its terms say whether they may be shown. Never for clinical use.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from evaluation.predictions.records import read_lines, text_field
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING
from processing_trrg import read_radiograph, stretch
from training.config.command_line import run_command
from training.data.study import Studies

COLUMNS, WRAP = 3, 62


def findings(labels: dict[str, int | None]) -> set[str]:
    """What is present; "No Finding" is none."""
    return {name for name, value in labels.items() if value == 1 and name != NO_FINDING}


def study_f1(line: dict[str, Any]) -> float:
    """Of the report's findings against those labels of its study that are known; 1 where there are none to find."""
    known = {name for name, value in line["labels"].items() if value in (0, 1)}
    said, true = findings(label_report(line["prediction"])) & known, findings(line["labels"])
    return 1.0 if not said | true else 2 * len(said & true) / (len(said) + len(true))


def choose(lines: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """`count` lines at equal distances from the best to the worst.

    Raises:
        ValueError: fewer labelled studies than that.
    """
    labelled = (line for line in lines if any(value in (0, 1) for value in (line.get("labels") or {}).values()))
    judged = sorted(labelled, key=lambda line: (-study_f1(line), line["study_id"]))
    if len(judged) < count:
        raise ValueError(f"count: {len(judged)} studies have labels, {count} are wanted")
    return [judged[place] for place in np.linspace(0, len(judged) - 1, count).round().astype(int)]


def told(line: dict[str, Any]) -> str:
    """The clues that reached the language model, with their scores."""
    names = line["selected_clues"] or []
    return ", ".join(f"{name} {line['clue_scores'][name]:.2f}" for name in names) or "none"


def named(names: set[str]) -> str:
    """For a reader."""
    return ", ".join(sorted(names)) or "none"


def table(lines: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    rows = ["| study | F1 | labelled | clues told | the report |", "|---|---|---|---|---|"]
    for line in lines:
        cells = (
            line["study_id"],
            f"{study_f1(line):.2f}",
            named(findings(line["labels"])),
            told(line),
            line["prediction"],
        )
        rows.append(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |")
    return "\n".join(rows) + "\n"


def draw(lines: Sequence[dict[str, Any]], pictures: Sequence[np.ndarray], out: Path) -> None:
    """A panel a study: the first view, and what was labelled, told and written."""
    height = -(-len(lines) // COLUMNS)
    figure, axes = plt.subplots(height, COLUMNS, figsize=(5 * COLUMNS, 6.4 * height), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, line, picture in zip(axes.flat, lines, pictures, strict=False):
        axis.imshow(picture, cmap="gray")
        axis.set_title(f"{line['study_id']}, F1 {study_f1(line):.2f}", fontsize=9, parse_math=False)
        words = (f"Labelled: {named(findings(line['labels']))}", f"Clues: {told(line)}", line["prediction"])
        text = "\n".join(textwrap.fill(one, WRAP) for one in words)
        style = {"fontsize": 7, "family": "monospace", "parse_math": False}  # a report may have two dollar signs
        axis.text(0, -0.03, text, transform=axis.transAxes, va="top", **style)
    figure.suptitle("Research only, never for clinical use.", fontsize=10)
    figure.subplots_adjust(hspace=0.6, top=0.96, bottom=0.1)
    figure.savefig(out, dpi=90)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, help="what generate.py writes")
    parser.add_argument("--data", type=Path, required=True, help="the studies, for their pictures")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    if options.count < 2:
        parser.error("--count must be at least 2")
    lines = [record for _, _, record in read_lines(options.predictions)]
    for line in lines:
        text_field(line, "prediction", f"{options.predictions} (study {line['study_id']!r})")
    chosen = choose(lines, options.count)
    studies = Studies(options.data, options.split)
    places = {study.study_id: index for index, study in enumerate(studies.records)}
    if missing := [line["study_id"] for line in chosen if line["study_id"] not in places]:
        raise ValueError(f"{options.data}: split {options.split!r} has no study {missing[0]!r}")
    if blind := [line["study_id"] for line in chosen if not studies.num_views(places[line["study_id"]])]:
        raise ValueError(f"{options.data}: study {blind[0]!r} has no image; expected studies with pictures to show")
    views = [read_radiograph(studies.open_image(places[line["study_id"]], 0)) for line in chosen]
    pictures = [stretch(*view, "percentiles") for view in views]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "examples.md").write_text(table(chosen), encoding="utf-8")
    draw(chosen, pictures, options.out / "examples.png")
    print(table(chosen))
    print(f"Pictures in {options.out / 'examples.png'}. Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
