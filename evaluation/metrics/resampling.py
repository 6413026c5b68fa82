"""Bootstrap intervals and tests over reports, from counts: nothing is labelled or tokenised again.

Two forms. A table of distinct rows is resampled by one multinomial draw of how often each row occurs (`bootstrap`). A
stream of reports is resampled by giving each report a Poisson(1) number of copies in each resample
(`poisson_weights`): the number follows from the report's key and the seed, so the resamples are the same in any order,
in any chunks and in any number of processes, and nothing of a report need be kept. Paired: both systems on the same
draws. Needs numpy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 95  # percent
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
# Poisson(1) by inversion: a 16-bit number -> a number of copies.
_CUMULATIVE = np.cumsum([math.exp(-1) / math.factorial(copies) for copies in range(12)])
POISSON_OF_UINT16 = np.searchsorted(_CUMULATIVE, (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


def bootstrap(
    counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int
) -> np.ndarray:
    """Scores of resampled corpora, `[resamples, ...]`; none of them where `resamples` is 0.

    Args:
        counts: `[U]`, how often each distinct row occurs in the corpus of N = sum(counts) reports.
        statistic: weights `[U]` -> an array of scores.
        resamples: number of corpora drawn.
        seed: of numpy's default generator; the same seed, table and numpy give the same draws.
    """
    generator = np.random.default_rng(seed)
    n = int(counts.sum())
    chances = counts / n
    if not resamples:
        return np.asarray(statistic(counts.astype(np.float64)))[None][:0]
    return np.stack([statistic(generator.multinomial(n, chances).astype(np.float64)) for _ in range(resamples)])


def patient_bootstrap(
    patients: Sequence[str], statistic: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int
) -> np.ndarray:
    """Scores `[resamples, ...]` of resampled sets of patients: all studies of a patient are drawn together.

    Args:
        patients: `[N]`, of each study.
        statistic: weights `[N]` of the studies -> an array of scores.
        resamples, seed: as in `bootstrap`.
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    return bootstrap(np.ones(len(names), np.int64), lambda drawn: statistic(drawn[place]), resamples, seed)


def poisson_weights(keys: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each report stands in each resample, uint8 `[resamples, n]`, a function of key and seed alone.

    Args:
        keys: `[n]` uint64, well mixed (a hash of the study id).
        resamples: number of resamples.
        seed: another seed gives other resamples.
    """
    rounds = -(-resamples // 4)
    steps = (np.arange(1, rounds + 1, dtype=np.uint64) + np.uint64(seed) * np.uint64(2**32)) * GOLDEN
    mixed = keys[None, :] + steps[:, None]  # splitmix64
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    quarters = mixed.view(np.uint16).reshape(rounds, len(keys), 4).transpose(0, 2, 1)
    return POISSON_OF_UINT16[quarters.reshape(4 * rounds, len(keys))[:resamples]]


def interval(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of draws `[resamples, ...]` at `LEVEL` percent: (low, high), each `[...]`.

    NaN draws (a resample without a report, which happens to the smallest corpora only) are left out.
    """
    low, high = np.nanpercentile(draws, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], axis=0)
    return low, high


def with_interval(value: np.ndarray, draws: np.ndarray | None) -> dict[str, float | None]:
    """A number and the interval of its draws `[resamples]`, ready for JSON; None where nothing was drawn."""
    if draws is None or not len(draws):
        return {"value": float(value), "low": None, "high": None}
    low, high = interval(draws)
    return {"value": float(value), "low": float(low), "high": float(high)}


def number_text(value: float | None) -> str:
    """A score as it is printed; "-" where there was nothing to count."""
    return "-" if value is None else f"{value:.4f}"


def interval_text(score: Mapping[str, Any]) -> str:
    """The interval of `with_interval` as it is printed, empty where there is none."""
    return "" if score["low"] is None else f"[{score['low']:.4f}, {score['high']:.4f}]"


def paired_p_value(difference: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Two-sided p of "the two systems do not differ", from paired draws of the difference `[resamples, ...]`.

    The draws are centred on their mean to stand for no difference; p = (1 + draws at least as far out) / (1 + draws),
    so the smallest p that R resamples can give is 1 / (R + 1). NaN draws are left out, as in `interval`.
    """
    extreme = np.abs(draws - np.nanmean(draws, axis=0)) >= np.abs(difference)
    return (1 + extreme.sum(axis=0)) / (1 + (~np.isnan(draws)).sum(axis=0))


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided binomial p that wins and losses are equally likely; ties are left out before the call."""
    n = wins + losses
    if n == 0:
        return 1.0
    log_terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(min(wins, losses) + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(term) for term in log_terms))
