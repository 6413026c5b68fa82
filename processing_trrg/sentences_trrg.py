"""From a text to its sentences: line breaks, list numbers, abbreviations.

It travels to the Hub and, as `evaluation/reading/sentences_trrg.py`, a link to this file, with the metric.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import zip_longest

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
_QUERY = re.compile(r"(?<!\S)\? ?(?=\w)")
_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,200}>")
_NEW_ITEM = re.compile(r"[-*\u2022\u00b7]|\d{1,2}[.)] ?|[A-Z][a-z]")
_WRAPPED = 50
"""Characters; a shorter line was not wrapped, so a capital letter after it starts something new ("XXXX", "PICC")."""


def _unwrap(text: str) -> str:
    """Join hard-wrapped lines; "\\n" stays where a new item, heading or paragraph starts, "\\n\\n" for a blank line."""
    joined: list[str] = []
    blank = False
    before = ""
    for line in text.splitlines():
        line = " ".join(line.split())
        if not line:
            blank = True
            continue
        if before:
            new = _NEW_ITEM.match(line) or (len(before) < _WRAPPED and line[0].isupper())
            joined.append("\n\n" if blank else "\n" if new else " ")
        joined.append(line)
        blank, before = False, line
    return "".join(joined)


def cut_sentences(text: str) -> Iterator[str]:
    """Yield every sentence of a text, headings and all, closed by "." or "?".

    Hard-wrapped lines are joined, a list number or bullet at the start of a sentence is left out, and so is a fragment
    without two letters in a row. Sentences have single spaces and keep their case.
    """
    for sentence, end in pieces(plain_text(text)):
        yield sentence + ("?" if end == "?" else ".")


def plain_text(text: str) -> str:
    """The text without tags and typographic marks, its wrapped lines joined."""
    if not text.isascii():  # accents, spaces and joined letters of PDFs, soft hyphens
        text = unicodedata.normalize("NFKC", text).replace("\u00ad", "")
    if "<" in text:
        text = _TAG.sub(" ", text)
    text = text.replace("\u2019", "'")
    if "?" in text:
        text = _QUERY.sub("question ", text)  # "?pneumonia"
    return _unwrap(text)


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """(sentence, what ended it) of every sentence with two letters in a row."""
    parts = _SENTENCE_END.split(text)
    for sentence, end in zip_longest(parts[::2], parts[1::2]):
        sentence = sentence.strip()
        if sentence and not sentence[0].isalpha() and (numbered := _NUMBERING.match(sentence)):
            sentence = sentence[numbered.end() :]
        if _LETTERS.search(sentence):
            yield sentence, end
