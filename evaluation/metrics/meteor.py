"""METEOR 1.5 (English, ranking task, `-norm`) without Java: our own code on the data files of the user's METEOR.

The word lists, WordNet synsets and paraphrase table are not ours to ship: they are read from a folder that holds
`meteor-1.5.jar` and `data/paraphrase-en.gz`, such as `pycocoevalcap/meteor` (`pip install pycocoevalcap`). Denkowski
and Lavie, "Meteor Universal" (2014). The search for the alignment is the published beam search, tie for tie, so
scores are the jar's (`python evaluation/benchmark.py` compares them); this is not NLTK's METEOR, which is the 2005
metric.

Module order everywhere: exact, stem, synonym, paraphrase.
"""

import gzip
import importlib.util
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.metrics.meteor_text import meteor_words

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75
MODULE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
# The search prefers exact matches; halves are cut off, so a one-word inexact match adds nothing to a path's total.
SEARCH_WEIGHTS = (1.0, 0.5, 0.5, 0.5)
BEAM = 40
# Two texts that repeat the same words have a match for every pair of them; no two reports come near this many.
MAX_CANDIDATES = 200_000
EXACT, STEM, SYNONYM, PARAPHRASE = range(4)
NUM_COLUMNS = 21

# WordNet's rules of detachment (morphy), nouns, verbs and adjectives in one list.
SUFFIXES = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""), ("er", ""),
    ("est", ""), ("er", "e"), ("est", "e"),
)  # fmt: skip


def find_meteor() -> Path:
    """The folder of METEOR 1.5 inside an installed `pycocoevalcap`.

    Raises:
        FileNotFoundError: it is not installed; there is no METEOR without its data.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "METEOR 1.5 needs its word lists (WordNet, paraphrases): pip install pycocoevalcap, or name a folder that "
            "holds meteor-1.5.jar and data/paraphrase-en.gz; Java is not needed"
        )
    return Path(spec.submodule_search_locations[0]) / "meteor"


class Match(NamedTuple):
    """`length` reference words from `start` on match `hyp_length` hypothesis words from `hyp_start` on."""

    module: int
    start: int
    length: int
    hyp_start: int
    hyp_length: int


@dataclass
class MeteorTables:
    """What METEOR knows about words; `paraphrases` only those made of the vocabulary it was loaded for."""

    prefixes: dict[str, bool]
    function_words: frozenset[str]
    bases: dict[str, list[str]]
    synsets: dict[str, frozenset[int]]
    paraphrases: dict[tuple[str, ...], list[tuple[str, ...]]]

    def __post_init__(self) -> None:
        from nltk.stem.snowball import EnglishStemmer

        self.longest_phrase: dict[str, int] = {}  # that starts with a word
        for phrase in self.paraphrases:
            self.longest_phrase[phrase[0]] = max(len(phrase), self.longest_phrase.get(phrase[0], 0))
        self.stem = lru_cache(maxsize=None)(EnglishStemmer().stem)
        self.all_synsets = lru_cache(maxsize=None)(self._all_synsets)

    def __reduce__(self) -> tuple:  # to other processes without the caches
        return MeteorTables, (self.prefixes, self.function_words, self.bases, self.synsets, self.paraphrases)

    def _all_synsets(self, word: str) -> frozenset[int]:
        """Synsets of a word and of its base forms."""
        bases = self.bases[word] if word in self.bases else [self._detach(word)]
        return self.synsets.get(word, frozenset()).union(*(self.synsets.get(base, frozenset()) for base in bases))

    def _detach(self, word: str) -> str:
        tail = "ful" if word.endswith("ful") else ""
        stem = word.removesuffix("ful")
        if stem.endswith("ss") or len(stem) <= 2:
            return ""
        for suffix, ending in SUFFIXES:
            base = stem.removesuffix(suffix) + ending
            if stem.endswith(suffix) and base in self.synsets:
                return base + tail
        return ""

    def words(self, text: str) -> list[str]:
        """The words of a text, as METEOR compares them."""
        return meteor_words(text, self.prefixes)


def read_paraphrases(file: Path) -> Iterator[tuple[bytes, bytes]]:
    """(phrase, paraphrase) of every entry; an entry is three lines, the first its probability."""
    rest: list[bytes] = [b""]
    with gzip.open(file) as compressed:
        while block := compressed.read(2**22):
            first, *lines = block.split(b"\n")
            rest = [*rest[:-1], rest[-1] + first, *lines]
            whole = (len(rest) - 1) // 3 * 3
            yield from zip(rest[1:whole:3], rest[2:whole:3], strict=True)
            rest = rest[whole:]
    if rest != [b""]:
        raise ValueError(f"{file} ends inside an entry")


def load_tables(folder: Path, texts: Iterable[str]) -> MeteorTables:
    """Read METEOR's data, keeping the paraphrases whose words all occur in `texts` (the table has five million)."""
    jar, paraphrase_file = folder / "meteor-1.5.jar", folder / "data" / "paraphrase-en.gz"
    for file in (jar, paraphrase_file):
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing; expected METEOR 1.5 with its data")
    with zipfile.ZipFile(jar) as archive:

        def lines(name: str) -> list[str]:
            return archive.read(name).decode("utf-8").split("\n")

        prefixes = {
            line.split()[0]: "#NUMERIC_ONLY#" in line
            for line in lines("nonbreaking/english.prefixes")
            if line.strip() and not line.startswith("#")
        }
        function_words = frozenset(lines("function/english.words"))
        bases: dict[str, list[str]] = {}
        exceptions = lines("synonym/english.exceptions")
        for base, forms in zip(exceptions[::2], exceptions[1::2], strict=False):
            for form in forms.split():
                bases.setdefault(form, []).append(base)
        synset_lines = lines("synonym/english.synsets")
        synsets = {
            word: frozenset(map(int, numbers.split()))
            for word, numbers in zip(synset_lines[::2], synset_lines[1::2], strict=False)
        }
    tables = MeteorTables(prefixes, function_words, bases, synsets, {})
    vocabulary = {word.encode() for text in texts for word in tables.words(text)}
    paraphrases: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    last, known = b"", False
    phrase: tuple[str, ...] = ()
    for line, other_line in read_paraphrases(paraphrase_file):
        if line != last:  # entries of a phrase stand together
            last, known = line, vocabulary.issuperset(line.split())
            phrase = tuple(line.decode().split()) if known else ()
        if known and vocabulary.issuperset(other_line.split()):
            paraphrases.setdefault(phrase, []).append(tuple(other_line.decode().split()))
    return MeteorTables(prefixes, function_words, bases, synsets, paraphrases)


def find_matches(hypothesis: Sequence[str], reference: Sequence[str], tables: MeteorTables) -> list[list[Match]]:
    """All matches by the reference word they start at, in METEOR's order (it decides ties)."""
    matches: list[list[Match]] = [[] for _ in reference]
    _match_words(EXACT, [{word} for word in hypothesis], [{word} for word in reference], matches)
    if hypothesis == reference:
        return matches

    def different(module: int, hyp_keys: list, ref_keys: list) -> None:
        found: list[list[Match]] = [[] for _ in reference]
        _match_words(module, hyp_keys, ref_keys, found)
        for start, candidates in enumerate(found):
            matches[start] += [m for m in candidates if hypothesis[m.hyp_start] != reference[start]]

    different(STEM, [{tables.stem(word)} for word in hypothesis], [{tables.stem(word)} for word in reference])
    different(SYNONYM, list(map(tables.all_synsets, hypothesis)), list(map(tables.all_synsets, reference)))
    for start, length, other_start, other_length in _paraphrases(reference, hypothesis, tables):
        matches[start].append(Match(PARAPHRASE, start, length, other_start, other_length))
    for start, length, other_start, other_length in _paraphrases(hypothesis, reference, tables):
        matches[other_start].append(Match(PARAPHRASE, other_start, other_length, start, length))
    return matches


def _match_words(module: int, hyp_keys: list, ref_keys: list, matches: list[list[Match]]) -> None:
    """Words match when they share a key."""
    places: dict = {}
    for place, keys in enumerate(hyp_keys):
        for key in keys:
            places.setdefault(key, []).append(place)
    _require_few(sum(len(places.get(key, ())) for keys in ref_keys for key in keys))
    for start, keys in enumerate(ref_keys):
        for place in sorted({place for key in keys for place in places.get(key, ())}):
            matches[start].append(Match(module, start, 1, place, 1))


def _require_few(candidates: int) -> None:
    if candidates > MAX_CANDIDATES:
        raise ValueError(f"over {MAX_CANDIDATES} candidate matches: the texts repeat the same words without end")


def _paraphrases(
    first: Sequence[str], second: Sequence[str], tables: MeteorTables
) -> Iterable[tuple[int, int, int, int]]:
    """(start, length) in `first` and (start, length) in `second` of phrases that the table holds in this direction."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(second):
        places.setdefault(word, []).append(place)
    tried = 0
    for start, word in enumerate(first):
        for length in range(1, min(tables.longest_phrase.get(word, 0), len(first) - start) + 1):
            for other in tables.paraphrases.get(tuple(first[start : start + length]), ()):
                candidates = places.get(other[0], ())
                tried += len(candidates)
                _require_few(tried)
                for place in candidates:
                    if tuple(second[place : place + len(other)]) == other:
                        yield start, length, place, len(other)


# A path's rank is one number, less is better: matched words (negative), then chunks, then distance.
WORD_RANK, CHUNK_RANK = 1 << 60, 1 << 40


class Step(NamedTuple):
    """What taking a match does to a path; used words are bit masks."""

    match: Match
    ref_bits: int
    hyp_bits: int
    gain: int
    distance: int
    hyp_end: int
    end: int


def make_step(m: Match) -> Step:
    """A match as a step of the search: the words it covers as bits, what it adds, and where it ends."""
    weight = SEARCH_WEIGHTS[m.module]
    gain = int(m.hyp_length * weight) + int(m.length * weight)
    ref_bits, hyp_bits = (1 << m.length) - 1 << m.start, (1 << m.hyp_length) - 1 << m.hyp_start
    hyp_end, end = m.hyp_start + m.hyp_length, m.start + m.length
    return Step(m, ref_bits, hyp_bits, gain * WORD_RANK, abs(m.start - m.hyp_start), hyp_end, end)


def settle(matches: list[list[Match]], hyp_length: int) -> dict[int, Step]:
    """By reference word, the matches that compete with no other: every alignment takes them."""
    hyp_cover, ref_cover = [0] * hyp_length, [0] * len(matches)
    for candidates in matches:
        for m in candidates:
            for place in range(m.hyp_start, m.hyp_start + m.hyp_length):
                hyp_cover[place] += 1
            for place in range(m.start, m.start + m.length):
                ref_cover[place] += 1
    settled = {}
    for candidates in matches:
        if len(candidates) == 1:
            m = candidates[0]
            covers = hyp_cover[m.hyp_start : m.hyp_start + m.hyp_length] + ref_cover[m.start : m.start + m.length]
            if max(covers) == 1:
                settled[m.start] = make_step(m)
    return settled


def align(hypothesis: Sequence[str], reference: Sequence[str], tables: MeteorTables) -> dict[int, Match]:
    """The chosen matches by reference word: most matched words, then fewest chunks, then shortest distance.

    A path reads the reference from left to right: (rank, used reference words, used hypothesis words, next reference
    word, end of the last match in the hypothesis or -1, chain of its matches).
    """
    matches = find_matches(hypothesis, reference, tables)
    settled = settle(matches, len(hypothesis))
    ref_bits = sum(step.ref_bits for step in settled.values())
    hyp_bits = sum(step.hyp_bits for step in settled.values())
    paths: list[tuple] = [(0, ref_bits, hyp_bits, 0, -1, None)]
    rank_of = itemgetter(0)
    for place in range(len(reference)):
        paths.sort(key=rank_of)
        steps = [] if place in settled else [make_step(m) for m in matches[place]]
        following: list[tuple] = []
        for path in paths[:BEAM]:
            rank, ref_used, hyp_used, upcoming, last_end, chain = path
            if ref_used >> place & 1:
                if place < upcoming:
                    following.append(path)
                elif place in settled:
                    m, _, _, gain, distance, hyp_end, end = settled[place]
                    rank += distance - gain + CHUNK_RANK * (last_end not in (-1, m.hyp_start))
                    following.append((rank, ref_used, hyp_used, end, hyp_end, chain))
                continue
            for m, ref_bits, hyp_bits, gain, distance, hyp_end, end in steps:
                if not (ref_used & ref_bits or hyp_used & hyp_bits):
                    taken = rank - gain + CHUNK_RANK * (last_end not in (-1, m.hyp_start))
                    following.append((taken, ref_used | ref_bits, hyp_used | hyp_bits, end, hyp_end, (m, chain)))
                    # The published search adds the distance to the path it branched from; scores depend on it.
                    rank += distance
            following.append((rank + CHUNK_RANK * (last_end != -1), ref_used, hyp_used, upcoming + 1, -1, chain))
        paths = following or paths[:1]
    paths.sort(key=rank_of)
    best = min(paths[:BEAM], key=lambda path: path[0] + CHUNK_RANK * (path[4] != -1))
    chosen = {start: step.match for start, step in settled.items()}
    chain = best[5]
    while chain is not None:
        m, chain = chain
        chosen[m.start] = m
    return chosen


def count_chunks(chosen: dict[int, Match], reference_length: int) -> int:
    """Runs of matches that are adjacent in both texts."""
    chunks, place, last_end = 0, 0, -1
    while place < reference_length:
        m = chosen.get(place)
        if m is None:
            place, last_end = place + 1, -1
        else:
            chunks += last_end != m.hyp_start
            place, last_end = m.start + m.length, m.hyp_start + m.hyp_length
    return chunks


def meteor_counts(hypothesis: str, reference: str, tables: MeteorTables) -> np.ndarray:
    """The counts `[21]` of one pair; METEOR of a corpus is `meteor_score` of their sum.

    Columns: words and function words (hypothesis, reference: 4), matched words by module (content of the hypothesis,
    of the reference, function words of either: 16), chunks (0 when the texts match in one piece).

    Raises:
        ValueError: the texts have more than `MAX_CANDIDATES` candidate matches; the search would take minutes.
    """
    sides = tables.words(hypothesis), tables.words(reference)
    chosen = align(*sides, tables)
    functional = [[word in tables.function_words for word in words] for words in sides]
    matched = np.zeros((2, 2, 4), dtype=np.int64)  # function word or not, side, module
    for m in chosen.values():
        for side, start, length in ((0, m.hyp_start, m.hyp_length), (1, m.start, m.length)):
            for is_function in functional[side][start : start + length]:
                matched[int(is_function), side, m.module] += 1
    lengths = [len(sides[0]), len(sides[1]), sum(functional[0]), sum(functional[1])]
    chunks = count_chunks(chosen, len(sides[1]))
    if chunks == 1 and matched.sum() == lengths[0] + lengths[1]:
        chunks = 0  # everything matches in one piece: no fragmentation, in the corpus either
    return np.array([*lengths, *matched.ravel(), chunks], dtype=np.int64)


def pairwise_counts(
    hypotheses: Sequence[str], references: Sequence[str], tables: MeteorTables, names: Sequence[str] | None = None
) -> np.ndarray:
    """`meteor_counts` of every pair, `[N, 21]`; `names` of the pairs are for the message of an error."""
    counts = np.zeros((len(references), NUM_COLUMNS), dtype=np.int32)
    for row, pair in enumerate(zip(hypotheses, references, strict=True)):
        try:
            counts[row] = meteor_counts(*pair, tables)
        except ValueError as error:
            raise ValueError(f"METEOR of {f'pair {row}' if names is None else names[row]}: {error}") from error
    return counts


def meteor_score(counts: np.ndarray) -> np.ndarray:
    """METEOR `[...]` of counts `[..., 21]`, one pair's or summed over a corpus; 0 where nothing matches."""
    counts = np.asarray(counts, dtype=np.float64)
    matched = counts[..., 4:20].reshape(*counts.shape[:-1], 2, 2, 4)
    weighted = (matched @ MODULE_WEIGHTS * np.array([[DELTA], [1 - DELTA]])).sum(axis=-2)
    words = matched.sum(axis=(-3, -1))
    lengths = DELTA * (counts[..., :2] - counts[..., 2:4]) + (1 - DELTA) * counts[..., 2:4]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted / lengths, -1, 0)
        f_mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragmentation = counts[..., 20] / words.mean(axis=-1)
        score = f_mean * (1 - GAMMA * fragmentation**BETA)
    return np.where(np.isfinite(score), np.maximum(score, 0), 0.0)
