"""What two reports say beyond labels: the words of change they share, and whether a finding that both claim is on the
same side, as severe and as large in both.

| measure | counts | out of |
|---|---|---|
| temporal_f1 | F1 of the words of change of a study, mean over studies | |
| temporal_precision, temporal_recall | words of change that both reports have | those of either report |
| side_agreement (severity_, size_) | findings with the same sides (severities, sizes) | that say one in both reports |
| side_precision, side_recall | the same findings | that say one in the prediction (recall: in the reference) |

Findings are the CheXpert observations that both reports claim, by the rules of `attributes.py`.

`temporal_f1` is temporal entity F1 (Zhang et al., Libra, Findings of ACL 2025; RadEval's "temporal"): of a study's sets
of words P and R it is 2 |P and R| / (|P| + |R|), 1 where both are empty and 0 where one is. The published code adds
1e-10 here and there, and the entities of a Stanza model that are one of these words, which the search for words finds
too; it also deletes characters such as "/", so that of "stable/unchanged" it finds no word and we find two. Reports
without any word of change count 1, so a corpus of single studies scores high whatever is written: read it beside
precision and recall, which pool the words of all studies. Never for clinical use.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from evaluation.metrics.classification import precision_recall_f1
from evaluation.metrics.count_table import CountTable, table_scores
from evaluation.metrics.signature import LABELER, signature
from evaluation.reading.attributes import Attributes, change_words, finding_attributes

COUNTS = (
    "change_both", "change_prediction", "change_reference",
    *(f"{name}_{what}" for name in Attributes._fields for what in ("agree", "both", "prediction", "reference")),
)  # fmt: skip
MEASURES = {
    "temporal_precision": ("change_both", "change_prediction"),
    "temporal_recall": ("change_both", "change_reference"),
    **{
        f"{name}_{measure}": (f"{name}_agree", f"{name}_{side}")
        for name in Attributes._fields
        for measure, side in (("agreement", "both"), ("precision", "prediction"), ("recall", "reference"))
    },
}
"""Measure -> (numerator, denominator), names of `COUNTS`; `temporal_f1` is no share."""


@dataclass(frozen=True)
class StudyDetails:
    """What the two reports of a study say, ready for JSON.

    Attributes:
        change: the words of change of the prediction and of the reference, sorted.
        findings: finding that both claim -> attribute -> what the prediction and what the reference say of it, sorted;
            attributes that neither says are left out.
    """

    change: dict[str, list[str]]
    findings: dict[str, dict[str, dict[str, list]]] = field(default_factory=dict)

    def counts(self) -> list[int]:
        """In the order of `COUNTS`."""
        words = [set(self.change[side]) for side in ("prediction", "reference")]
        row = [len(words[0] & words[1]), len(words[0]), len(words[1])]
        for name in Attributes._fields:
            said = [found[name] for found in self.findings.values() if name in found]
            in_both = [pair for pair in said if pair["prediction"] and pair["reference"]]
            row += [sum(pair["prediction"] == pair["reference"] for pair in in_both), len(in_both)]
            row += [sum(bool(pair[side]) for pair in said) for side in ("prediction", "reference")]
        return row

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `StudyDetails(**that)` reads it back."""
        return asdict(self)


def study_details(prediction: str, reference: str) -> StudyDetails:
    """Compare the two reports of a study."""
    said = {"prediction": finding_attributes(prediction), "reference": finding_attributes(reference)}
    findings = {
        finding: {
            name: {side: sorted(getattr(said[side][finding], name)) for side in said}
            for name in Attributes._fields
            if any(getattr(said[side][finding], name) for side in said)
        }
        for finding in said["reference"]
        if finding in said["prediction"]
    }
    return StudyDetails(
        {"prediction": sorted(change_words(prediction)), "reference": sorted(change_words(reference))}, findings
    )


def detail_rows(studies: Sequence[StudyDetails]) -> np.ndarray:
    """Rows `[N, F]` of studies: a one, the temporal F1 of the study, then `COUNTS`."""
    counts = np.array([study.counts() for study in studies], dtype=np.float64)
    both, predicted, referenced = counts[:, :3].T
    f1 = precision_recall_f1(both, predicted - both, referenced - both)["f1"]
    f1[predicted + referenced == 0] = 1
    return np.column_stack([np.ones(len(counts)), f1, counts])


def detail_shares(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The measures `[...]` of sums `[..., F]` of rows; NaN where there is nothing to count."""
    columns = dict(zip(COUNTS, np.moveaxis(sums, -1, 0)[2:], strict=True))
    with np.errstate(invalid="ignore"):  # 0/0
        shares = {f"details/{name}": columns[top] / columns[bottom] for name, (top, bottom) in MEASURES.items()}
    return {"details/temporal_f1": sums[..., 1] / sums[..., 0], **shares}


def detail_scores(table: CountTable, resamples: int = 1000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """`"details/measure"` -> value with interval and signature (`table_scores`) and, of a share, the two whole numbers:
    `count` out of `of`. `table` is that of the `detail_rows` of all studies."""

    def sign(name: str) -> str:
        labeler = {} if "temporal" in name else {"labeler": LABELER}
        return signature(name, **labeler, n=len(table), bootstrap=resamples, seed=seed)

    scores = table_scores(table, detail_shares, sign, resamples, seed)
    sums = dict(zip(COUNTS, (table.counts @ table.rows)[2:].astype(int).tolist(), strict=True))
    for name, (top, bottom) in MEASURES.items():
        scores[f"details/{name}"] |= {"count": sums[top], "of": sums[bottom]}
    return scores
