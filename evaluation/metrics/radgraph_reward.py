"""RadGraph F1 and RadCliQ from their ingredients: arithmetic only, no model.

A RadGraph annotation is what the `radgraph` package returns for a text: `{"entities": {id: {"tokens", "label",
"relations": [[type, id], ...]}}}`. Tokens are compared in lower case everywhere (packages up to 0.1.18 forget it in
places, so the same report in capitals scores lower there).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.metrics.classification import precision_recall_f1

LEVELS = ("simple", "partial", "complete")
# Yu et al., "Evaluating progress in automatic chest X-ray radiology report generation" (2023): coefficients of the
# published models on raw inputs, intercept first. The BLEU-2 weight of v1 is 1e-11: v1 is an index of three metrics.
COMPONENTS = ("radgraph_combined", "bertscore", "chexbert_similarity", "bleu_2")
RADCLIQ = {
    "v0": (5.516160804054495, -1.5890342336062262, -3.0098301361749296, -1.873371709917809, 0.7139418527003757),
    "v1": (2.4501430833271307, -1.24521633021832, -1.6508453287258653, -0.9947717072020826, 1.4435116241946824e-11),
}


def entity_sets(annotation: Mapping[str, Any]) -> dict[str, set]:
    """What each level compares, and the relations alone."""
    entities = annotation["entities"]
    sets: dict[str, set] = {"simple": set(), "partial": set(), "complete": set(), "relations": set()}
    for entity in entities.values():
        key = entity["tokens"].lower(), entity["label"]
        sets["simple"].add(key)
        sets["partial"].add((*key, True) if entity["relations"] else key)
        if not entity["relations"]:
            sets["complete"].add(key)
        for kind, target in entity["relations"]:
            other = entities[target]
            sets["complete"].add((*key, kind, other["tokens"].lower()))
            sets["relations"].add((key, (other["tokens"].lower(), other["label"]), kind))
    return sets


def set_f1(first: set, second: set) -> float:
    """F1 of two sets; 0 where either is empty."""
    cells = (len(first & second), len(first - second), len(second - first))
    return float(precision_recall_f1(*map(np.asarray, cells))["f1"])


def radgraph_f1(hypothesis: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
    """RadGraph F1 of one pair of annotations: "simple" (RG_E), "partial" (RG_ER, the one most papers print),
    "complete" (RG_bar_ER), and "combined", RadCliQ's ingredient: the mean of entity and relation F1."""
    hyp, ref = entity_sets(hypothesis), entity_sets(reference)
    scores = {level: set_f1(hyp[level], ref[level]) for level in LEVELS}
    return {**scores, "combined": (scores["simple"] + set_f1(hyp["relations"], ref["relations"])) / 2}


def radcliq(components: Mapping[str, Sequence[float] | np.ndarray], version: str) -> np.ndarray:
    """RadCliQ "v0" or "v1" of each report `[N]`, lower is better, raw.

    Never inverted: 1/RadCliQ changes sign within the metric's range, so it does not even rank. BERTScore enters with
    baseline rescaling; whether its IDF was on changes the value, so say so beside it.

    Args:
        components: `COMPONENTS` by name, each `[N]`.
    """
    if version not in RADCLIQ:
        raise ValueError(f"unknown RadCliQ version {version!r}; expected {' or '.join(RADCLIQ)}")
    if missing := [name for name in COMPONENTS if name not in components]:
        raise ValueError(f"RadCliQ needs {', '.join(COMPONENTS)}; missing {', '.join(missing)}")
    intercept, *weights = RADCLIQ[version]
    values = np.stack([np.asarray(components[name], dtype=np.float64) for name in COMPONENTS], axis=-1)
    return intercept + values @ np.array(weights)
