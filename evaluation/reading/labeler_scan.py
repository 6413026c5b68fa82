"""One regular expression that finds every phrase and every cue of a sentence in one pass."""

import re
from typing import NamedTuple

from evaluation.reading.labeler_cues import CUES
from evaluation.reading.labeler_phrases import ANATOMY, PHRASES


class Term(NamedTuple):
    """What a matched piece of text is: "finding", "anatomy" or a kind of `CUES`, and the observations it stands for."""

    kind: str
    observations: tuple[str, ...]


# Where two terms start at the same place the kind named first wins: "no change in" is no negation.
_PRIORITY = (
    "affirmation",
    "post_negation",
    "post_uncertainty",
    "uncertainty",
    "neutral",
    "purpose",
    "not_asserted",
    "finding",
    "negation",
    "enlarged_state",
    "normal_state",
    "anatomy",
    "boundary",
    "relative",
    "fresh_start",
    "report_word",
    "verb",
    "alternative",
    "conjunction",
)


def _by_head(pattern: str) -> list[tuple[str, str]]:
    """Pairs (first two letters, rest) that together mean `pattern`; a head `(?:a|b)` or `(?:a|b)?` is multiplied out.

    Raises:
        ValueError: the pattern does not start with two plain letters.
    """
    if not pattern.startswith("(?:"):
        if not re.match(r"[a-z][a-z/](?![?*+{])", pattern):
            raise ValueError(f"a phrase must start with two plain letters, got {pattern!r}")
        return [(pattern[:2], pattern[2:])]
    depth, start, heads = 0, 3, []
    for position, letter in enumerate(pattern):
        if letter == "|" and depth == 1:
            heads.append(pattern[start:position])
            start = position + 1
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            heads.append(pattern[start:position])
            break
    tail = pattern[position + 1 :]
    optional = tail.startswith("?")
    tail = tail.removeprefix("?")
    pairs = [pair for head in heads for pair in _by_head(head + tail)]
    return pairs + _by_head(tail) if optional else pairs


def _compile() -> tuple[re.Pattern[str], list[Term]]:
    """A tree of two letters over the phrases: `re` leaves a word as soon as its first letters fit none."""
    tables = [(Term("finding", names), patterns) for names, patterns in PHRASES.items()]
    tables += [(Term("anatomy", names), patterns) for names, patterns in ANATOMY.items()]
    tables += [(Term(kind, ()), patterns) for kind, patterns in CUES.items()]
    tables.sort(key=lambda row: _PRIORITY.index(row[0].kind))
    tree: dict[str, dict[str, list[tuple[str, Term]]]] = {}
    for term, patterns in tables:
        for pattern in patterns:
            rests: dict[str, list[str]] = {}
            for head, rest in _by_head(pattern):
                rests.setdefault(head, []).append(rest)
            for head, variants in rests.items():
                tree.setdefault(head[0], {}).setdefault(head[1], []).append(("|".join(variants), term))
    terms = [Term("", ())]  # group 0 is the whole match
    first_branches = []
    for first, seconds in sorted(tree.items()):
        branches = []
        for second, rows in sorted(seconds.items()):
            branches.append(second + "(?:" + "|".join(rf"({rest})\b" for rest, _ in rows) + ")")
            terms += [term for _, term in rows]
        first_branches.append(first + "(?:" + "|".join(branches) + ")")
    return re.compile(r"\b(?:" + "|".join(first_branches) + ")"), terms


SCANNER, TERMS = _compile()
"""`for match in SCANNER.finditer(sentence): TERMS[match.lastindex]` walks the terms of a lower-cased sentence."""
