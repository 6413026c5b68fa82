"""Image -> clues and image -> report where only labels are known (NIH ChestX-ray14): no reference report needed.

    python evaluation/generate.py --checkpoint DIR --data runs/small-data/nih --split validation --out RUN
    python -m evaluation.score_labels RUN/predictions.jsonl --out RUN

Prints and writes label_scores.json:
- AUROC of each clue score against the label, for labels with at least --min-positives positives and negatives, and
  their mean (0 and 1 count, uncertain and unknown labels are left out), and F1 of the clues that were told
  (selected_clues), micro and macro; not of a system that has no clues (clue_scores null in every line);
- F1 of the findings the report claims (rule labeler, uncertain = 0) against the same labels, micro and macro over the
  same label names, beside a report that is always normal.
95 % percentile intervals by bootstrap over patients (over studies where the lines name none), and signatures. Mined
labels are noisy: part of every error below is theirs. Never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics.classification import judged_columns, known_f1, mean_auroc
from evaluation.metrics.resampling import patient_bootstrap, with_interval
from evaluation.metrics.signature import LABELER, signature
from evaluation.predictions.records import read_lines, selected_clues_field, text_field
from evaluation.reading.labeler import label_report
from evaluation.reading.observations import CHEXPERT_14, NO_FINDING, certain, tensor_labels
from evaluation.reading.sides import side_and_finding

RESAMPLES = 1000


@dataclass
class Labelled:
    """N studies of a predictions file.

    Attributes:
        names: of the clues that are labels, not those with a side; the 14 observations for a system without clues.
        labels: `[N, C]`, `MISSING` where unknown or uncertain.
        scores: of the clues, `[N, C]`; None without clues.
        told: `[N, C]`, whether the language model was told of the clue; None where not every line says so.
        claims: `[N, C]`, whether the report claims the finding.
        patients: of each study, or the study itself where the line names none.
    """

    names: list[str]
    labels: np.ndarray
    scores: np.ndarray | None
    told: np.ndarray | None
    claims: np.ndarray
    patients: list[str]


def read(file: Path) -> Labelled:
    """
    Raises:
        ValueError: no prediction, one without labels, clue scores in some lines and not in others, or clues that are
            no CheXpert label.
    """
    names: list[str] = []
    labels: list[list[int]] = []
    scores: list[list[float]] = []
    told: list[list[bool] | None] = []
    claims: list[list[bool]] = []
    patients: list[str] = []
    for number, _, record in read_lines(file):
        where = f"{file}:{number}"
        if not record.get("labels") or "clue_scores" not in record:
            raise ValueError(f"{where}: labels or clue_scores are missing; expected both, as generate.py writes them")
        clues = record["clue_scores"]
        names = names or [name for name in clues or CHEXPERT_14 if side_and_finding(name) is None]
        if labels and bool(clues) != bool(scores):
            raise ValueError(f"{where}: some lines have clue_scores and others null; expected one system's reports")
        claimed = label_report(text_field(record, "prediction", where))
        unknown = [name for name in names if name not in claimed or name not in record["labels"]]
        if unknown:
            raise ValueError(f"{where}: clues {unknown} are no CheXpert labels of this study")
        labels.append(tensor_labels(certain(record["labels"][name] for name in names)))
        if clues:
            scores.append([clues[name] for name in names])
            selected = selected_clues_field(record, where)
            told.append(None if selected is None else [name in selected for name in names])
        claims.append([claimed[name] == 1 for name in names])
        patients.append(record.get("patient_id") or f"study {record['study_id']}")
    if not labels:
        raise ValueError(f"{file}: no prediction")
    all_told = None if not told or None in told else np.array(told)
    return Labelled(names, np.array(labels), np.array(scores) if scores else None, all_told, np.array(claims), patients)


def measure(found: Labelled, columns: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """All figures of one (resampled) set over known labels: AUROC of each of the columns and their mean (with clues),
    macro and micro F1 of the clues told (where that is known); F1 of each column, macro and micro F1 of the reports.

    Args:
        weights: `[N]`, how often each study counts.
    """
    labels = found.labels[:, columns]
    seen = () if found.scores is None else mean_auroc(found.scores[:, columns], labels, weights)
    told = () if found.told is None else known_f1(labels, found.told[:, columns], weights)[-2:]
    return np.array([*seen, *told, *known_f1(labels, found.claims[:, columns], weights)])


def score(file: Path, min_positives: int, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """All figures of a predictions file; see the top of this file.

    Raises:
        ValueError: no label has `min_positives` studies of either value.
    """
    found = read(file)
    columns = judged_columns(found.labels, min_positives)
    if not columns:
        raise ValueError(f"{file}: no label has {min_positives} positives and negatives")
    names, labels = [found.names[c] for c in columns], found.labels[:, columns]
    normal = np.zeros_like(found.claims[:, columns])
    if NO_FINDING in names:
        normal[:, names.index(NO_FINDING)] = True
    once = np.ones(len(labels), dtype=np.int64)
    value = measure(found, columns, once)
    draws = patient_bootstrap(found.patients, lambda weights: measure(found, columns, weights), resamples, seed)
    keys = [*(f"f1/{n}" for n in names), "f1/macro", "f1/micro"]
    if found.told is not None:
        keys = ["clue_f1/macro", "clue_f1/micro", *keys]
    if found.scores is not None:
        keys = [*(f"auroc/{n}" for n in names), "auroc/mean", *keys]
    *_, macro, micro = known_f1(labels, normal, once).tolist()
    patients = len(set(found.patients))

    def sign(key: str) -> str:
        reader = {"labeler": LABELER, "uncertain": 0} if key.startswith("f1/") else {}
        size = {"labels": len(names), "n": len(labels), "patients": patients, "bootstrap": resamples, "seed": seed}
        return signature(f"labels/{key}", **reader, **size)

    return {
        "studies": len(labels),
        "patients": patients,
        "positives": {name: int((labels[:, c] == 1).sum()) for c, name in enumerate(names)},
        "min_positives": min_positives,
        "resamples": resamples,
        "scores": {
            key: with_interval(value[column], draws[:, column]) | {"signature": sign(key)}
            for column, key in enumerate(keys)
        },
        "always_normal": {"f1/macro": macro, "f1/micro": micro},
    }


def table(result: dict[str, Any]) -> str:
    """The figures as printed text."""

    def cell(key: str) -> str:
        row = result["scores"].get(key)
        if row is None:
            return "not known" if key.startswith("clue_f1") else "no clues"
        return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"

    lines = [f"{'label':<28}{'positives':>10}  {'AUROC of the clue':<24}{'F1 of the report'}"]
    for name, positives in result["positives"].items():
        lines.append(f"{name:<28}{positives:>10}  {cell(f'auroc/{name}'):<24}{cell(f'f1/{name}')}")
    lines.append(f"{'mean':<28}{'':>10}  {cell('auroc/mean'):<24}{cell('f1/macro')}")
    normal = result["always_normal"]
    studies, patients = result["studies"], result["patients"]
    lines.append(f"micro F1 of the report: {cell('f1/micro')}; {studies} studies of {patients} patients")
    lines.append(f"clues told: macro F1 {cell('clue_f1/macro')}, micro F1 {cell('clue_f1/micro')}")
    lines.append(f"always normal: macro F1 {normal['f1/macro']:.3f}, micro F1 {normal['f1/micro']:.3f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--min-positives", type=int, default=10)
    options = parser.parse_args(arguments)
    result = score(options.predictions, options.min_positives)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "label_scores.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print("Never for clinical use.")


if __name__ == "__main__":
    main()
