"""Precision, recall, F1 and AUROC: the one place where they are computed, over counts and scores in numpy."""

import math

import numpy as np

Counts = np.ndarray | int


def ratio(numerator: Counts, denominator: Counts) -> np.ndarray:
    """Elementwise quotient; 0/0 is 0, the field's (and scikit-learn's `zero_division=0`) reading."""
    denominator = np.asarray(denominator, dtype=np.float64)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def precision_recall_f1(tp: Counts, fp: Counts, fn: Counts) -> dict[str, np.ndarray]:
    """P = TP/(TP+FP), R = TP/(TP+FN), F1 = 2TP/(2TP+FP+FN), elementwise."""
    return {"precision": ratio(tp, tp + fp), "recall": ratio(tp, tp + fn), "f1": ratio(2 * tp, 2 * tp + fp + fn)}


def confusion(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True positives, false positives and false negatives of two boolean arrays, elementwise."""
    return truth & guess, guess & ~truth, truth & ~guess


def known_f1(labels: np.ndarray, claims: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 of each column, macro F1 over the columns that occur in labels or claims, and micro F1, `[C + 2]`.

    Args:
        labels: `[N, C]`, 1 present and 0 absent; any other value is not known and counts for nothing.
        claims: `[N, C]` bool.
        weights: `[N]`, how often each study counts.
    """
    known = (labels == 1) | (labels == 0)
    tp, fp, fn = (weights @ (cell & known) for cell in confusion(labels == 1, claims))
    f1 = precision_recall_f1(tp, fp, fn)["f1"]
    micro = precision_recall_f1(tp.sum(), fp.sum(), fn.sum())["f1"]
    return np.array([*f1, ratio(f1.sum(), (tp + fp + fn > 0).sum()), micro])


def auroc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve: the share of (present, absent) pairs that the scores order rightly; ties count half.

    Args:
        scores: `[N]`.
        labels: `[N]`, 1 present and 0 absent; studies with any other value are left out.
        weights: `[N]`, how often each study counts (of a bootstrap); once by default.

    Returns:
        The area, NaN where no present or no absent study counts.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    present, absent = weights * (labels == 1), weights * (labels == 0)
    _, place = np.unique(scores, return_inverse=True)
    positives, negatives = (np.bincount(place, side) for side in (present, absent))
    pairs = positives.sum() * negatives.sum()
    below = np.cumsum(negatives) - negatives / 2
    return float(positives @ below / pairs) if pairs else math.nan


def judged_columns(labels: np.ndarray, minimum: int) -> list[int]:
    """The columns of labels `[N, C]` with at least `minimum` studies of either value."""
    return np.flatnonzero(np.minimum((labels == 1).sum(0), (labels == 0).sum(0)) >= minimum).tolist()


def mean_auroc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """`auroc` of each column of `[N, C]` arrays and, at the end, their mean without NaN, `[C + 1]`."""
    areas = [auroc(scores[:, c], labels[:, c], weights) for c in range(labels.shape[1])]
    return np.array([*areas, np.nanmean(areas)])
