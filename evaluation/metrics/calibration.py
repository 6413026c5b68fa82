"""Reliability of clue scores: of the findings scored about 0.7, are about 70 % there?"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from evaluation.reading.observations import CHEXPERT_14

BINS = 10
# Scores are summed as whole numbers of 2**-40, so a sum is the same in any order.
UNIT = 2**40


def expected_error(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error over `BINS` bins of equal width. Shapes `[N]`; labels 0 and 1, weights of a bootstrap
    (1 each by default)."""
    weights = np.ones(len(scores)) if weights is None else weights
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (scores - labels), BINS)).sum() / weights.sum())


class ClueReliability:
    """Counts by clue and score bin, whole numbers only: merging them in any order gives the same numbers.

    A finding is present when its label is 1 and absent when it is 0; uncertain labels are left out. A label that is
    not mentioned counts as absent in a report, and is left out of a study's own labels, where it is not known. Clues
    whose name is not a CheXpert label are listed in `unlabelled`.
    """

    def __init__(self) -> None:
        shape = (len(CHEXPERT_14), BINS)
        self.counts = np.zeros(shape, dtype=np.int64)
        self.present = np.zeros(shape, dtype=np.int64)
        self.score_sums = np.zeros(shape, dtype=object)
        self.unlabelled: set[str] = set()
        self.sources = Counter({"report": 0, "study": 0})

    def add(self, clue_scores: Mapping[str, float], labels: Mapping[str, int | None], of_report: bool) -> None:
        """Count the clues of a study against labels read in its report, or else (`of_report` False) its own."""
        self.sources["report" if of_report else "study"] += 1
        for name, score in clue_scores.items():
            label = labels.get(name)
            if label is None and of_report:
                label = 0
            if name not in CHEXPERT_14:
                self.unlabelled.add(name)
            elif label in (0, 1):
                cell = CHEXPERT_14.index(name), min(int(score * BINS), BINS - 1)
                self.counts[cell] += 1
                self.present[cell] += label
                self.score_sums[cell] += round(score * UNIT)

    def merge(self, others: Iterable["ClueReliability"]) -> "ClueReliability":
        """Add the counts of others to these, in any order."""
        for other in others:
            self.counts += other.counts
            self.present += other.present
            self.score_sums += other.score_sums
            self.unlabelled |= other.unlabelled
            self.sources.update(other.sources)
        return self

    def bins(self, counts: np.ndarray, present: np.ndarray, score_sums: np.ndarray) -> dict:
        """The filled bins of one clue (or of all) with the expected calibration error."""
        total = int(counts.sum())
        filled = [
            {"count": int(n), "mean_score": float(s / UNIT / n), "share_present": float(p / n)}
            for n, p, s in zip(counts, present, score_sums, strict=True)
            if n
        ]
        gap = sum(cell["count"] * abs(cell["mean_score"] - cell["share_present"]) for cell in filled)
        return {"n": total, "expected_calibration_error": gap / total if total else None, "bins": filled}

    def summary(self) -> dict:
        """All clues together and each one: filled bins and the expected calibration error."""
        return {
            "all": self.bins(self.counts.sum(0), self.present.sum(0), self.score_sums.sum(0)),
            "clues": {
                name: self.bins(self.counts[row], self.present[row], self.score_sums[row])
                for row, name in enumerate(CHEXPERT_14)
                if self.counts[row].sum()
            },
            "without_reference_label": sorted(self.unlabelled),
            "studies_by_source_of_labels": dict(self.sources),
        }
