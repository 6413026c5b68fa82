"""Clue scores that are given, not seen: of a study without image, or of a composed report."""

from collections.abc import Sequence

import numpy as np

from evaluation.reading.observations import Label, clue_score
from evaluation.reading.sides import side_and_finding
from training.config.run_config import DataSection


def drawn_scores(present: dict[str, int], threshold: float, rng: np.random.Generator) -> np.ndarray:
    """Scores that select the present clues and no others, from just over the threshold to 1 and from just under it to
    0, `[C]`: what is said must not depend on how far over the threshold a clue is."""
    names = list(present)
    chosen = np.array(list(present.values()), dtype=bool)
    height = np.where(rng.random(len(names)) < 0.5, rng.uniform(0, 1, len(names)), rng.beta(4, 1, len(names)))
    scores = np.where(chosen, threshold + (1 - threshold) * (0.01 + 0.99 * height), threshold * (1 - height) * 0.98)
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
