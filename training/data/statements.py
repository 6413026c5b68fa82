"""What a sentence of a report states of clues: which it claims and which it denies."""

import re
from collections.abc import Iterable, Mapping, Sequence

from evaluation.reading.labeler import label_report
from evaluation.reading.observations import NO_FINDING
from evaluation.reading.sides import add_sentence_sides, side_and_finding
from processing_trrg.statements_trrg import NORMAL, NOTHING, parts_of
from training.data.clue_wordings import wordings, wordings_by_terms
from training.data.sentences import sentence_key, sentences_of_report
from training.data.study import Studies, Study

Statement = tuple[str, int]
"""(clue, 1 or 0): it is claimed or denied."""
Stated = dict[str, frozenset[Statement]]
"""Sentence -> what it states."""
BLANK = "XX"
"""Of de-identification."""


def statements(text: str, names: Sequence[str]) -> frozenset[Statement] | None:
    """What a sentence states of the clues `names`, of finding and side the more precise; None where it doubts.

    "No Finding" is stated by words for what is normal alone, of the lungs or of the whole chest: a sentence that finds
    nothing may speak of anything.
    """
    labels = add_sentence_sides(text, label_report(text), names)
    if -1 in labels.values():
        return None
    told = {(name, value) for name, value in labels.items() if name in names and value is not None}
    findings = {statement for statement in told if statement[0] != NO_FINDING}
    for name, value in sorted(findings):
        if place := side_and_finding(name):
            if value:
                findings.discard((place[1], 1))
            elif (place[1], 0) in findings:
                findings.discard((name, 0))
    if not findings and (re.search(NORMAL, text, re.I) or NOTHING.search(text)):
        parts = parts_of(text)
        return frozenset(told & {(NO_FINDING, 1)} if parts is None or "Lung Opacity" in parts else ())
    return frozenset(findings)


def read_statements(studies: Iterable[Study], names: Sequence[str]) -> Stated:
    """Each sentence of the reports once, without those that doubt or have a blank."""
    found: Stated = {}
    for study in studies:
        for sentence in sentences_of_report(study, (), label_report):
            text = sentence.text
            if text not in found and BLANK not in text and (told := statements(text, names)) is not None:
                found[text] = told
    return found


def training_and_new(folder: str, clues: Sequence[Mapping[str, str]]) -> tuple[Stated, Stated]:
    """Sentences of the training reports; those of the validation reports that are, word for word, neither among them
    nor among the clues' own sentences or our wordings of them."""
    names = [clue["name"] for clue in clues]
    training, validation = (read_statements(Studies(folder, split).records, names) for split in ("train", "validation"))
    own = [clue[part] for clue in clues for part in ("positive", "negative") if part in clue]
    ours = [
        text
        for name in names
        for value in (0, 1)
        for made in (wordings, wordings_by_terms)
        for text in made(name, value)
    ]
    seen = {sentence_key(text) for text in (*training, *own, *ours)}
    return training, {text: told for text, told in validation.items() if sentence_key(text) not in seen}
