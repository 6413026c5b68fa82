"""Two scored runs side by side, with significance: paired bootstrap for every score, sign test over reports.

    python evaluation/compare.py scores_a scores_b --out comparison

Both folders come from `score.py` on the same studies, references and protocol; what differs is refused by name. Works
from the counts in `studies.jsonl`: nothing is labelled or tokenised again. p values are of single comparisons: with
many scores, some fall under 0.05 by chance. Never for clinical use.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.metrics.clinical import (
    CONVENTIONS,
    convention_scores,
    encode_labels,
    example_f1,
    pack,
    pattern_columns,
    score_of_sums,
    unpack,
)
from evaluation.metrics.count_table import Measure
from evaluation.metrics.details import StudyDetails, detail_rows, detail_shares
from evaluation.metrics.label_set_scores import label_set_measure, label_set_rows
from evaluation.metrics.language import LanguageRows, scores_of_sums, sum_rows
from evaluation.metrics.resampling import bootstrap, interval, paired_p_value, sign_test
from evaluation.metrics.truthfulness import StudyTruth, shares
from evaluation.predictions.records import digest, read_lines


class Run(NamedTuple):
    """A scored run, its studies in the order of their ids.

    `reference` and `prediction` are label codes `[N, 14]`; `truths`, `details` and `label_set` rows of counts `[N, F]`
    (`truthfulness.COUNTS`, `detail_rows`, `label_set_rows`), the last with the names of the set.
    """

    metrics: dict
    study_ids: list[str]
    reference: np.ndarray
    prediction: np.ndarray
    language: dict[str, LanguageRows]
    truths: np.ndarray
    details: np.ndarray
    label_set: tuple[list[str], np.ndarray] | None


def read_run(folder: Path) -> Run:
    """Read what `score.py` wrote.

    Raises:
        FileNotFoundError: the folder is not a scored run.
        ValueError: the two files of the folder disagree.
    """
    for name in ("metrics.json", "studies.jsonl"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} not found; expected a folder written by score.py")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    lines = sorted((line for _, _, line in read_lines(folder / "studies.jsonl")), key=lambda x: digest(x["study_id"]))
    if len(lines) != metrics["n"]:
        raise ValueError(f"{folder}: {len(lines)} studies in studies.jsonl, {metrics['n']} in metrics.json")
    language = {}
    for treatment in lines[0]["language"]:
        rows = [line["language"][treatment] for line in lines]
        meteor = np.array([row["meteor_counts"] for row in rows]) if "meteor_counts" in rows[0] else None
        bleu_counts, rouge_l, cider_d = (
            np.array([row[name] for row in rows]) for name in ("bleu_counts", "rouge_l", "cider_d")
        )
        language[treatment] = LanguageRows(bleu_counts, rouge_l, cider_d, meteor)
    reference, prediction = (
        encode_labels([line[f"{side}_labels"] for line in lines], side) for side in ("reference", "prediction")
    )
    truths = np.array([StudyTruth(**line["truthfulness"]).counts() for line in lines])
    details = detail_rows([StudyDetails(**line["details"]) for line in lines])
    label_set = None
    if "label_set" in lines[0]:
        studies = [line["label_set"] for line in lines]
        label_set = list(studies[0]["reference"]), label_set_rows(studies)
    study_ids = [line["study_id"] for line in lines]
    return Run(metrics, study_ids, reference, prediction, language, truths, details, label_set)


def require_comparable(first: Run, second: Run) -> None:
    """Stop unless both runs scored the same studies against the same references under the same protocol."""
    if first.study_ids != second.study_ids:
        difference = sorted(set(first.study_ids) ^ set(second.study_ids))
        raise ValueError(f"the runs differ in {len(difference)} studies, first {difference[0]!r}")
    for name, score in first.metrics["scores"].items():
        other = second.metrics["scores"].get(name)
        if other is None or other["signature"] != score["signature"]:
            raise ValueError(f"{name}: signature {score['signature']} against {other and other['signature']}")
    extra = second.metrics["scores"].keys() - first.metrics["scores"].keys()
    if extra:
        raise ValueError(f"only the second run has {', '.join(sorted(extra))}")
    rows = np.flatnonzero((first.reference != second.reference).any(axis=1))
    if len(rows):
        raise ValueError(f"{len(rows)} references are labelled differently, first {first.study_ids[rows[0]]!r}")


def difference_row(first: float, second: float, draws: np.ndarray) -> dict[str, float]:
    """Both values, their difference with its interval, and p."""
    low, high = interval(draws)
    p_value = paired_p_value(np.asarray(second - first), draws)
    return {
        "first": float(first),
        "second": float(second),
        "difference": float(second - first),
        "low": float(low),
        "high": float(high),
        "p": float(p_value),
    }


def compare_clinical(
    reference: np.ndarray, first: np.ndarray, second: np.ndarray, conventions: Sequence[str], resamples: int, seed: int
) -> dict[str, dict]:
    """Paired comparison of two systems' labels on the same references, all codes `[N, 14]`.

    Returns:
        `{score: {"first", "second", "difference", "low", "high", "p"}}`; differences are second minus first.
    """
    packed = np.stack([pack(codes) for codes in (reference, first, second)], axis=1)
    patterns, counts = np.unique(packed, axis=0, return_counts=True)

    truth, one, two = (unpack(patterns[:, column]) for column in range(3))
    columns = np.concatenate([pattern_columns(truth, one), pattern_columns(truth, two)], axis=1)
    sums = np.split(counts @ columns, 2)
    draws = np.split(bootstrap(counts, lambda weights: weights @ columns, resamples, seed), 2, axis=1)
    rows = {}
    for name, score in convention_scores(conventions).items():
        first_score, second_score = (float(score_of_sums(values, score)) for values in sums)
        drawn_one, drawn_two = (score_of_sums(values, score) for values in draws)
        rows[name] = difference_row(first_score, second_score, drawn_two - drawn_one)
    return rows


def compare_language(
    first: LanguageRows, second: LanguageRows, keys: np.ndarray, resamples: int, seed: int
) -> dict[str, dict]:
    """The same for language metrics, rows of the same studies in the same order; `keys` `[N]` stand for the studies."""
    sums = [sum_rows(rows, keys, resamples, seed) for rows in (first, second)]
    values = [scores_of_sums(both.corpus) for both in sums]
    drawn = [scores_of_sums(both.resamples) for both in sums]
    return {
        name: difference_row(float(values[0][name]), float(values[1][name]), drawn[1][name] - drawn[0][name])
        for name in values[0]
    }


def compare_counts(
    first: np.ndarray, second: np.ndarray, measure: Measure, resamples: int, seed: int
) -> dict[str, dict]:
    """The same for rows of counts `[N, F]` of the same studies; measures with nothing to count are left out."""
    rows, counts = np.unique(np.concatenate([first, second], axis=1), axis=0, return_counts=True)
    rows = rows.astype(np.float64)
    values = [measure(sums) for sums in np.split(counts @ rows, 2)]
    drawn = [measure(sums) for sums in np.split(bootstrap(counts, lambda w: w @ rows, resamples, seed), 2, axis=1)]
    return {
        name: difference_row(float(one), float(values[1][name]), drawn[1][name] - drawn[0][name])
        for name, one in values[0].items()
        if not np.isnan(values[1][name] - one)
    }


def count_wins(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Sign test over reports: on how many the second run is better, worse, equal."""
    wins, losses = int((second > first).sum()), int((second < first).sum())
    return {"wins": wins, "losses": losses, "ties": len(first) - wins - losses, "p": sign_test(wins, losses)}


def compare(first: Run, second: Run, resamples: int = 1000, seed: int = 0) -> dict:
    """All scores of two comparable runs, and sign tests on example F1 and ROUGE-L."""
    require_comparable(first, second)
    groups = dict.fromkeys(name.split("/")[0] for name in first.metrics["scores"])
    conventions = [name for name in groups if name in CONVENTIONS]
    scores = compare_clinical(first.reference, first.prediction, second.prediction, conventions, resamples, seed)
    sign_tests = {
        f"example_14_f1 (uncertain {uncertain})": count_wins(
            example_f1(first.reference, first.prediction, uncertain),
            example_f1(second.reference, second.prediction, uncertain),
        )
        for uncertain in (0, 1)
    }
    keys = np.array([digest(study_id) for study_id in first.study_ids], dtype=np.uint64)
    for treatment, rows in first.language.items():
        other = second.language[treatment]
        for name, row in compare_language(rows, other, keys, resamples, seed).items():
            scores[f"{treatment}/{name}"] = row
        sign_tests[f"{treatment}/rouge_l"] = count_wins(rows.rouge_l, other.rouge_l)
    scores |= compare_counts(first.details, second.details, detail_shares, resamples, seed)
    if first.label_set is not None and second.label_set is not None:
        (labels, one), (_, two) = first.label_set, second.label_set
        scores |= compare_counts(one, two, label_set_measure(labels), resamples, seed)
    truths = compare_counts(first.truths, second.truths, shares, resamples, seed)
    scores |= {f"truthfulness/{name}": row for name, row in truths.items()}
    return {"n": len(first.study_ids), "bootstrap": resamples, "seed": seed, "scores": scores, "sign_tests": sign_tests}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="folder of score.py, the baseline")
    parser.add_argument("second", type=Path, help="folder of score.py")
    parser.add_argument("--out", type=Path, help="folder for comparison.json")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.resamples < 1:
        parser.error("--resamples must be at least 1")
    result = compare(read_run(options.first), read_run(options.second), options.resamples, options.seed)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "comparison.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'score':32} {'first':>8} {'second':>8} {'change':>8}  95 % interval        p")
    for name, row in result["scores"].items():
        print(
            f"{name:32} {row['first']:8.4f} {row['second']:8.4f} {row['difference']:+8.4f}  "
            f"[{row['low']:+.4f}, {row['high']:+.4f}]  {row['p']:.4f}"
        )
    for name, row in result["sign_tests"].items():
        print(f"sign test {name}: {row['wins']} better, {row['losses']} worse, {row['ties']} equal, p {row['p']:.4f}")
    print(f"{result['n']} studies, {options.resamples} paired resamples, seed {options.seed}. Never for clinical use.")


if __name__ == "__main__":
    main()
