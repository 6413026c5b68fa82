"""Clue lists in other words, and clues that mean nothing here: so that a model hears what a clue says, not its wording.

A checkpoint that has met its own clue sentences alone knows them by heart: another wording of a finding is not seen,
and a sentence about a bicycle is. In training each clue of a batch may take another of the sentences that say the same
(those of `composed_sentences.json`, which the labeler reads as that finding and nothing else, and `kinds` of it), and
some nonsense clues stand behind the list, absent from every study. `training/fit_wordings.py` teaches the clue encoder
many more, by the terms that reports have for a finding.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from evaluation.reading.observations import NO_FINDING
from evaluation.reading.sides import side_and_finding
from training.data.compose import SentencePool

_WORDS = json.loads(Path(__file__).with_name("clue_wordings.json").read_text(encoding="utf-8"))
Clue = Mapping[str, str]
_ARTICLE = re.compile(r"^an? ")


@lru_cache(maxsize=1)
def _pool() -> SentencePool:
    return SentencePool()


@lru_cache(maxsize=512)
def wordings(name: str, value: int) -> tuple[str, ...]:
    """Sentences that claim (1) or deny (0) the finding of a clue by its name; none for a finding unknown here."""
    if name == NO_FINDING:
        return tuple(_WORDS["normal"][str(value)])
    pool = _pool()
    if value:
        claims = pool.claims["findings", name] + pool.claims["impression", name]
        return tuple(dict.fromkeys(claims + _WORDS["kinds"].get(name, [])))
    if place := side_and_finding(name):
        return tuple(text.format(side=place[0], x=place[1].lower()) for text in _WORDS["denied"])
    return tuple(pool.denials_of_one[name])


def wordings_by_terms(name: str, value: int) -> list[str]:
    """A clue claimed (1) or denied (0) by each term for its finding, on its side where it has one; a kind of the
    finding is claimed alone."""
    side, finding = side_and_finding(name) or ("", name)
    terms = _WORDS["terms"].get(finding, []) + (_WORDS["kinds_of_terms"].get(finding, []) if value else [])
    terms = [f"{term} on the {side}" if side else term for term in terms]
    if value:
        texts = [text.format(x=term) for term in terms for text in _WORDS["claims"]]
    else:
        texts = [text.format(x=_ARTICLE.sub("", term)) for term in terms for text in _WORDS["denials"]]
    return [text[0].upper() + text[1:] for text in texts]


def reworded(clues: Sequence[Clue], share: float, nonsense: int, rng: np.random.Generator) -> list[dict[str, str]]:
    """The clues by their names, each with probability `share` in other words, and `nonsense` more that are absent from
    every study (their name is their sentence)."""
    changed = []
    for clue in clues:
        says, denies = wordings(clue["name"], 1), wordings(clue["name"], 0)
        if "negative" in clue and says and denies and rng.random() < share:
            clue = {**clue, "positive": _pick(says, rng), "negative": _pick(denies, rng)}
        changed.append(dict(clue))
    for place in rng.choice(len(_WORDS["nonsense"]), size=nonsense, replace=False):
        claim, denial = _of_nothing(_WORDS["nonsense"][int(place)])
        changed.append({"name": claim, "positive": claim, "negative": denial})
    return changed


def nonsense_sentences() -> list[str]:
    """All claims and denials of what no chest X-ray shows."""
    return [text for thing in _WORDS["nonsense"] for text in _of_nothing(thing)]


def _of_nothing(thing: str) -> tuple[str, str]:
    return f"There is {thing}.", f"There is no {_ARTICLE.sub('', thing)}."


def _pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
