"""From a report to its sentences: headings, line breaks, list numbers, abbreviations."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import zip_longest

from evaluation.reading.sections import walk_sections

FINDINGS, IMPRESSION, UNNAMED = "findings", "impression", ""
MAX_SENTENCE = 2000
"""Characters; a longer sentence is read in pieces, so that one entry of the cache stays small."""

_COUNTED = {"": UNNAMED, "findings": FINDINGS, "impression": IMPRESSION, "technique": UNNAMED, "examination": UNNAMED}
"""Sections that say something of this image: flattened reports go on after "Technique:" and "Examination:"."""

# A full stop ends a sentence, also without a space after it ("clear.No") and before a small letter (reports in lower
# case), but not in "2.3 cm", "No. 2" and "p.m." and not after a title or abbreviation.
_ABBREVIATIONS = ("vs", "Vs", "Dr", "Mr", "Mrs", "Ms", "St", "approx")
_FULL_STOP = (
    "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS) + r"(?!(?<=\bNo\.) ?\d)(?!(?<=\b[ap]\.)m\b)"
    r"(?:(?<!\d\.)|(?!\d))"
)
_SENTENCE_END = re.compile(rf"([.;!?\n](?:(?<!\.)|{_FULL_STOP}))")
_NUMBERING = re.compile(r"(?:\d{1,2}[.)]|[-*\u2022\u00b7])\s+")
_LETTERS = re.compile(r"[A-Za-z]{2}")
_RULE_OUT = re.compile(r"\b(?:rule[ -]out|r/o)\b", re.IGNORECASE)
_QUERY = re.compile(r"(?<!\S)\? ?(?=\w)")
_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,200}>")
_NEW_ITEM = re.compile(r"[-*\u2022\u00b7]|\d{1,2}[.)] ?|[A-Z][a-z]")
_WRAPPED = 50
"""Characters; a shorter line was not wrapped, so a capital letter after it starts something new ("XXXX", "PICC")."""


def _unwrap(text: str) -> str:
    """Join hard-wrapped lines; "\\n" stays where a new item, heading or paragraph starts, "\\n\\n" for a blank line."""
    pieces: list[str] = []
    blank = False
    before = ""
    for line in text.splitlines():
        line = " ".join(line.split())
        if not line:
            blank = True
            continue
        if before:
            new = _NEW_ITEM.match(line) or (len(before) < _WRAPPED and line[0].isupper())
            pieces.append("\n\n" if blank else "\n" if new else " ")
        pieces.append(line)
        blank, before = False, line
    return "".join(pieces)


def _counted(text: str) -> Iterator[tuple[str, str]]:
    """(section, text) of the sections that count; a blank line ends a section that does not."""
    for section, part in walk_sections(text):
        if section in _COUNTED:
            yield _COUNTED[section], part
        elif after := part.strip().partition("\n\n")[2]:
            yield UNNAMED, after


def cut_sentences(text: str) -> Iterator[str]:
    """Yield every sentence of a text, headings and all, closed by "." or "?".

    Hard-wrapped lines are joined, a list number or bullet at the start of a sentence is left out, and so is a fragment
    without two letters in a row. Sentences have single spaces and keep their case.
    """
    for sentence, end in _pieces(_plain(text)):
        yield sentence + ("?" if end == "?" else ".")


def split_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (section, sentence) for every sentence that counts.

    Sections are "findings", "impression" or "" (no heading, or one of technique or examination, after which flattened
    reports go on). Indication, history, comparison and recommendation are left out. Sentences are those of
    `cut_sentences`, without their full stop and in pieces of at most `MAX_SENTENCE` characters.
    """
    text = _plain(text)
    for section, part in _counted(text) if ":" in text else ((UNNAMED, text),):
        for sentence, end in _pieces(part):
            if end == "?":
                sentence += end
            while len(sentence) > MAX_SENTENCE:
                cut = sentence.rfind(" ", 1, MAX_SENTENCE)
                cut = MAX_SENTENCE if cut < 0 else cut
                yield section, sentence[:cut]
                sentence = sentence[cut:].lstrip()
            if sentence:
                yield section, sentence


def _plain(text: str) -> str:
    """The text without tags and typographic marks, its wrapped lines joined."""
    if not text.isascii():  # accents, spaces and joined letters of PDFs, soft hyphens
        text = unicodedata.normalize("NFKC", text).replace("\u00ad", "")
    if "<" in text:
        text = _TAG.sub(" ", text)
    text = text.replace("\u2019", "'")
    if "?" in text:
        text = _QUERY.sub("question ", text)  # "?pneumonia"
    if text[:1] in ("r", "R") and all(_RULE_OUT.match(part.strip() or "r/o") for part in re.split(r"[.;\n]", text)):
        text = _RULE_OUT.sub("question", text)  # a report that only asks, where others tell what was found
    return _unwrap(text)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """(sentence, what ended it) of every sentence with two letters in a row."""
    parts = _SENTENCE_END.split(text)
    for sentence, end in zip_longest(parts[::2], parts[1::2]):
        sentence = sentence.strip()
        if sentence and not sentence[0].isalpha() and (numbered := _NUMBERING.match(sentence)):
            sentence = sentence[numbered.end() :]
        if _LETTERS.search(sentence):
            yield sentence, end
