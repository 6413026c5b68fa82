"""Do words of change agree with the change? On SYNTHETIC phantoms followed over time that training never drew.

    python -m evaluation.score_change --checkpoint DIR [--count 400] [--seed 12141] [--out runs/change-scores]

Each phantom is reported twice (generate.py, resumable): in `with_prior/` with the report of the study before it, in
`without_prior/` without. Writes change_scores.json, with 95 % bootstrap intervals over phantoms: F1 of each of new,
grown, unchanged, smaller and resolved over findings and sides (`report_changes` of `training/phantoms/scoring.py` reads
the report; the truth is what was planted before and now), their mean, of the three in the middle as one ("still
there", all that a report without sizes can say), and the same by chance, where every phantom is scored against the
report of the next one; of both runs the share of reports that compare with an earlier study, which
without one should be 0, and the macro F1 of score_phantoms.py. The prior is words alone: no model is shown a prior
image. It is compared by rule (`compared_trrg`); with `-- --as-written` the model reads it and compares by itself. No
number here says anything about patients.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.predictions.missing_paths import stop_at_missing_paths

if __name__ == "__main__":
    stop_at_missing_paths()  # before the imports that take seconds

import numpy as np

from evaluation import generate, score_phantoms
from evaluation.metrics.classification import precision_recall_f1
from evaluation.metrics.resampling import bootstrap, interval_text, number_text, with_interval
from evaluation.predictions.prediction_parts import PREDICTIONS, write_whole
from evaluation.predictions.records import read_lines
from evaluation.predictions.study_sources import TEST_PHANTOM_SEED, PhantomStudies
from evaluation.reading.changes import CHANGES, Change
from evaluation.reading.prior_comparisons import comparison_sentences
from training.config.command_line import run_command
from training.phantoms.follow_up import generate_followed
from training.phantoms.generate import MIN_SIZE
from training.phantoms.report import Pair
from training.phantoms.scoring import report_changes, report_sides

Changes = set[tuple[Pair, Change]]

CLASSES: dict[str, tuple[Change, ...]] = {
    **{name: (name,) for name in CHANGES},
    "still there": ("grown", "unchanged", "smaller"),
}
"""What is counted -> the changes that it stands for."""


def change_counts(planted: Sequence[Changes], claimed: Sequence[Changes]) -> np.ndarray:
    """`[N, 6, 3]`: of each phantom and class the findings that changed so, those said to, and both."""
    rows = []
    for both in zip(planted, claimed, strict=True):
        found = [[{pair for pair, change in some if change in kinds} for some in both] for kinds in CLASSES.values()]
        rows.append([[len(truth), len(said), len(truth & said)] for truth, said in found])
    return np.array(rows, dtype=np.int64).reshape(-1, len(CLASSES), 3)


def change_f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, then the mean of the five changes, `[7]`, of counts `[6, 3]`; 0/0 is 0."""
    planted, claimed, both = np.moveaxis(counts, -1, 0)
    f1 = precision_recall_f1(both, claimed - both, planted - both)["f1"]
    return np.append(f1, f1[: len(CHANGES)].mean())


def score(planted: Sequence[Changes], texts: Sequence[str], resamples: int) -> dict[str, Any]:
    """F1 of each class and their mean ("macro"), and the number of findings planted and claimed."""
    claimed = [report_changes(text) for text in texts]
    table = change_counts(planted, claimed)
    rows, repeats = np.unique(table.reshape(len(table), -1), axis=0, return_counts=True)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return change_f1((weights @ rows).reshape(len(CLASSES), 3))

    values, draws = change_f1(table.sum(0)), bootstrap(repeats, statistic, resamples, 0) if resamples else None
    chance = change_f1(change_counts(planted, [*claimed[1:], *claimed[:1]]).sum(0))
    return {
        name: with_interval(values[n], None if draws is None else draws[:, n])
        | {"by_chance": float(chance[n])}
        | (dict(zip(("planted", "claimed"), table.sum(0)[n, :2].tolist(), strict=True)) if name in CLASSES else {})
        for n, name in enumerate((*CLASSES, "macro"))
    }


def share(hits: Sequence[bool], resamples: int) -> dict[str, Any]:
    """A share with its interval."""
    counts = np.array([len(hits) - sum(hits), sum(hits)])
    draws = bootstrap(counts, lambda drawn: drawn[1] / drawn.sum(), resamples, 0) if resamples else None
    return with_interval(np.asarray(counts[1] / counts.sum()), draws)


def table(result: dict[str, Any]) -> str:
    """The figures as printed text."""
    lines = [f"{'became':<12}{'planted':>8}{'said':>8}{'F1':>8}{'chance':>8}"]
    for name, row in result["change"].items():
        numbers = f"{row.get('planted', ''):>8}{row.get('claimed', ''):>8}"
        lines.append(f"{name:<12}{numbers}{row['value']:>8.3f}{row['by_chance']:>8.3f}  {interval_text(row)}")
    for name in ("compares", "named_f1"):
        told = [f"{number_text(result[run][name]['value'])} {interval_text(result[run][name])}" for run in RUNS]
        lines.append(f"{name}: with the prior {told[0]}, without {told[1]}")
    return "\n".join(lines)


RUNS = ("with_prior", "without_prior")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder, or name on the Hub")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=TEST_PHANTOM_SEED, help="of the phantoms; training's is 2409")
    parser.add_argument("--out", type=Path, default=Path("runs/change-scores"), help="folder of both runs")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap; 0 for no interval")
    parser.add_argument("more", nargs="*", help="options of generate.py, after --")
    stop_at_missing_paths(arguments)
    options = parser.parse_args(arguments)
    followed = [generate_followed(options.seed, index, MIN_SIZE) for index in range(options.count)]
    source = PhantomStudies(options.count, options.seed, draw=generate_followed)
    loaded = None
    result: dict[str, Any] = {"phantoms": options.count, "seed": options.seed, "synthetic": True}
    for name in RUNS:
        chosen = ["--phantoms", str(options.count), "--seed", str(options.seed), "--out", str(options.out / name)]
        chosen += ["--never-abstain"]  # a report that is not written compares with nothing
        run = generate.parse_arguments(["--checkpoint", options.checkpoint, *chosen, *options.more])
        loaded = loaded or generate.load(run, generate.start_processes())
        if name == "without_prior":
            source.records = [replace(record, prior_report=None) for record in source.records]
        generate.run(run, source=source, loaded=loaded)
        texts = [record["prediction"] for _, _, record in read_lines(run.out / PREDICTIONS)]
        if name == "with_prior":
            planted = [{(finding.pair, finding.change) for finding in phantom.followed} for phantom in followed]
            result["change"] = score(planted, texts, options.resamples)
        named = [{finding.pair for finding in phantom.findings} for phantom in followed]
        result[name] = {
            "compares": share([bool(comparison_sentences(text)) for text in texts], options.resamples),
            "named_f1": score_phantoms.score(named, list(map(report_sides, texts)), options.resamples, 0)["macro_f1"],
        }
    write_whole(options.out / "change_scores.json", json.dumps(result, indent=1) + "\n")
    print(table(result))
    print("SYNTHETIC phantoms: no number here says anything about patients. Never for clinical use.")


if __name__ == "__main__":
    sys.exit(run_command(main))
