"""F1 of a label set of the user's own (`reading/label_sets.py`), name by name, macro and micro. Needs numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.metrics.classification import confusion, precision_recall_f1
from evaluation.metrics.count_table import CountTable, Measure, table_scores
from evaluation.metrics.signature import LABELER, signature
from evaluation.reading.observations import PRESENT, Labels


def label_set_rows(studies: Sequence[Mapping[str, Labels]]) -> np.ndarray:
    """Rows bool `[N, 3 C]` of the labels of N studies: true positives, false positives, false negatives of each name.
    Only 1 is positive; uncertain counts as absent.

    Args:
        studies: `{"reference": labels, "prediction": labels}` of each, in the order of the set.
    """
    truth, guess = (
        np.array([[value == PRESENT for value in study[side].values()] for study in studies])
        for side in ("reference", "prediction")
    )
    return np.concatenate(confusion(truth, guess), axis=1)


def label_set_measure(labels: Sequence[str]) -> Measure:
    """The measure of sums `[..., 3 C]` of rows: `"label_set/name"` -> F1, and `"label_set_average/macro"` and "micro".
    0/0 is 0, as in the clinical scores."""

    def measure(sums: np.ndarray) -> dict[str, np.ndarray]:
        tp, fp, fn = np.split(sums, 3, axis=-1)
        each = precision_recall_f1(tp, fp, fn)["f1"]
        pooled = precision_recall_f1(*(cell.sum(axis=-1) for cell in (tp, fp, fn)))["f1"]
        scores = {f"label_set/{name}": each[..., column] for column, name in enumerate(labels)}
        return {"label_set_average/macro": each.mean(axis=-1), "label_set_average/micro": pooled, **scores}

    return measure


def label_set_scores(
    table: CountTable, set_name: str, labels: Sequence[str], resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The scores of `label_set_measure` with interval and signature, and for each name the support: in how many
    references it is present.

    Args:
        table: of the `label_set_rows` of all studies.
        set_name: `LabelSet.name`, for the signature.
        labels: `LabelSet.labels`.
        resamples, seed: of the bootstrap.
    """

    def sign(name: str) -> str:
        return signature(
            "label-set/f1", labeler=LABELER, set=set_name, label=name.partition("/")[2], uncertain=0,
            n=len(table), bootstrap=resamples, seed=seed,
        )  # fmt: skip

    scores = table_scores(table, label_set_measure(labels), sign, resamples, seed)
    tp, _, fn = np.split(table.counts @ table.rows, 3)
    for name, support in zip(labels, (tp + fn).tolist(), strict=True):
        scores[f"label_set/{name}"]["support"] = support
    return scores
