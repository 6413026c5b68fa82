"""Are planted findings named in the report, on the right side? On SYNTHETIC phantoms that training never drew.

    python -m evaluation.score_phantoms --checkpoint DIR [--count 500] [--seed 12141] [--out runs/phantom-scores]
    python -m evaluation.score_phantoms --predictions RUN/predictions.jsonl --out RUN

Writes phantom_scores.json: precision, recall and F1 of each finding and side (`report_sides` of
`training/phantoms/scoring.py` reads the prediction; the truth is what the generator planted, not its text), their
macro F1 over findings and sides, its 95 % bootstrap interval over phantoms, and its signature. Phantoms come from a
seed of their own (12141; training draws from 2408), so none was ever trained on. No number here says anything about
patients.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import generate
from evaluation.metrics.classification import precision_recall_f1
from evaluation.metrics.resampling import bootstrap, with_interval
from evaluation.metrics.signature import signature
from evaluation.predictions.prediction_parts import PREDICTIONS
from evaluation.predictions.records import read_lines, text_field
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED
from training.phantoms.generate import MIN_SIZE, generate_phantom
from training.phantoms.report import PAIRS, Pair
from training.phantoms.scoring import other_findings, report_sides, told_details

STUDY_ID = re.compile(r"phantom-(\d+)-(\d+)")


Predicted = tuple[list[set[Pair]], list[set[Pair]], list[list[str]], dict[str, list[bool]]]


def read_predictions(file: Path) -> Predicted:
    """What was planted in each phantom, drawn again from its study id, what its predicted report claims of that, the
    `other_findings` of the report, and the `told_details` of all.

    Raises:
        ValueError: a line is no prediction of a phantom, or there is none.
    """
    planted, claimed, others = [], [], []
    details: dict[str, list[bool]] = {"size": [], "zone": []}
    for number, _, record in read_lines(file):
        name = STUDY_ID.fullmatch(record["study_id"])
        if name is None:
            raise ValueError(f"{file}:{number}: {record['study_id']!r} is no phantom, expected phantom-SEED-INDEX")
        phantom = generate_phantom(int(name[1]), int(name[2]), MIN_SIZE)
        planted.append({finding.pair for finding in phantom.findings})
        text = text_field(record, "prediction", f"{file}:{number}")
        claimed.append(report_sides(text))
        others.append(other_findings(text))
        for detail, right in told_details(phantom.findings, text).items():
            details[detail] += right
    if not planted:
        raise ValueError(f"{file}: no prediction")
    return planted, claimed, others, details


def values_of(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1, each `[..., P]`, of counts `[..., P, 3]`: planted, claimed, both."""
    planted, claimed, both = np.moveaxis(counts, -1, 0)
    return precision_recall_f1(both, claimed - both, planted - both)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean F1 `[...]` over the pairs that occur, of counts as in `values_of`."""
    occurs = counts.any(axis=-1)
    return values_of(counts)["f1"].sum(axis=-1) / np.maximum(occurs.sum(axis=-1), 1)


def score(planted: Sequence[set[Pair]], claimed: Sequence[set[Pair]], resamples: int, seed: int) -> dict[str, Any]:
    """Precision, recall and F1 of each (finding, side) of `PAIRS` over phantoms, and their macro F1 with its interval.

    0/0 counts as 0, except that a pair which is neither planted nor claimed anywhere has no F1 (None) and is left out
    of the macro mean. A sided finding claimed without its side matches no pair; `claimed_without_side` counts them.
    """
    truth, guess = (np.array([[pair in study for pair in PAIRS] for study in side]) for side in (planted, claimed))
    table = np.stack([truth, guess, truth & guess], axis=-1).astype(np.int64)  # [N, pairs, 3]
    rows, repeats = np.unique(table.reshape(len(table), -1), axis=0, return_counts=True)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return macro_f1((weights @ rows).reshape(len(PAIRS), 3))

    counts = table.sum(0)
    values = values_of(counts)
    pairs = {}
    for column, (name, side) in enumerate(PAIRS):
        row = {name: float(column_values[column]) for name, column_values in values.items()}
        in_pair = {"planted": int(counts[column, 0]), "predicted": int(counts[column, 1])}
        pairs[f"{side} {name}" if side else name] = row | ({} if any(in_pair.values()) else {"f1": None}) | in_pair
    draws = bootstrap(repeats, statistic, resamples, seed) if resamples else None
    return {
        "phantoms": len(planted),
        "synthetic": True,
        "macro_f1": with_interval(macro_f1(counts), draws)
        | {
            "signature": signature(
                "phantoms/macro_f1", pairs=len(PAIRS), n=len(planted), bootstrap=resamples, seed=seed
            )
        },
        "resamples": resamples,
        "pairs": pairs,
        "claimed_without_side": sum(pair not in PAIRS for said in claimed for pair in said),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as printed text."""
    lines = [f"{'finding and side':<22}{'planted':>8}{'named':>8}{'precision':>11}{'recall':>8}{'F1':>8}"]
    for name, row in result["pairs"].items():
        f1 = "   -" if row["f1"] is None else f"{row['f1']:.3f}"
        lines.append(
            f"{name:<22}{row['planted']:>8}{row['predicted']:>8}{row['precision']:>11.3f}{row['recall']:>8.3f}{f1:>8}"
        )
    macro = result["macro_f1"]
    interval = "" if macro["low"] is None else f" [{macro['low']:.3f}, {macro['high']:.3f}]"
    lines.append(f"macro F1 over findings and sides: {macro['value']:.3f}{interval}, {result['phantoms']} phantoms")
    lines.append(f"findings named without their side (they match nothing): {result['claimed_without_side']}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--checkpoint", help="generate first, with this; what follows `--` goes to generate.py")
    given.add_argument("--predictions", type=Path, help="predictions.jsonl of phantoms")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=TEST_PHANTOM_SEED, help="of the phantoms; training's is 2408")
    parser.add_argument("--out", type=Path, default=Path("runs/phantom-scores"), help="folder of the run")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0 for no interval")
    parser.add_argument("more", nargs="*", help="options of generate.py, after --")
    options = parser.parse_args(arguments)
    file = options.predictions
    if file is None:
        chosen = ["--phantoms", str(options.count), "--seed", str(options.seed), "--out", str(options.out)]
        generate.main(["--checkpoint", options.checkpoint, *chosen, *options.more])
        file = options.out / PREDICTIONS
    planted, claimed, others, details = read_predictions(file)
    result = score(planted, claimed, options.resamples, seed=0)
    result["with_other_findings"] = sum(map(bool, others))
    result["details"] = {name: {"told": len(right), "right": sum(right)} for name, right in details.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "phantom_scores.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(f"reports that state a finding of another kind than can be planted: {result['with_other_findings']}")
    told = [f"{name} right in {row['right']} of {row['told']}" for name, row in result["details"].items()]
    print(f"of planted findings named with one of three: {', '.join(told)}")
    print("SYNTHETIC phantoms: no number here says anything about patients. Never for clinical use.")


if __name__ == "__main__":
    main()
