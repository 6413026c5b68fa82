"""BLEU-1..4, ROUGE-L and CIDEr-D as the COCO caption code defines them, over a corpus or in chunks, in numpy.

One reference per report. Words stand between spaces once `text_normalisation.py` is done with the text. An n-gram is a
64-bit hash of its words (two different n-grams of a corpus of 10 million would meet with probability 3e-6), so n-grams
sort the same way in every corpus, chunk and process, sums run in the same order, and the numbers are the same
to the last digit. METEOR is in `meteor.py`.

Shape letters: N report pairs, M distinct n-grams of reports, K tokens.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from evaluation.metrics.count_table import CountTable
from evaluation.metrics.meteor import MeteorTables, meteor_score, pairwise_counts
from evaluation.metrics.resampling import poisson_weights, with_interval
from evaluation.metrics.signature import signature
from evaluation.predictions.records import digest

ORDERS = (1, 2, 3, 4)
MAX_TOKENS = 20_000
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
WEIGHED = 1024  # reports whose weights in all resamples are held at a time
# Scores of reports are summed as whole numbers of 2**-36 (1.5e-11): exact in any order, up to 13 million reports.
UNIT = 2**36
# The constants that keep COCO's BLEU from dividing by zero.
BLEU_TINY, BLEU_SMALL = 1e-15, 1e-9


@lru_cache(maxsize=2**18)
def token_hash(token: str) -> int:
    """64 bits that stand for a word."""
    return int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Ngrams:
    """The distinct n-grams of each report, sorted by report and hash. All `[M]`; `lengths` `[N]` in tokens."""

    rows: np.ndarray
    hashes: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray


def count_ngrams(texts: Sequence[str], names: Sequence[str] | None = None) -> list[Ngrams]:
    """N-grams of every order in `ORDERS`; `names` of the texts are for the message of an error.

    Raises:
        ValueError: a text has more than `MAX_TOKENS` tokens. No report has; a generator that never stopped does, and
            the longest common subsequence of two such texts takes quadratic time.
    """
    tokens = [text.split() for text in texts]
    lengths = np.array([len(report) for report in tokens], dtype=np.int64)
    for row in np.flatnonzero(lengths > MAX_TOKENS).tolist():
        name = f"text {row}" if names is None else names[row]
        raise ValueError(f"{name} has {lengths[row]} tokens; at most {MAX_TOKENS} are scored")
    words = np.fromiter((token_hash(word) for report in tokens for word in report), np.uint64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(texts)), lengths)
    ngrams = []
    hashes = np.zeros_like(words)
    for order in ORDERS:
        # hash of n words = hash of the first n - 1, times an odd constant, plus the word (all modulo 2**64)
        hashes = hashes[: len(words) - order + 1] * np.uint64(0x9E3779B97F4A7C15) + words[order - 1 :]
        inside = rows[: len(hashes)] == rows[order - 1 :]
        ngrams.append(_distinct(rows[: len(hashes)][inside], hashes[inside], lengths))
    return ngrams


def _distinct(rows: np.ndarray, hashes: np.ndarray, lengths: np.ndarray) -> Ngrams:
    order = np.lexsort((hashes, rows))
    rows, hashes = rows[order], hashes[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (rows[1:] != rows[:-1]) | (hashes[1:] != hashes[:-1])
    starts = np.flatnonzero(first)
    return Ngrams(rows[starts], hashes[starts], np.diff(starts, append=len(rows)), lengths)


def shared(hypothesis: Ngrams, reference: Ngrams) -> tuple[np.ndarray, np.ndarray]:
    """Where the n-grams that a hypothesis shares with its reference stand in either table."""
    rows = np.concatenate([hypothesis.rows, reference.rows])
    hashes = np.concatenate([hypothesis.hashes, reference.hashes])
    order = np.lexsort((hashes, rows))  # stable: the hypothesis first among equals
    rows, hashes = rows[order], hashes[order]
    twins = np.flatnonzero((rows[1:] == rows[:-1]) & (hashes[1:] == hashes[:-1]))
    return order[twins], order[twins + 1] - len(hypothesis.rows)


# --- CIDEr's document frequencies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many of the `documents` references each n-gram occurs. CIDEr depends on this whole set of references.

    One (sorted hashes, counts) pair for each order; 16 bytes an n-gram.
    """

    documents: int
    tables: tuple[tuple[np.ndarray, np.ndarray], ...]

    @classmethod
    def from_ngrams(cls, references: Sequence[Ngrams]) -> "DocumentFrequencies":
        """Of counted references."""
        tables = tuple(np.unique(ngrams.hashes, return_counts=True) for ngrams in references)
        return cls(len(references[0].lengths), tables)

    @classmethod
    def merge(cls, parts: Iterable["DocumentFrequencies"]) -> "DocumentFrequencies":
        """Of several sets of references, in any order."""
        parts = list(parts)
        tables = []
        for column in zip(*(part.tables for part in parts), strict=True):
            hashes, rows = np.unique(np.concatenate([table[0] for table in column]), return_inverse=True)
            counts = np.zeros(len(hashes), dtype=np.int64)
            np.add.at(counts, rows, np.concatenate([table[1] for table in column]))
            tables.append((hashes, counts))
        return cls(sum(part.documents for part in parts), tuple(tables))

    def idf(self, order: int, hashes: np.ndarray) -> np.ndarray:
        """log(documents) - log(document frequency, at least 1)."""
        known, counts = self.tables[order - 1]
        frequency = np.ones(len(hashes))
        if len(known):
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            frequency = np.where(known[place] == hashes, counts[place], 1)
        return np.log(float(self.documents)) - np.log(frequency)


def cider_d(
    hypothesis: Sequence[Ngrams],
    reference: Sequence[Ngrams],
    matches: Sequence[tuple[np.ndarray, np.ndarray]],
    frequencies: DocumentFrequencies,
) -> np.ndarray:
    """CIDEr-D of each report `[N]`, 0 to 10: mean over orders of the clipped tf-idf cosine, damped by length."""
    n = len(reference[0].lengths)
    total = np.zeros(n)
    for order, hyp, ref, (in_hyp, in_ref) in zip(ORDERS, hypothesis, reference, matches, strict=True):
        hyp_weights = hyp.counts * frequencies.idf(order, hyp.hashes)
        ref_weights = ref.counts * frequencies.idf(order, ref.hashes)
        dot = np.minimum(hyp_weights[in_hyp], ref_weights[in_ref]) * ref_weights[in_ref]
        similarity = np.bincount(ref.rows[in_ref], dot, minlength=n)
        norms = np.sqrt(np.bincount(hyp.rows, hyp_weights**2, minlength=n)) * np.sqrt(
            np.bincount(ref.rows, ref_weights**2, minlength=n)
        )
        total += np.divide(similarity, norms, out=np.zeros(n), where=norms > 0)
    # COCO counts the length of a text in bigrams.
    delta = np.maximum(hypothesis[0].lengths - 1, 0) - np.maximum(reference[0].lengths - 1, 0)
    return 10 * total / len(ORDERS) * np.exp(-(delta**2) / (2 * CIDER_SIGMA**2))


# --- ROUGE-L --------------------------------------------------------------------------------------------------------


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; one machine-word operation does 64 cells of the table (Hyyro 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    mask = (1 << len(first)) - 1
    row = mask
    for token in second:
        common = row & places.get(token, 0)
        row = (row + common | row - common) & mask
    return len(first) - row.bit_count()


def rouge_l(hypothesis: str, reference: str) -> float:
    """ROUGE-L F with beta 1.2; COCO's words stand between single spaces, so two empty texts share one empty word."""
    hyp, ref = hypothesis.split(" "), reference.split(" ")
    length = longest_common_subsequence(ref, hyp)
    if length == 0:
        return 0.0
    precision, recall = length / len(hyp), length / len(ref)
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


# --- BLEU and the whole row of a report -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LanguageRows:
    """What each report adds to the language metrics.

    `bleu_counts` `[N, 10]`: clipped matches and possible matches of orders 1 to 4, words of the hypothesis and of the
    reference. `rouge_l`, `cider_d` `[N]`: scores. `meteor_counts` `[N, 21]` (`meteor.py`), None where not computed.
    """

    bleu_counts: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray
    meteor_counts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rouge_l)

    def columns(self) -> np.ndarray:
        """All of it as whole numbers, int64 `[N, 13]` or, with METEOR, `[N, 34]`: a one, counts, scores in `UNIT`s."""
        scores = [np.rint(score * UNIT).astype(np.int64)[:, None] for score in (self.rouge_l, self.cider_d)]
        parts = [np.ones((len(self), 1)), self.bleu_counts, *scores, self.meteor_counts]
        return np.concatenate([part for part in parts if part is not None], axis=1, dtype=np.int64, casting="unsafe")


@dataclass(frozen=True)
class LanguageSums:
    """Sums of rows: over the corpus, int64 `[F]`, and over each of its resamples, int64 `[resamples, F]`.

    Whole numbers, so adding the sums of chunks in any order gives the same sums.
    """

    corpus: np.ndarray
    resamples: np.ndarray

    def __add__(self, other: "LanguageSums") -> "LanguageSums":
        return LanguageSums(self.corpus + other.corpus, self.resamples + other.resamples)


def sum_rows(rows: LanguageRows, keys: np.ndarray, resamples: int = 1000, seed: int = 0) -> LanguageSums:
    """Sums of rows and of their Poisson resamples; `keys` `[N]` uint64 stand for the studies."""
    columns = rows.columns()
    drawn = np.zeros((resamples, columns.shape[1]), dtype=np.int64)
    for start in range(0, len(rows) if resamples else 0, WEIGHED):
        block = slice(start, start + WEIGHED)
        weights = poisson_weights(keys[block], resamples, seed)
        # A product of whole numbers in float64: below 2**53 in a block, so exact whatever order BLAS adds in.
        drawn += (weights.astype(np.float64) @ columns[block].astype(np.float64)).astype(np.int64)
    return LanguageSums(columns.sum(axis=0), drawn)


def bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU-1..4 `[..., 4]` of counts `[..., 10]` (`LanguageRows.bleu_counts`), one report's or summed over a corpus."""
    counts = np.asarray(counts, dtype=np.float64)
    precisions = (counts[..., :4] + BLEU_TINY) / (counts[..., 4:8] + BLEU_SMALL)
    ratio = (counts[..., 8] + BLEU_TINY) / (counts[..., 9] + BLEU_SMALL)
    with np.errstate(over="ignore", under="ignore"):
        brevity = np.where(ratio < 1, np.exp(1 - 1 / ratio), 1.0)
    return np.cumprod(precisions, axis=-1) ** (1 / np.array(ORDERS)) * brevity[..., None]


def scores_of_sums(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of sums `[..., 13 or 34]`, each `[...]`; NaN where no report was summed.

    BLEU and METEOR are computed from pooled counts, as the field does; ROUGE-L, CIDEr-D and words are means over
    reports.
    """
    n = sums[..., 0]
    orders = bleu(sums[..., 1:11])
    scores = {f"bleu_{order}": orders[..., order - 1] for order in ORDERS}
    with np.errstate(invalid="ignore"):
        scores["rouge_l"], scores["cider_d"] = sums[..., 11] / UNIT / n, sums[..., 12] / UNIT / n
    if sums.shape[-1] > 13:
        scores["meteor"] = meteor_score(sums[..., 13:])
    with np.errstate(invalid="ignore"):
        scores["words"], scores["reference_words"] = sums[..., 9] / n, sums[..., 10] / n
    return {name: np.where(n > 0, score, np.nan) for name, score in scores.items()}


def language_rows(
    hypotheses: Sequence[str],
    references: Sequence[str],
    frequencies: DocumentFrequencies | None = None,
    meteor: MeteorTables | None = None,
    names: Sequence[str] | None = None,
) -> LanguageRows:
    """Rows of treated texts, pair by pair.

    Args:
        frequencies: of all references of the corpus, when these pairs are a chunk of it; else of these references.
        meteor: METEOR's tables, loaded for a vocabulary that holds these texts; None leaves METEOR out.
        names: of the reports, for the message of an error.

    Raises:
        ValueError: the lists differ in length, or a text is too long (`count_ngrams`).
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} predictions for {len(references)} references; expected one for one")
    hyp, ref = count_ngrams(hypotheses, names), count_ngrams(references, names)
    matches = [shared(*pair) for pair in zip(hyp, ref, strict=True)]
    n = len(references)
    clipped = [
        np.bincount(h.rows[in_h], np.minimum(h.counts[in_h], r.counts[in_r]), minlength=n)
        for h, r, (in_h, in_r) in zip(hyp, ref, matches, strict=True)
    ]
    possible = [np.maximum(hyp[0].lengths - order + 1, 0) for order in ORDERS]
    return LanguageRows(
        bleu_counts=np.stack([*clipped, *possible, hyp[0].lengths, ref[0].lengths], axis=1).astype(np.int32),
        rouge_l=np.array([rouge_l(*pair) for pair in zip(hypotheses, references, strict=True)]),
        cider_d=cider_d(hyp, ref, matches, frequencies or DocumentFrequencies.from_ngrams(ref)),
        meteor_counts=None if meteor is None else pairwise_counts(hypotheses, references, meteor, names),
    )


def text_table(texts: Sequence[str]) -> CountTable:
    """The distinct texts among treated ones, as 64-bit hashes, with how often each occurs; 16 bytes a distinct text."""
    return CountTable.from_rows(np.array([[digest(text)] for text in texts], dtype=np.uint64))


def variety_scores(texts: CountTable, side: str, treatment: str) -> dict[str, dict]:
    """How many different texts there are and the share of the commonest one: a system that writes a few templates can
    have a good BLEU. No interval: a resample of reports always has fewer different ones.

    Args:
        texts: `text_table` of all predictions or references under a treatment.
        side: "", "reference_", or another name of what the texts are.
        treatment: its name.
    """
    n = len(texts)
    counted = {"distinct": len(texts.counts), "commonest": int(texts.counts.max())}
    return {
        f"{treatment}/{side}{name}": {
            **with_interval(np.asarray(count / n), None),
            "count": count,
            "of": n,
            "signature": signature(f"{side}{name}", treatment=treatment, n=n),
        }
        for name, count in counted.items()
    }


def language_scores(sums: LanguageSums, treatment: str, seed: int) -> dict[str, dict]:
    """`{"treatment/metric": {"value", "low", "high", "signature"}}` of a corpus.

    The document frequencies of CIDEr-D are those of the whole set of references in every resample.
    """
    n, resamples = int(sums.corpus[0]), len(sums.resamples)
    if n == 0:
        raise ValueError("no report pairs to score")
    drawn = scores_of_sums(sums.resamples)
    notes = {
        f"bleu_{order}": f"no {order} words in a row are shared: near 0 whatever else is"
        for order in ORDERS
        if not sums.corpus[order]
    }
    if n == 1:
        notes["cider_d"] = "0 by definition: CIDEr-D weighs words by the number of references without them"
    extra = {"cider_d": {"idf": "references"}, "meteor": {"meteor": "1.5-norm"}}
    return {
        f"{treatment}/{name}": {
            **with_interval(value, drawn[name] if resamples else None),
            "signature": signature(
                name, treatment=treatment, **extra.get(name, {}), n=n, bootstrap=f"poisson-{resamples}", seed=seed
            ),
            **({"note": notes[name]} if name in notes else {}),
        }
        for name, value in scores_of_sums(sums.corpus).items()
    }
