"""Measure the report labeler: accuracy on gold labels, the published samples of the CheXpert labeler, speed.

    python -m evaluation.benchmark_labeler          # also the first part of `python evaluation/benchmark.py`
    python -m evaluation.benchmark_labeler --sentences [FILE]    # the hard sentences, or a file of your own

Sentences: `reading/labeler_sentences.jsonl`, written for this labeler, a line a sentence or short report: `text`,
`labels` (those that are not None), `kind`, and `why`, the reason of each label. The kinds were written before the rules
that read them, but by the same hand, so they show what is read and what broke, not how well new text is read.

Gold: the 14 findings that NegBio's authors assigned to the Open-i (IU X-ray) reports, public domain; where they are
null (the reserved test set) a report is not read. They know present and not present only, and call a doubted finding
("may represent pneumonia") not present, as the table's count of doubted findings shows, so uncertain counts as not
present here; the last lines give the other policy. The published lists call an infection Pneumonia and a nodular
opacity Lung Lesion, and so does our labeler; this gold calls them neither, so lines without these phrases follow. The
rules were tuned on three reports in four; the fourth, chosen by a hash of its id, is the "held out" column, looked at
in totals only, a few times.
Intervals: percentile bootstrap over reports. Data: $TRRG_DATA, or ../shared/data beside the checkout.
"""

import argparse
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics.classification import confusion, precision_recall_f1
from evaluation.metrics.resampling import bootstrap, interval
from evaluation.reading import labeler
from evaluation.reading.labeler import label_report, label_reports, mentions
from evaluation.reading.labeler_scope import read_sentence
from evaluation.reading.observations import CHEXPERT_14, PRESENT, Labels, tensor_labels
from evaluation.reading.sentences import split_sentences
from processing_trrg import report_text

DATA = Path(os.environ.get("TRRG_DATA", Path(__file__).resolve().parent.parent.parent / "shared" / "data"))

GOLD = {
    "Cardiomegaly": ("Cardiomegaly",),
    "Pleural Effusion": ("Effusion",),
    "Pneumothorax": ("Pneumothorax",),
    "Edema": ("Edema",),
    "Atelectasis": ("Atelectasis",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Lung Lesion": ("Mass", "Nodule"),
}
"""The labels with a gold counterpart of the same meaning: micro and macro run over these eight."""

NEAR_GOLD = {"Pleural Other": ("Pleural_Thickening", "Fibrosis"), "No Finding": ("normal",)}
"""Gold of a slightly other meaning: NIH's fibrosis is of the lung; "normal" forbids devices too."""

_NOT_IN_GOLD = re.compile(r"infect|nodular ")
SENTENCES = Path(labeler.__file__).with_name("labeler_sentences.jsonl")

ARGUED = {
    (5, "Enlarged Cardiomediastinum"): '"stable" tells nothing of the size of the silhouette: not mentioned',
    (5, "Lung Opacity"): '"secondary to scarring" asserts scarring, and nothing in the text doubts it: present',
    (5, "Pneumothorax"): 'the last of a list after "No evidence of": absent; -1 is a slip of the parser',
    (5, "Pleural Effusion"): 'inside a list after "No evidence of": absent; -1 is a slip of the parser',
}
"""(row, label) of the published samples where we differ, and why."""


def gold_text(record: dict[str, Any]) -> str:
    """The report of a gold record."""
    parts = record["findings"], record["impression"]
    return report_text(*parts) if any(parts) else ""


def is_held_out(uid: str) -> bool:
    """Whether a report is one of the quarter that the rules were not tuned on."""
    return int(hashlib.sha256(uid.encode()).hexdigest(), 16) % 4 == 0


def gold_words_label(text: str) -> Labels:
    """`label_report` without the claims that this gold has no word for."""
    labels = label_report(text)
    claims = [mention for mention in mentions(text) if mention.polarity == PRESENT]
    held = {mention.observation for mention in claims if not _NOT_IN_GOLD.match(mention.phrase)}
    return {
        name: None if label == PRESENT and name in GOLD and name not in held else label
        for name, label in labels.items()
    }


def read_sentences(path: Path) -> list[dict[str, Any]]:
    """Rows with `text`, `kind` and `labels` of all 14 names."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row | {"labels": dict.fromkeys(CHEXPERT_14) | row["labels"]} for row in rows]


def print_sentences(path: Path) -> None:
    """Print how many sentences of each kind have every label right, the share of right labels, F1 of each value."""
    rows = read_sentences(path)
    said = [label_report(row["text"]) for row in rows]
    right = [row["labels"] == labels for row, labels in zip(rows, said, strict=True)]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [ok for row, ok in zip(rows, right, strict=True) if row["kind"] == kind]
        print(f"{kind:36s} {sum(of_kind):3d} of {len(of_kind):3d}")
    true, ours = (
        np.array([tensor_labels(labels[name] for name in CHEXPERT_14) for labels in side])
        for side in ([row["labels"] for row in rows], said)
    )
    f1 = [precision_recall_f1(*(c.sum() for c in confusion(true == code, ours == code)))["f1"] for code in (1, 0, -1)]
    print(
        f"{len(rows)} reports, {np.mean(right):.1%} wholly right, {np.mean(true == ours):.2%} of their labels;"
        " F1 positive {:.3f}, negative {:.3f}, uncertain {:.3f}".format(*f1)
    )


def read_gold(path: Path) -> list[dict[str, Any]]:
    """The records with gold labels."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [record for record in records if record.get("nih14")]


def outcomes(
    records: Sequence[dict[str, Any]],
    labels: Sequence[Labels],
    columns: dict[str, tuple[str, ...]],
    present: Sequence[int],
) -> np.ndarray:
    """`[N, C, 3]` (uint8): true positive, false positive, false negative of each report and label."""
    gold = np.array([[any(r["nih14"][name] for name in names) for names in columns.values()] for r in records])
    said = np.array([[row[column] in present for column in columns] for row in labels])
    return np.stack(confusion(gold, said), axis=-1).astype(np.uint8)


def with_averages(counts: np.ndarray) -> np.ndarray:
    """F1 of the C labels, then micro, then macro: `[C + 2]` of counts `[C, 3]`."""
    each = precision_recall_f1(*counts.T)["f1"]
    return np.array([*each, precision_recall_f1(*counts.sum(0))["f1"], each.mean()])


def accuracy_rows(table: np.ndarray, names: Sequence[str], resamples: int, seed: int) -> list[str]:
    """Lines "label, gold, P, R, F1 [low, high]" from `outcomes` `[N, C, 3]`, with micro and macro at the end."""
    patterns, repeats = np.unique(table.reshape(len(table), -1), axis=0, return_counts=True)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return with_averages((weights @ patterns).reshape(-1, 3))

    counts = table.sum(0, dtype=np.int64)
    low, high = interval(bootstrap(repeats, statistic, resamples, seed))
    lines = []
    for i, (name, f1) in enumerate(zip([*names, "micro", "macro"], with_averages(counts), strict=True)):
        tp, fp, fn = counts[i] if i < len(names) else counts.sum(0)
        values = precision_recall_f1(tp, fp, fn)
        middle = f"{tp + fn:5d}  {values['precision']:.3f}  {values['recall']:.3f}"
        if name == "macro":
            middle = " " * len(middle)
        lines.append(f"{name:18s} {middle}  {f1:.3f} [{low[i]:.3f}, {high[i]:.3f}]")
    return lines


def print_accuracy(records: list[dict[str, Any]], resamples: int, seed: int) -> None:
    """Print F1 with intervals on the reports tuned on, held out and all."""
    labels = [label_report(gold_text(record)) for record in records]
    held = np.array([is_held_out(record["uid"]) for record in records])
    strict = outcomes(records, labels, GOLD, (1,))
    for title, rows in (("tuned on", ~held), ("held out", held), ("all given", np.ones_like(held))):
        print(f"\n{title}: {rows.sum()} reports, uncertain = not present")
        print(f"{'label':18s}  gold      P      R     F1 [95% interval]")
        print("\n".join(accuracy_rows(strict[rows], list(GOLD), resamples, seed)))
    gold_words = [gold_words_label(gold_text(record)) for record in records]
    in_words = outcomes(records, gold_words, GOLD, (1,))
    for title, rows in (("tuned on", ~held), ("held out", held)):
        lines = accuracy_rows(in_words[rows], list(GOLD), resamples, seed)
        print(
            f"\n{title}, without infections and nodular opacities, which this gold does not count:",
            *lines[-2:],
            sep="\n",
        )
    near = outcomes(records, labels, NEAR_GOLD, (1,))
    print("\nall given, labels whose gold means something slightly different:")
    print("\n".join(accuracy_rows(near, list(NEAR_GOLD), resamples, seed)[: len(NEAR_GOLD)]))
    infiltrations = [
        row["Lung Opacity"] == 1 for row, r in zip(labels, records, strict=True) if r["nih14"]["Infiltration"]
    ]
    print(f"Lung Opacity       found in {sum(infiltrations)} of {len(infiltrations)} reports with gold infiltration")
    doubted = np.array([[row[name] == -1 for name in GOLD] for row in labels])
    print(f"doubted findings   {doubted.sum()}, of them present in the gold: {(strict[..., 2] * doubted).sum()}")
    for title, rows in (("tuned on", ~held), ("held out", held)):
        lenient = accuracy_rows(outcomes(records, labels, GOLD, (1, -1))[rows], list(GOLD), resamples, seed)
        print(f"\n{title}, uncertain = present:", *lenient[-2:], sep="\n")


def print_samples(path: Path) -> None:
    """Compare with the published rows; the row of a broken installation is left out."""
    cases = [c for c in json.loads(path.read_text(encoding="utf-8"))["cases"] if not c["kind"].startswith("NEGATIVE")]
    print(f"\npublished samples of the CheXpert labeler: {len(cases)} reports, {14 * len(cases)} labels")
    for row, case in enumerate(cases):
        ours = label_report(case["text"])
        for name, theirs in case["labels"].items():
            if ours[name] != theirs:
                reason = ARGUED.get((row, name), "NOT ARGUED")
                print(f"row {row} {name}: published {theirs}, ours {ours[name]}: {reason}")


def reports_a_second(run: Callable[[], object], reports: int) -> str:
    """CPU time of this process: other work on the machine does not count."""
    start = time.process_time()
    run()
    return f"{reports / (time.process_time() - start):7,.0f} reports/s"


def print_speed(texts: list[str]) -> None:
    """Print reports a second with a cold, a warm and no cache."""
    words = sum(len(text.split()) for text in texts) / len(texts)
    print(f"\nspeed, one process, {len(texts)} different reports of {words:.0f} words, CPU time:")
    labeler.forget_sentences()
    print("cold (empty cache)           ", reports_a_second(lambda: list(label_reports(texts)), len(texts)))
    print("warm (every sentence known)  ", reports_a_second(lambda: list(label_reports(texts)), len(texts)))

    def read_every_sentence() -> None:
        for text in texts:
            for _, sentence in split_sentences(text):
                read_sentence(sentence.lower())

    print("no cache (sentences reread)  ", reports_a_second(read_every_sentence, len(texts)))


def print_label_table(data: Path, resamples: int = 1000, seed: int = 0) -> None:
    """All of it, from a folder that holds iu_xray and metrics_golden."""
    records = read_gold(data / "iu_xray" / "reports.jsonl")
    print_accuracy(records, resamples, seed)
    print_samples(data / "metrics_golden" / "chexpert_labeler_samples.json")
    print_speed([gold_text(record) for record in records])


def main() -> None:
    """The command at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with iu_xray and metrics_golden")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sentences", nargs="?", type=Path, const=SENTENCES, help="score the hard sentences alone")
    args = parser.parse_args()
    if args.sentences is not None:
        print_sentences(args.sentences)
        return
    print_label_table(args.data, args.resamples, args.seed)


if __name__ == "__main__":
    main()
