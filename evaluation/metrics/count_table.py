"""Scores of a corpus from one row of numbers a study: the table of distinct rows, and its scores with intervals."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from evaluation.metrics.resampling import bootstrap, with_interval


@dataclass(frozen=True)
class CountTable:
    """The distinct rows of a corpus, sorted, and how often each occurs: `rows` `[U, F]`, `counts` `[U]` int64. So the
    order of the studies, their chunks and the number of processes change no digit."""

    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> Self:
        """The table of rows `[N, F]`, one a study."""
        rows, counts = np.unique(rows, axis=0, return_counts=True)
        return cls(rows, counts.astype(np.int64))

    @classmethod
    def merge(cls, parts: Iterable["CountTable"]) -> Self:
        """One table of many, whatever their order."""
        parts = list(parts)
        rows, places = np.unique(np.concatenate([part.rows for part in parts]), axis=0, return_inverse=True)
        counts = np.zeros(len(rows), dtype=np.int64)
        np.add.at(counts, places.reshape(-1), np.concatenate([part.counts for part in parts]))
        return cls(rows, counts)

    def __len__(self) -> int:
        """Number of studies."""
        return int(self.counts.sum())


Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Sums `[..., F]` of rows -> each score `[...]`, NaN where there is nothing to count."""


def table_scores(
    table: CountTable, measure: Measure, sign: Callable[[str], str], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Name -> value, low, high (95 % percentile bootstrap over studies; None where there is nothing to count) and
    signature.

    Args:
        table: of all studies.
        measure: the scores of sums of rows.
        sign: name of a score -> its signature.
        resamples: corpora drawn; 0 for no interval.
        seed: of the draws.
    """
    rows = table.rows.astype(np.float64)
    drawn = measure(bootstrap(table.counts, lambda weights: weights @ rows, resamples, seed)) if resamples else None
    scores: dict[str, dict[str, Any]] = {}
    for name, value in measure(table.counts @ rows).items():
        if np.isnan(value):
            scores[name] = {"value": None, "low": None, "high": None}
        else:
            scores[name] = with_interval(value, None if drawn is None else drawn[name])
        scores[name]["signature"] = sign(name)
    return scores
