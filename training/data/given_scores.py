"""Clue scores that are given, not seen: read from labels, or drawn for a composed report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.reading.observations import Label, Labels, clue_score
from evaluation.reading.sides import side_and_finding
from training.config.run_config import DataSection

Thresholds = np.ndarray | float
"""One for each clue, `[C]`, or one for all."""


def own_thresholds(config: Any) -> Thresholds:
    """What the clues of a `TRRGConfig` have to score more than in their own words, to be told to the language model. In
    others it is `clue_threshold`: no calibration knows them."""
    return config.clue_threshold if config.clue_calibration is None else np.array(config.clue_calibration)[:, 2]


def moved(scores: np.ndarray, old: Thresholds, new: Thresholds) -> np.ndarray:
    """Scores `[C]` as far over or under the new threshold as they were over or under the old one."""
    return np.where(scores > old, new + (1 - new) * (scores - old) / (1 - old), new * scores / np.maximum(old, 1e-9))


def drawn_scores(present: Labels, thresholds: Thresholds, rng: np.random.Generator) -> np.ndarray:
    """Scores that select the present clues and no others, from just over the threshold to 1 and from just under it to
    0, `[C]`: what is said must not depend on how far over the threshold a clue is."""
    names = list(present)
    chosen = np.array(list(present.values()), dtype=bool)
    height = np.where(rng.random(len(names)) < 0.5, rng.uniform(0, 1, len(names)), rng.beta(4, 1, len(names)))
    scores = np.where(chosen, thresholds + (1 - thresholds) * (0.01 + 0.99 * height), thresholds * (1 - height) * 0.98)
    for place in range(len(names)):
        if chosen[place] and (sided := side_and_finding(names[place])):
            parent = names.index(sided[1])
            scores[parent] = max(scores[parent], scores[place])
    return scores


def oracle_scores(labels: Sequence[Label], data: DataSection, rng: np.random.Generator | None) -> np.ndarray:
    """Clue scores read from labels: 1 present, 0.5 uncertain, 0 absent or not mentioned, `[C]`. With a generator they
    are softened by `score_jitter`, so that scores as images give them are not new to the language model."""
    exact = np.array([clue_score(label) for label in labels])
    if rng is None:
        return exact
    soft = exact + rng.uniform(0, data.score_jitter, len(exact)) * np.where(exact == 1.0, -1, 1)
    return np.where(exact == 0.5, 0.5 + rng.uniform(-0.5, 0.5, len(exact)) * data.score_jitter, soft)
