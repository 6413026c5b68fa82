"""A report without severities and sizes of what it claims, for training where nothing tells the model how large it is.

    >>> without_degrees("There is a small left pleural effusion. No large pneumothorax. Moderate cardiomegaly, mild.")
    'There is a left pleural effusion. No large pneumothorax. Cardiomegaly.'

A model that learns from "small" without seeing sizes says "small" of any finding. What is denied keeps its words: "no
large pneumothorax" leaves room for a small one. A sentence that would be read otherwise without them, by the labeler or
in its sides, or that still has one, stays as it is.
"""

import re
from functools import lru_cache, partial
from itertools import pairwise

from evaluation.reading.attributes import PART_END, finding_attributes
from evaluation.reading.labeler import CACHED_SENTENCES, label_report, mentions
from evaluation.reading.observations import ABSENT
from evaluation.reading.sentences import cut_sentences
from evaluation.reading.sides import find_sides

_DEGREE = (
    r"(?:very |quite |rather |relatively |fairly )?(?:mild(?:ly)?|minimal(?:ly)?|slight(?:ly)?|trace|tiny|small|subtle"
    r"|minor|moderate(?:ly)?|medium|severe(?:ly)?|marked(?:ly)?|large|big|massive(?:ly)?|huge|extensive(?:ly)?"
    r"|substantial(?:ly)?)(?:[- ]sized)?"
)
_DEGREES = (
    rf"\b{_DEGREE}(?:(?: to | or |-to-|/|-){_DEGREE}){{0,2}}(?! (?:chang|improv|increas|decreas|wors|progress|displaced"
    r"|fissure|bore|bowel|lung volume|the|as)|[\w-])"
)
_SIDE = r"(?:on|at|in) the (?:left|right)"
_NUMBER = r"\d{1,3}(?:\.\d{1,2})?"
_SIZE = (
    rf"\b{_NUMBER}(?:[ -]?[cm]m)?(?: ?(?:x|by) ?{_NUMBER}(?:[ -]?[cm]m)?){{0,2}}(?<=[cm]m)\b"
    r"(?! (?:above|below|from|proximal|distal|beyond|into|inferior|superior|displace\w*))"
)
_ABOUT = r"(?:,? ?\bmeasuring )?(?:\b(?:approximately|about|up to) )?"
_RULES = [
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rf",? {_DEGREES} {_SIDE},? (?:and|but) {_DEGREES} {_SIDE}", ""),
        (rf",? (?:(?:and|which) )?(?:(?:is|are) )?now {_DEGREES}(?=[.,;]|$)", ""),
        (rf"(?<!there )\b(is|are) {_DEGREES}(?: in size)?(?=[.;]|$)", r"\1 present"),
        (rf", {_DEGREES}(?: in size)?(?=[.;]|$)", ""),
        (rf"\b(?:an? )?{_DEGREES} (?:amount|degree|volume|quantity) of ", ""),
        (rf"\b(stable|new|old|chronic|acute|persistent|unchanged|worsening), {_DEGREES} ", r"\1 "),
        (rf"{_DEGREES},? ", ""),
        (rf"{_ABOUT}{_SIZE}(?: in (?:size|diameter|thickness|length))?,? ?", " "),
    )
]
_HEART = re.compile(
    rf"\b((?:heart|cardi(?:ac|o\w+))(?: \w+){{0,2}} (?:is|appears)) {_DEGREE}(?= increased(?: in size)?[.,;])", re.I
)
"""No change: a heart that is mildly increased is large."""
_ARTICLE = re.compile(r"\b(an?) +(?!uni|eu|one\b|us)(\w)", re.IGNORECASE)
_HANGING = re.compile(
    r"\b(?:is|are|was|were|now|remains?|appears?|seems?|from|to|of|than|at|least|likely|too|as|relatively|fairly|mostly"
    r"|previously|measures?|measuring|one|but|and|or|with|an?|the)\b(?= *(?:[.,;:)]|$))"
    r"|\b(?:is|are|from|to|as|too|remains?|measures?|an?)\b(?= (?:and|but|or|to|as|from|is|are|on|at|if|previously)\b)"
    r"|[~<>] [a-z]|: *[.,]"
)
"""A word that its grade or size was taken from."""
_MEASURED = re.compile(r"[cm]m\b")
_MOST = 500
"""Characters of a sentence; a longer one stays as it is."""


def without_degrees(report: str) -> str:
    """The report, each of its sentences without severities and sizes of what it claims; the whole of it as it was where
    it would be read otherwise."""
    bare = _HEART.sub(r"\1", report)
    if any(said.severity or said.size for said in finding_attributes(bare).values()):
        bare = " ".join(map(_without, cut_sentences(bare)))
    return bare if label_report(bare) == label_report(report) else report


@lru_cache(maxsize=CACHED_SENTENCES)
def _without(sentence: str) -> str:
    if len(sentence) > _MOST or not sentence.isprintable() or len(sentence.lower()) != len(sentence):
        return sentence
    if not any(said.severity or said.size for said in finding_attributes(sentence).values()):
        return sentence
    found = sorted(mentions(sentence), key=lambda mention: mention.start)
    cuts = [0, *(cut.start() for cut in PART_END.finditer(sentence)), len(sentence)]
    inside = [[m for m in found if start <= m.start < end] for start, end in pairwise(cuts)]
    denies = [any(m.polarity == ABSENT for m in some) for some in inside]
    spans = [*zip(pairwise(cuts), inside, denies, strict=True)] if any(denies) else [((0, len(sentence)), found, False)]
    parts = [
        sentence[start:end] if denied else _shorter(sentence[start:end], [(m.start - start, m.phrase) for m in some])
        for (start, end), some, denied in spans
    ]
    kept = _tidy("".join(parts), sentence)
    sides = [frozenset().union(*find_sides(text)) for text in (kept, sentence)]
    same = label_report(kept) == label_report(sentence) and sides[0] == sides[1]
    graded = any(said.severity or said.size for said in finding_attributes(kept).values())
    hangs = len(_HANGING.findall(kept)) > len(_HANGING.findall(sentence))
    hangs |= bool(_MEASURED.search(sentence) and re.search(r"[\d×]", kept))  # a range, or another number
    return kept if same and not graded and not hangs else sentence


def _shorter(part: str, phrases: list[tuple[int, str]]) -> str:
    """A part of a sentence by the rules; the phrases that name its findings stay, by their places ("a large heart")."""
    kept: list[str] = []
    end, masked = 0, ""
    for start, phrase in phrases:
        if start >= end:
            masked += part[end:start] + chr(0xE000 + len(kept))  # not printable, so no sentence has it
            end = start + len(phrase)
            kept.append(part[start:end])
    masked += part[end:]
    for pattern, words in _RULES:
        masked = pattern.sub(words, masked)
    for number, phrase in enumerate(kept):
        masked = masked.replace(chr(0xE000 + number), phrase)
    return masked


def _tidy(text: str, before: str) -> str:
    """Blanks, brackets, articles and the first letter in order."""
    text = re.sub(r"\( *\)", "", text)
    text = re.sub(r",? *(?=[.;])| +(?=,)", "", re.sub(r" +", " ", text)).strip(" ,")
    text = _ARTICLE.sub(partial(_with_article, before), text)
    return text[:1].upper() + text[1:] if not before[:1].islower() else text


def _with_article(before: str, found: re.Match[str]) -> str:
    if found[0] in before:
        return found[0]
    article = "an" if found[2].lower() in "aeiou" else "a"
    return f"{article.capitalize() if found[1][0].isupper() else article} {found[2]}"
