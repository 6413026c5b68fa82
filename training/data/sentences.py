"""Sentences for stage 1: a report cut into sentences, what each asserts, and how often each is drawn.

The imbalance the TRRG paper is about: most sentences of a report deny a finding. Drawn uniformly (as published), a rare
positive sentence is seen once where "no pleural effusion" is seen a hundred times. Here a sentence's weight is
(count of its rarest statement in the set)^-b, a statement being a (label, value) pair; b = 0 is uniform. A sentence
that states nothing ("Comparison is made to the prior.") weighs as much as the most frequent statement.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.reading.degree_rewriting import without_degrees
from evaluation.reading.labeler import asserts, label_report
from evaluation.reading.observations import NO_FINDING, Label, Labels
from evaluation.reading.sentences import cut_sentences
from training.data.study import Study, target_text

_POSITIVE_TEMPLATES = ("There is {}.", "{} is present.", "Findings of {}.", "{} is seen.")
_NEGATIVE_TEMPLATES = ("There is no {}.", "No {}.", "No evidence of {}.", "{} is not seen.")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a study, and how often it is drawn.

    Attributes:
        text: as the report has it, closed by a full stop.
        key: equal for equal sentences up to case, spaces and full stop.
        labels: value of every clue, None where the sentence says nothing about it.
        weight: unnormalised probability of being drawn.
    """

    text: str
    key: int
    labels: tuple[Label, ...]
    weight: float = 1.0


def positive_first(report: str) -> str:
    """The sentences that claim or suspect something, a device too, before those that deny or state nothing; else in
    their order, each closed by a full stop, without list numbers. A report whose 14 labels would change, because what
    was cut apart belonged together, stays as it is."""
    sentences = list(cut_sentences(report))
    ordered = " ".join(sorted(sentences, key=lambda text: not asserts(text)))
    return ordered if sentences and label_report(ordered) == label_report(report) else report


def in_order(study: Study) -> Study:
    """The study with `positive_first` done to either part of its report."""
    findings, impression = (positive_first(part) if part else None for part in (study.findings, study.impression))
    return replace(study, findings=findings, impression=impression)


def ungraded(study: Study) -> Study:
    """The study with `without_degrees` done to either part of its report."""
    findings, impression = (without_degrees(part) if part else None for part in (study.findings, study.impression))
    return replace(study, findings=findings, impression=impression)


def sentence_key(text: str) -> int:
    """A 63-bit number, equal for sentences that differ in case, spaces or closing punctuation only."""
    normal = " ".join(text.lower().split()).rstrip(" .;,!")
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest(), "big") >> 1


def sentences_of_report(study: Study, names: Sequence[str], labeler: Callable[[str], Labels]) -> list[Sentence]:
    """The labelled sentences of a study's findings and impression; each different sentence once."""
    found: dict[int, Sentence] = {}
    for text in cut_sentences(target_text(study)):
        key = sentence_key(text)
        if key not in found:
            labels = labeler(text)
            found[key] = Sentence(text, key, tuple(labels.get(name) for name in names))
    return list(found.values())


def sentences_of_labels(
    labels: Sequence[Label],
    clues: Sequence[dict[str, str]],
    others: Callable[[str, int], Sequence[str]] = lambda name, label: (),
) -> list[Sentence]:
    """Sentences for a study that has labels and no report: the clue's own sentence and templates, positive where the
    label is 1, negated where it is 0, none where it is uncertain or unknown.

    others: (clue's name, label) -> further sentences that say the same.
    """
    found: dict[int, Sentence] = {}
    for position, (label, clue) in enumerate(zip(labels, clues, strict=True)):
        if label not in (0, 1):
            continue
        own = clue["positive"] if label == 1 else clue["negative"]
        templates = _POSITIVE_TEMPLATES if label == 1 else _NEGATIVE_TEMPLATES
        name = clue["name"].lower()
        texts = [own] + ([] if clue["name"] == NO_FINDING else [_capitalised(t.format(name)) for t in templates])
        asserted = tuple(label if i == position else None for i in range(len(clues)))
        for text in (*texts, *others(clue["name"], label)):
            found.setdefault(sentence_key(text), Sentence(text, sentence_key(text), asserted))
    return list(found.values())


def weighted(studies: Sequence[list[Sentence]], balance: float) -> list[list[Sentence]]:
    """The same sentences with their drawing weights over the whole set (see the head of this file)."""
    counts = Counter[tuple[int, int]]()
    rows = Counter(s.labels for sentences in studies for s in sentences)  # few differ
    for labels, times in rows.items():
        counts.update(dict.fromkeys(_statements(labels), times))
    most = max(counts.values(), default=1)
    rarest = {labels: min((counts[s] for s in _statements(labels)), default=most) for labels in rows}
    weights = {labels: float(count) ** -balance for labels, count in rarest.items()}
    return [[Sentence(s.text, s.key, s.labels, weights[s.labels]) for s in sentences] for sentences in studies]


def draw_sentences(sentences: list[Sentence], number: int, rng: np.random.Generator) -> list[Sentence]:
    """`number` sentences by weight, without repetition as far as the study has enough of them."""
    weights = np.array([s.weight for s in sentences])
    order: list[int] = []
    while len(order) < number:
        take = min(number - len(order), len(sentences))
        order.extend(rng.choice(len(sentences), size=take, replace=False, p=weights / weights.sum()))
    return [sentences[i] for i in order]


def _statements(labels: tuple[Label, ...]) -> list[tuple[int, int]]:
    return [(i, value) for i, value in enumerate(labels) if value is not None]


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]
