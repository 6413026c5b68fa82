"""Contradictions in a report: a finding that one sentence claims and another denies, of the same place and kind.

    >>> [found.observation for found in inconsistencies("No pleural effusion. Small left pleural effusion.").within]
    ['Pleural Effusion']
    >>> inconsistencies("No right pleural effusion. Small left pleural effusion. No large pneumothorax.").within
    []

Claims and denials are the labeler's mentions (1 and 0; doubtful ones are neither). A denial contradicts a claim of the
same observation when it covers the claim:
- place: it names no side, both, or one of the claim's; and no zone, or one of the claim's zones. Sides are those of
  `sides.py`, zones those of the mention's clause, else of its sentence. A claim without a side is not covered by a
  denial with one.
- kind: it is not restricted ("no new", "no large", "no acute"), or by one word that the claim has too.
- thing: of observations that stand for several things (`BROAD`) both name the same one, "nodule" and "nodules" say.
Support Devices are left out: one tube is removed while another one stays.
Text before any heading counts as findings. Meant to be right where it speaks rather than to find all.
Never for clinical use.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby, product
from typing import NamedTuple

from evaluation.reading.labeler import Mention, mentions
from evaluation.reading.observations import SUPPORT_DEVICES
from evaluation.reading.sentences import FINDINGS, IMPRESSION, split_sentences
from evaluation.reading.sides import BOTH, sides_of

BROAD = frozenset(("Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Pleural Other"))
THING_LETTERS = 4
"""First letters of a phrase that tell what it names: opacity, infiltrate, mass, nodule, scar."""

_NOT_OF_THE_CHEST = (SUPPORT_DEVICES, "Fracture")
WHOLE_CHEST = "Normal Chest"
"""Stands for an observation where an impression denies every finding: "normal chest"."""

_CLAUSE_END = re.compile(r"[,;:()]|\b(?:and|but|however|although|though|while|whereas|with|without)\b")
_ZONES = {
    "upper": r"upper|apic\w+|apex|biapical",
    "mid": r"mid(?:dle)?|perihilar|lingula\w*",
    "lower": r"lower|bas(?:e|es|al|ilar)|bibas\w+|retrocardiac|costophrenic",
}
_ZONE = re.compile("|".join(rf"(?P<{name}>\b(?:{words})\b)" for name, words in _ZONES.items()))
_RESTRICTING = re.compile(
    r"\b(?:new|newly|large|larger|gross|sizable|sizeable|significant|substantial|frank|overt|typical|acute|active"
    r"|suspicious|other|additional|further|residual|recurrent|displaced|discrete|tension|lobar|confluent|pulmonary"
    r"|alveolar|interstitial|compression|calcified|noncalcified|dominant|definitive|worrisome|cavitary"
    r"|laryngeal|pelvic|rib|vertebral|spinal|bony|xxxx)\b"
)
_FOCAL = re.compile(r"\b(?:focal|airspace|air space)\b")
_NORMAL_CHEST = re.compile(
    r"(?:(?:radiographically |essentially |completely |overall )?normal|unremarkable|negative)"
    r"(?: (?:xxxx|frontal|lateral|portable|pa|ap|two|2|view|and|chest|radiographic))*"
    r" (?:chest|exam|examination|study|radiographs?|x-?rays?|film|chest x-?xxxx)\b"
    r"(?! (?:for|without|except|with|other))"
)


class Contradiction(NamedTuple):
    """`claim` and `denial` are the two sentences."""

    observation: str
    claim: str
    denial: str


class _Scope(NamedTuple):
    """A mention with what limits it: sides, zones, restricting words, and the section it counts to."""

    mention: Mention
    section: str
    sides: frozenset[str]
    zones: frozenset[str]
    restricting: frozenset[str]


class Inconsistencies(NamedTuple):
    """What does not fit together in a report.

    Attributes:
        within: contradictions inside the findings and inside the impression; one an observation and section at most.
        between: what one of the two sections claims and the other denies, one an observation at most; and an
            impression of a normal chest (`WHOLE_CHEST`) over findings that claim anything but devices and fractures.
        both_sections: whether the report has findings and an impression.
    """

    within: list[Contradiction]
    between: list[Contradiction]
    both_sections: bool


def inconsistencies(text: str | None) -> Inconsistencies:
    """See `Inconsistencies` and the top of this file.

    Raises:
        TypeError: `text` is neither str nor None.
    """
    scopes = list(_scopes(text))
    within: list[Contradiction] = []
    between: dict[str, Contradiction] = {}
    for found, claimed, denied in _pairs(scopes):
        if claimed == denied:
            within.append(found)
        else:
            between.setdefault(found.observation, found)
    sections = {section == IMPRESSION for section, _ in split_sentences(text or "")}
    normal = _normal_impression(text) if len(sections) == 2 else None
    if normal is not None:
        for mention, section, *_ in scopes:
            if section == FINDINGS and mention.polarity == 1 and mention.observation not in _NOT_OF_THE_CHEST:
                between.setdefault(WHOLE_CHEST, Contradiction(WHOLE_CHEST, mention.sentence, normal))
    return Inconsistencies(within, list(between.values()), len(sections) == 2)


def _normal_impression(text: str | None) -> str | None:
    """The sentence of the impression that calls the whole chest normal, without a restriction, or None."""
    for section, sentence in split_sentences(text or ""):
        if section == IMPRESSION and _NORMAL_CHEST.match(sentence.lower()):
            return sentence
    return None


def _pairs(scopes: Sequence[_Scope]) -> Iterator[tuple[Contradiction, str, str]]:
    """The first contradiction of each observation and pair of sections: (it, section of the claim, of the denial).

    Claims are filed under every place and kind by which a denial may meet them, so the work is linear.
    """
    scopes = [scope for scope in scopes if scope.mention.observation != SUPPORT_DEVICES]
    claims: dict[tuple, str] = {}
    for scope in scopes:
        if scope.mention.polarity == 1:
            for limits in product((*scope.sides, ""), (*scope.zones, ""), (*scope.restricting, "")):
                claims.setdefault((*_thing(scope.mention), scope.section, *limits), scope.mention.sentence)
    found: set[tuple[str, str, str]] = set()
    for scope in scopes:
        if scope.mention.polarity == 0 and len(scope.restricting) < 2:
            sides = (
                scope.sides - BOTH if scope.sides == BOTH else scope.sides
            )  # denied on both sides is denied anywhere
            filed = product(*(sorted(names) or [""] for names in (sides, scope.zones, scope.restricting)))
            for claimed, place in product((FINDINGS, IMPRESSION), filed):
                key = scope.mention.observation, claimed, scope.section
                claim = claims.get((*_thing(scope.mention), claimed, *place))
                if claim is not None and key not in found:
                    found.add(key)
                    yield Contradiction(key[0], claim, scope.mention.sentence), claimed, scope.section


def _thing(mention: Mention) -> tuple[str, str]:
    """What a mention is about: its observation and, of broad ones, what it names."""
    if mention.observation not in BROAD:
        return mention.observation, ""
    return mention.observation, mention.phrase.replace(" ", "").replace("-", "")[:THING_LETTERS]


def _scopes(text: str | None) -> Iterator[_Scope]:
    """Every mention with its limits, in text order."""
    for sentence, group in groupby(mentions(text), key=lambda mention: (mention.sentence, mention.section)):
        lower = sentence[0].lower()
        found = sorted(group, key=lambda mention: mention.start)
        ends = [cut.start() for cut in _CLAUSE_END.finditer(lower)] + [len(lower)]
        for mention, sides in zip(found, sides_of(lower, [mention.start for mention in found]), strict=True):
            number = bisect_right(ends, mention.start)
            start = ends[number - 1] if number else 0
            clause = lower[start : ends[number]]
            restricting = _words(_RESTRICTING, lower[start : mention.start]) | _words(_RESTRICTING, mention.cue or "")
            if mention.observation in BROAD:
                restricting |= _words(_FOCAL, clause)
            section = IMPRESSION if mention.section == IMPRESSION else FINDINGS
            yield _Scope(mention, section, sides, _zones(clause) or _zones(lower), restricting)


def _words(pattern: re.Pattern[str], text: str) -> frozenset[str]:
    return frozenset(found.group() for found in pattern.finditer(text))


@lru_cache(maxsize=1024)
def _zones(text: str) -> frozenset[str]:
    return frozenset(str(found.lastgroup) for found in _ZONE.finditer(text))
