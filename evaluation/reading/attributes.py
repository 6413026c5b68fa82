"""What a report says of a finding beyond its label: its sides, how severe it is, how large in mm; and words of change.

    >>> finding_attributes("Small left and large right pleural effusion. 1.2 x 0.8 cm nodule.")["Lung Lesion"]
    Attributes(side=frozenset(), severity=frozenset(), size=frozenset({12.0}))

Only claims count (mentions that the labeler reads as 1); a finding claimed several times has all that is said of it.
Sides are those of `sides.py`. A severity or a size belongs to the findings of its part of the sentence, cut at commas,
brackets and conjunctions; a part without a finding belongs to the part before it, or after it where it stands first
("small left and large right effusion"). Never for clinical use.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from evaluation.reading.labeler import CACHED_SENTENCES, mentions
from evaluation.reading.observations import PRESENT
from evaluation.reading.sentences import split_sentences
from evaluation.reading.sides import sides_of

_CHANGE_WORDS = (
    "bigger change cleared constant decrease decreased decreasing elevated elevation enlarged enlargement enlarging"
    " expanded greater growing improved improvement improving increase increased increasing larger new persistence"
    " persistent persisting progression progressive reduced removal resolution resolved resolving smaller stability"
    " stable stably unaltered unchanged unfolded worse worsen worsened worsening"
)
CHANGE_WORDS = frozenset(_CHANGE_WORDS.split())
"""The temporal words of Bannur et al., BioViL-T (arXiv 2301.04558), by which temporal entity F1 is defined."""

_WORD = re.compile(r"[^\W_]+")
PART_END = re.compile(r"[,;:()]|\b(?:and|or|with|without|but|however|although|though|while|whereas|which|plus)\b")
_SEVERITY = re.compile(
    r"\b(?:(?P<mild>mild(?:ly)?|minimal(?:ly)?|slight(?:ly)?|trace|tiny|small|subtle|minor|borderline)"
    r"|(?P<moderate>moderate(?:ly)?|medium)"
    r"|(?P<severe>severe(?:ly)?|marked(?:ly)?|large|big|massive(?:ly)?|huge|extensive(?:ly)?|substantial(?:ly)?))\b"
    # "mildly improved" grades the change, and a minor fissure is an organ
    r"(?![ -](?:fissures?|bore|bowel)\b)"
    r"(?! (?:interval )?(?:increas|decreas|improv|wors|progress|chang|larger|smaller|greater|bigger|less|more|better))"
)
_NUMBER, _UNIT = r"(?:\d{1,4}(?:\.\d{1,3})?|\.\d{1,3})", r"(?:[mc]m|(?:milli|centi)met(?:er|re)s?)\b"
_SIZE = re.compile(
    rf"(?<![\w.])(?:{_NUMBER}(?:[ -]?{_UNIT})? ?(?:x|×|by|to|-|–) ?){{0,2}}{_NUMBER}[ -]?{_UNIT}", re.ASCII
)
_LENGTH = re.compile(rf"({_NUMBER})(?:[ -]?([mc]))?", re.ASCII)
_EARLIER_SIZE = re.compile(r"\b(?:previously|formerly|prior|earlier|was|were|compared|versus|vs)(?: \w+){0,3} $")


class Attributes(NamedTuple):
    """What is said of one finding; an empty set where nothing is.

    `side`: "left", "right". `severity`: "mild", "moderate", "severe". `size`: in mm, the largest dimension of each
    measurement, of a range the larger end.
    """

    side: frozenset[str]
    severity: frozenset[str]
    size: frozenset[float]


def change_words(text: str) -> frozenset[str]:
    """The `CHANGE_WORDS` of a text, as whole words in any case."""
    return CHANGE_WORDS.intersection(_WORD.findall(text.lower()))


def finding_attributes(text: str) -> dict[str, Attributes]:
    """The attributes of every observation that the text claims."""
    found: dict[str, Attributes] = {}
    for _, sentence in split_sentences(text):
        for name, said in _sentence_attributes(sentence):
            held = found.get(name)
            if held is not None:
                said = Attributes(held.side | said.side, held.severity | said.severity, held.size | said.size)
            found[name] = said
    return found


@lru_cache(maxsize=CACHED_SENTENCES)
def _sentence_attributes(sentence: str) -> list[tuple[str, Attributes]]:
    """(observation, attributes) of the claims among all mentions of a sentence."""
    found = sorted(mentions(sentence), key=lambda mention: mention.start)
    starts = [mention.start for mention in found]
    masked = sentence.lower()
    for mention in found:  # "large heart" names the finding
        masked = masked[: mention.start] + masked[mention.start :].replace(mention.phrase, "_" * len(mention.phrase), 1)
    rows = zip(found, sides_of(sentence, starts), _degrees(masked, starts), strict=True)
    return [
        (mention.observation, Attributes(sides, *said)) for mention, sides, said in rows if mention.polarity == PRESENT
    ]


def _degrees(sentence: str, starts: list[int]) -> Iterator[tuple[frozenset[str], frozenset[float]]]:
    """Severities and sizes of each finding, by the parts of the sentence; `starts` ascending."""
    cuts = [0, *(cut.start() for cut in PART_END.finditer(sentence)), len(sentence) + 1]
    parts: list[tuple[int, set[str], set[float]]] = []  # findings, severities, sizes of each part that has findings
    severities: set[str] = set()
    sizes: set[float] = set()
    for start, end in pairwise(cuts):
        part = sentence[start:end]
        severities |= {str(word.lastgroup) for word in _SEVERITY.finditer(part)}
        sizes |= set(_sizes(part))
        if count := bisect_left(starts, end) - bisect_left(starts, start):
            parts.append((count, severities, sizes))
        elif parts:
            parts[-1][1].update(severities)
            parts[-1][2].update(sizes)
        else:
            continue  # wait for a finding
        severities, sizes = set(), set()
    for count, said, measured in parts:
        yield from [(frozenset(said), frozenset(measured))] * count


def _sizes(part: str) -> Iterator[float]:
    for size in _SIZE.finditer(part):
        before = part[: size.start()]
        if not _EARLIER_SIZE.search(before):
            lengths = _LENGTH.findall(size.group())
            unit = lengths[-1][1]
            values = [round(float(number) * (10 if (own or unit) == "c" else 1), 3) for number, own in lengths]
            yield values[-1] if before.endswith("from ") else max(values)
