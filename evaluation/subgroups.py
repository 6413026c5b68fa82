"""Who is served worse? Sensitivity, underdiagnosis and AUROC by sex, age and view.

    python -m evaluation.subgroups RUN/predictions.jsonl --data DIR [--split validation] --out RUN

The predictions are those of generate.py for labelled studies; sex, age and position stand in the study records of
--data. Writes subgroups.json, subgroups.md and subgroups.png:

| measure | is |
|---|---|
| sensitivity | share of the findings labelled present that the report claims (rule labeler), all findings together |
| no finding | underdiagnosis: share of the studies with a finding whose report says that there is none |
| AUROC | of the clue scores, mean over the findings with 5 studies of either value in each group of the table |

The 95 % intervals are by bootstrap over patients. A group of fewer than 20 patients or 5 findings present is marked
"small" and never called worst. The gap is between the best and the worst of the other groups, the same two in all
resamples; chosen among several groups it is a little too large. A group may be served worse because its studies are
harder or its labels noisier: no number here says why. Never for clinical use.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np

from evaluation.metrics.classification import auroc, judged_columns, ratio
from evaluation.metrics.resampling import patient_bootstrap, with_interval
from evaluation.predictions.plots import plot_subgroups
from evaluation.predictions.records import read_lines
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING
from evaluation.score_labels import read
from training.config.command_line import run_command
from training.data.study import Studies, Study

MIN_PATIENTS, MIN_POSITIVES = 20, 5
AGES = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 120))
MEASURES = ("sensitivity", "no finding", "AUROC")
LOWER_IS_WORSE = {"sensitivity": True, "no finding": False, "AUROC": True}


def age_band(study: Study) -> str | None:
    """The band of `AGES` as it is printed; None where the age is not known."""
    bands = [f"{low} to {high}" for low, high in AGES if study.age is not None and low <= study.age <= high]
    return bands[0] if bands else None


AXES: dict[str, Callable[[Study], str | None]] = {
    "sex": lambda study: study.sex,
    "age": age_band,
    "view": lambda study: study.position,
}


class Answers:
    """What a run said of labelled studies.

    Attributes:
        labels, claims: `[n, C]` of the findings, without No Finding; labels 1 and 0 are known.
        scores: `[n, C]` clue scores, None of a system without clues.
        says_none: `[n]` bool, the report says that there is no finding.
        patients: of each study.
        groups: axis -> `[n]`, the group of each study, None where it is not known.

    Raises:
        ValueError: see `score_labels.read`; or a prediction of a study that `studies` lacks.
    """

    def __init__(self, file: Path, studies: Sequence[Study]):
        found = read(file)
        findings = [column for column, name in enumerate(found.names) if name != NO_FINDING]
        self.names = [found.names[column] for column in findings]
        self.labels, self.claims = found.labels[:, findings], found.claims[:, findings]
        self.scores = None if found.scores is None else found.scores[:, findings]
        known = {study.study_id: study for study in studies}
        lines = [(f"{file}:{number}", record) for number, _, record in read_lines(file)]
        for where, record in lines:
            if record["study_id"] not in known:
                raise ValueError(f"{where}: study {record['study_id']!r} is not in --data; expected its sex, age, view")
        self.says_none = np.array([label_report(record["prediction"])[NO_FINDING] == 1 for _, record in lines])
        mine = [known[record["study_id"]] for _, record in lines]
        self.patients = [study.patient_id for study in mine]
        self.groups = {axis: [group(study) for study in mine] for axis, group in AXES.items()}


def measure(answers: Answers, chosen: np.ndarray, columns: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """The `MEASURES` of the studies `chosen` `[n]`, bool; NaN where nothing counts.

    Args:
        columns: findings whose AUROC is averaged.
        weights: `[n]`, how often each study counts.
    """
    weights = weights * chosen
    present = answers.labels == 1
    positives, ill = (weights @ present).sum(), weights @ present.any(1)
    found = (weights @ (present & answers.claims)).sum()
    missed = weights @ (present.any(1) & answers.says_none)
    areas = []
    if answers.scores is not None:
        areas = [auroc(answers.scores[:, c], answers.labels[:, c], weights) for c in columns]
        areas = [area for area in areas if not np.isnan(area)]
    nothing = np.nan
    return np.array(
        [
            ratio(found, positives) if positives else nothing,
            ratio(missed, ill) if ill else nothing,
            np.mean(areas) if areas else nothing,
        ]
    )


def score_axis(answers: Answers, axis: str, resamples: int) -> dict[str, Any]:
    """The groups of one axis with their measures, and of each measure the best and worst group with their gap."""
    of = np.array([group or "" for group in answers.groups[axis]])
    names = sorted(set(of) - {""}, key=lambda name: (len(name.split(" ")[0]), name) if axis == "age" else (0, name))
    chosen = {name: of == name for name in names}
    sizes = {}
    for name, rows in chosen.items():
        patients = len({patient for patient, here in zip(answers.patients, rows, strict=True) if here})
        positives = int((answers.labels[rows] == 1).sum())
        small = patients < MIN_PATIENTS or positives < MIN_POSITIVES
        sizes[name] = {"studies": int(rows.sum()), "patients": patients, "positives": positives, "small": small}
    large = [name for name in names if not sizes[name]["small"]]
    judged = [set(judged_columns(answers.labels[chosen[name]], MIN_POSITIVES)) for name in large]
    columns = sorted(set.intersection(*judged)) if judged else []

    def all_groups(weights: np.ndarray) -> np.ndarray:
        return np.array([measure(answers, chosen[name], columns, weights) for name in names])

    values = all_groups(np.ones(len(of)))
    draws = patient_bootstrap(answers.patients, all_groups, resamples, 0)  # [R, groups, measures]
    groups, worst = {}, {}
    for row, name in enumerate(names):
        cells = {m: _cell(values[row, c], draws[:, row, c]) for c, m in enumerate(MEASURES)}
        groups[name] = sizes[name] | cells
    for column, m in enumerate(MEASURES):
        judged_rows = [row for row, name in enumerate(names) if name in large and not np.isnan(values[row, column])]
        order = sorted((float(values[row, column]), row) for row in judged_rows)
        if len(order) > 1:
            (least, low), (most, high) = order[0], order[-1]
            bad, good = (low, high) if LOWER_IS_WORSE[m] else (high, low)
            gap = _cell(most - least, draws[:, high, column] - draws[:, low, column])
            worst[m] = {"worst": names[bad], "best": names[good], "gap": gap}
    unknown = int((of == "").sum())
    return {"groups": groups, "unknown": unknown, "judged": [answers.names[c] for c in columns], "worst": worst}


def _cell(value: float, draws: np.ndarray) -> dict[str, float | None]:
    nothing = bool(np.isnan(value)) or bool(len(draws) and np.isnan(draws).all())
    return {"value": None, "low": None, "high": None} if nothing else with_interval(np.asarray(value), draws)


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""

    def text(cell: dict[str, float | None]) -> str:
        if cell["value"] is None:
            return "-"
        return f"{cell['value']:.2f}" + ("" if cell["low"] is None else f" [{cell['low']:.2f}, {cell['high']:.2f}]")

    lines = ["| group | studies | patients | findings | " + " | ".join(MEASURES) + " |", "|---" * 7 + "|"]
    for axis, result in results.items():
        for name, row in result["groups"].items():
            cells = [row["studies"], row["patients"], row["positives"], *(text(row[m]) for m in MEASURES)]
            lines.append(f"| {axis} {name}{' (small)' if row['small'] else ''} | {' | '.join(map(str, cells))} |")
        worst = [result["worst"].get(m) for m in MEASURES]
        cells = [f"{found['worst']}: {text(found['gap'])}" if found else "-" for found in worst]
        lines.append(f"| **{axis}, worst group: gap** | | | | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with studies.jsonl, or datasets shards")
    parser.add_argument("--split", default="validation", help="of --data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap over patients; 0: no intervals")
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    answers = Answers(options.predictions, Studies(options.data, options.split).records)
    results = {axis: score_axis(answers, axis, options.resamples) for axis in AXES}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "subgroups.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "subgroups.md").write_text(table(results), encoding="utf-8")
    plot_subgroups(results, MEASURES, options.out / "subgroups.png")
    print(f"{table(results)}\nNever for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
