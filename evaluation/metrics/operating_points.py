"""Thresholds with a stated risk, from scores of studies with known labels: conformal risk control.

Angelopoulos et al., "Conformal Risk Control" (arXiv 2208.02814): of n positives, exchangeable with those to come, at
most floor((n + 1) * rate) - 1 may be missed; then the expected false-negative rate of a new set is at most `rate`. It
holds on average over validation sets, for patients like these, a clue at a time; studies of one patient count apart.
"""

import numpy as np

from configuration_trrg import TRRGConfig

SENSITIVE_MISSES = 0.1
"""The most that "sensitive" misses of those who have the finding."""
CAREFUL_ALARMS = 0.05
"""The most that "careful" tells of those who do not have it."""
STEP = 1e-6
"""Thresholds are whole numbers of this, rounded to the safe side."""


def missing_at_most(positives: np.ndarray, rate: float) -> float:
    """The highest threshold whose false-negative rate is at most `rate`: 0, which misses nothing, where there are too
    few to promise anything else.

    Args:
        positives: scores `[n]` in 0..1 of studies that have the finding. It is missed where the score is not higher
            than the threshold.
    """
    allowed = int(np.floor((len(positives) + 1) * rate + 1e-9)) - 1
    if allowed < 0:
        return 0.0
    return max(0.0, float(np.ceil(np.sort(positives)[allowed] / STEP - 1e-6) - 1) * STEP)


def alarming_at_most(negatives: np.ndarray, rate: float) -> float:
    """The lowest threshold that at most `rate` of those without the finding score more than; see `missing_at_most`."""
    allowed = int(np.floor((len(negatives) + 1) * rate + 1e-9)) - 1
    if allowed < 0:
        return 1 - STEP
    return min(1 - STEP, float(np.ceil(np.sort(negatives)[-1 - allowed] / STEP)) * STEP)


def operating_points(scores: np.ndarray, labels: np.ndarray, balanced: float) -> list[float]:
    """A row of `TRRGConfig.clue_operating_points`.

    "careful" is not under `balanced` and "sensitive" not over it, so that the dial has one direction; no wanted rate is
    over "careful", and none up to that of "sensitive" over `balanced`. Each promise holds all the more then.

    Args:
        scores: `[N]`, calibrated.
        labels: `[N]`, 1 and 0.
        balanced: the clue's threshold.
    """
    positives = scores[labels == 1]
    sensitive = min(missing_at_most(positives, SENSITIVE_MISSES), balanced)
    careful = max(alarming_at_most(scores[labels == 0], CAREFUL_ALARMS), balanced)
    rates = [
        min(missing_at_most(positives, rate), balanced if rate <= SENSITIVE_MISSES else careful)
        for rate in TRRGConfig.MISS_RATES
    ]
    return [round(threshold, 6) for threshold in (careful, sensitive, *rates)]
