"""Clinical efficacy of radiology reports: label patterns, counts, the field's named conventions, signatures.

A report pair is two rows of CheXpert labels. Both rows together are one *pattern*; a corpus is the sorted table of its
distinct patterns with their counts. Every score, interval and test is a function of that table alone, so the order of
the reports, their chunks and the number of processes cannot change a digit, and nothing is ever labelled twice.

Shape letters: N reports, U distinct patterns, C labels (14), S score names; leading "..." are bootstrap resamples.
Numbers only; needs numpy. Never for clinical use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.classification import confusion, precision_recall_f1, ratio
from evaluation.metrics.resampling import bootstrap, with_interval
from evaluation.metrics.signature import signature
from evaluation.reading.observations import (
    CHEXPERT_14,
    LABEL_OF_CODE,
    NO_FINDING,
    PRESENT,
    UNCERTAIN,
    Labels,
    check_label,
)

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "14": CHEXPERT_14,
    "13": tuple(name for name in CHEXPERT_14 if name != NO_FINDING),
    "5": ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion"),
}
COLUMNS = {key: np.array([CHEXPERT_14.index(name) for name in names]) for key, names in LABEL_SETS.items()}

GivenLabels = Mapping[str, int | float | None]

# A label is two bits of a pattern.
CODE_OF_LABEL = {label: code for code, label in enumerate(LABEL_OF_CODE)}


def encode_labels(reports: Sequence[GivenLabels], what: str = "labels") -> np.ndarray:
    """Codes `[N, C]` (uint8, columns in `CHEXPERT_14` order) of label dictionaries, read by name.

    NaN counts as not mentioned, as in CheXpert's CSV files.

    Raises:
        ValueError: a name is unknown or missing, or a value is not 1, 0, -1, None or NaN: a label filled in
            silently would move every average.
    """
    codes = np.zeros((len(reports), len(CHEXPERT_14)), dtype=np.uint8)
    for row, labels in enumerate(reports):
        if labels.keys() != set(CHEXPERT_14):
            unknown, missing = sorted(labels.keys() - set(CHEXPERT_14)), [n for n in CHEXPERT_14 if n not in labels]
            raise ValueError(
                f"{what}[{row}]: unknown names {unknown}, missing names {missing}; expected the 14 CheXpert names, "
                "with None for a label that is not mentioned"
            )
        for column, name in enumerate(CHEXPERT_14):
            codes[row, column] = CODE_OF_LABEL[check_label(labels[name], f"{what}[{row}][{name!r}]")]
    return codes


def decode_labels(codes: np.ndarray) -> list[Labels]:
    """Label dictionaries of codes `[N, C]`."""
    return [{name: LABEL_OF_CODE[code] for name, code in zip(CHEXPERT_14, row, strict=True)} for row in codes]


def pack(codes: np.ndarray) -> np.ndarray:
    """Codes `[N, C]` as one uint64 of 28 bits a row, `[N]`."""
    shifts = np.arange(0, 2 * len(CHEXPERT_14), 2, dtype=np.uint64)
    return np.bitwise_or.reduce(codes.astype(np.uint64) << shifts, axis=-1)


def unpack(packed: np.ndarray) -> np.ndarray:
    """The reverse of `pack`: `[N]` -> `[N, C]`."""
    shifts = np.arange(0, 2 * len(CHEXPERT_14), 2, dtype=np.uint64)
    return ((packed[:, None] >> shifts) & np.uint64(3)).astype(np.uint8)


@dataclass(frozen=True)
class LabelPatterns:
    """The distinct (reference, prediction) label patterns of a corpus, sorted, and how often each occurs.

    `keys` `[U]` uint64 (reference in the low 28 bits), `counts` `[U]` int64. 16 bytes a pattern: memory grows with the
    number of different patterns, not with the number of reports.
    """

    keys: np.ndarray
    counts: np.ndarray

    @classmethod
    def from_codes(cls, reference: np.ndarray, prediction: np.ndarray) -> "LabelPatterns":
        """Patterns of two code arrays `[N, C]`.

        Raises:
            ValueError: the arrays differ in shape; a pair without a partner has no score.
        """
        if reference.shape != prediction.shape:
            raise ValueError(f"{len(prediction)} predictions for {len(reference)} references; expected one for one")
        keys, counts = np.unique(pack(reference) | pack(prediction) << np.uint64(28), return_counts=True)
        return cls(keys, counts.astype(np.int64))

    @classmethod
    def merge(cls, parts: Iterable["LabelPatterns"]) -> "LabelPatterns":
        """One table of many, whatever their order."""
        parts = list(parts)
        keys, rows = np.unique(np.concatenate([part.keys for part in parts]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, rows, np.concatenate([part.counts for part in parts]))
        return cls(keys, counts)

    def __len__(self) -> int:
        """Number of reports N."""
        return int(self.counts.sum())

    def columns(self) -> np.ndarray:
        """`pattern_columns` of every pattern, `[U, F]`."""
        return pattern_columns(unpack(self.keys & np.uint64(2**28 - 1)), unpack(self.keys >> np.uint64(28)))


@dataclass(frozen=True)
class ClinicalScore:
    """One number: which labels, whether uncertain counts as present (1) or not (0), which average, which value.

    `average`: "micro" pooled counts; "macro" mean over labels; "weighted" mean over labels by support; "example" mean
    over reports; "exact_match" share of reports right in every label; "accuracy" mean over labels of the share of
    right reports. The last two have no `value`.
    """

    labels: str
    uncertain: int
    average: str
    value: str | None = None

    @property
    def name(self) -> str:
        """ "micro_14_f1", for tables and JSON."""
        return "_".join(part for part in (self.average, self.labels, self.value) if part)


VALUES = ("precision", "recall", "f1")


def prf(labels: str, uncertain: int, *averages: str) -> tuple[ClinicalScore, ...]:
    """Precision, recall and F1 under each average."""
    return tuple(ClinicalScore(labels, uncertain, average, value) for average in averages for value in VALUES)


# What each line of work reports. The published labeler differs too (CheXpert for r2gen and wcl, CheXbert elsewhere):
# the signature says which one made these labels. "maira_plus" (uncertain = 1) is recalled, not verified.
CONVENTIONS: dict[str, tuple[ClinicalScore, ...]] = {
    "r2gen": prf("14", 0, "macro", "micro"),
    "wcl": (*prf("14", 1, "macro"), ClinicalScore("14", 1, "accuracy")),
    "miura": (*prf("5", 1, "micro"), *prf("14", 1, "micro")),
    "nicolson": prf("14", 0, "macro", "micro", "example"),
    "rgrg": (*prf("14", 1, "micro"), *prf("5", 1, "micro"), *prf("14", 0, "example")),
    "radialog": (
        *prf("14", 0, "macro"),
        ClinicalScore("14", 0, "example", "f1"),
        ClinicalScore("14", 0, "accuracy"),
    ),
    "f1chexbert": (
        *prf("14", 1, "micro", "macro", "weighted", "example"),
        *prf("5", 1, "micro", "macro", "weighted", "example"),
        ClinicalScore("5", 1, "exact_match"),
    ),
    "maira": (*prf("14", 0, "macro", "micro"), *prf("5", 0, "macro", "micro")),
    "maira_plus": (*prf("14", 1, "macro", "micro"), *prf("5", 1, "macro", "micro")),
}


def hits(reference: np.ndarray, prediction: np.ndarray, uncertain: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives of code arrays, each bool `[U, C]`."""
    counted = [CODE_OF_LABEL[label] for label in ((PRESENT, UNCERTAIN) if uncertain else (PRESENT,))]
    return confusion(np.isin(reference, counted), np.isin(prediction, counted))


def pattern_columns(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What every average needs of each pattern, `[U, F]`: weighted sums of the rows give all scores.

    The parts are those of `PARTS`, in its order. Counts are whole numbers below 2**53, so their sums are exact.
    """
    columns: list[np.ndarray] = [np.ones((len(reference), 1))]
    for uncertain in (0, 1):
        cells = hits(reference, prediction, uncertain)
        columns += cells
        for chosen in COLUMNS.values():
            tp, fp, fn = (cell[:, chosen].sum(axis=1) for cell in cells)
            columns += [values[:, None] for values in precision_recall_f1(tp, fp, fn).values()]
            columns.append((fp + fn == 0)[:, None])
    return np.concatenate(columns, axis=1, dtype=np.float64)


def _parts() -> dict[tuple, slice]:
    widths: list[tuple[tuple, int]] = [(("n",), 1)]
    for uncertain in (0, 1):
        widths += [((cell, uncertain), len(CHEXPERT_14)) for cell in ("tp", "fp", "fn")]
        for labels in COLUMNS:
            widths += [(("example", labels, uncertain), len(VALUES)), (("exact_match", labels, uncertain), 1)]
    ends = np.cumsum([width for _, width in widths]).tolist()
    return {key: slice(end - width, end) for (key, width), end in zip(widths, ends, strict=True)}


PARTS = _parts()


def score_of_sums(sums: np.ndarray, score: ClinicalScore) -> np.ndarray:
    """One score of sums `[..., F]` of `pattern_columns`, shape `[...]`."""
    n = sums[..., 0]
    if score.average == "exact_match":
        return ratio(sums[..., PARTS["exact_match", score.labels, score.uncertain]][..., 0], n)
    if score.average == "example":
        example = sums[..., PARTS["example", score.labels, score.uncertain]]
        return ratio(example[..., VALUES.index(str(score.value))], n)
    tp, fp, fn = (sums[..., PARTS[cell, score.uncertain]][..., COLUMNS[score.labels]] for cell in ("tp", "fp", "fn"))
    if score.average == "accuracy":
        return 1 - ratio((fp + fn).sum(axis=-1), n * fp.shape[-1])
    if score.average == "micro":
        tp, fp, fn = (cell.sum(axis=-1) for cell in (tp, fp, fn))
        return precision_recall_f1(tp, fp, fn)[str(score.value)]
    per_label = precision_recall_f1(tp, fp, fn)[str(score.value)]
    if score.average == "macro":
        return per_label.mean(axis=-1)
    support = tp + fn  # weighted
    return ratio((per_label * support).sum(axis=-1), support.sum(axis=-1))


def label_scores_of_sums(sums: np.ndarray, uncertain: int) -> dict[str, np.ndarray]:
    """Precision, recall, f1 and support of every label, each `[..., C]`, of sums `[..., F]`."""
    tp, fp, fn = (sums[..., PARTS[cell, uncertain]] for cell in ("tp", "fp", "fn"))
    return {**precision_recall_f1(tp, fp, fn), "support": tp + fn}


def convention_scores(conventions: Iterable[str]) -> dict[str, ClinicalScore]:
    """`"convention/score"` -> score, for the named conventions in the order given.

    Raises:
        ValueError: a name is unknown.
    """
    named: dict[str, ClinicalScore] = {}
    for convention in conventions:
        if convention not in CONVENTIONS:
            raise ValueError(f"unknown convention {convention!r}; expected one of {', '.join(CONVENTIONS)}")
        named.update({f"{convention}/{score.name}": score for score in CONVENTIONS[convention]})
    return named


def clinical_scores(
    patterns: LabelPatterns, conventions: Iterable[str], labeler: str, resamples: int = 1000, seed: int = 0
) -> dict[str, dict]:
    """Every score of the named conventions, with its interval and signature, and the scores of each label.

    Args:
        patterns: of all reports.
        conventions: names in `CONVENTIONS`.
        labeler: name and version of what made the labels, for the signature.
        resamples: corpora drawn for the 95 % percentile intervals; 0 for none (low and high are then None).
        seed: of the draws.

    Returns:
        `{"scores": {name: {"value", "low", "high", "signature"}}, "per_label": {label: {"uncertain_0": {"precision",
        "recall", "f1", "support"}, "uncertain_1": ...}}}`.

    Raises:
        ValueError: there is no report, or a convention is unknown.
    """
    if not len(patterns):
        raise ValueError("no report pairs to score")
    columns = patterns.columns()
    sums = patterns.counts @ columns
    draws = bootstrap(patterns.counts, lambda weights: weights @ columns, resamples, seed) if resamples else None
    shared = {"n": len(patterns), "bootstrap": resamples, "seed": seed}

    scores: dict[str, dict] = {}
    for name, score in convention_scores(conventions).items():
        scores[name] = with_interval(score_of_sums(sums, score), None if draws is None else score_of_sums(draws, score))
        scores[name]["signature"] = signature(
            f"radiology-ce/{score.value or score.average}",
            labeler=labeler,
            convention=name.split("/")[0],
            uncertain=score.uncertain,
            labels=score.labels,
            average=score.average,
            **shared,
        )
    per_label: dict[str, dict] = {name: {} for name in CHEXPERT_14}
    for uncertain in (0, 1):
        values = label_scores_of_sums(sums, uncertain)
        drawn_f1 = None if draws is None else label_scores_of_sums(draws, uncertain)["f1"]
        for column, name in enumerate(CHEXPERT_14):
            per_label[name][f"uncertain_{uncertain}"] = {
                "precision": float(values["precision"][column]),
                "recall": float(values["recall"][column]),
                "support": int(values["support"][column]),
                "f1": with_interval(values["f1"][column], None if drawn_f1 is None else drawn_f1[:, column]),
            }
    return {"scores": scores, "per_label": per_label}


def example_f1(reference: np.ndarray, prediction: np.ndarray, uncertain: int) -> np.ndarray:
    """F1 over the 14 labels of each report, `[N]`; 0 where neither side has a positive label."""
    tp, fp, fn = (cell.sum(axis=1) for cell in hits(reference, prediction, uncertain))
    return precision_recall_f1(tp, fp, fn)["f1"]
