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
    r"(?:very |quite |rather )?(?:mild(?:ly)?|minimal(?:ly)?|slight(?:ly)?|trace|tiny|small|subtle|minor"
    r"|moderate(?:ly)?|medium|severe(?:ly)?|marked(?:ly)?|large|massive(?:ly)?|huge|extensive(?:ly)?"
    r"|substantial(?:ly)?)(?:[- ]sized)?"
)
_DEGREES = (
    rf"\b{_DEGREE}(?:(?: to | or |-to-|/|-){_DEGREE})*"
    r"(?! (?:chang|improv|increas|decreas|wors|progress))(?![\w-])"
)
_SIDE = r"(?:on|at|in) the (?:left|right)"
_NUMBER = r"\d{1,3}(?:\.\d{1,2})?"
_SIZE = rf"\b{_NUMBER}(?: ?[cm]m)?(?: ?(?:x|by) ?{_NUMBER}(?: ?[cm]m)?){{0,2}}(?<=[cm]m)\b"
_BEFORE = r"(?:,? ?\b(?:measuring|which measures|of) )?(?:\b(?:approximately|about|up to|at least|roughly) )?"
_RULES = [
    (re.compile(pattern, re.IGNORECASE), words)
    for pattern, words in (
        (rf",? {_DEGREES} {_SIDE}(?:,? (?:and|but) {_DEGREES} {_SIDE})", ""),
        (rf"\b(is|are) {_DEGREES}(?: in size)?(?=[.,;]|$)", r"\1 present"),
        (rf",? {_DEGREES}(?: in size)?(?=[.,;]|$)", ""),
        (rf"\b(?:an? )?{_DEGREES} (?:amount|degree|volume|quantity) of ", ""),
        (rf"{_DEGREES},? ", ""),
        (rf"{_BEFORE}{_SIZE}(?: in (?:size|diameter|greatest dimension))?,? ?", " "),
    )
]
_HEART = re.compile(
    rf"\b((?:heart|cardi(?:ac|o\w+))(?: \w+){{0,2}} (?:is|appears)) {_DEGREE}(?= increased\b)", re.IGNORECASE
)
"""No change: a heart that is mildly increased is large."""
_ARTICLE = re.compile(r"\b(an?) +(\w)", re.IGNORECASE)


def without_degrees(report: str) -> str:
    """The report, each of its sentences without severities and sizes of what it claims."""
    report = _HEART.sub(r"\1", report)
    if not any(said.severity or said.size for said in finding_attributes(report).values()):
        return report
    return " ".join(map(_without, cut_sentences(report)))


@lru_cache(maxsize=CACHED_SENTENCES)
def _without(sentence: str) -> str:
    if not any(said.severity or said.size for said in finding_attributes(sentence).values()):
        return sentence
    found = mentions(sentence)
    cuts = [0, *(cut.start() for cut in PART_END.finditer(sentence)), len(sentence)]
    parts = []
    for start, end in pairwise(cuts):
        inside = [mention for mention in found if start <= mention.start < end]
        parts.append((sentence[start:end], [m.phrase for m in inside], any(m.polarity == ABSENT for m in inside)))
    kept = "".join(part if denies else _shorter(part, phrases) for part, phrases, denies in parts)
    if not any(denies for *_, denies in parts):  # what stands between two parts, too
        kept = _shorter(sentence, [mention.phrase for mention in found])
    kept = _tidy(kept, sentence)
    sides = [frozenset().union(*find_sides(text)) for text in (kept, sentence)]
    same = label_report(kept) == label_report(sentence) and sides[0] == sides[1]
    graded = any(said.severity or said.size for said in finding_attributes(kept).values())
    return kept if same and not graded else sentence


def _shorter(part: str, phrases: list[str]) -> str:
    """A part of a sentence by the rules; the phrases that name its findings stay ("a large heart")."""
    kept: list[str] = []
    for phrase in phrases:
        place = part.lower().find(phrase)
        if place >= 0:
            mark = chr(0xE000 + len(kept))  # no text has it
            kept.append(part[place : place + len(phrase)])
            part = part[:place] + mark + part[place + len(phrase) :]
    for pattern, words in _RULES:
        part = pattern.sub(words, part)
    for number, phrase in enumerate(kept):
        part = part.replace(chr(0xE000 + number), phrase)
    return part


def _tidy(text: str, before: str) -> str:
    """Blanks, articles and the first letter in order."""
    text = re.sub(r" +(?=[.,;])", "", re.sub(r"\s+", " ", text)).strip(" ,")
    text = _ARTICLE.sub(partial(_with_article, before), text)
    return text[:1].upper() + text[1:] if not before[:1].islower() else text


def _with_article(before: str, found: re.Match[str]) -> str:
    if found[0] in before:
        return found[0]
    article = "an" if found[2].lower() in "aeiou" else "a"
    return f"{article.capitalize() if found[1][0].isupper() else article} {found[2]}"
