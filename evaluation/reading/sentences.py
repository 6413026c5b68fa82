"""From a report to the sentences of each section; where one ends is told in `sentences_trrg`."""

import re
from collections.abc import Iterator

from evaluation.reading.prompt_guard import cut_at_the_body
from evaluation.reading.sections import PROMPT_SECTIONS, walk_sections
from evaluation.reading.sentences_trrg import cut_sentences as cut_sentences
from evaluation.reading.sentences_trrg import pieces, plain_text

FINDINGS, IMPRESSION, UNNAMED = "findings", "impression", ""
MAX_SENTENCE = 2000
"""Characters; a longer sentence is read in pieces, so that one entry of the cache stays small."""

_COUNTED = {"": UNNAMED, "findings": FINDINGS, "impression": IMPRESSION, "technique": UNNAMED, "examination": UNNAMED}
"""Sections that say something of this image: flattened reports go on after "Technique:" and "Examination:"."""
_RULE_OUT = re.compile(r"\b(?:rule[ -]out|r/o)\b", re.IGNORECASE)


def _counted(text: str) -> Iterator[tuple[str, str]]:
    """(section, text) of the sections that count. One that does not ends at a blank line, and where no findings have a
    heading, what is asked or compared with also ends where the report begins: "History: cough. No infiltrate."."""
    sections = list(walk_sections(text))
    headed = any(section == FINDINGS for section, _ in sections)
    for section, part in sections:
        if section in _COUNTED:
            yield _COUNTED[section], part
            continue
        told, _, after = part.strip().partition("\n\n")
        if not headed and section in PROMPT_SECTIONS and (body := cut_at_the_body(section, told, apart=False)[1]):
            after = f"{' '.join(body)}\n{after}"
        if after:
            yield UNNAMED, after


def split_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (section, sentence) for every sentence that counts.

    Sections are "findings", "impression" or "" (no heading, or one of technique or examination, after which flattened
    reports go on). Indication, history, comparison and recommendation are left out. Sentences are those of
    `cut_sentences`, without their full stop and in pieces of at most `MAX_SENTENCE` characters.
    """
    text = plain_text(text)
    if text[:1] in ("r", "R") and all(_RULE_OUT.match(sentence) for sentence, _ in pieces(text)):
        text = _RULE_OUT.sub("question", text)  # a report that only asks, where others tell what was found
    for section, part in _counted(text) if ":" in text else ((UNNAMED, text),):
        for sentence, end in pieces(part):
            if end == "?":
                sentence += end
            while len(sentence) > MAX_SENTENCE:
                cut = sentence.rfind(" ", 1, MAX_SENTENCE)
                cut = MAX_SENTENCE if cut < 0 else cut
                yield section, sentence[:cut]
                sentence = sentence[cut:].lstrip()
            if sentence:
                yield section, sentence
