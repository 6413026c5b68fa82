"""From a report to its sentences: headings, line breaks, list numbers, abbreviations."""

import re
from collections.abc import Iterator
from itertools import zip_longest

FINDINGS, IMPRESSION, UNNAMED = "findings", "impression", ""
MAX_SENTENCE = 2000
"""Characters; a longer sentence is read in pieces, so that one entry of the cache stays small."""

_FINDINGS = r"findings?|report|description|observations?|chest|results?"
_IMPRESSION = r"impressions?|conclusions?|opinion|summary|assessment|interpretation"
_UNNAMED = r"techniques?|exam|examination|study|procedure|views?"
# What the reader was told or asked, older studies and advice: nothing seen on this image.
_NOT_COUNTED = (
    r"indications?(?: for (?:exam|examination|study))?|reason for (?:exam|examination|study)"
    r"|(?:clinical |patient )?history|clinical (?:information|indication|statement|data|question|details)"
    r"|comparisons?|prior studies|previous studies|recommendations?|recommended follow-?up|notifications?|addendum"
)
_COUNTED = f"{_FINDINGS}|{_IMPRESSION}|{_UNNAMED}"
# What stands before a colon. A heading opens a line or sentence; in flattened texts also stands inside, but what is not
# counted only in capitals: "limited comparison: ..." must not swallow the rest.
_HEADING = re.compile(
    rf"(?:(?:^|\n|[.!?;] ?)(?:final )?({_COUNTED}|{_NOT_COUNTED})| ({_COUNTED}|(?-i:{_NOT_COUNTED.upper()})))"
    r"(?: ?\([^()\n]{0,40}\))? ?$",
    re.IGNORECASE,
)
_SECTION_OF = [
    (re.compile(names, re.IGNORECASE), section)
    for names, section in ((_FINDINGS, FINDINGS), (_IMPRESSION, IMPRESSION), (_UNNAMED, UNNAMED))
]

# A full stop ends a sentence, also without a space after it ("clear.No") and before a small letter (reports in lower
# case), but not in "2.3 cm", "No. 2" and "p.m." and not after a title or abbreviation.
_ABBREVIATIONS = ("vs", "Vs", "Dr", "Mr", "Mrs", "Ms", "St", "approx")
_FULL_STOP = (
    r"\." + "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS) + r"(?!(?<=\bNo\.) ?\d)(?!(?<=\b[ap]\.)m\b)"
    r"(?:(?<!\d\.)|(?!\d))"
)
_SENTENCE_END = re.compile(rf"({_FULL_STOP}|[;!?\n])")
_NUMBERING = re.compile(r"(?:\d{1,2}[.)]|[-*\u2022\u00b7])\s+")
_LETTERS = re.compile(r"[A-Za-z]{2}")
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


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield (section, text) of the counted sections; a blank line ends a section that is not counted."""
    section: str | None = UNNAMED
    start = colon = 0
    while (colon := text.find(":", searched := colon)) >= 0:
        heading = _HEADING.search(text, searched, colon)
        colon += 1
        if heading:
            yield from _counted(section, text[start : heading.start()])
            name = heading.group(1) or heading.group(2)
            section = next((section for names, section in _SECTION_OF if names.fullmatch(name)), None)
            start = colon
    yield from _counted(section, text[start:])


def _counted(section: str | None, text: str) -> Iterator[tuple[str, str]]:
    if section is not None:
        yield section, text
        return
    _, _, after = text.strip().partition("\n\n")
    if after:
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
    for section, part in _sections(text) if ":" in text else ((UNNAMED, text),):
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
    if "<" in text:
        text = _TAG.sub(" ", text)
    text = text.replace("\u2019", "'")
    if "?" in text:
        text = _QUERY.sub("question ", text)  # "?pneumonia"
    return _unwrap(text)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """(sentence, what ended it) of every sentence with two letters in a row."""
    parts = _SENTENCE_END.split(text)
    for sentence, end in zip_longest(parts[::2], parts[1::2]):
        sentence = sentence.strip()
        numbered = _NUMBERING.match(sentence)
        if numbered:
            sentence = sentence[numbered.end() :]
        if _LETTERS.search(sentence):
            yield sentence, end
