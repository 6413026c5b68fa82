"""Finds every phrase and every cue of a sentence in one pass, by an expression for each pair of first letters."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from evaluation.reading.labeler_cues import CUES
from evaluation.reading.labeler_phrases import ANATOMY, ARTEFACTS, ORGANS, PHRASES


class Term(NamedTuple):
    """What a matched text is: "finding", "anatomy", "organ", "artefact" or a kind of `CUES`, and its observations."""

    kind: str
    observations: tuple[str, ...]


# Where two terms start at the same place the kind named first wins: "no change in" is no negation.
KINDS = (
    "affirmation",
    "pronoun",
    "post_negation",
    "post_uncertainty",
    "uncertainty",
    "neutral",
    "purpose",
    "cause",
    "likewise",
    "not_asserted",
    "artefact",
    "finding",
    "negation",
    "near_negation",
    "preference",
    "less_preferred",
    "enlarged_state",
    "normal_state",
    "anatomy",
    "organ",
    "boundary",
    "relative",
    "fresh_start",
    "report_word",
    "verb",
    "alternative",
    "conjunction",
)


SHARED_LETTERS = 3
"""Letters at the start of a phrase that the tree shares; alternatives further on are left to `re`."""


def _multiplied(pattern: str) -> list[str]:
    """A head `(?:a|b)`, `(?:a|b)?` or `(?:a|b)*` multiplied out, in the order in which `re` tries them."""
    depth, start, heads, position = 0, 3, [], 0
    for position, letter in enumerate(pattern):
        if letter == "|" and depth == 1:
            heads.append(pattern[start:position])
            start = position + 1
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            heads.append(pattern[start:position])
            break
    repeat, tail = pattern[position + 1 : position + 2], pattern[position + 2 :]
    if repeat not in ("?", "*"):
        return [head + repeat + tail for head in heads]
    again = pattern[: position + 2] if repeat == "*" else ""
    if tail.startswith("?"):  # a lazy "??": without it first
        return [tail[1:], *(head + tail[1:] for head in heads)]
    return [head + again + tail for head in heads] + [tail]


def is_plain(pattern: str) -> bool:
    """Whether a pattern starts with a letter, space, hyphen or slash that stands there exactly once."""
    return re.match(r"[a-z /-](?![?*+{])", pattern) is not None


def _tree(rows: list[tuple[str, Term]], terms: list[Term], depth: int) -> str:
    """Alternatives that share their first letters: `re` leaves a word as soon as its first letters fit none.

    An empty group closes each phrase, so that its number tells the term (`terms` takes them in the order of the groups)
    and the phrase itself starts with a letter, which `re` checks before anything else.
    """
    opened: list[tuple[str, Term]] = []
    waiting = rows[::-1]
    while waiting:
        rest, term = waiting.pop()
        if depth < SHARED_LETTERS and rest.startswith("(?:"):
            waiting += [(head, term) for head in reversed(_multiplied(rest))]
        else:
            opened.append((rest, term))
    branches: list[str] = []
    run: dict[str, list[tuple[str, Term]]] = {}

    def is_shared(rest: str) -> bool:
        return depth < SHARED_LETTERS and is_plain(rest)

    def close_run() -> None:
        branches.extend(letter + _tree(rests, terms, depth + 1) for letter, rests in run.items())
        run.clear()

    ends: list[str] = []  # of one term, one after the other
    for (rest, term), after in zip(opened, [*opened[1:], ("", None)], strict=True):
        if is_shared(rest):
            run.setdefault(rest[0], []).append((rest[1:], term))
        else:
            close_run()
            ends.append(rest)
            if after[1] is not term or is_shared(after[0]):
                terms.append(term)
                branches.append((ends[0] if len(ends) == 1 else f"(?:{'|'.join(ends)})") + r"\b()")
                ends = []
    close_run()
    return branches[0] if len(branches) == 1 else "(?:" + "|".join(branches) + ")"


def _by_letters(rows: list[tuple[str, Term]]) -> dict[str, list[tuple[str, Term]]]:
    """The rows in their order by their first two letters, which are left out."""
    groups = {"": rows}
    for _ in range(2):
        longer: dict[str, list[tuple[str, Term]]] = {}
        for letters, held in groups.items():
            waiting = held[::-1]
            while waiting:
                rest, term = waiting.pop()
                if rest.startswith("(?:"):
                    waiting += [(head, term) for head in reversed(_multiplied(rest))]
                elif is_plain(rest):
                    longer.setdefault(letters + rest[0], []).append((rest[1:], term))
                else:
                    raise ValueError(f"a phrase must start with two plain letters, got {rest!r} after {letters!r}")
        groups = longer
    return groups


Scanners = dict[str, tuple[Callable[[str, int], re.Match[str] | None], list[Term]]]


def _compile() -> Scanners:
    tables = [(Term("finding", names), patterns) for names, patterns in PHRASES.items()]
    tables += [(Term("anatomy", names), patterns) for names, patterns in ANATOMY.items()]
    tables += [(Term("organ", names), patterns) for names, patterns in ORGANS.items()]
    tables += [(Term("artefact", ()), ARTEFACTS)]
    tables += [(Term(kind, ()), patterns) for kind, patterns in CUES.items()]
    tables.sort(key=lambda row: KINDS.index(row[0].kind))
    scanners: Scanners = {}
    for letters, rows in _by_letters([(pattern, term) for term, patterns in tables for pattern in patterns]).items():
        terms = [Term("", ())]  # group 0 is the whole match
        scanners[letters] = (re.compile(letters + _tree(rows, terms, depth=len(letters))).match, terms)
    return scanners


SCANNERS = _compile()
"""The first two letters of a word -> the expression that finds a term there, and its terms by the last group."""
_WORD_START = re.compile(r"\b[a-z]")


def find_terms(sentence: str) -> Iterator[tuple[Term, str, int, int]]:
    """(term, its text, start, end) of every term of a lower-cased sentence, in order; they do not overlap."""
    end = 0
    for word in _WORD_START.finditer(sentence):
        start = word.start()
        if start >= end and (scanner := SCANNERS.get(sentence[start : start + 2])):
            match, terms = scanner
            if found := match(sentence, start):
                end = found.end()
                yield terms[found.lastindex or 0], found.group(), start, end
