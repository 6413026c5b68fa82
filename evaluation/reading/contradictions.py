"""Contradictions in a report: what one sentence claims and another excludes, of the same place and kind.

    >>> [found.observation for found in inconsistencies("No pleural effusion. Small left pleural effusion.").within]
    ['Pleural Effusion']
    >>> [found.observation for found in inconsistencies("Findings: Edema. Impression: The lungs are clear.").between]
    ['Edema']
    >>> inconsistencies("No right pleural effusion. Small left pleural effusion. No large pneumothorax.").within
    []

Claims and denials are the labeler's mentions (1 and 0; doubtful ones are neither), and denials are also the sentences
of `AREAS`, which exclude many findings at once: "the lungs are clear", "no acute disease", "normal chest". A denial
contradicts a claim when it covers the claim:
- thing: it denies the observation, one that includes it (no airspace opacity, a consolidation), or an area that the
  claim stands against (`_areas_of`: a nodule and clear lungs). Of observations that stand for several things (`BROAD`)
  both name the same one, and devices are told apart by `DEVICES`.
- place: it names no side, both, or one of the claim's; no other place ("no consolidation elsewhere"); and no zone, or
  one of the claim's zones. Sides are those of `sides.py`, zones those of the mention's clause, else of its sentence. A
  claim without a side is not covered by a denial with one.
- kind: it is not restricted ("no new", "no large", "no acute"), or by one word that the claim has too; an area has no
  exception ("otherwise clear").
Two claims contradict each other when one thing of one side has two sizes or two changes (`GRADES`), or when the
sections place it on different sides or in different zones. `OPPOSITES` has two states of one organ.
Text before any heading counts as findings. Meant to be right where it speaks rather than to find all.
Never for clinical use.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from evaluation.reading.contradiction_words import (
    ACUTE_FRACTURE,
    AREAS,
    CLAUSE_END,
    DEVICE_PATTERN,
    ELSEWHERE,
    EXCEPTION,
    FOCAL,
    GRADE_PATTERNS,
    LOBAR,
    MINOR,
    OF_METAL,
    ONE_A_SIDE,
    OPPOSITES,
    OUTSIDE,
    PAST,
    RESTRICTING,
    SECOND_DEVICE,
    SHADOW,
    SMALL,
    THERE,
    ZONE,
    ZONED,
)
from evaluation.reading.labeler import Mention, mentions
from evaluation.reading.observations import SUPPORT_DEVICES
from evaluation.reading.sentences import FINDINGS, IMPRESSION, split_sentences
from evaluation.reading.sides import BOTH, find_sides, sides_of

BROAD = frozenset(("Enlarged Cardiomediastinum", "Lung Opacity", "Lung Lesion", "Pleural Other"))
THING_LETTERS = 4
"""First letters of a phrase that tell what it names: opacity, infiltrate, mass, nodule, scar."""


class Contradiction(NamedTuple):
    """`claim` and `denial` are the two sentences."""

    observation: str
    claim: str
    denial: str


class _Said(NamedTuple):
    """A claim (1), a doubt (-1) or a denial (0): the things it is about and what limits it. `clause` is lower-case."""

    observation: str
    polarity: int
    things: tuple[tuple[str, str], ...]
    sides: frozenset[str]
    zones: frozenset[str]
    restricting: frozenset[str]
    clause: str
    sentence: str


class Inconsistencies(NamedTuple):
    """What does not fit together in a report.

    Attributes:
        within: contradictions inside the findings and inside the impression; one an observation and section at most.
        between: what one of the two sections claims and the other excludes, one an observation at most.
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
    said: dict[str, list[_Said]] = {}
    for section, sentence in split_sentences(text or ""):
        said.setdefault(IMPRESSION if section == IMPRESSION else FINDINGS, []).extend(_read(sentence))
    within: list[Contradiction] = []
    between: dict[str, Contradiction] = {}
    seen = set()
    for one, claimed, denied in (*_denied(said), *_graded(said), *_moved(said)):
        if claimed != denied:
            between.setdefault(one.observation, one)
        elif (one.observation, claimed) not in seen:
            seen.add((one.observation, claimed))
            within.append(one)
    return Inconsistencies(within, list(between.values()), len(said) == 2)


_Pairs = Iterator[tuple[Contradiction, str, str]]
"""A contradiction, the section of the claim and that of the denial."""


def _denied(said: dict[str, list[_Said]]) -> _Pairs:
    """Claims and the denials that cover them.

    Claims are filed under every thing, place and kind by which a denial may meet them, so the work is linear.
    """
    claims: dict[tuple, _Said] = {}
    for section, all_said in said.items():
        for one in all_said:
            if one.polarity == 1 and (THERE.search(one.clause) or not PAST.search(one.clause)):
                limits = product(one.things, (*one.sides, ""), (*one.zones, ""), (*one.restricting, ""))
                for key in limits:
                    claims.setdefault((section, *key), one)
    for denied, all_said in said.items():
        for one in all_said:
            if one.polarity == 0 and len(one.restricting) < 2:
                sides = one.sides - BOTH if one.sides == BOTH else one.sides  # denied on both sides is denied anywhere
                places = list(product(*(sorted(names) or [""] for names in (sides, one.zones, one.restricting))))
                for claimed, thing, place in product(said, one.things, places):
                    claim = claims.get((claimed, thing, *place))
                    if claim is not None:
                        yield Contradiction(claim.observation, claim.sentence, one.sentence), claimed, denied


def _graded(said: dict[str, list[_Said]]) -> _Pairs:
    """Claims of one thing and side with two sizes, or two changes."""
    grades: dict[tuple, dict[tuple[str, str], _Said]] = {}
    for section, all_said in said.items():
        for one in all_said:
            if one.polarity == 1 and one.observation in ONE_A_SIDE and not PAST.search(one.clause):
                for name, pattern in GRADE_PATTERNS.items():
                    given = {str(match.lastgroup) for match in pattern.finditer(one.clause)}
                    if len(given) == 1:
                        graded = grades.setdefault((one.observation, one.sides, name), {})
                        graded.setdefault((section, given.pop()), one)
    for graded in grades.values():
        (section, grade), first = next(iter(graded.items()))
        for (other_section, other_grade), other in graded.items():
            if other_grade != grade and other.sentence != first.sentence:
                yield Contradiction(first.observation, first.sentence, other.sentence), section, other_section


def _moved(said: dict[str, list[_Said]]) -> _Pairs:
    """Claims of one thing that findings and impression place on different sides, or in different zones. What findings
    call an opacity, an impression calls a consolidation or a pneumonia (`SHADOW`)."""
    for name in ("sides", "zones"):
        places: dict[tuple[str, str], dict[str, list[_Said]]] = {}
        for section, all_said in said.items():
            for one in all_said:
                thing = SHADOW[0] if one.things[0] in SHADOW else one.things[0]
                if one.polarity and thing[0] != SUPPORT_DEVICES and (name == "sides" or thing[0] in ZONED):
                    places.setdefault(thing, {}).setdefault(section, []).append(one)
        for by_section in places.values():
            claims = [[one for one in part if one.polarity == 1] for part in by_section.values()]
            places_of = [[_places(one, name) for one in part] for part in by_section.values()]
            if len(claims) == 2 and all(claims) and all(map(all, places_of)):
                first, second = (frozenset().union(*part) for part in places_of)
                if not first & second and "mid" not in first | second:
                    one, other = claims[0][0], claims[1][0]
                    yield Contradiction(one.observation, one.sentence, other.sentence), FINDINGS, IMPRESSION


def _places(one: _Said, name: str) -> frozenset[str]:
    return one.sides if name == "sides" else _zones(one.sentence.lower())


@lru_cache(maxsize=16_384)
def _read(sentence: str) -> tuple[_Said, ...]:
    """What a sentence claims, doubts and denies: its mentions, the areas it calls normal, its states of organs."""
    lower = sentence.lower()
    return (*_read_mentions(lower, mentions(sentence)), *_read_areas(lower, sentence))


def _read_mentions(lower: str, found: list[Mention]) -> Iterator[_Said]:
    in_order = sorted(found, key=lambda mention: mention.start)
    ends = [cut.start() for cut in CLAUSE_END.finditer(lower)] + [len(lower)]
    for mention, sides in zip(in_order, sides_of(lower, [mention.start for mention in in_order]), strict=True):
        number = bisect_right(ends, mention.start)
        start = ends[number - 1] if number else 0
        clause = lower[start : ends[number]]
        restricting = _words(RESTRICTING, lower[start : mention.start]) | _words(RESTRICTING, mention.cue or "")
        restricting |= _words(ELSEWHERE, lower)
        if mention.observation == "Edema":
            restricting -= {"pulmonary"}
        if mention.observation in BROAD:
            focal = _words(FOCAL, clause)
            restricting |= focal - {"focal"} or focal
            if mention.polarity == 1 and not OUTSIDE.search(clause):
                restricting |= {"pulmonary"}
        elif mention.polarity == 1 and mention.observation in ("Consolidation", "Pneumonia"):
            restricting |= {"airspace", "air space", "focal"}
        yield _Said(
            mention.observation,
            mention.polarity,
            tuple(_things(mention, clause)),
            sides,
            _zones(clause) or _zones(lower),
            restricting,
            clause,
            mention.sentence,
        )


def _things(mention: Mention, clause: str) -> Iterator[tuple[str, str]]:
    """What a mention is about, the thing itself first; of a claim, also what includes it and the areas against it."""
    name, phrase = mention.observation, mention.phrase.replace(" ", "").replace("-", "")
    if name == SUPPORT_DEVICES:
        device = _device(clause, mention)
        yield name, device
        if mention.polarity == 1:
            yield from ((area, "") for area in ("devices", "tubes")[: 1 + (device != "heart")])
        return
    outside = " outside" if OUTSIDE.search(clause) else ""
    metal = "metal" if name == "Fracture" and OF_METAL.search(clause) else ""
    yield name, phrase[:THING_LETTERS] + outside if name in BROAD else metal
    if mention.polarity != 1:
        return
    if name == "Consolidation" or (name == "Pneumonia" and LOBAR.search(clause)):
        yield from SHADOW
    whole = mention.sentence.lower() if name == "Lung Opacity" else clause  # "opacities consistent with scarring"
    yield from ((area, "") for area in _areas_of(name, phrase, whole))


def _areas_of(name: str, phrase: str, clause: str) -> Iterator[str]:
    """The areas that a claim cannot stand beside."""
    minor = (MINOR.search(clause) or OUTSIDE.search(clause)) is not None
    small = minor or SMALL.search(clause) is not None
    collapse = name == "Atelectasis" and "collaps" in phrase
    airspace = name == "Lung Opacity" and phrase.startswith(("air", "infil"))
    if name == "Fracture":
        if not minor and not OF_METAL.search(clause):
            yield from ("bones", "acute bones", "acute")[: 3 if ACUTE_FRACTURE.search(clause) else 1]
        return
    yield "chest"
    if minor:
        return
    if name in ("Consolidation", "Pneumonia", "Edema", "Lung Lesion") or (
        not small and (collapse or (name == "Lung Opacity" and phrase.startswith(("opac", "air", "infil"))))
    ):
        yield "lungs"
    if name in ("Consolidation", "Pneumonia", "Edema", "Pneumothorax") or (
        not small and (collapse or airspace or name == "Pleural Effusion")
    ):
        yield from ("acute", "acute chest")
    if name in ("Pleural Effusion", "Pneumothorax"):
        yield "pleural spaces"
        if name == "Pleural Effusion" and not small:
            yield "pleural angles"


def _read_areas(lower: str, sentence: str) -> Iterator[_Said]:
    nothing: frozenset[str] = frozenset()
    for organ, (word, *states) in OPPOSITES.items():
        if word in lower:
            for polarity, state in enumerate(states):
                if re.search(state, lower):
                    yield _Said(organ, polarity, ((organ, ""),), nothing, nothing, nothing, lower, sentence)
    for area, (needed, pattern) in AREAS.items():
        if any(word in lower for word in needed) and not EXCEPTION.search(lower):
            for match in re.finditer(pattern, lower):
                words = match.group()
                sides = frozenset(side for named in find_sides(words) for side in named)
                if " not " not in words:
                    zones = _zones(words) if area == "lungs" else nothing
                    yield _Said("", 0, ((area, ""),), sides, zones, nothing, lower, sentence)


def _device(clause: str, mention: Mention) -> str:
    """The kind of a device, by the words beside it; its own phrase where none is known, or where there are several."""
    kinds = {str(found.lastgroup) for found in DEVICE_PATTERN.finditer(clause)}
    return kinds.pop() if len(kinds) == 1 and not SECOND_DEVICE.search(clause) else f"{mention.sentence}{mention.start}"


def _words(pattern: re.Pattern[str], text: str) -> frozenset[str]:
    return frozenset(found.group() for found in pattern.finditer(text))


@lru_cache(maxsize=1024)
def _zones(text: str) -> frozenset[str]:
    return frozenset(str(found.lastgroup) for found in ZONE.finditer(text))
